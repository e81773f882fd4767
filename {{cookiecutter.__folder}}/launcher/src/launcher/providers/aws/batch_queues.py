"""The project's queues and jobs in AWS Batch, and whether a queue can start anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

from ...job import Problem
from . import auth as aws
from . import batch_state

SERVICE = "batch"
TIERS = ("-spot", "-demand")
AT_A_TIME = 100  # ids and names in one question, by the model of the service
THREADS = 8
SETUP = "run `make cloud-setup`, which makes it"


def queues(region: str, account: str) -> list[str]:
    """Give the names of the project's queues: those of a project whose name begins so too may be among them."""
    listed = aws.pages(SERVICE, "describe_job_queues", "jobQueues", region)
    names = [str(queue["jobQueueName"]) for queue in listed]
    return [name for name in names if name.startswith(f"{account}-") and name.endswith(TIERS)]


def job_ids(region: str, names: Iterable[str], start: str) -> list[str]:
    """Give the ids of all jobs of these queues whose names begin so, in whatever state.

    Without a filter only those in one state are listed, RUNNING if none is named
    (https://docs.aws.amazon.com/batch/latest/APIReference/API_ListJobs.html).
    """
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda name: list(_listed(region, name, f"{start}*")), names))
    return [str(job["jobId"]) for job in chain.from_iterable(found)]


def named(region: str, queue: str, name: str) -> list[dict[str, Any]]:
    """Give the jobs of exactly this name; the filter itself takes capitals and small letters for equal."""
    listed = [job for job in _listed(region, queue, name) if job["jobName"] == name]
    return describe(region, [str(job["jobId"]) for job in listed])


def _listed(region: str, queue: str, name: str) -> Iterator[dict[str, Any]]:
    filters = [{"name": "JOB_NAME", "values": [name]}]
    return aws.pages(
        SERVICE, "list_jobs", "jobSummaryList", region, jobQueue=queue, filters=filters
    )


def describe(region: str, ids: list[str]) -> list[dict[str, Any]]:
    """Give these jobs with all that the service knows of them; those that it has forgotten are left out."""
    found: list[dict[str, Any]] = []
    unique = list(dict.fromkeys(ids))
    for first in range(0, len(unique), AT_A_TIME):
        part = unique[first : first + AT_A_TIME]
        found += aws.call(SERVICE, "describe_jobs", region, jobs=part)["jobs"]
    return found


def check(region: str, name: str) -> list[Problem]:
    """Can this queue start a job? It would take one all the same, and let it wait."""
    answer = aws.call(SERVICE, "describe_job_queues", region, jobQueues=[name])
    if not (queue := next(iter(answer["jobQueues"]), None)):
        return [Problem(f"There is no queue {name} of AWS Batch in {region}", SETUP)]
    problems = [*_trouble(f"The queue {name}", queue)]
    order = [each["computeEnvironment"] for each in queue.get("computeEnvironmentOrder", [])]
    if not order:
        return [*problems, Problem(f"The queue {name} has no machines to start", SETUP)]
    asked = {"computeEnvironments": order}
    answer = aws.call(SERVICE, "describe_compute_environments", region, **asked)
    for environment in answer["computeEnvironments"]:
        called = f"The compute environment {environment['computeEnvironmentName']}"
        problems += _trouble(called, environment)
    return [*problems, *_blocked(region, name)]


def _trouble(called: str, found: dict[str, Any]) -> Iterator[Problem]:
    state, status = str(found.get("state", "")), str(found.get("status", ""))
    reason = str(found.get("statusReason") or "no reason given").rstrip(". ")
    if status in ("CREATING", "UPDATING"):
        what = f"{called} is not ready yet ({status.lower()})"
        yield Problem(what, "the job waits for it", fatal=False)
    elif status != "VALID":
        remedy = "run `make cloud-setup`; where that does not help, mend what the reason names"
        yield Problem(f"{called} is {status} ({reason})", remedy)
    if state != "ENABLED":
        remedy = "enable it in the console of AWS Batch, or run `make cloud-setup`"
        yield Problem(f"{called} is disabled, and starts nothing", remedy)


def _blocked(region: str, name: str) -> Iterator[Problem]:
    """A queue's jobs start in their order: one that never can keeps all behind it from starting, until Batch ends it."""
    asked = {"jobQueue": name, "jobStatus": "RUNNABLE"}
    for job in aws.pages(SERVICE, "list_jobs", "jobSummaryList", region, **asked):
        reason = str(job.get("statusReason") or "")
        if why := batch_state.never(reason):
            what = f"The job {job['jobName']} is before this one in its queue and cannot start ({reason.rstrip('. ')})"
            yield Problem(what, why, fatal=False)
            return


def cluster(region: str, queue: str) -> str:
    """Give the name of the ECS cluster that a queue's machines are in."""
    answer = aws.call(SERVICE, "describe_job_queues", region, jobQueues=[queue])
    order = [
        each["computeEnvironment"] for each in answer["jobQueues"][0]["computeEnvironmentOrder"]
    ]
    asked = {"computeEnvironments": order[:1]}
    answer = aws.call(SERVICE, "describe_compute_environments", region, **asked)
    return str(answer["computeEnvironments"][0].get("ecsClusterArn", "")).rpartition("/")[2]
