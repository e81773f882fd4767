"""What a subscription's quotas allow in Azure Machine Learning: vCPUs, apart from those of virtual machines.

New subscriptions often have none of a GPU's family. A job on dedicated machines is counted in three places, by its
machines' family, by all families of the region together, and by its workspace where somebody has set a limit there;
one on Spot machines only by the region's sum, which is 0 in many new subscriptions. Serverless jobs use the same quota
as clusters. What is more than a limit is refused; what is more than is left of it waits in a queue.
https://learn.microsoft.com/azure/machine-learning/how-to-manage-quotas (Azure Machine Learning Compute)
https://learn.microsoft.com/azure/machine-learning/how-to-use-serverless-compute (Quota)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from ...job import Job, Machine, Problem
from ..errors import ServiceError
from . import auth
from .errors import QUOTAS

API = "2025-12-01"
UNLIMITED = -1  # the limit of every family on Spot: the region's sum is what counts

# Days that a job may run, and on machines that may be taken away: how-to-manage-quotas, "Job lifetime".
LONGEST = {False: 21, True: 7}

# The text that people are shown of a line tells its tier: Standard NCASv3_T4 Family Cluster Dedicated vCPUs. A family is
# known by that or by the line's name, which is as Azure's compute has it: standardNCASv3_T4Family. Spaces vary.
TIERS = {False: "dedicated", True: "lowpriority"}
END = re.compile(r"cluster(dedicated|lowpriority)v?cpus$")
TOTAL = re.compile(r"totalcluster(dedicated|lowpriority)regionalv?cpus")


@dataclass(frozen=True)
class Quota:
    """A limit.

    Args:
        name: as people are shown it.
        limit, used: vCPUs.
    """

    name: str
    limit: int
    used: int

    @property
    def left(self) -> int:
        return max(0, self.limit - self.used)


@dataclass(frozen=True)
class Size:
    """What Azure ML knows of a machine."""

    family: str
    cpus: int
    spot: bool


def check(workspace: str, region: str, job: Job) -> list[Problem]:
    """Is the machine there, and do the quotas allow as many as the job has at the same time, and for as long?

    Args:
        workspace: its id in Azure Resource Manager, /subscriptions/S/resourceGroups/G/providers/…/workspaces/W.
    """
    count = job.nodes
    if job.search:
        count *= min(job.search.parallel, job.search.trials)
    problems = _too_long(job)
    try:
        size = _sizes(_at(workspace, region)).get(job.machine.type.lower())
        if not size:
            return [*problems, _not_there(region, job)]
        if job.spot and not size.spot:
            return [*problems, _never_on_spot(region, job)]
        needed = size.cpus * count
        quotas = _of(workspace, region, size, job.spot)
    except ServiceError:
        return problems  # few may read quotas; the service looks at them again
    too_little = [_too_little(region, job, one, needed) for one in quotas if one.limit < needed]
    if too_little:
        return [*problems, *too_little]
    return problems + [_in_use(one, needed) for one in quotas if one.left < needed]


def allowance(workspace: str, region: str, machine: Machine, spot: bool) -> int | None:
    """Tell how many such machines the quotas allow, those at work included; None where that cannot be told."""
    try:
        size = _sizes(_at(workspace, region)).get(machine.type.lower())
        if not size:
            return None
        if spot and not size.spot:
            return 0
        quotas = _of(workspace, region, size, spot)
    except ServiceError:
        return None
    return min((one.limit // size.cpus for one in quotas), default=None)


def lacking(workspace: str, region: str, machine_type: str, count: int) -> str:
    """Say which quota so many more dedicated machines would pass; empty where none does, or that cannot be told."""
    try:
        size = _sizes(_at(workspace, region)).get(machine_type.lower())
        quotas = _of(workspace, region, size, False) if size else []
    except ServiceError:
        return ""
    needed = size.cpus * count if size else 0
    return next(
        (
            f"Of the quota `{one.name}` {one.used} of {one.limit} vCPUs are in use, and {needed} are needed"
            for one in quotas
            if one.left < needed
        ),
        "",
    )


def _of(workspace: str, region: str, size: Size, spot: bool) -> list[Quota]:
    """Give the limits that count for a machine."""
    return [
        Quota(_shown(usage), int(usage["limit"]), int(usage.get("currentValue") or 0))
        for usage in _listed(f"{_at(workspace, region)}/usages")
        if int(usage.get("limit", UNLIMITED)) != UNLIMITED
        and _counts(usage, _plain(size.family), TIERS[spot])
        and _is_ours(usage, workspace)
    ]


def _counts(usage: dict[str, Any], family: str, tier: str) -> bool:
    """Tell whether a line is of a tier's sum, or of a family in that tier."""
    shown = _plain(_shown(usage))
    if total := TOTAL.fullmatch(shown):
        return total[1] == tier
    end = END.search(shown)
    names = {END.sub("", shown), END.sub("", _plain(usage["name"]["value"]))}
    return bool(end) and end[1] == tier and family in names


def _is_ours(usage: dict[str, Any], workspace: str) -> bool:
    """Tell whether a line is of the subscription or of our workspace, and not of another one or of one cluster."""
    _, slash, rest = str(usage.get("id", "")).lower().partition("/workspaces/")
    name = workspace.rpartition("/")[2].lower()
    return not slash or ("/computes/" not in rest and rest.startswith(f"{name}/"))


def _shown(usage: dict[str, Any]) -> str:
    return str(usage["name"].get("localizedValue") or usage["name"]["value"])


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _at(workspace: str, region: str) -> str:
    """Give the path of what Azure ML lists of a region."""
    subscription = "/".join(workspace.split("/")[:3])
    return f"{subscription}/providers/Microsoft.MachineLearningServices/locations/{region}"


def _sizes(location: str) -> dict[str, Size]:
    """Give the machines that Azure ML has in a region, by their names in lower case."""
    return dict(_sized(_listed(f"{location}/vmSizes")))


def _listed(path: str) -> list[dict[str, Any]]:
    answer = _answer(path)
    if isinstance(answer, ServiceError):
        raise answer
    return answer


@cache
def _answer(path: str) -> list[dict[str, Any]] | ServiceError:
    """Ask once, whatever comes of it: a table of all machines would wait for each of them again."""
    try:
        return list(auth.pages(path, api=API))
    except ServiceError as error:
        return error


def _sized(answers: list[dict[str, Any]]) -> Iterator[tuple[str, Size]]:
    for one in answers:
        if "AmlCompute" in (one.get("supportedComputeTypes") or ["AmlCompute"]):
            size = Size(one["family"], int(one["vCPUs"]), bool(one.get("lowPriorityCapable", True)))
            yield str(one["name"]).lower(), size


def _too_little(region: str, job: Job, quota: Quota, needed: int) -> Problem:
    other = "cloud.spot=false" if job.spot else "cloud.spot=true"
    return Problem(
        f"The quota `{quota.name}` of Azure Machine Learning in {region} is {quota.limit} vCPUs, "
        f"and the job needs {needed}",
        f"ask for more at {QUOTAS} (choose Machine learning; an answer takes hours, or days) or try {other}, another "
        "cloud.machine or another region",
    )


def _in_use(quota: Quota, needed: int) -> Problem:
    return Problem(
        f"Of the quota `{quota.name}` {quota.used} of {quota.limit} vCPUs are in use, and the job needs {needed}",
        "it waits in a queue until others have ended",
        fatal=False,
    )


def _not_there(region: str, job: Job) -> Problem:
    what = f"Azure Machine Learning lists no {job.machine.type} in {region} for this subscription"
    return Problem(what, "try another cloud.machine if it is refused", fatal=False)


def _never_on_spot(region: str, job: Job) -> Problem:
    what = f"Azure Machine Learning has {job.machine.type} in {region} on demand only"
    return Problem(what, "give cloud.spot=false or another cloud.machine")


def _too_long(job: Job) -> list[Problem]:
    days = LONGEST[job.spot]
    if job.max_hours <= days * 24:
        return []
    kind = "on machines that may be taken away " if job.spot else ""
    what = f"Azure Machine Learning lets a job run {kind}for {days} days, and cloud.max_hours={job.max_hours:g}"
    return [Problem(what, f"give cloud.max_hours={days * 24} or less")]
