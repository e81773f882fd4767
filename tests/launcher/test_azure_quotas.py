"""What a subscription's quotas allow in Azure ML: which of them count, how many machines fit, and what waits or is refused."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from azure_logins import logged_in
from launcher.job import Job, Machine, Parameter, Search
from launcher.providers.azure import quotas
from launcher.providers.azure.quotas import allowance, check
from launcher.providers.errors import RefusedError
from stage.azure.ml_usages import ALL_DEDICATED, ALL_LOW_PRIORITY, SIZES, Held, Usages
from stage.azure.world import serve

pytestmark = pytest.mark.cloud("azure")
REGION = "westeurope"
SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/demo"
WORKSPACE = f"{GROUP}/providers/Microsoft.MachineLearningServices/workspaces/demo-ml"
OTHER = WORKSPACE.replace("demo-ml", "other-ml")
CPU = Machine("cpu", "Standard_F8s_v2")
T4 = Machine("t4", "Standard_NC4as_T4_v3", "T4", 1)
T4X4 = Machine("t4x4", "Standard_NC64as_T4_v3", "T4", 4)
A100 = Machine("a100-80", "Standard_NC24ads_A100_v4", "A100-80GB", 1)
JOB = Job("r1", "train@sha256:0", (), T4, spot=False, max_hours=2)
PARAMETER = Parameter("optimizer.lr", low=0.1, high=1)
FAMILY = "Standard NCASv3_T4 Family Cluster Dedicated vCPUs"
PAGES = quotas.auth.pages


class Service:
    """What Azure ML lists; `usages` sets limits, `held` is what has cores, `more` are further lines."""

    def __init__(self) -> None:
        self.held: list[Held] = []
        self.usages = Usages(lambda: self.held)
        self.more: list[dict[str, Any]] = []
        self.refused = False
        self.compute_names = False
        self.asked: list[str] = []

    def pages(self, path: str, *, api: str) -> Iterator[dict[str, Any]]:
        assert api == quotas.API
        self.asked.append(path)
        if self.refused:
            raise RefusedError("Permission denied", "ask", "AuthorizationFailed")
        root = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.MachineLearningServices/locations/{REGION}"
        if path == f"{root}/vmSizes":
            yield from self.usages.sizes_listed(REGION)
        else:
            assert path == f"{root}/usages"
            yield from map(self._named, [*self.usages.listed(SUBSCRIPTION, REGION), *self.more])

    def _named(self, usage: dict[str, Any]) -> dict[str, Any]:
        """Some answers have the name of Azure's compute, the same for both tiers, and write the tier in two words.

        https://github.com/webdevops/azure-resourcemanager-exporter/issues/83
        """
        shown = usage["name"]["value"]
        if not self.compute_names:
            return usage
        start, family, _ = shown.partition(" Family ")
        value = f"{start}Family".replace("Standard ", "standard") if family else shown
        return usage | {"name": {"value": value, "localizedValue": shown.replace("LowP", "Low P")}}

    def use(self, machine: Machine, nodes: int, spot: bool = False) -> None:
        """A job of another workspace has machines."""
        size = SIZES[machine.type.lower()]
        self.held.append(Held(f"{OTHER}/computes/Serverless", REGION, size, nodes, spot))


@pytest.fixture(autouse=True)
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    made = Service()
    monkeypatch.setattr(quotas.auth, "pages", made.pages)
    forget()
    return made


def forget() -> None:
    quotas._answer.cache_clear()


def may_have(machine: Machine, spot: bool = False) -> int | None:
    forget()
    return allowance(WORKSPACE, REGION, machine, spot)


def found(job: Job) -> list[str]:
    forget()
    return [problem.what for problem in check(WORKSPACE, REGION, job)]


def test_a_new_subscription_has_no_gpu_on_demand(service):
    assert may_have(T4) == 0
    assert may_have(CPU) == 3
    (problem,) = check(WORKSPACE, REGION, JOB)
    assert problem.fatal
    assert (
        problem.what
        == f"The quota `{FAMILY}` of Azure Machine Learning in {REGION} is 0 vCPUs, and the job needs 4"
    )
    assert "ask for more at https://portal.azure.com/" in problem.remedy
    assert "cloud.spot=true" in problem.remedy


@pytest.mark.parametrize("compute_names", [False, True])
@pytest.mark.parametrize(("machine", "cores"), [(CPU, 8), (T4, 4), (T4X4, 64), (A100, 24)])
def test_so_many_machines_fit_as_their_vcpus_do_in_family_and_region(service, machine, cores, compute_names):
    service.compute_names = compute_names
    service.usages.set(machine.type, 3 * cores - 1, REGION)
    service.usages.set(ALL_DEDICATED, 400, REGION)
    assert may_have(machine) == 2
    service.usages.set(ALL_DEDICATED, cores, REGION)
    assert may_have(machine) == 1
    assert found(replace(JOB, machine=machine)) == []


@pytest.mark.parametrize("compute_names", [False, True])
def test_on_spot_only_the_sum_of_the_region_counts(service, compute_names):
    service.compute_names = compute_names
    service.usages.set(ALL_LOW_PRIORITY, 50, REGION)
    assert (may_have(T4, spot=True), may_have(A100, spot=True)) == (12, 2)
    service.usages.set(ALL_LOW_PRIORITY, 0, REGION)
    assert may_have(T4, spot=True) == 0
    (what,) = found(replace(JOB, spot=True))
    assert what.replace("Low P", "LowP").startswith(
        f"The quota `{ALL_LOW_PRIORITY}` of Azure Machine Learning"
    )
    assert what.endswith("is 0 vCPUs, and the job needs 4")
    (problem,) = check(WORKSPACE, REGION, replace(JOB, spot=True))
    assert "cloud.spot=false" in problem.remedy


@pytest.mark.parametrize(
    ("nodes", "trials", "parallel", "needed"), [(3, 0, 0, 3), (1, 8, 4, 4), (1, 2, 4, 2), (2, 6, 3, 6)]
)
def test_nodes_and_trials_at_the_same_time_count(service, nodes, trials, parallel, needed):
    search = Search((PARAMETER,), "val/accuracy", True, trials, parallel) if trials else None
    job = replace(JOB, nodes=nodes, search=search)
    service.usages.set(T4.type, 4 * needed, REGION)
    assert found(job) == []
    service.usages.set(T4.type, 4 * needed - 1, REGION)
    (what,) = found(job)
    assert what.endswith(f"is {4 * needed - 1} vCPUs, and the job needs {4 * needed}")


def test_what_others_use_makes_a_job_wait_and_is_no_refusal(service):
    service.usages.set(T4.type, 8, REGION)
    service.use(T4, 2)
    forget()
    (problem,) = check(WORKSPACE, REGION, JOB)
    assert not problem.fatal
    assert problem.what == f"Of the quota `{FAMILY}` 8 of 8 vCPUs are in use, and the job needs 4"
    assert problem.remedy == "it waits in a queue until others have ended"
    assert may_have(T4) == 2


def test_a_limit_of_the_own_workspace_counts_and_that_of_another_does_not(service):
    service.usages.set(T4.type, 40, REGION)
    line = {"type": "Microsoft.MachineLearningServices/workspaces/usages", "currentValue": 0, "unit": "Count"}
    name = {"value": FAMILY, "localizedValue": FAMILY}
    service.more = [
        {**line, "id": f"{OTHER}/usages/x", "limit": 0, "name": name},
        {**line, "id": f"{WORKSPACE}-2/usages/x", "limit": 0, "name": name},
        {**line, "id": f"{WORKSPACE}/computes/cluster/usages/x", "limit": 0, "name": name},
    ]
    assert may_have(T4) == 10
    service.more.append({**line, "id": f"{WORKSPACE.upper()}/usages/x", "limit": 8, "name": name})
    assert may_have(T4) == 2


def test_a_machine_that_azure_ml_does_not_list_is_said(service):
    service.usages.offered[REGION] = {CPU.type}
    assert may_have(T4) is None
    (problem,) = check(WORKSPACE, REGION, JOB)
    assert not problem.fatal
    assert problem.what == f"Azure Machine Learning lists no {T4.type} in {REGION} for this subscription"


def test_a_size_for_other_purposes_or_never_on_spot_is_no_machine_of_a_job(service, monkeypatch):
    service.usages.set(T4.type, 8, REGION)
    listed = service.usages.sizes_listed(REGION)
    plain = [one | {"lowPriorityCapable": False} for one in listed]
    monkeypatch.setattr(service.usages, "sizes_listed", lambda region: plain)
    assert (may_have(T4, spot=True), may_have(T4)) == (0, 2)
    (what,) = found(replace(JOB, spot=True))
    assert what == f"Azure Machine Learning has {T4.type} in {REGION} on demand only"
    serving = [one | {"supportedComputeTypes": ["MIR"]} for one in listed]
    monkeypatch.setattr(service.usages, "sizes_listed", lambda region: serving)
    assert may_have(T4) is None


@pytest.mark.parametrize(("spot", "days"), [(True, 7), (False, 21)])
def test_a_job_longer_than_azure_ml_lets_one_run_is_found(service, spot, days):
    service.usages.set(T4.type, 8, REGION)
    job = replace(JOB, spot=spot)
    assert found(replace(job, max_hours=days * 24)) == []
    (problem,) = check(WORKSPACE, REGION, replace(job, max_hours=days * 24 + 1))
    assert f"for {days} days, and cloud.max_hours={days * 24 + 1}" in problem.what
    assert problem.remedy == f"give cloud.max_hours={days * 24} or less"


def test_who_may_not_read_quotas_is_told_nothing(service):
    service.refused = True
    assert may_have(T4) is None
    assert found(JOB) == []


def test_the_service_itself_is_asked_by_who_may_and_not_held_against_who_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas.auth, "pages", PAGES)
    with serve(tmp_path / "azure", REGION) as world:
        workspace = world.make.workspace()
        world.make.principal("submitter", ("AzureML Data Scientist", workspace))
        world.ml.usages.set(T4.type, 8, REGION)
        with logged_in(world, "owner"):
            assert allowance(workspace, REGION, T4, spot=False) == 2
            assert allowance(workspace, REGION, A100, spot=True) == 4
            (problem,) = check(workspace, REGION, replace(JOB, nodes=3))
            assert problem.what.endswith("is 8 vCPUs, and the job needs 12")
        forget()
        with logged_in(world, "submitter"):
            assert allowance(workspace, REGION, T4, spot=False) is None
            assert check(workspace, REGION, replace(JOB, nodes=3)) == []


@pytest.mark.parametrize(("refused", "times"), [(False, 2), (True, 1)])
def test_quotas_are_asked_for_once_even_where_they_may_not_be_read(service, refused, times):
    service.refused = refused
    for machine in (CPU, T4, A100):
        for spot in (True, False):
            allowance(WORKSPACE, REGION, machine, spot)
    assert len(service.asked) == times
