"""Submitting to AWS Batch: once, although the service has nothing by which it could tell a request that comes twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from ..errors import QuotaError, ServiceError, UnreachableError
from . import auth as aws
from . import batch_queues, batch_state

SERVICE = batch_queues.SERVICE
# Seconds until a job whose answer was lost is looked for; lists may be behind, by how much is not documented.
DELAYS = (2.0, 4.0, 8.0)
THROTTLED = {
    "TooManyRequestsException",
    "ThrottlingException",
    "Throttling",
    "RequestLimitExceeded",
}
TWICE = "the same launch was sent again, its first answer having been lost"
KEPT = 10  # newest definitions; a launch beside this one may have made one and not used it yet


def submit(region: str, requests: dict[str, Any]) -> dict[str, Any]:
    """Register the definition and submit the job; give the service's answer, with the job's id.

    Raises:
        ServiceError: it was refused, or it cannot be told whether it was done.
    """
    made = aws.call(SERVICE, "register_job_definition", region, **requests["RegisterJobDefinition"])
    definition = str(made["jobDefinitionArn"])
    try:
        return _send(region, {**requests["SubmitJob"], "jobDefinition": definition})
    except UnreachableError:
        raise  # a job may have it
    except ServiceError:
        with suppress(ServiceError):
            _deregister(region, definition)
        raise


def _send(region: str, body: dict[str, Any]) -> dict[str, Any]:
    lost = False
    for delay in (*DELAYS, None):
        try:
            answer = aws.call(SERVICE, "submit_job", region, **body)
        except (UnreachableError, QuotaError) as error:
            if isinstance(error, QuotaError) and error.code not in THROTTLED:
                raise  # no matter of seconds
            lost = lost or isinstance(error, UnreachableError)
            if found := _look(region, body, error, delay):
                return found
        else:
            if lost:
                _end_twins(region, body, str(answer["jobId"]))
            return answer
    raise AssertionError("the last look raises")


def _look(
    region: str, body: dict[str, Any], error: ServiceError, delay: float | None
) -> dict[str, Any] | None:
    """Look for a job whose answer was lost, after a while; after the last try give up."""
    time.sleep(delay or 0.0)
    try:
        found = batch_queues.named(region, body["jobQueue"], body["jobName"])
    except ServiceError:
        raise error from None
    if not found and delay is None:
        raise error
    return found[0] if found else None


def _end_twins(region: str, body: dict[str, Any], job_id: str) -> None:
    """End what else has this launch's name: the first try may have arrived late, after it was looked for."""
    with suppress(ServiceError):  # the janitor ends what runs and is nobody's
        for twin in batch_queues.named(region, body["jobQueue"], body["jobName"]):
            if twin["jobId"] != job_id and not batch_state.state(twin).over:
                aws.call(SERVICE, "terminate_job", region, jobId=twin["jobId"], reason=TWICE)


def retire(region: str, name: str, jobs: Callable[[], list[dict[str, Any]]]) -> None:
    """Deregister old definitions, of which each launch makes one: all but the newest, and those of jobs at work.

    What becomes of a job that waits for a machine when its definition goes is not documented, but that one whose
    definition is invalid is not tried again (https://docs.aws.amazon.com/batch/latest/userguide/job_retries.html).

    Args:
        name: of the definitions.
        jobs: asks for those of the project.
    """
    newest_first = sorted(active(region, name), key=lambda one: one["revision"], reverse=True)
    if not (olds := newest_first[KEPT:]):
        return
    used = {str(job["jobDefinition"]) for job in jobs() if not batch_state.state(job).over}
    for old in olds:
        if old["jobDefinitionArn"] not in used:
            _deregister(region, old["jobDefinitionArn"])


def active(region: str, name: str) -> Iterator[dict[str, Any]]:
    """Give the definitions of a name that can be used."""
    asked = {"jobDefinitionName": name, "status": "ACTIVE"}
    return aws.pages(SERVICE, "describe_job_definitions", "jobDefinitions", region, **asked)


def _deregister(region: str, definition: str) -> None:
    aws.call(SERVICE, "deregister_job_definition", region, jobDefinition=definition)
