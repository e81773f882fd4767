"""The trials of a sweep, for people: a table, the best first, and in runs/sweeps/ the same as CSV and a plot."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Trial:
    """One training of a sweep.

    Args:
        run_id: its run.
        settings: what it was given, by name.
        objective: what it reached; None where it has not, or not yet.
        state: what has become of it: succeeded, failed, running, ...
    """

    run_id: str
    settings: dict[str, Any]
    objective: float | None
    state: str = "succeeded"

    @property
    def measured(self) -> bool:
        return self.objective is not None and math.isfinite(self.objective)


def ranked(trials: Sequence[Trial], maximize: bool) -> list[Trial]:
    """Give the trials with the best first, and those that have reached nothing last."""
    sign = -1 if maximize else 1
    return sorted(trials, key=lambda trial: (not trial.measured, sign * (trial.objective or 0.0)))


def report(trials: Sequence[Trial], objective: str, maximize: bool, stem: Path) -> None:
    """Print the table, and write `<stem>.csv` and `<stem>.png`.

    Args:
        trials: in the order in which they began.
        objective: name of what was optimized.
        stem: the path without an ending, such as runs/sweeps/lr.
    """
    best_first = ranked(trials, maximize)
    names = list(dict.fromkeys(name for trial in trials for name in trial.settings))
    _print(best_first, names, objective)
    stem.parent.mkdir(parents=True, exist_ok=True)
    table, plot = stem.with_name(f"{stem.name}.csv"), stem.with_name(f"{stem.name}.png")
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["run", *names, objective, "state"])
        for trial in best_first:
            values = (trial.settings.get(name) for name in names)
            writer.writerow([trial.run_id, *values, trial.objective, trial.state])
    print(f"table  {table}")
    if any(trial.measured for trial in trials):
        draw(trials, names, objective, maximize).savefig(plot, dpi=120)
        print(f"plot   {plot}")


def _print(trials: Sequence[Trial], names: Sequence[str], objective: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("run", *names, objective, "state", title="trials, best first", box=box.SIMPLE)
    for trial in trials:
        values = [trial.settings.get(name) for name in names]
        table.add_row(trial.run_id, *map(_text, values), _text(trial.objective), trial.state)
    console = Console()
    # In a pipe nothing may be cut to the width of a terminal that is not there.
    (console if console.is_terminal else Console(width=200)).print(table)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def draw(trials: Sequence[Trial], names: Sequence[str], objective: str, maximize: bool) -> Any:
    """Draw the objective over the trials with the best so far, and one panel over each setting; gives a Figure."""
    from matplotlib.figure import Figure

    done = [(number, trial) for number, trial in enumerate(trials, 1) if trial.measured]
    numbers = [number for number, _ in done]
    reached = [float(trial.objective or 0.0) for _, trial in done]
    columns = min(4, 1 + len(names))
    rows = math.ceil((1 + len(names)) / columns)
    figure = Figure(figsize=(3.6 * columns, 3.2 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    first = axes[0]
    first.plot(numbers, reached, "o", label="trial")
    first.step(numbers, _best_so_far(reached, maximize), where="post", label="best so far")
    first.set(xlabel="trial", ylabel=objective)
    first.legend()
    for axis, name in zip(axes[1:], names, strict=False):
        _panel(axis, name, [trial.settings.get(name) for _, trial in done], reached)
    for axis in axes[1 + len(names) :]:
        axis.remove()
    for axis in axes[: 1 + len(names)]:
        axis.grid(alpha=0.3)
    return figure


def _best_so_far(values: Sequence[float], maximize: bool) -> list[float]:
    best: list[float] = []
    for value in values:
        best.append(value if not best else (max if maximize else min)(best[-1], value))
    return best


def _panel(axis: Any, name: str, given: Sequence[Any], reached: Sequence[float]) -> None:
    """Draw the objective over one setting; what spans more than a magnitude gets a logarithmic scale."""
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in given)
    axis.plot(given if numeric else [str(value) for value in given], reached, "o")
    if numeric and min(given) > 0 and max(given) / min(given) > 30:
        axis.set_xscale("log")
    axis.set_xlabel(name)
