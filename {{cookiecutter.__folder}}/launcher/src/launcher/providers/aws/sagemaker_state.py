"""What SageMaker says of a training job, in our words: its state, how long it is paid for, and why it is as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ...job import EXIT_PREEMPTED, EXIT_RETRY, EXIT_STOPPED, State
from .logs import message

# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTrainingJob.html: secondary states may change, so
# one that is not known is taken for one that is paid for.
WAITING = {
    *("Starting", "Pending", "LaunchingMLInstances", "PreparingTrainingStack"),
    "Interrupted",  # its spot machine was taken away; it starts again by itself
}
ENDS = {
    "Completed": State.succeeded,
    "Failed": State.failed,
    "Stopped": State.stopped,
    "Deleting": State.stopped,
}
LIMITS = {
    "MaxRuntimeExceeded": "it ran for all the time that it may (cloud.max_hours)",
    "MaxWaitTimeExceeded": "it got no machine in time, or not for long enough (cloud.max_wait_hours)",
}
# As seen in github.com/DIAGNijmegen/rse-grand-challenge/issues/2631 and in the SDK's own CapacityError.
STOCK_OUT = re.compile(r"CapacityError|InsufficientCapacity|Unable to provision requested ML")
# "AlgorithmError: Exit Code: 1" in reports of 2018 to 2020, "AlgorithmError: , exit code: 1" in newer ones; the worker's
# own text, which comes before it, ends with its status.
# A log has a stream for each node: JOB/algo-1-1764340000.
STREAM = re.compile(r"(?P<job>[^/]+)/(?P<host>[^/]+)-\d+")
FIRST = "algo-1"
STATUS = re.compile(r"exit ?code:? ?(\d+)|\(status (\d+)\)", re.IGNORECASE)


def state(found: Mapping[str, Any]) -> State:
    """Give a job's state."""
    status = str(found.get("TrainingJobStatus", ""))
    if status == "InProgress" and found.get("SecondaryStatus") in WAITING:
        return State.queued
    ours = ENDS.get(status, State.running)  # Stopping is paid for until it has ended
    return _failed(str(found.get("FailureReason", ""))) if ours is State.failed else ours


def _failed(reason: str) -> State:
    """Tell what a failure means: after some of them another job may go on with the run."""
    if STOCK_OUT.search(reason):
        return State.preempted
    code = exit_code(reason)
    if code == EXIT_STOPPED:
        return State.stopped
    return State.preempted if code in (EXIT_RETRY, EXIT_PREEMPTED) else State.failed


def exit_code(reason: str) -> int | None:
    """Give the status that the container ended with; None where that is not told."""
    told = [int(a or b) for a, b in STATUS.findall(reason)]
    return told[-1] if told else None


def has_ended(found: Mapping[str, Any]) -> bool:
    """Tell whether the service does nothing more about a job."""
    return str(found.get("TrainingJobStatus", "")) in ENDS


def detail(found: Mapping[str, Any]) -> str:
    """Give why a job is as it is, in the service's words where it has any."""
    word = str(found.get("SecondaryStatus", ""))
    if word in LIMITS:
        return f"{word}: {LIMITS[word]}"
    said = [step.get("StatusMessage", "") for step in found.get("SecondaryStatusTransitions") or []]
    return str(found.get("FailureReason") or (said and said[-1]) or word)


def log_line(event: Mapping[str, Any], job: str, trial: re.Pattern[str] | None) -> str | None:
    """Give a line of a job's log, and of several nodes or trials which one it is of; None for another job's.

    Args:
        job: name of the job.
        trial: how its trials are called, where they are meant.
    """
    text = message(event)
    found = STREAM.fullmatch(str(event.get("logStreamName", "")))
    if not found:
        return text
    named = trial.fullmatch(found["job"]) if trial else None
    if found["job"] != job and not named:
        return None
    # Each line says whose it is, but for the one node that most jobs have only.
    text = text if found["host"] == FIRST else f"[{found['host']}] {text}"
    return f"[trial {int(named['number'])}] {text}" if named else text


def seconds(found: Mapping[str, Any], now: datetime) -> float:
    """Tell how long each machine of a job is paid for: as billed, or so far never too little.

    What spot saves is in the seconds: https://docs.aws.amazon.com/sagemaker/latest/dg/model-managed-spot-training.html
    """
    ended = has_ended(found)
    if ended and (billed := found.get("BillableTimeInSeconds")) is not None:
        return float(billed)
    if not (start := found.get("TrainingStartTime")):
        return 0.0
    end = (found.get("TrainingEndTime") or now) if ended else now
    return max(0.0, (end - start).total_seconds() - _waited(found, start, end))


def _waited(found: Mapping[str, Any], start: datetime, end: datetime) -> float:
    """Add up the time after the first start in which there was no machine."""
    total = 0.0
    for step in found.get("SecondaryStatusTransitions") or []:
        if step.get("Status") in WAITING:
            begun, over = max(start, step["StartTime"]), min(end, step.get("EndTime") or end)
            total += max(0.0, (over - begun).total_seconds())
    return total
