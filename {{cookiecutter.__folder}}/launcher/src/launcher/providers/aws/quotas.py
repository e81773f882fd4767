"""What an account's quotas allow, of EC2's CPUs (Batch) and of SageMaker's instances. New accounts often have none.

Service Quotas tells the limits, not what of them is in use; CloudWatch does that (namespace AWS/Usage), minutes late and
for whoever may read it. So what is in use is not looked at: SageMaker refuses a job that is too much, Batch lets it wait.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from ...job import Job, Machine, Problem
from ..errors import MissingError, ServiceError
from . import auth
from .errors import QUOTAS

SERVICE = "service-quotas"
PAGE = {"PageSize": 100}  # the most; SageMaker has about 3000 of them

# Quotas of EC2 by the letters that a type begins with, on demand and on spot: all count vCPUs
# (https://docs.aws.amazon.com/general/latest/gr/ec2-service.html).
FAMILIES = {
    **dict.fromkeys("acdhimrtz", ("L-1216C47A", "L-34B43A08")),
    **dict.fromkeys(("g", "vt"), ("L-DB2E81BA", "L-3819A6DF")),
    "p": ("L-417A185B", "L-7212CCBC"),
}
P5_SPOT = "L-C4BD4855"  # p5, p5e, p5en; p2 to p4 share the other
SIZE = re.compile(r"(?P<family>[a-z]+)(?P<generation>\d+)[a-z]*\.(?P<size>\d*)xlarge")
CPUS = 4  # of an xlarge, in each of these families; 12xlarge has twelve times as many

# SageMaker's are found by name, for each type has codes of its own. Of an account in eu-west-1 (January 2026) nearly all
# were 0, those of types without a GPU too, and 4 instances were allowed of all types together.
OF_TYPE = "ml.{} for {}training job usage"
TOGETHER = "Number of instances across all {}training jobs"
LONGEST = "Longest run time for a training job"  # seconds; 432,000 at first


@dataclass(frozen=True)
class Quota:
    """A limit.

    Args:
        service, code: how Service Quotas knows it.
        name: what the console calls it.
    """

    service: str
    code: str
    name: str
    value: float

    def page(self, region: str) -> str:
        """Give the page of the console where more is asked for."""
        return f"{QUOTAS}/services/{self.service}/quotas/{self.code}?region={region}"


@dataclass(frozen=True)
class Need:
    """What one machine takes of a quota."""

    quota: Quota
    count: int


def check(backend: str, region: str, job: Job) -> list[Problem]:
    """Do the quotas allow as many machines as the job has at the same time, and for as long?"""
    count = job.nodes
    if job.search:
        count *= min(job.search.parallel, job.search.trials)
    try:
        needs = _needs(backend, region, job.machine, job.spot)
        if backend == "sagemaker" and not needs:
            return [_unheard_of(region, job)]
        problems = [
            _too_little(region, job, need, count)
            for need in needs
            if need.quota.value < need.count * count
        ]
        if backend == "sagemaker":
            problems += _too_long(region, job)
    except ServiceError:
        return []  # few may read quotas; the service looks at them again
    return problems


def allowance(backend: str, region: str, machine: Machine, spot: bool) -> int | None:
    """Tell how many such machines the quotas allow, those at work included; None where that cannot be told."""
    try:
        needs = _needs(backend, region, machine, spot)
    except ServiceError:
        return None
    return min((int(need.quota.value // need.count) for need in needs), default=None)


def _needs(backend: str, region: str, machine: Machine, spot: bool) -> list[Need]:
    """Give what a machine takes; nothing where it is not known how it is counted.

    Raises:
        ServiceError: the quotas cannot be read.
    """
    if backend == "sagemaker":
        tier = "spot " * spot
        own = _named(region, OF_TYPE.format(machine.type, tier))
        together = _named(region, TOGETHER.format(tier))
        return [Need(quota, 1) for quota in (own, together) if quota] if own else []
    found = SIZE.fullmatch(machine.type)
    codes = FAMILIES.get(found["family"]) if found else None
    if not found or not codes:
        return []
    code = codes[spot]
    if spot and found["family"] == "p" and int(found["generation"]) >= 5:
        if found["generation"] != "5":
            return []  # nothing was found that says by which those of p6 are counted
        code = P5_SPOT
    quota = _coded(region, code)
    return [Need(quota, CPUS * int(found["size"] or 1))] if quota else []


@cache
def _coded(region: str, code: str) -> Quota | None:
    """Give a quota of EC2: the account's own, else what everybody has."""
    for operation in ("get_service_quota", "get_aws_default_service_quota"):
        try:
            answer = auth.call(SERVICE, operation, region, ServiceCode="ec2", QuotaCode=code)
        except MissingError:
            continue  # nobody has ever asked for another value
        return _quota(answer["Quota"])
    return None


def _named(region: str, name: str) -> Quota | None:
    """Give a quota of SageMaker: the account's own, else what everybody has."""
    for operation in ("list_service_quotas", "list_aws_default_service_quotas"):
        if name in (listed := _listed(region, operation)):
            return listed[name]
    return None


@cache
def _listed(region: str, operation: str) -> dict[str, Quota]:
    quotas = auth.pages(
        SERVICE, operation, "Quotas", region, ServiceCode="sagemaker", PaginationConfig=PAGE
    )
    return {quota.name: quota for quota in map(_quota, quotas)}


def _quota(answer: Mapping[str, str | float]) -> Quota:
    return Quota(
        *(str(answer[key]) for key in ("ServiceCode", "QuotaCode", "QuotaName")),
        value=float(answer["Value"]),
    )


def _too_little(region: str, job: Job, need: Need, count: int) -> Problem:
    quota, needed = need.quota, need.count * count
    unit = "vCPUs" if quota.service == "ec2" else "instances"
    other = "cloud.spot=false" if job.spot else "cloud.spot=true"
    return Problem(
        f"The quota `{quota.name}` in {region} is {quota.value:g} {unit}, and the job needs {needed}",
        f"ask for more at {quota.page(region)} (an answer takes hours, or days) or try {other}, "
        "another cloud.machine or another cloud.region",
    )


def _too_long(region: str, job: Job) -> list[Problem]:
    quota = _named(region, LONGEST)
    if not quota or quota.value >= job.max_hours * 3600:
        return []
    hours = quota.value / 3600
    return [
        Problem(
            f"The quota `{quota.name}` in {region} is {hours:g} hours, and the job has {job.max_hours:g}",
            f"give cloud.max_hours={hours:g} or less, or ask for more at {quota.page(region)}",
        )
    ]


def _unheard_of(region: str, job: Job) -> Problem:
    name = OF_TYPE.format(job.machine.type, "spot " * job.spot)
    what = f"SageMaker has no quota `{name}` in {region}, so it may not have this machine there"
    remedy = "try another cloud.machine, another cloud.region or cloud=batch if it is refused"
    return Problem(what, remedy, fatal=False)
