"""The stand-in for Azure ML's compute instances and clusters refuses, does and costs what the service does."""

import datetime
from collections.abc import Iterator
from typing import Any

import pytest

from stage import azure
from stage.azure.errors import AzureError
from stage.azure.ml_bench import GPU, Bench, bench, said
from stage.one_field import REMOVED, with_field

INSTANCE: dict[str, Any] = {
    "location": "westeurope",
    "properties": {
        "computeType": "ComputeInstance",
        "properties": {"vmSize": "Standard_DS3_v2", "idleTimeBeforeShutdown": "PT30M"},
    },
}
CLUSTER: dict[str, Any] = {
    "location": "westeurope",
    "properties": {
        "computeType": "AmlCompute",
        "properties": {
            "vmSize": "Standard_F8s_v2",
            "vmPriority": "LowPriority",
            "scaleSettings": {"minNodeCount": 0, "maxNodeCount": 1, "nodeIdleTimeBeforeScaleDown": "PT2M"},
        },
    },
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with azure.serve(tmp_path_factory.mktemp("azure")) as world:
        here = bench(world)
        here.who = world.owner
        yield here


@pytest.fixture
def here(shared: Bench) -> Bench:
    """The same, as if nobody had done anything in it."""
    shared.world.ml.reset()
    return shared


def made(here: Bench, name: str = "nbk", body: Any = None) -> Any:
    """Makes an instance and lets it come up."""
    here.ask("PUT", f"computes/{name}", body or INSTANCE).raise_for_status()
    here.world.pass_time(120)
    return here.world.ml.compute(name)


def changed(path: str, value: Any) -> dict[str, Any]:
    return with_field(INSTANCE, f"properties.properties.{path}", value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ab", "between 3 and 24"),
        ("a" * 25, "between 3 and 24"),
        ("1ab", "start with letters"),
        ("ab-12", "ending"),
        ("a_b", "minus"),
    ],
)
def test_a_name_that_no_compute_may_have_is_refused(here: Bench, name: str, words: str) -> None:
    answer = here.ask("PUT", f"computes/{name}", INSTANCE)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "InvalidResourceName")
    assert words in answer.text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (changed("vmSize", REMOVED), "vmSize of the compute is required"),
        (changed("vmSize", "Standard_X1"), "not supported"),
        (changed("vmSize", GPU), "Standard NCASv3_T4 family vCPU quota of 0"),
        (changed("idleTimeBeforeShutdown", "PT14M"), "between 15 minutes and 3 days"),
        (changed("idleTimeBeforeShutdown", "P4D"), "between 15 minutes and 3 days"),
        (changed("idleTimeBeforeShutdown", "30"), "no ISO 8601 duration"),
        (changed("idle", "PT30M"), "not a field"),
        (changed("state", "Running"), "read-only"),
        (with_field(INSTANCE, "location", "eastus"), "its workspace's region"),
        (with_field(INSTANCE, "properties.computeType", "Instance"), "is not one of"),
        (with_field(CLUSTER, "properties.properties.scaleSettings", REMOVED), "scaleSettings"),
        (with_field(CLUSTER, "properties.properties.scaleSettings.maxNodeCount", 0), "scaleSettings"),
    ],
)
def test_a_compute_that_cannot_be_is_refused(here: Bench, body: dict[str, Any], words: str) -> None:
    answer = here.ask("PUT", "computes/bad", body)
    assert answer.status_code == 400
    assert words in answer.text
    assert here.world.ml.computes == {}


def test_who_may_only_read_makes_and_stops_no_compute(here: Bench) -> None:
    reader = here.world.make.principal("reader", ("Reader", here.workspace))
    made(here)
    asked = [
        here.ask("PUT", "computes/other", INSTANCE, who=reader),
        here.ask("POST", "computes/nbk/stop", who=reader),
        here.ask("DELETE", "computes/nbk", who=reader, query={"underlyingResourceAction": "Delete"}),
    ]
    assert [answer.status_code for answer in asked] == [403] * 3
    assert here.get("computes/nbk", who=reader)["properties"]["properties"]["state"] == "Running"


def test_an_instance_comes_up_as_it_is_waited_for(here: Bench) -> None:
    answer = here.ask("PUT", "computes/nbk", INSTANCE)
    shown = answer.json()["properties"]
    assert (answer.status_code, shown["provisioningState"], shown["properties"]["state"]) == (
        201,
        "Creating",
        "Creating",
    )
    seen = [here.get(answer.headers["Azure-AsyncOperation"])["status"] for _ in range(2)]
    assert seen == ["InProgress", "Succeeded"]
    shown = here.get("computes/nbk")["properties"]
    assert (shown["provisioningState"], shown["properties"]["state"]) == ("Succeeded", "Running")


def test_an_instance_stops_when_nobody_uses_it(here: Bench) -> None:
    instance = made(here)
    here.world.pass_time(1000)
    instance.use()
    here.world.pass_time(1799)
    assert instance.state == "Running"
    here.world.pass_time(1)
    assert instance.state == "Stopping"
    here.world.pass_time(120)
    assert (instance.state, instance.paid) == ("Stopped", {"disk", "load balancer"})


def test_a_stopped_instance_keeps_its_quota_and_starts_again(here: Bench) -> None:
    instance = made(here)
    assert here.ask("POST", "computes/nbk/start").status_code == 409
    assert here.ask("POST", "computes/nbk/stop").status_code == 202
    here.world.pass_time(120)
    assert here.world.ml.usages.used("westeurope", False) == 4
    assert here.ask("POST", "computes/nbk/stop").status_code == 409
    here.ask("POST", "computes/nbk/start").raise_for_status()
    here.world.pass_time(120)
    assert (instance.state, instance.paid) == ("Running", {"machine", "disk", "load balancer"})


def test_idle_time_can_be_changed_and_starts_anew(here: Bench) -> None:
    instance = made(here)
    here.world.pass_time(1700)
    here.ask(
        "POST", "computes/nbk/updateIdleShutdownSetting", {"idleTimeBeforeShutdown": "PT15M"}
    ).raise_for_status()
    here.world.pass_time(899)
    assert instance.state == "Running"
    here.world.pass_time(1)
    assert instance.state == "Stopping"


def test_one_with_an_identity_stops_by_itself_only_if_that_may_stop_it(here: Bench) -> None:
    identity = here.world.make.identity("notebook")
    body = INSTANCE | {
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {identity.resource: {}}}
    }
    instance = made(here, "nbk", body)
    here.world.pass_time(86400)
    assert instance.state == "Running"
    here.world.make.role(identity, "Contributor", here.workspace)
    other = made(here, "other", body)
    here.world.pass_time(1800)
    assert (instance.state, other.state) == ("Running", "Stopping")


def test_a_schedule_stops_an_instance_each_time(here: Bench) -> None:
    evening: dict[str, Any] = {"action": "Stop", "triggerType": "Cron", "status": "Enabled"}
    evening["cron"] = {"startTime": "2024-01-01T00:00:00", "timeZone": "UTC", "expression": "0 18 * * *"}
    body = with_field(
        changed("idleTimeBeforeShutdown", REMOVED),
        "properties.properties.schedules",
        {"computeStartStop": [evening]},
    )
    instance = made(here, "nbk", body)
    for _ in range(2):
        now = datetime.datetime.fromtimestamp(here.world.clock.now(), datetime.UTC)
        end = now.replace(hour=18, minute=0, second=0, microsecond=0)
        end += datetime.timedelta(days=end <= now)
        here.world.pass_time((end - now).total_seconds() - 1)
        assert instance.state == "Running"
        here.world.pass_time(1)
        assert instance.state == "Stopping"
        here.world.pass_time(120)
        here.ask("POST", "computes/nbk/start").raise_for_status()
        here.world.pass_time(120)


def test_where_the_storage_takes_no_keys_an_instance_does_not_come_up(here: Bench) -> None:
    account = here.world.arm.get(here.world.arm.get(here.workspace).properties["storageAccount"])
    account.properties["allowSharedKeyAccess"] = False
    try:
        answer = here.ask("PUT", "computes/nbk", INSTANCE)
    finally:
        account.properties["allowSharedKeyAccess"] = True
    operation = [here.get(answer.headers["Azure-AsyncOperation"]) for _ in range(2)][-1]
    assert operation["status"] == "Failed"
    assert "does not allow key access" in operation["error"]["message"]
    assert here.get("computes/nbk")["properties"]["provisioningState"] == "Failed"


def test_deleting_says_what_becomes_of_the_machine(here: Bench) -> None:
    made(here)
    assert here.ask("DELETE", "computes/nbk").status_code == 400
    answer = here.ask("DELETE", "computes/nbk", query={"underlyingResourceAction": "Delete"})
    assert answer.status_code == 202
    assert here.get(answer.headers["Azure-AsyncOperation"])["status"] == "Succeeded"
    with pytest.raises(AzureError, match="not found"):
        here.get("computes/nbk")
    assert here.world.ml.usages.used("westeurope", False) == 0


def test_an_instance_is_made_once(here: Bench) -> None:
    made(here)
    assert here.ask("PUT", "computes/nbk", INSTANCE).status_code == 200
    assert here.ask("PUT", "computes/nbk", changed("vmSize", "Standard_DS2_v2")).status_code == 409


# Clusters


def test_a_cluster_grows_with_its_jobs_and_costs_a_little_when_empty(here: Bench) -> None:
    here.ask("PUT", "computes/cpu", CLUSTER).raise_for_status()
    cluster = here.world.ml.compute("cpu")
    assert cluster.paid == {"load balancer"}
    place = {"computeId": cluster.id, "queueSettings": None, "identity": {"identityType": "AMLToken"}}
    for name in ("a", "b"):
        here.submit(name, **place)
    here.world.ml.start("a")
    assert cluster.paid == {"load balancer", "machine"}
    assert here.get("computes/cpu")["properties"]["properties"]["currentNodeCount"] == 1
    assert not here.world.ml.has_room(here.world.ml.job("b"))
    assert here.ask("DELETE", "computes/cpu", query={"underlyingResourceAction": "Delete"}).status_code == 409
    assert here.world.ml.usages.used("westeurope", True) == 8
    here.world.ml.finish("a")
    assert here.world.ml.usages.used("westeurope", True) == 8  # until the cluster is deleted
    assert here.world.ml.has_room(here.world.ml.job("b"))


def test_a_cluster_may_be_in_another_region(here: Bench) -> None:
    here.ask("PUT", "computes/far", with_field(CLUSTER, "location", "eastus")).raise_for_status()
    assert here.world.ml.usages.used("eastus", True) == 8


def test_low_priority_is_the_clusters_own_and_no_tier_of_the_job(here: Bench) -> None:
    here.ask("PUT", "computes/cpu", CLUSTER).raise_for_status()
    where = here.world.ml.compute("cpu").id
    text = here.refused("a", here.body(computeId=where, identity={"identityType": "AMLToken"}))
    assert "job tier is for serverless compute only" in text
    here.submit("a", computeId=where, queueSettings=None, identity={"identityType": "AMLToken"})
    here.world.ml.start("a")
    here.world.ml.lose("a")
    assert here.status("a") == "Queued"


def test_a_cluster_can_be_scaled_and_nothing_else(here: Bench) -> None:
    here.ask("PUT", "computes/cpu", CLUSTER).raise_for_status()
    bigger = with_field(CLUSTER, "properties.properties.scaleSettings.maxNodeCount", 2)
    shown = said(here.ask("PUT", "computes/cpu", bigger))
    assert shown["properties"]["properties"]["scaleSettings"]["maxNodeCount"] == 2
    assert (
        here.ask(
            "PUT", "computes/cpu", with_field(CLUSTER, "properties.properties.vmSize", "Standard_F2s_v2")
        ).status_code
        == 409
    )
