"""What SkyPilot says of a cluster and its newest job, and what the worker has noted, as one state.

A cluster is there for one run only, and goes down by itself; then only the notes are left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ...job import EXIT_PREEMPTED, EXIT_RETRY, State

# https://docs.skypilot.co/en/latest/reference/api/status.html and sky/skylet/job_lib.py
STATES = {
    "INIT": State.queued,
    "PENDING": State.queued,
    "SETTING_UP": State.running,
    "RUNNING": State.running,
    "SUCCEEDED": State.succeeded,
    "FAILED": State.failed,
    "FAILED_SETUP": State.failed,
    "FAILED_DRIVER": State.failed,
    "CANCELLED": State.stopped,
}
AGAIN = (EXIT_RETRY, EXIT_PREEMPTED)  # with which a worker ends where another attempt may help
UP = ("UP", "AUTOSTOPPING")  # of clusters whose jobs can be asked for


def state(
    job: Mapping[str, Any] | None,
    outcome: Mapping[str, Any] | None,
    attempts: Sequence[Mapping[str, Any]],
) -> State:
    """Tell the state of a run.

    Args:
        job: as `sky queue` shows the newest of its cluster; None where there is no cluster any more, or no job yet.
        outcome: what the worker noted at its end, if it was the end.
        attempts: what it noted of each start of this launch.
    """
    ours = STATES.get(str(job["status"]), State.queued) if job else None
    if ours and not ours.over:
        return ours
    if outcome:
        return State(outcome["state"])
    if ours in (State.succeeded, State.stopped):
        return ours
    last = attempts[-1].get("exit_code") if attempts else None
    # Of one that has ended without a word, its machine was taken away; where SkyPilot saw it end, it has failed.
    lost = last is None and ours is None
    return State.preempted if attempts and (last in AGAIN or lost) else State.failed


def without_job(cluster: Mapping[str, Any], outcome: Mapping[str, Any] | None) -> State:
    """Tell the state of a run by its cluster alone, as `sky status` shows it, where that has no job.

    One that comes up waits. One that is up, and has no job for whatever reason, is paid for. One that was up has lost
    machines.
    """
    if outcome:
        return State(outcome["state"])
    if cluster["status"] in UP:
        return State.running
    lost = cluster["status"] == "STOPPED" or cluster.get("init_kind") == "unhealthy"
    return State.preempted if lost else State.queued


def when(seconds: float | None) -> datetime:
    """Give a time as SkyPilot writes it, in seconds since 1970."""
    return datetime.fromtimestamp(seconds or 0.0, UTC)


def newest(jobs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Give the job of a cluster that was submitted last."""
    return max(jobs, key=lambda job: job["job_id"], default=None)
