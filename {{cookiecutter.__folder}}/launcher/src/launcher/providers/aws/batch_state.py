"""What the service says of a job, in our words: its state, how long it ran, and why it is as it is."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from ...job import EXIT_STOPPED, State

STATES = {
    "SUBMITTED": State.queued,
    "PENDING": State.queued,
    "RUNNABLE": State.queued,  # between two attempts too
    # The machine is there and paid for, and the image is pulled; but the time limit of the service does not count yet
    # (docs.aws.amazon.com/batch/latest/userguide/job_timeouts.html), so the limit of waiting has to end what hangs here.
    "STARTING": State.queued,
    "RUNNING": State.running,
    "SUCCEEDED": State.succeeded,
    "FAILED": State.failed,
}
# There is no state for what was stopped. A person's own words come back as the reason, and in place of them:
# - of the time limit: "Job attempt duration exceeded timeout" (in public logs and stand-ins; documented nowhere);
# - of a queue that lets nothing wait for ever: "Canceled by JobStateTimeLimit action due to reason: CAPACITY:..."
#   (https://docs.aws.amazon.com/batch/latest/userguide/job_stuck_in_runnable_capacity.html)
STOPPED = re.compile(r"attempt duration exceeded|by JobStateTimeLimit action", re.IGNORECASE)
# Why a job can never start (https://docs.aws.amazon.com/batch/latest/APIReference/API_JobDetail.html), and what that
# means here, where all of it is made by setup.
NEVER = "MISCONFIGURATION:"
MEANINGS = {
    "JOB_RESOURCE_REQUIREMENT": "its queue's machines have less memory, CPUs or GPUs than the job asks for",
    "COMPUTE_ENVIRONMENT_MAX_RESOURCE": "its queue may not have so many vCPUs at a time",
    "SERVICE_ROLE_PERMISSIONS": "Batch may not start machines",
}


def state(found: dict[str, Any]) -> State:
    """Give a job's state."""
    ours = STATES.get(str(found.get("status")), State.queued)
    if ours is not State.failed:
        return ours  # of one that is being ended too: it is paid for until its container has gone
    told = found.get("isTerminated") or found.get("isCancelled")
    code = (found.get("container") or {}).get("exitCode")
    if told or code == EXIT_STOPPED or STOPPED.search(str(found.get("statusReason", ""))):
        return State.stopped
    return ours


def created(found: dict[str, Any]) -> datetime:
    """Tell when a job was made."""
    return _time(found["createdAt"])


def seconds(found: dict[str, Any], now: datetime) -> float:
    """Tell how long a job has been running, over all its attempts.

    It is paid for longer: the machine boots and pulls the image before (STARTING has no time), and goes some minutes
    after the job, when the service scales in. Neither is told, and both are in no limit of the service.
    """
    status, attempts = str(found.get("status")), list(found.get("attempts") or [])
    # The attempt that goes on is not in that list (github.com/meta-pytorch/torchx/pull/542). Whether the job's own
    # start is that of its first attempt is not documented; if it were, this would be too much and not too little.
    if status == "RUNNING" or not attempts:
        attempts.append(found)
    total, end = 0.0, 0.0
    for first, last in sorted(_span(one, now if status == "RUNNING" else None) for one in attempts):
        total += max(0.0, last - max(first, end))
        end = max(end, last)
    return total


def _span(part: dict[str, Any], now: datetime | None) -> tuple[float, float]:
    """Give when an attempt began and ended, or how late it is, in seconds since 1970; one that never began has neither."""
    if not (start := part.get("startedAt")):
        return 0.0, 0.0
    stop = part.get("stoppedAt") or (now.timestamp() * 1000 if now else start)
    return start / 1000, max(start, stop) / 1000


def detail(found: dict[str, Any]) -> str:
    """Give what the service says of a job: why it waits, or how it ended."""
    reason = str(found.get("statusReason") or "").strip()
    container = found.get("container") or {}
    if state(found) is State.queued:
        return _waiting(found, reason)
    said = [reason, str(container.get("reason") or "").strip()]
    if state(found).over and container.get("exitCode"):
        said.append(f"exit code {container['exitCode']}")
    return "; ".join(filter(None, said)) or str(found.get("status", "")).lower()


def _waiting(found: dict[str, Any], reason: str) -> str:
    if reason.startswith(NEVER):
        return f"{reason.rstrip('. ')} ({never(reason)})"
    lost = [str(one.get("statusReason") or "") for one in found.get("attempts") or []]
    again = f"another machine, after: {lost[-1] or 'an attempt that failed'}" if lost else ""
    return reason or again or str(found.get("status", "")).lower()


def never(reason: str) -> str:
    """Say what a misconfiguration means, and what to do about it; nothing where a job may yet start."""
    if not reason.startswith(NEVER):
        return ""
    code = reason.removeprefix(NEVER).split(" ")[0]
    why = MEANINGS.get(code, "it can never start")
    return f"{why}: stop it, run `make cloud-setup`, and launch it again"


def streams(found: dict[str, Any]) -> list[str]:
    """Give the log streams of a job's attempts, in order; the one that goes on is told in another place."""
    parts = [*(found.get("attempts") or []), found]
    named = [str((part.get("container") or {}).get("logStreamName") or "") for part in parts]
    return list(dict.fromkeys(filter(None, named)))


def _time(milliseconds: float) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
