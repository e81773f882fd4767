"""What the quotas of Vertex AI allow. New projects often have none for GPUs."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from ...job import Job, Machine, Problem
from ..errors import ServiceError
from . import auth as google
from .errors import QUOTAS

PREFIX = "custom_model_training_"
COUNTED = re.compile(r"(?P<family>[a-z]+\d*)-(?:standard|highmem|highcpu)-(?P<cpus>\d+)")
CPUS_A_GPU = {"a2": 12, "a3": 26}  # of machines whose names count GPUs


def check_gpu_quota(project: str, region: str, job: Job) -> list[Problem]:
    """Does the quota allow as many GPUs as the job asks for?"""
    return _check(project, region, job, gpu_metric(job.machine, job.spot), job.machine.gpus)


def check_cpu_quota(project: str, region: str, job: Job) -> list[Problem]:
    """Does the quota allow as many CPUs?"""
    metric, cpus = cpu_metric(job.machine, job.spot)
    return _check(project, region, job, metric, cpus)


def allowance(project: str, region: str, machine: Machine, spot: bool) -> int | None:
    """Tell how many such machines the limits allow; None where they cannot be read."""
    metric, cpus = cpu_metric(machine, spot)
    needs = {gpu_metric(machine, spot): machine.gpus, metric: cpus}
    found = []
    for name, count in needs.items():
        if name and count:
            try:
                limit = read_limit(project, region, name)
            except ServiceError:
                return None
            if limit is not None and limit >= 0:  # -1 is no limit
                found.append(limit // count)
    return min(found, default=None)


def gpu_metric(machine: Machine, spot: bool) -> str:
    """Give the name of the quota of a machine's GPUs; empty for a machine without any."""
    if not machine.gpu:
        return ""
    gpu = machine.gpu.removeprefix("NVIDIA_").removeprefix("TESLA_").lower()
    # Only of the A100 are there two sizes, so only its quotas name the memory.
    gpu = gpu if gpu.startswith("a100") else re.sub(r"_\d+gb$", "", gpu)
    return f"{PREFIX}{'preemptible_' * spot}nvidia_{gpu}_gpus"


def cpu_metric(machine: Machine, spot: bool) -> tuple[str, int]:
    """Give the quota of a machine's CPUs and how many it takes; on spot all families share one.

    0 where its name does not say how many there are, or another quota than `cpus` counts them.
    """
    named, family = COUNTED.fullmatch(machine.type), machine.type.partition("-")[0]
    cpus = int(named["cpus"]) if named else CPUS_A_GPU.get(family, 0) * machine.gpus
    if not spot and family not in ("n1", "e2"):
        cpus = 0
    return f"{PREFIX}{'preemptible_' * spot}cpus", cpus


def read_limit(project: str, region: str, metric: str) -> int | None:
    """Read a limit in a region: its own where it has one, else the one for all regions; None where there is none.

    Raises:
        ServiceError: it cannot be read; few may.
    """
    services = f"{google.endpoint('serviceusage')}/v1beta1/projects/{project}/services"
    name = quote(f"aiplatform.googleapis.com/{metric}", safe="")
    url = f"{services}/aiplatform.googleapis.com/consumerQuotaMetrics/{name}"
    # Else only regions are shown whose limit somebody has changed (QuotaView in google/api/serviceusage/v1beta1/resources.proto).
    return _limit(google.call("GET", url, params={"view": "FULL"}, retry=False), region)


def _check(project: str, region: str, job: Job, metric: str, each: int) -> list[Problem]:
    needed = each * job.nodes
    if not metric or not needed:
        return []
    try:
        limit = read_limit(project, region, metric)
    except ServiceError:
        return []  # the service checks it again
    if limit is None or limit < 0 or limit >= needed:  # -1 is no limit
        return []
    other = "cloud.spot=false" if job.spot else "cloud.spot=true"
    return [
        Problem(
            f"The quota {metric} in {region} is {limit}, and the job needs {needed}",
            f"ask for more at {QUOTAS}?project={project} or try {other}, "
            "another cloud.machine or another cloud.region",
        )
    ]


def _limit(metric: dict[str, Any], region: str) -> int | None:
    limits = metric.get("consumerQuotaLimits", [])
    buckets = [bucket for limit in limits for bucket in limit.get("quotaBuckets", [])]
    for wanted in ({"region": region}, {}):
        for bucket in buckets:
            if (bucket.get("dimensions") or {}) == wanted:
                # A 0 is left out, as every number of its JSON.
                return int(bucket.get("effectiveLimit", 0))
    return None
