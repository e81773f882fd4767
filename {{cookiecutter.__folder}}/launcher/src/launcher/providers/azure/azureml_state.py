"""What Azure ML says of a job, in our words: its state, how long it is paid for, and why it is as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from ...job import EXIT_PREEMPTED, EXIT_RETRY, EXIT_STOPPED, State

# JobStatus of https://learn.microsoft.com/rest/api/azureml/jobs/get. A job whose machine was taken away is queued again
# under its id: https://learn.microsoft.com/azure/machine-learning/how-to-use-serverless-compute. `NotResponding` and
# `Unknown` are no ends; the first is of a machine that is there, as far as anybody knows.
STATES = {
    **dict.fromkeys(("NotStarted", "Starting", "Provisioning", "Preparing"), State.queued),
    **dict.fromkeys(("Queued", "Paused", "Unknown"), State.queued),
    **dict.fromkeys(("Running", "Finalizing", "NotResponding"), State.running),
    "CancelRequested": State.running,  # and paid for until it has ended
    "Completed": State.succeeded,
    "Failed": State.failed,
    "Canceled": State.stopped,  # by its own time limit too
}
SLACK = timedelta(minutes=1)  # the worker's machine may tell the time a little differently
ENDED = ("Completed", "Failed", "Canceled")
ENDING = ("CancelRequested", "Finalizing")
# "AzureMLCompute job failed. PreemptionError: Nodes of this job got pre-empted", of jobs that were not started again:
# github.com/Azure/MachineLearningNotebooks/issues/1242, github.com/microsoft/MLOpsPython/issues/346
TAKEN = re.compile(r"Preemption|pre-?empted|evicted", re.IGNORECASE)
# "User process '/bin/bash' exited with status code 75", "failed with status code `1`" (github.com/getindata/kedro-azureml/issues/6),
# "exit_codes: 1" in the details of an ExecutionFailed.
STATUS = re.compile(r"(?:status|exit|return)[ _]codes?\W{1,3}(\d+)", re.IGNORECASE)
# What says that the program ended by itself, without saying how: "Job failed with non-zero exit Code"
# (github.com/Azure/MachineLearningNotebooks/issues/1360).
BY_ITSELF = re.compile(r"non-?zero exit|user process|user program|execution failed", re.IGNORECASE)


def state(status: str, error: str) -> State:
    """Give a job's state; one without a machine, or that another job may go on with, counts as preempted.

    Args:
        error: what the service says went wrong.
    """
    ours = STATES.get(status, State.running)  # new words are taken for something that is paid for
    if ours in (State.stopped, State.failed) and _was_taken(error):
        return State.preempted
    if ours is not State.failed:
        return ours
    code = exit_code(error)
    if code == EXIT_STOPPED:
        return State.stopped
    return State.preempted if code in (EXIT_RETRY, EXIT_PREEMPTED) else State.failed


def exit_code(error: str) -> int | None:
    """Give the status that the program ended with; None where that is not told."""
    told = STATUS.search(error)  # the first: the end of the log may follow, with any words in it
    return int(told[1]) if told else None


def _was_taken(error: str) -> bool:
    told = STATUS.search(error)
    return bool(TAKEN.search(error[: told.start()] if told else error))


def is_silent(error: str) -> bool:
    """Tell whether the program ended by itself, and the service does not say with which status."""
    by_itself = exit_code(error) is None and bool(BY_ITSELF.search(error))
    return by_itself and not _was_taken(error)


def error_text(details: Mapping[str, Any]) -> str:
    """Give what run history says went wrong, with what stands further down; empty where nothing did."""
    found = (details.get("error") or {}).get("error") or {}
    texts: list[str] = []
    while isinstance(found, dict) and found:
        text = ": ".join(str(found[key]) for key in ("code", "message") if found.get(key))
        if text and text not in texts:
            texts.append(text)
        found = next(iter(found.get("details") or ()), None) or found.get("innerError")
    return " ".join(" ".join(texts).split())


def seconds(status: str, details: Mapping[str, Any], now: datetime) -> float:
    """Tell how long each machine of a job is paid for: from its first start to its end, so never too little.

    While it waits for another machine nothing is paid; how long it ran before that, only the worker has noted.

    Args:
        details: of run history.
    """
    ours = STATES.get(status, State.running)
    starts = [
        time(details[key])
        for key in ("startTimeUtc", "effectiveStartTimeUtc", "lastStartTimeUtc")
        if details.get(key)
    ]
    if not starts or ours is State.queued:
        return 0.0
    end = details.get("endTimeUtc")
    last = time(end) if end and status in ENDED else now
    return max(0.0, (last - min(starts)).total_seconds())


def noted_seconds(attempts: Sequence[Mapping[str, Any]], since: datetime, until: datetime) -> float:
    """Add up how long the starts between two times have been running, as far as the worker has noted it."""
    total = 0.0
    for attempt in attempts:
        try:
            started = datetime.fromisoformat(str(attempt.get("started")))
            if since - SLACK <= started <= until:
                total += float(attempt.get("seconds") or 0.0)
        except (TypeError, ValueError):
            continue
    return total


def time(text: str) -> datetime:
    """Read a time of the service, which has up to seven digits after the point."""
    found = re.fullmatch(r"(.*?\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:?\d\d)?", text)
    if not found:
        return datetime.fromisoformat(text)
    digits = f".{found[2][:6].ljust(6, '0')}" if found[2] else ""
    return datetime.fromisoformat(f"{found[1]}{digits}{found[3] or '+00:00'}")
