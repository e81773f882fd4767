"""What the quotas of Compute Engine allow, of which Batch takes its machines. New projects often have none for GPUs.

A job for which there is no room is not refused: it waits in the queue, for two days at most
(https://docs.cloud.google.com/batch/quotas).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ...job import Job, Machine, Problem
from ..errors import ServiceError
from . import auth as google
from .batch_request import DISK_GB
from .errors import QUOTAS
from .pricing import boot_disk

BILLING = "https://console.cloud.google.com/billing"
EVERYWHERE = "GPUS_ALL_REGIONS"
# Machines whose CPUs count, and by what. Of those with built-in GPUs only a2's do, by a quota of their own; what that is
# on spot nobody tells, so it is not asked for.
COUNTED_CPUS = re.compile(r"(?:n1|e2)-[a-z]+-(\d+)")
A2_CPUS = 12  # of each GPU
# Their GPUs count on demand by a quota with the GPU's name as a dimension, which a region's list does not have.
BY_FAMILY = re.compile(r"(a3|a4|g4)-")

Quotas = Mapping[str, tuple[float, float]]  # limit and use of each


@dataclass(frozen=True)
class Need:
    """What one machine takes of a quota.

    Args:
        metric: its name.
        where: the region, or empty for the whole project.
        count: how much it takes.
        limit, used: what there is; None where the service does not say.
    """

    metric: str
    where: str
    count: int
    limit: float | None
    used: float

    @property
    def machines(self) -> int | None:
        """How many there is room for."""
        if self.limit is None:
            return None
        return max(0, int((self.limit - self.used) // self.count))


def check(project: str, region: str, job: Job) -> list[Problem]:
    """Do the quotas of the region, and of the project, leave room for the job's machine?"""
    try:
        needs = list(_needs(project, region, job.machine, job.spot))
    except ServiceError:
        return []  # few may read quotas; the service looks at them again
    return [_problem(project, need) for need in needs if need.machines == 0]


def allowance(project: str, region: str, machine: Machine, spot: bool) -> int | None:
    """Tell how many such machines the quotas allow now; None where that cannot be told."""
    try:
        needs = list(_needs(project, region, machine, spot))
    except ServiceError:
        return None
    if needs[0].machines is None:  # of what matters most nothing is known
        return None
    return min(need.machines for need in needs if need.machines is not None)


def _needs(project: str, region: str, machine: Machine, spot: bool) -> Iterator[Need]:
    """Give what a machine takes, that by which its kind is counted first.

    Raises:
        ServiceError: the quotas cannot be read.
    """
    base = f"{google.endpoint('compute')}/projects/{project}"
    regional = _read(f"{base}/regions/{region}")
    overall = _read(base)
    gpu, cpus = gpu_metric(machine), COUNTED_CPUS.fullmatch(machine.type)
    if gpu:
        named = _need(_of_tier(regional, gpu, spot), region, machine.gpus, regional)
        family = BY_FAMILY.match(machine.type)
        yield replace(named, limit=None) if family and not named.limit else named
        yield _need(EVERYWHERE, "", machine.gpus, overall)  # which counts spot machines too
    if cpus:
        yield _need(_of_tier(regional, "CPUS", spot), region, int(cpus[1]), regional)
        yield _need("CPUS_ALL_REGIONS", "", int(cpus[1]), overall)
    elif machine.type.startswith("a2-") and not spot:
        yield _need("A2_CPUS", region, A2_CPUS * machine.gpus, regional)
    elif not gpu:
        yield Need(machine.type, region, 1, None, 0.0)
    if boot_disk(machine.type).startswith("pd-"):
        yield _need("SSD_TOTAL_GB", region, DISK_GB, regional)
    yield _need("IN_USE_ADDRESSES", region, 1, regional)


def gpu_metric(machine: Machine) -> str:
    """Give the name of the quota that a machine's GPUs count for on demand; empty without any."""
    if not machine.gpu:
        return ""
    gpu = machine.gpu.removeprefix("NVIDIA_").removeprefix("TESLA_")
    # Only of the A100 are there two sizes, so only its quotas name the memory.
    gpu = gpu if gpu.startswith("A100") else re.sub(r"_\d+GB$", "", gpu)
    return f"NVIDIA_{gpu}_GPUS"


def _of_tier(regional: Quotas, metric: str, spot: bool) -> str:
    """Give the name of the quota that counts: a project that has none for spot takes from the usual one.

    https://cloud.google.com/compute/docs/instances/spot#quotas
    """
    own = f"PREEMPTIBLE_{metric}"
    has = {name: regional.get(name, (0.0, 0.0))[0] > 0 for name in (own, metric)}
    return own if spot and (has[own] or not has[metric]) else metric


def _need(metric: str, where: str, count: int, quotas: Quotas) -> Need:
    limit, used = quotas.get(metric, (None, 0.0))
    return Need(metric, where, count, limit, used)


def _read(url: str) -> dict[str, tuple[float, float]]:
    answer = google.call("GET", url, retry=False)
    return {
        one["metric"]: (float(one.get("limit", 0)), float(one.get("usage", 0)))
        for one in answer.get("quotas", [])
    }


def _problem(project: str, need: Need) -> Problem:
    place = f" in {need.where}" if need.where else ""
    what = (
        f"The quota {need.metric}{place} is {need.limit:g}, of which {need.used:g} are in use, "
        f"and the job needs {need.count}"
    )
    more = f"ask for more at {QUOTAS}?project={project}"
    if need.metric == EVERYWHERE and not need.limit:
        return Problem(
            what,
            f"an account on the free trial gets no GPUs, so first activate the full one at {BILLING}; then {more}",
        )
    other = "another cloud.machine, another cloud.region or the other cloud.spot"
    return Problem(what, f"{more} or try {other}")
