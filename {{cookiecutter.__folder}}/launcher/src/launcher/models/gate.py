"""Whether a version may take the place of another one: it is compared on the same test data."""

from __future__ import annotations

import math
from typing import Any

from ..errors import UserError
from .versions import Version


class GateError(UserError):
    """A version does not pass; a person may know better, and say why."""


def compare(new: Version, old: Version | None) -> dict[str, Any]:
    """Compare a version with the one whose place it takes; give what was compared, for the record.

    Raises:
        GateError: it is worse, or the two cannot be compared.
    """
    metric, more = str(new.gate.get("metric", "")), bool(new.gate.get("more_is_better"))
    value = new.metrics.get(metric)
    found: dict[str, Any] = {"metric": metric, "new": value}
    if value is None or not math.isfinite(value):
        raise GateError(
            f"{new} has no {metric or 'metric'} on the test split; evaluate its run and register it again, or give "
            'force="why it is taken all the same".'
        )
    if old is None or old.number == new.number:
        return found
    found |= {"old": old.metrics.get(metric), "against": old.number}
    if old.gate.get("metric") != metric:
        raise _incomparable(
            new, old, f"one is judged by {metric}, the other by {old.gate.get('metric')}"
        )
    if old.gate.get("test_data") != new.gate.get("test_data"):
        raise _incomparable(new, old, "their test data differ")
    before = found["old"]
    worse = before is not None and (value < before if more else value > before)
    if worse:
        raise GateError(
            f"{new} is worse than {old}: {metric} {value:.4f}, and {before:.4f} before (more is "
            f'{"better" if more else "worse"}); train it further, or give force="why it is taken all the same".'
        )
    return found


def _incomparable(new: Version, old: Version, why: str) -> GateError:
    return GateError(
        f"{new} and {old} cannot be compared, for {why}; register both by the same task and data, or give "
        'force="why it is taken all the same".'
    )
