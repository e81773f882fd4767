"""A table of prices beside the provider's own list of today: which rows differ, and what is printed of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

ROUNDING = 0.002, 0.001  # USD, and share of the price, that a row may differ by


@dataclass(frozen=True)
class Difference:
    """A price of the table that is not the list's.

    Args:
        place: what it is of: machine, region and what else tells it from others.
        theirs: None where the list has none.
    """

    place: tuple[str, ...]
    ours: float
    theirs: float | None


def differ(ours: float, theirs: float | None) -> bool:
    """Tell whether two prices differ by more than a rounding."""
    return theirs is None or abs(ours - theirs) > max(ROUNDING[0], ROUNDING[1] * theirs)


def report(found: Sequence[Difference], rows: int, whose: str) -> None:
    """Print the rows that differ, and end with status 1 where there are some.

    Args:
        rows: of the table.
        whose: list it is.
    """
    for each in found:
        theirs = f"{each.theirs:9.3f}" if each.theirs is not None else "   absent"
        place = " ".join(f"{word:24}" for word in each.place)
        print(f"{place} table {each.ours:9.3f}  {whose} {theirs}")
    print(f"{len(found)} prices in {rows} rows differ from {whose}'s list of today.")
    sys.exit(1 if found else 0)
