"""What an account's quotas allow on AWS: which of them count, how many machines fit, and where to ask for more."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from aws_calls import Calls, calls, refusal
from launcher.job import Job, Machine, Parameter, Search
from launcher.providers.aws import quotas
from launcher.providers.aws.quotas import allowance, check

REGION = "eu-central-1"
CPU, A10G = Machine("cpu", "m7i.2xlarge"), Machine("a10g", "g5.xlarge", "A10G", 1)
A10GX4, A100X8 = (
    Machine("a10gx4", "g5.12xlarge", "A10G", 4),
    Machine("a100x8", "p4d.24xlarge", "A100", 8),
)
H100 = Machine("h100", "p5.4xlarge", "H100", 1)
JOB = Job("r1", "train@sha256:0", (), A10G, spot=True, max_hours=2)
PARAMETER = Parameter("optimizer.lr", low=0.1, high=1)
SPOT, DEMAND = "ml.g5.xlarge for spot training job usage", "ml.g5.xlarge for training job usage"
ALL_SPOT = "Number of instances across all spot training jobs"
ALL_DEMAND = "Number of instances across all training jobs"
LONGEST = "Longest run time for a training job"


class ServiceQuotas:
    """Service Quotas by docs.aws.amazon.com/servicequotas/2019-06-24/apireference.

    What an account has asked for is applied; else "the quota is not retrieved" by GetServiceQuota and ListServiceQuotas,
    only by the operations for AWS's defaults.
    """

    def __init__(self, aws: Calls):
        self.aws = aws
        self.applied: dict[tuple[str, str], tuple[str, float]] = {}  # service and code -> name and value
        self.defaults: dict[tuple[str, str], tuple[str, float]] = {}
        self.refused = False
        for source, names in (
            (self.applied, ("GetServiceQuota", "ListServiceQuotas")),
            (self.defaults, ("GetAWSDefaultServiceQuota", "ListAWSDefaultServiceQuotas")),
        ):
            one, many = names
            aws.answers[one] = lambda asked, source=source, one=one: self._get(source, asked, one)
            aws.answers[many] = lambda asked, source=source, many=many: self._list(source, asked, many)

    def sagemaker(self, source: dict[tuple[str, str], tuple[str, float]], **values: float) -> None:
        """Sets quotas by the names above."""
        for name, value in values.items():
            source["sagemaker", f"L-{crc32(name.encode()):08X}"] = (globals()[name], value)

    def _get(self, source: Any, asked: dict[str, Any], operation: str) -> dict[str, Any]:
        self._allow(operation)
        key = (asked["ServiceCode"], asked["QuotaCode"])
        if key not in source:
            raise refusal(operation, "NoSuchResourceException", "The request failed: no such quota")
        return {"Quota": self._quota(key, source[key])}

    def _list(self, source: Any, asked: dict[str, Any], operation: str) -> dict[str, Any]:
        self._allow(operation)
        found = [each for each in source.items() if each[0][0] == asked["ServiceCode"]]
        start = int(asked.get("NextToken", "0"))
        page = {"Quotas": [self._quota(*each) for each in found[start : start + 2]]}
        return page | ({"NextToken": str(start + 2)} if start + 2 < len(found) else {})

    def _allow(self, operation: str) -> None:
        if self.refused:
            raise refusal(operation, "AccessDeniedException", "not authorized")

    def _quota(self, key: tuple[str, str], what: tuple[str, float]) -> dict[str, Any]:
        (service, code), (name, value) = key, what
        return {"ServiceCode": service, "QuotaCode": code, "QuotaName": name, "Value": float(value)}


@pytest.fixture(autouse=True)
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServiceQuotas:
    values = {"package": "demo", "slug": "demo", "cloud": "aws", "region": "us-east-1", "bucket": "b"}
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    (tmp_path / "pyproject.toml").write_text("\n".join(["[tool.launcher]", *lines]))
    monkeypatch.setattr("launcher.project.find_root", lambda folder: tmp_path)
    quotas._coded.cache_clear()
    quotas._listed.cache_clear()
    return ServiceQuotas(calls(monkeypatch))


# EC2's, for Batch


@pytest.mark.parametrize(
    ("machine", "spot", "code"),
    [
        (CPU, False, "L-1216C47A"),
        (CPU, True, "L-34B43A08"),
        (A10G, False, "L-DB2E81BA"),
        (A10G, True, "L-3819A6DF"),
        (A100X8, False, "L-417A185B"),
        (A100X8, True, "L-7212CCBC"),
        (H100, False, "L-417A185B"),
        (H100, True, "L-C4BD4855"),
    ],
)
def test_a_machine_is_counted_by_its_family_and_tier(service, machine, spot, code):
    service.applied["ec2", code] = ("this one", 4096)
    assert allowance("batch", REGION, machine, spot) is not None
    assert allowance("batch", REGION, machine, not spot) is None


@pytest.mark.parametrize(
    ("machine", "vcpus"),
    [(CPU, 8), (A10G, 4), (A10GX4, 48), (Machine("h100x8", "p5.48xlarge", "H100", 8), 192), (H100, 16)],
)
def test_so_many_machines_fit_as_their_vcpus_do(service, machine, vcpus):
    for on_demand, _ in quotas.FAMILIES.values():
        service.applied["ec2", on_demand] = ("a family", 3 * vcpus - 1)
    assert allowance("batch", REGION, machine, spot=False) == 2
    assert check("batch", REGION, replace(JOB, machine=machine, spot=False)) == []


def test_what_the_account_has_counts_before_what_everybody_has(service):
    service.defaults["ec2", "L-3819A6DF"] = ("All G and VT Spot Instance Requests", 64)
    assert allowance("batch", REGION, A10G, spot=True) == 16
    quotas._coded.cache_clear()
    service.applied["ec2", "L-3819A6DF"] = ("All G and VT Spot Instance Requests", 0)
    assert allowance("batch", REGION, A10G, spot=True) == 0


def test_too_little_is_said_with_the_page_to_ask_at(service):
    service.applied["ec2", "L-3819A6DF"] = ("All G and VT Spot Instance Requests", 0)
    (problem,) = check("batch", REGION, JOB)
    assert problem.fatal
    assert problem.what == (
        "The quota `All G and VT Spot Instance Requests` in eu-central-1 is 0 vCPUs, and the job needs 4"
    )
    page = "https://console.aws.amazon.com/servicequotas/home/services/ec2/quotas/L-3819A6DF"
    assert f"ask for more at {page}?region=eu-central-1 " in problem.remedy
    assert "an answer takes hours, or days" in problem.remedy
    assert "cloud.spot=false" in problem.remedy


@pytest.mark.parametrize(
    "kind", ["p6-b200.48xlarge", "trn1.2xlarge", "g5.metal", "m7i.large", "im4gn.xlarge"]
)
def test_how_others_are_counted_is_not_guessed(service, kind):
    machine = Machine("other", kind)
    assert allowance("batch", REGION, machine, spot=True) is None
    assert check("batch", REGION, replace(JOB, machine=machine)) == []
    assert service.aws.asked == []


def test_a_quota_that_nobody_knows_of_forbids_nothing():
    assert allowance("batch", REGION, A10G, spot=True) is None
    assert check("batch", REGION, JOB) == []


def test_quotas_are_asked_for_in_the_jobs_region_and_once(service):
    service.applied["ec2", "L-3819A6DF"] = ("G", 8)
    for _ in range(3):
        assert allowance("batch", REGION, A10G, spot=True) == 2
        assert allowance("batch", REGION, A10GX4, spot=True) == 0
    assert [(region, name) for region, name, _ in service.aws.asked] == [(REGION, "GetServiceQuota")]


@pytest.mark.parametrize("backend", ["batch", "sagemaker"])
def test_who_may_not_read_quotas_is_told_nothing(service, backend):
    service.refused = True
    assert allowance(backend, REGION, A10G, spot=True) is None
    assert check(backend, REGION, JOB) == []


# SageMaker's


def test_a_type_has_a_quota_for_each_tier(service):
    service.sagemaker(service.applied, SPOT=3, DEMAND=1)
    assert allowance("sagemaker", REGION, A10G, spot=True) == 3
    assert allowance("sagemaker", REGION, A10G, spot=False) == 1


def test_all_types_together_are_limited_too(service):
    service.sagemaker(service.applied, SPOT=3)
    service.sagemaker(service.defaults, ALL_SPOT=2, ALL_DEMAND=1)
    assert allowance("sagemaker", REGION, A10G, spot=True) == 2
    (problem,) = check("sagemaker", REGION, replace(JOB, nodes=3))
    assert problem.what == f"The quota `{ALL_SPOT}` in {REGION} is 2 instances, and the job needs 3"


def test_the_defaults_are_read_only_where_nothing_was_applied(service):
    service.sagemaker(service.applied, SPOT=1, ALL_SPOT=4)
    service.sagemaker(service.defaults, SPOT=0, ALL_SPOT=0)
    assert allowance("sagemaker", REGION, A10G, spot=True) == 1
    assert service.aws.count("ListAWSDefaultServiceQuotas") == 0


def test_all_pages_are_read_once(service):
    service.sagemaker(service.applied, DEMAND=1, ALL_DEMAND=1, ALL_SPOT=4, LONGEST=432000, SPOT=2)
    for _ in range(3):
        assert check("sagemaker", REGION, JOB) == []
        assert allowance("sagemaker", REGION, A10G, spot=True) == 2
    assert service.aws.count("ListServiceQuotas") == 3
    assert all(asked["MaxResults"] == 100 for _, _, asked in service.aws.asked)


def test_none_is_none(service):
    service.sagemaker(service.defaults, SPOT=0)
    assert allowance("sagemaker", REGION, A10G, spot=True) == 0
    (problem,) = check("sagemaker", REGION, JOB)
    assert problem.fatal
    assert f"The quota `{SPOT}` in {REGION} is 0 instances, and the job needs 1" in problem.what
    assert "/servicequotas/home/services/sagemaker/quotas/L-" in problem.remedy


@pytest.mark.parametrize(
    ("nodes", "trials", "parallel", "needed"), [(3, 0, 0, 3), (1, 8, 4, 4), (1, 2, 4, 2), (2, 6, 3, 6)]
)
def test_nodes_and_trials_at_the_same_time_count(service, nodes, trials, parallel, needed):
    search = Search((PARAMETER,), "val/accuracy", True, trials, parallel) if trials else None
    job = replace(JOB, nodes=nodes, search=search)
    service.sagemaker(service.applied, SPOT=needed)
    assert check("sagemaker", REGION, job) == []
    quotas._listed.cache_clear()
    service.sagemaker(service.applied, SPOT=needed - 1)
    (problem,) = check("sagemaker", REGION, job)
    assert problem.what.endswith(f"is {needed - 1} instances, and the job needs {needed}")


def test_a_type_without_a_quota_may_not_be_there(service):
    service.sagemaker(service.applied, DEMAND=1)
    assert allowance("sagemaker", REGION, A10G, spot=True) is None
    (problem,) = check("sagemaker", REGION, JOB)
    assert not problem.fatal
    assert (
        problem.what == f"SageMaker has no quota `{SPOT}` in {REGION}, so it may not have this machine there"
    )


def test_a_job_longer_than_allowed_is_found(service):
    service.sagemaker(service.applied, SPOT=1, LONGEST=432000)
    assert check("sagemaker", REGION, replace(JOB, max_hours=120)) == []
    (problem,) = check("sagemaker", REGION, replace(JOB, max_hours=121))
    assert problem.what == f"The quota `{LONGEST}` in {REGION} is 120 hours, and the job has 121"
    assert problem.remedy.startswith("give cloud.max_hours=120 or less, or ask for more at https://")
