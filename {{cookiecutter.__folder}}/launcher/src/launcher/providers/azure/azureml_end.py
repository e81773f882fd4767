"""Ends jobs of Azure ML and the machines of notebooks, and says so where the service does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from ...job import SECONDS_LABEL
from ..errors import ServiceError
from . import auth as azure
from .azureml_found import Found
from .azureml_instances import Instance, Instances
from .azureml_request import API

LONGEST_END = 600.0  # seconds that the service may take to end what it was told to, or what has reached its limit
Job = Found | Instance


def end(
    jobs: Iterable[Job],
    workspace: str,
    instances: Instances,
    of_run: Callable[[str], Iterable[Job]],
) -> None:
    """Order jobs to end, each even if another one does not; then say what did not work.

    What is ending already is only looked after where that takes too long.

    Jobs were seen in CancelRequested and in Finalizing for half a day and longer, with their machine:
    github.com/MicrosoftDocs/azure-docs/issues/77892, github.com/Azure/MachineLearningNotebooks/issues/782.

    Args:
        workspace: its path in Azure Resource Manager.
        of_run: gives a run's jobs as they are now.

    Raises:
        ServiceError: one cannot be ended, or does not end.
    """
    failed: list[ServiceError] = []
    for job in jobs:
        if job.ending and not _is_late(job):
            continue
        orders = _orders(job, workspace, instances)
        refused = [error for error in map(_tried, orders) if error]
        if refused:
            now = [each for each in of_run(job.run_id) if each.name == job.name]
            if now and not now[0].has_ended and not now[0].ending:  # it may have ended just before
                failed += refused
        if job.ending and isinstance(job, Found):
            what = f"Azure ML has not ended {job.name}, which is {job.status} and may still be paid for"
            remedy = f"end it at {job.url or 'https://ml.azure.com'}, or ask Azure's support to"
            failed.append(ServiceError(what, remedy))
    if failed:
        raise failed[0]


def _orders(job: Job, workspace: str, instances: Instances) -> list[Callable[[], object]]:
    if isinstance(job, Instance):
        return [partial(instances.stop, job)]
    cancel = [f"{workspace}/jobs/{name}/cancel" for name in job.outliving or [job.name]]
    return [partial(azure.call, "POST", path, api=API) for path in cancel]


def _tried(order: Callable[[], object]) -> ServiceError | None:
    try:
        order()
    except ServiceError as error:
        return error
    return None


def _is_late(job: Job) -> bool:
    """Tell whether it has been paid for longer than it may be at work and its end may take."""
    allowed = job.tags.get(SECONDS_LABEL, "")
    return allowed.isdigit() and job.seconds(azure.now()) > float(allowed) + LONGEST_END
