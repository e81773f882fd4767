"""How long the machines of a run have been there, those that are gone too: of these only operations are left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

SLACK = timedelta(seconds=2)  # between the clocks of two of the provider's services


@dataclass
class Stay:
    """One machine's time.

    Args:
        number: the service's id of it, which is never given again.
        end: None while it is there, or where nothing says when it went.
        there: whether the service still shows it.
    """

    number: str
    name: str
    start: datetime
    end: datetime | None = None
    there: bool = False

    def seconds(self, now: datetime, longest: float) -> float:
        """Tell how long it was there; where its end is not known, as long as it could have been.

        Args:
            longest: seconds after which the service has taken away one that is gone.
        """
        seconds = max(0.0, ((self.end or now) - self.start).total_seconds())
        return seconds if self.end or self.there else min(seconds, longest)


def of_operations(operations: Iterable[dict[str, Any]]) -> list[Stay]:
    """Make out which machines there were: each was inserted, and what was last done to it took it away."""
    found: dict[str, Stay] = {}
    ends: dict[str, datetime] = {}
    for one in operations:
        number = str(one.get("targetId", ""))
        if one.get("operationType") == "insert":
            if not one.get("error"):  # there was no room for those that have one
                name = str(one["targetLink"]).rpartition("/")[2]
                found[number] = Stay(number, name, time(one["insertTime"]))
        elif one.get("status") == "DONE" and not one.get("error") and takes_away(one):
            end = time(one.get("endTime") or one["insertTime"])
            ends[number] = max(end, ends.get(number, end))
    for number, stay in found.items():
        stay.end = ends.get(number)
    return list(found.values())


def takes_away(operation: dict[str, Any]) -> bool:
    """Tell whether a machine is gone, or off, after an operation."""
    kind = str(operation.get("operationType", ""))
    return kind in ("delete", "stop") or kind.startswith("compute.instances.")


def of_machine(machine: dict[str, Any]) -> Stay:
    """Give the time of a machine that is there: it is paid for until it is off."""
    off = machine["status"] in ("TERMINATED", "STOPPED")
    end = machine.get("lastStopTimestamp") if off else None
    number, start = str(machine.get("id", "")), time(machine["creationTimestamp"])
    return Stay(number, machine["name"], start, time(end) if end else None, there=True)


def together(gone: Iterable[Stay], there: Iterable[Stay], since: datetime | None) -> list[Stay]:
    """Give all machines made since a time; what is still there knows itself best."""
    found = {stay.number: stay for stay in gone} | {stay.number: stay for stay in there}
    stays = [stay for stay in found.values() if not since or stay.start >= since - SLACK]
    return sorted(stays, key=lambda stay: stay.start)


def time(text: str) -> datetime:
    """Read a time as the service writes it, in whichever zone."""
    return datetime.fromisoformat(text)
