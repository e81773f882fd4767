"""The report of one run as Markdown for GitHub. Nothing in it that a run has written can be more than text.

Names and settings stand as code, where GitHub looks for no mention, link or HTML; what would end the code, or the
row of a table, is replaced.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

ROWS = 40  # metrics in the table
CHARTS = 3
POINTS = 40  # on a chart's line
LONGEST = 80  # characters of one name, and of one setting
LONGEST_REASON = 400
UNSAFE = re.compile(r"[`|\\\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069]+")
PLAIN = re.compile(r"[^A-Za-z0-9 _./-]+")
ICONS = {"succeeded": "✅", "failed": "❌"}


@dataclass(frozen=True)
class Facts:
    """What is told of a run.

    Args:
        state: as in `places.Run.state`.
        reason: why it did not succeed.
        metrics: of the test split.
        curves: the lines of metrics.jsonl.
        results, job: addresses of pages, or empty.
    """

    run_id: str
    state: str
    reason: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    curves: list[dict[str, Any]] = field(default_factory=list)
    machine: str = ""
    hours: float = 0.0
    usd: float = 0.0
    commit: str = ""
    settings: list[str] = field(default_factory=list)
    results: str = ""
    job: str = ""


def headline(facts: Facts) -> str:
    """Give the state, the most telling metric and the cost in one short line."""
    known = list(_numbers(facts.metrics))
    telling = [name for name in known if "loss" not in name and "baseline" not in name] or known
    parts = [facts.state]
    if telling:
        name = _plain(telling[0])[:LONGEST]
        parts.append(f"{name} {_number(float(facts.metrics[telling[0]]))}")
    return ", ".join([*parts, f"{facts.usd:.2f} USD"])


def markdown(facts: Facts) -> str:
    """Give the whole report."""
    title = (
        f"### {ICONS.get(facts.state, '⏹️')} Training {_code(facts.run_id)}: {_plain(facts.state)}"
    )
    blocks = [title]
    if facts.reason:
        blocks.append(f"Why: {_code(facts.reason, LONGEST_REASON)}")
    blocks += [_table(facts), _metrics(facts), *_charts(facts.curves), _links(facts)]
    return "\n\n".join(block for block in blocks if block)


def _table(facts: Facts) -> str:
    rows = {
        "cost": f"{facts.usd:.2f} USD",
        "machine": f"{_code(facts.machine)}, {facts.hours:.2f} hours",
        "commit": _code(facts.commit[:12]) if facts.commit else "",
        "settings": " ".join(map(_code, facts.settings[:ROWS])),
    }
    lines = [f"| {name} | {text} |" for name, text in rows.items() if text]
    return "\n".join(["| | |", "|---|---|", *lines])


def _metrics(facts: Facts) -> str:
    found = _numbers(facts.metrics)
    if not found:
        return "It has left no metrics."
    rows = [f"| {_code(name)} | {_number(value)} |" for name, value in list(found.items())[:ROWS]]
    more = [f"| and {len(found) - ROWS} more | |"] if len(found) > ROWS else []
    return "\n".join(["| metric | value |", "|---|---:|", *rows, *more])


def _charts(curves: list[dict[str, Any]]) -> list[str]:
    """Draw the first few metrics over the steps: of the validation, and else of the training."""
    names = dict.fromkeys(name for line in curves for name in _numbers(line))
    names = [name for name in names if name not in ("step", "epoch") and "baseline" not in name]
    chosen = [name for name in names if name.startswith("val/")] or names
    charts = [_chart(name, curves) for name in chosen]
    return [chart for chart in charts if chart][:CHARTS]


def _chart(name: str, curves: list[dict[str, Any]]) -> str:
    """Draw one metric; empty where there are no two points to join."""
    points = [
        (int(values["step"]), values[name])
        for line in curves
        if {"step", name} <= (values := _numbers(line)).keys()
    ]
    if len(points) > POINTS:
        last = len(points) - 1
        points = [points[round(index * last / (POINTS - 1))] for index in range(POINTS)]
    if len(points) < 2 or points[0][0] >= points[-1][0]:
        return ""
    low, high = (bound(value for _, value in points) for bound in (min, max))
    if low == high:
        low, high = low - max(abs(low), 1.0) / 10, high + max(abs(high), 1.0) / 10
    values = ", ".join(_decimal(value) for _, value in points)
    return "\n".join(
        [
            "```mermaid",
            "xychart-beta",
            f'    title "{_plain(name)[:LONGEST]}"',
            f'    x-axis "step" {points[0][0]} --> {points[-1][0]}',
            f"    y-axis {_decimal(low)} --> {_decimal(high)}",
            f"    line [{values}]",
            "```",
        ]
    )


def _links(facts: Facts) -> str:
    links = {"Results, with all plots": facts.results, "job": facts.job}
    found = [f"[{name}](<{url}>)" for name, url in links.items() if _is_page(url)]
    return " · ".join(found)


def _is_page(url: str) -> bool:
    return re.fullmatch(r"https?://[^\s<>\\`|@]+", url) is not None


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    """Keep what is a number, and a finite one."""
    return {
        str(name): float(value)
        for name, value in values.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) < 1e15
        and math.isfinite(value)
    }


def _number(value: float) -> str:
    return f"{value:.4f}" if 0.001 <= abs(value) < 1e6 or value == 0 else f"{value:.4g}"


def _decimal(value: float) -> str:
    """Write a number without an exponent, which the charts do not know."""
    return format(Decimal(f"{value:.5g}"), "f")


def _code(text: str, longest: int = LONGEST) -> str:
    """Give a text as code, in which nothing has a meaning."""
    plain = UNSAFE.sub(" ", text).strip()
    short = plain if len(plain) <= longest else f"{plain[: longest - 1]}…"
    return f"`{short or '?'}`"


def _plain(text: str) -> str:
    """Give a text in an alphabet that means nothing, for where no code can stand."""
    return PLAIN.sub(" ", text).strip() or "?"
