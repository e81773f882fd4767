"""What would make Compute Engine refuse a machine, or give one that is of no use, found before."""

from __future__ import annotations

import re
from typing import Any

from . import google
from .gce_api import Compute
from .google_errors import QUOTAS, GoogleError
from .job import Job, Kind, Problem

ONLY_SPOT = re.compile(r"a3-highgpu-[124]g")


def check_settings(cloud: Any, job: Job) -> list[Problem]:
    """Is it a job for a machine by itself? Asks nobody.

    Args:
        cloud: the section `cloud` of the configuration.
    """
    problems = []
    if job.nodes > 1:
        what = f"A virtual machine trains by itself, and cloud.nodes is {job.nodes}"
        problems.append(Problem(what, "use cloud=vertex, or cloud.nodes=1"))
    if job.kind is Kind.sweep:
        problems.append(Problem("Compute Engine has no tuning service", "use cloud=vertex"))
    if not job.spot and ONLY_SPOT.match(job.machine.type):
        what = f"{job.machine.type} is rented on spot only"
        problems.append(Problem(what, "give cloud.spot=true, or another cloud.machine"))
    zones = cloud.zones or []
    if outside := [zone for zone in zones if zone.rpartition("-")[0] != cloud.region]:
        what = f"{', '.join(outside)} in cloud.zones is not in {cloud.region}"
        problems.append(Problem(what, "correct cloud.zones or cloud.region"))
    if not cloud.labels:
        what = "Without cloud.labels no machine can be told to be this project's"
        problems.append(Problem(what, "give cloud.labels={project: NAME}"))
    return problems


def check_quotas(api: Compute, region: str, job: Job) -> list[Problem]:
    """Do the quotas of the region, and of the project, leave room? A machine that does not fit is never queued."""
    try:
        regional = _quotas(google.call("GET", api.url(f"regions/{region}"), retry=False))
        overall = _quotas(google.call("GET", api.url(""), retry=False))
    except GoogleError:
        return []  # the service checks them again
    problems = []
    if metric := gpu_metric(job):
        problems += _check(api, f"{metric} in {region}", regional.get(metric), job.machine.gpus)
        if not job.spot:  # machines that may be taken away are not counted there
            metric = "GPUS_ALL_REGIONS"
            problems += _check(api, metric, overall.get(metric), job.machine.gpus)
    elif cpus := re.fullmatch(r"(?:n1|e2)-[a-z]+-(\d+)", job.machine.type):
        # A project without a quota for such CPUs on spot takes them from the usual one.
        spot = regional.get("PREEMPTIBLE_CPUS")
        metric = "PREEMPTIBLE_CPUS" if job.spot and spot and spot[0] else "CPUS"
        problems += _check(api, f"{metric} in {region}", regional.get(metric), int(cpus[1]))
    return problems


def gpu_metric(job: Job) -> str:
    """Give the name of the quota that the job's GPUs count for; empty without any."""
    if not job.machine.gpu:
        return ""
    gpu = job.machine.gpu.removeprefix("NVIDIA_").removeprefix("TESLA_")
    # Only of the A100 are there two sizes, so only its quotas name the memory.
    gpu = gpu if gpu.startswith("A100") else re.sub(r"_\d+GB$", "", gpu)
    return f"{'PREEMPTIBLE_' * job.spot}NVIDIA_{gpu}_GPUS"


def _quotas(resource: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Give limit and use of each quota."""
    return {
        one["metric"]: (float(one.get("limit", 0)), float(one.get("usage", 0)))
        for one in resource.get("quotas", [])
    }


def _check(
    api: Compute, what: str, quota: tuple[float, float] | None, needed: int
) -> list[Problem]:
    if quota is None or quota[0] - quota[1] >= needed:
        return []
    limit, used = quota
    return [
        Problem(
            f"The quota {what} is {limit:g}, of which {used:g} are in use, and the job needs {needed}",
            f"ask for more at {QUOTAS}?project={api.project} or try another cloud.machine, "
            "another cloud.region or the other cloud.spot",
        )
    ]
