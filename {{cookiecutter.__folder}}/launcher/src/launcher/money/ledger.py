"""What this month's launches have cost and may still cost, so that they can be kept under a cap together.

One object a month, `home/.ledger/2026-11.json`, holds an entry for each launch: what was reserved for its worst case and,
once it is over, what it did cost. A launch counts in the month in which it was launched, as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime

from ..atomic import update_text
from ..errors import UserError
from ..records import PATIENCE
from ..storage import read_text

FOLDER = ".ledger"


@dataclass
class Entry:
    """One launch.

    Args:
        since: when it was reserved, by the provider's clock.
        reserved_usd: its worst case.
        spent_usd: what it did cost; None while it may still cost more.
    """

    run_id: str
    since: str
    reserved_usd: float
    spent_usd: float | None = None


@dataclass
class Month:
    """All launches of one month, by their keys (`Record.key`)."""

    entries: dict[str, Entry] = field(default_factory=dict)

    @property
    def spent(self) -> float:
        """USD for launches that are over."""
        return sum(entry.spent_usd or 0.0 for entry in self.entries.values())

    @property
    def reserved(self) -> float:
        """USD that the others may cost at most."""
        return sum(entry.reserved_usd for entry in self.entries.values() if entry.spent_usd is None)


def reserve(home: str, key: str, run_id: str, usd: float, cap: float, now: datetime) -> None:
    """Set the worst case of a launch aside. Of several at the same moment, those that fit together succeed.

    Raises:
        UserError: the month's spent and reserved would pass the cap; nothing is reserved then.
    """

    def change(month: Month) -> None:
        if key in month.entries:
            return  # by this very call: its first try was not heard of
        if usd > 0 and round(month.spent + month.reserved + usd - cap, 6) > 0:
            raise UserError(
                f"This run could cost {usd:.2f} USD, and of cloud.max_month_usd={cap:g} there were spent "
                f"{month.spent:.2f} and are reserved {month.reserved:.2f} for what still runs: see `uv run runs cost "
                f"--month`, end something by `uv run runs stop`, or raise cloud.max_month_usd."
            )
        month.entries[key] = Entry(run_id, now.isoformat(timespec="seconds"), usd)

    _change(home, f"{now:%Y-%m}", change)


def settle(home: str, key: str, usd: float) -> None:
    """Put what a launch did cost in place of its reservation. One that was never reserved stays out."""

    def change(month: Month) -> None:
        if key in month.entries:
            month.entries[key].spent_usd = round(usd, 4)

    _change(home, _month_of(key), change)


def release(home: str, key: str) -> None:
    """Take a reservation back: nothing was started, and nothing will be."""
    _change(home, _month_of(key), lambda month: month.entries.pop(key, None))


def month(home: str, name: str) -> Month:
    """Read the ledger of a month, such as 2026-11; an empty one where there is none."""
    return _read(read_text(_uri(home, name), patience=PATIENCE))


def _change(home: str, name: str, change: Callable[[Month], object]) -> None:
    def update(text: str | None) -> str | None:
        found = _read(text)
        change(found)
        values = {key: asdict(entry) for key, entry in found.entries.items()}
        return json.dumps(values, indent=2) + "\n" if values or text else None

    update_text(_uri(home, name), update, patience=PATIENCE)


def _read(text: str | None) -> Month:
    values = json.loads(text) if text else {}
    return Month({key: Entry(**entry) for key, entry in values.items()})


def _month_of(key: str) -> str:
    """A key ends with the time of its launch."""
    return key.rpartition(" ")[2][:7]


def _uri(home: str, name: str) -> str:
    return f"{home}/{FOLDER}/{name}.json"
