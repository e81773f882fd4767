"""What has become of a run, of its machine's status or, when it has none, of what it left in the bucket."""

from __future__ import annotations

from typing import Any

from .job import LEAST_SECONDS, RUN_MAX_ATTEMPTS, RUN_MAX_SECONDS, Kind, State
from .records import Record

STATES = {"PROVISIONING": State.queued, "STAGING": State.queued}  # else it is running, and paid for
OFF = ("TERMINATED", "STOPPED", "SUSPENDED")  # only its disk is paid for
AT_WORK = ("PROVISIONING", "STAGING", "RUNNING", "REPAIRING")  # and not about to go


def allowed_seconds(record: Record) -> float:
    """Give how long the machines of a launch may be there, all together."""
    total = record.env.get(RUN_MAX_SECONDS)
    return float(total) - record.earlier_seconds if total else record.max_hours * 3600


def ended(
    record: Record | None,
    outcome: dict[str, Any] | None,
    attempts: list[dict[str, Any]],
    seconds: float,
) -> tuple[State, str]:
    """Tell the state of a run that has no machine, and why.

    Args:
        outcome, attempts: as its worker has noted them.
        seconds: for which the machines of its newest launch were there.
    """
    if outcome:
        return State(outcome["state"]), str(outcome.get("reason", ""))
    if not record:
        return State.stopped, "its machine is off, and no record tells of it"
    if record.kind == Kind.notebook.value:
        return State.stopped, "its machine is gone"
    if len(attempts) >= int(record.env.get(RUN_MAX_ATTEMPTS, 1)):
        return State.failed, f"it was started {len(attempts)} times and has not ended"
    if seconds + LEAST_SECONDS > allowed_seconds(record):
        return State.stopped, "the time limit was reached"
    return State.preempted, "its machine was taken away; on another it goes on"
