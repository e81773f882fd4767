"""What the quotas of Vertex AI allow. New projects often have none for GPUs."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from ...job import Job, Problem
from . import auth as google
from .errors import QUOTAS, GoogleError


def check_gpu_quota(project: str, region: str, job: Job) -> list[Problem]:
    """Does the quota allow as many GPUs as the job asks for?"""
    if not job.machine.gpu:
        return []
    gpu = job.machine.gpu.removeprefix("NVIDIA_").removeprefix("TESLA_").lower()
    # Only of the A100 are there two sizes, so only its quotas name the memory.
    gpu = gpu if gpu.startswith("a100") else re.sub(r"_\d+gb$", "", gpu)
    return _check_quota(project, region, f"nvidia_{gpu}_gpus", job, job.machine.gpus * job.nodes)


def check_cpu_quota(project: str, region: str, job: Job) -> list[Problem]:
    """Does the quota allow as many CPUs? Only for machines whose name says how many they are."""
    cpus = re.fullmatch(r"(?:n1|e2)-[a-z]+-(\d+)", job.machine.type)
    if not cpus:
        return []
    return _check_quota(project, region, "cpus", job, int(cpus[1]) * job.nodes)


def _check_quota(project: str, region: str, what: str, job: Job, needed: int) -> list[Problem]:
    metric = f"custom_model_training_{'preemptible_' if job.spot else ''}{what}"
    services = f"{google.endpoint('serviceusage')}/v1beta1/projects/{project}/services"
    name = quote(f"aiplatform.googleapis.com/{metric}", safe="")
    url = f"{services}/aiplatform.googleapis.com/consumerQuotaMetrics/{name}"
    try:
        limit = _limit(google.call("GET", url, retry=False), region)
    except GoogleError:
        return []  # few may read quotas; the service checks them again
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
    """Give the limit in a region: its own where it has one, else the one for all regions."""
    limits = metric.get("consumerQuotaLimits", [])
    buckets = [bucket for limit in limits for bucket in limit.get("quotaBuckets", [])]
    for wanted in ({"region": region}, {}):
        for bucket in buckets:
            if (bucket.get("dimensions") or {}) == wanted and "effectiveLimit" in bucket:
                return int(bucket["effectiveLimit"])
    return None
