"""What the service says of a job, in our words: its state, how long it ran, and why it is as it is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from ...job import EXIT_STOPPED, State

STATES = {
    "QUEUED": State.queued,
    "SCHEDULED": State.queued,
    "RUNNING": State.running,
    "CANCELLATION_IN_PROGRESS": State.running,  # and paid for until its machine is gone
    "DELETION_IN_PROGRESS": State.running,
    "SUCCEEDED": State.succeeded,
    "FAILED": State.failed,
    "CANCELLED": State.stopped,
}
ENDING = ("CANCELLATION_IN_PROGRESS", "DELETION_IN_PROGRESS")  # the order has been taken
OVER_TIME = 50005  # https://docs.cloud.google.com/batch/docs/troubleshooting#reserved-exit-codes
CODE = re.compile(r"with exit code (\d+)")
STARTED = re.compile(r"\bto RUNNING\b")  # "Job state is set from SCHEDULED to RUNNING for job ..."


def word(found: dict[str, Any]) -> str:
    """Give the service's own word for a job's state."""
    return str((found.get("status") or {}).get("state", ""))


def state(found: dict[str, Any], code: int | None = None) -> State:
    """Give a job's state.

    Args:
        code: exit code of its task, where it is known otherwise than by the job's events.
    """
    ours = STATES.get(word(found), State.queued)
    if ours is State.failed and {OVER_TIME, EXIT_STOPPED} & {code, exit_code(last(found))}:
        return State.stopped
    return ours


def goes_on(found: dict[str, Any]) -> bool:
    """Tell whether a job is at work and nobody has ended it yet."""
    return not state(found).over and word(found) not in ENDING


def events(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the events of a job or a task, oldest first."""
    given = (found.get("status") or {}).get("statusEvents") or []
    return sorted(given, key=lambda event: _time(event["eventTime"]))


def last(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Give a job's last event: what those before tell may be of attempts that were made again."""
    return events(found)[-1:]


def exit_code(given: Iterable[dict[str, Any]]) -> int | None:
    """Give the exit code that events tell of last; None where they tell of none."""
    code = None
    for event in given:
        if (exact := (event.get("taskExecution") or {}).get("exitCode")) is not None:
            code = int(exact)
        elif told := CODE.search(str(event.get("description", ""))):
            code = int(told[1])
    return code


def detail(found: dict[str, Any]) -> str:
    """Give what the service said last of a job: why it waits, or why it failed."""
    said = [str(event.get("description", "")).strip() for event in events(found)]
    return next((text for text in reversed(said) if text), "") or word(found).lower()


def created(found: dict[str, Any]) -> datetime:
    """Tell when a job was made."""
    return _time(found["createTime"])


def seconds(found: dict[str, Any], now: datetime) -> float:
    """Tell how long a job has been running, waiting between its attempts included: never too little.

    The service adds it up (`runDuration`); while the job runs, that may be behind.
    """
    told = float(str((found.get("status") or {}).get("runDuration", "0s")).removesuffix("s"))
    ours = state(found)
    if ours is State.queued or (ours.over and told):
        return told
    times = [
        _time(event["eventTime"])
        for event in events(found)
        if STARTED.search(str(event.get("description", "")))
    ]
    if not times:
        return told
    end = _time(found["updateTime"]) if ours.over and "updateTime" in found else now
    return max(told, (end - times[0]).total_seconds())


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
