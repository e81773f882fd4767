"""Models at managed online endpoints where something goes wrong half-way, or somebody else is at it too."""

from typing import Any

import azureml_endpoints
import pytest
from azureml_endpoints import LAST, deploy, image, rollback
from launcher.deployment import Order
from launcher.errors import UserError
from launcher.providers import target
from launcher.providers.azure import azureml_endpoint_calls as calls
from launcher.providers.azure import azureml_endpoint_request as asked
from launcher.providers.azure.azureml_endpoint import Endpoints
from launcher.providers.azure.azureml_endpoint_undo import Begun
from launcher.providers.errors import UnreachableError

pytestmark = pytest.mark.cloud("azure")
made, stage = azureml_endpoints.made, azureml_endpoints.stage  # fixtures


@pytest.mark.parametrize("starts", [True, False])
def test_a_version_that_does_not_answer_well_gets_no_requests_and_is_not_paid_for(starts, stage):
    deploy(1)
    stage.broken = set() if starts else {image(2)}
    why = (
        "otherwise than it does here"
        if starts
        else "its log ends with: RuntimeError: the model cannot be loaded"
    )
    with pytest.raises(UserError, match=why):
        deploy(2, False)
    assert (stage.traffic, stage.versions) == ({1: 100}, [1])
    deploy(3)
    assert stage.traffic == {3: 100}
    assert rollback() == "digits@v1"


@pytest.mark.parametrize("starts", [True, False])
def test_of_a_first_version_that_fails_nothing_is_left(starts, stage):
    stage.broken = set() if starts else {image(1)}
    who = stage.person("somebody")
    with pytest.raises(UserError):
        deploy(1, False, allow=f"user:{who.object_id}")
    assert stage.world.ml.endpoints.known == {}
    assert stage.world.ml.environments.known == {}
    assert stage.callers == []


def test_an_environment_that_is_not_deleted_is_hidden(stage):
    deploy(1)
    stage.world.fail("arm", "DELETE .*/environments/", 405, "MethodNotAllowed", None)
    assert target("azureml").remove("digits") is True
    (one,) = stage.world.ml.environments.known.values()
    assert one["properties"]["isArchived"] is True
    stage.world.heal()
    deploy(1)
    assert stage.traffic == {1: 100}


@pytest.mark.parametrize(("machine", "told"), [("cpu-tiny", True), ("cpu-small", False)])
def test_where_the_smallest_machine_may_be_why_the_next_one_is_named(machine, told, stage):
    stage.broken = {image(1)}
    with pytest.raises(UserError, match="its log ends with") as refused:
        deploy(1, machine=machine)
    assert ("give machine=cpu-small" in str(refused.value)) is told


def test_a_login_that_has_run_out_meanwhile_is_told_as_such(stage, monkeypatch):
    from launcher.providers.errors import LoginError

    request = calls.azure.request

    def over(method: str, url: str, **rest: Any) -> Any:
        if ".inference.ml.azure.com" in url:
            raise LoginError("Your login to Azure is no longer valid", "run `az login`")
        return request(method, url, **rest)

    def gone(*_: Any) -> str:
        raise LoginError("Your login to Azure is no longer valid", "run `az login`")

    monkeypatch.setattr(calls.azure, "request", over)
    monkeypatch.setattr(calls.azure, "token", gone)
    with pytest.raises(UserError, match="run `az login`") as refused:
        deploy(1)
    assert "allow=" not in str(refused.value)


def test_a_version_that_fails_takes_no_rollback_away(stage):
    deploy(1)
    deploy(2)
    with pytest.raises(UserError, match="otherwise"):
        deploy(3, False)
    assert (stage.traffic, stage.versions) == ({2: 100}, [1, 2])
    assert rollback() == "digits@v1"


def test_of_the_same_version_that_fails_now_what_was_there_stays(stage):
    deploy(1)
    deploy(2, traffic="10")
    with pytest.raises(UserError, match="otherwise"):
        deploy(2, False)
    assert (stage.traffic, stage.versions) == ({1: 90, 2: 10}, [1, 2])


def test_a_version_that_does_not_pass_opens_the_one_that_answers_to_nobody(stage):
    first, second = stage.person("a"), stage.person("b")
    deploy(1, allow=f"user:{first.object_id}")
    with pytest.raises(UserError, match="otherwise than it does here"):
        deploy(2, False, allow=f"user:{second.object_id}")
    assert [one.principal_id for one in stage.callers] == [first.object_id]


@pytest.mark.parametrize(
    "what",
    [
        "PUT .*/onlineEndpoints/[^/]+$",
        "PUT .*/deployments/",
        "PUT .*/environments/",
        "PUT .*/roleAssignments/",
    ],
)
@pytest.mark.parametrize("fault", ["lose", "cut"])
def test_an_answer_that_is_lost_makes_nothing_twice(fault, what, stage):
    who = stage.person("somebody")
    getattr(stage.world, fault)("arm", what)
    deploy(1, allow=f"user:{who.object_id}")
    getattr(stage.world, fault)("arm", what)
    deploy(2, allow=f"user:{who.object_id}")
    assert (stage.traffic, stage.versions) == ({2: 100}, [1, 2])
    assert len(stage.started) == 2
    assert len(stage.callers) == 1


@pytest.mark.parametrize("fault", ["lose", "cut"])
def test_an_answer_that_is_lost_of_a_removal_does_no_harm(fault, stage):
    deploy(1)
    getattr(stage.world, fault)("arm", "DELETE .*/onlineEndpoints/")
    assert target("azureml").remove("digits") is True
    assert stage.world.ml.endpoints.known == {}


def test_a_service_that_stays_away_leaves_what_answers(stage):
    deploy(1)
    stage.world.fail("arm", "PUT .*/deployments/", times=None)
    with pytest.raises(UnreachableError):
        deploy(2)
    assert (stage.traffic, stage.versions) == ({1: 100}, [1])


@pytest.mark.parametrize("gone", [KeyboardInterrupt(), UnreachableError("It is silent", "wait")])
@pytest.mark.parametrize("step", ["_start", "_send"])
def test_what_is_interrupted_leaves_the_requests_where_they_went(step, gone, stage, monkeypatch):
    who, other = stage.person("a"), stage.person("b")
    deploy(1, allow=f"user:{who.object_id}")
    whole = getattr(Endpoints, step)

    def broken(*args: Any) -> None:
        whole(*args)
        raise gone

    monkeypatch.setattr(Endpoints, step, broken)
    with pytest.raises(type(gone)):
        deploy(2, allow=f"user:{other.object_id}")
    assert (stage.traffic, stage.versions) == ({1: 100}, [1])
    assert stage.endpoint.given["tags"]["version"] == "v1"
    assert [one.principal_id for one in stage.callers] == [who.object_id]


@pytest.mark.parametrize("first", [True, False])
def test_what_somebody_else_deploys_meanwhile_is_left_alone(first, stage, caplog):
    if not first:
        deploy(1)

    def check(_: Any) -> None:
        if first:  # nobody can make the endpoint twice: it gets its requests by hand
            five = Order("digits", 5, image(5), {"until": LAST})
            name, body = "v5-aaaaa", _deployment(five)
            calls.put(f"{stage.endpoint.id}/deployments/{name}", body)
            endpoint = calls.find(stage.endpoint.id)
            assert endpoint
            target("azureml")._send(endpoint, name, 100, "", endpoint["tags"])  # type: ignore[attr-defined]
        else:
            deploy(5)
        raise UserError("It does not pass.")

    with pytest.raises(UserError, match="does not pass"):
        target("azureml").deploy(Order("digits", 2, image(2), {"until": LAST}), check)
    assert stage.traffic == {5: 100}
    assert "changed by somebody else" in caplog.text
    assert 2 not in stage.versions


def _deployment(order: Order) -> dict[str, Any]:
    there: Any = target("azureml")
    return asked.deployment(order, "westeurope", there._environment(order))


def test_what_is_left_of_an_endpoint_that_never_answered_is_listed_and_replaced(stage):
    deploy(1)
    stage.endpoint.given["properties"]["traffic"] = {}
    (told,) = target("azureml").deployments()
    assert (told.percent, told.state) == (0, "no requests, and paid for")
    (one,) = stage.endpoint.deployments.values()
    stage.world.ml.endpoints._deployment_gone(stage.endpoint, one)
    one.looks = 0
    stage.world.ml.endpoints._deployment_gone(stage.endpoint, one)
    (told,) = target("azureml").deployments()
    assert (str(told), told.state) == ("digits@v1", "nothing answers there; it is Succeeded")
    deploy(2)
    assert (stage.traffic, stage.versions) == ({2: 100}, [2])


@pytest.mark.parametrize("state", ["Creating", "Updating", "Deleting"])
def test_while_the_endpoint_is_changed_nothing_is_begun(state, stage):
    deploy(1)
    stage.endpoint.state, stage.endpoint.looks = state, 100
    before = len(stage.changes())
    with pytest.raises(UserError, match=f"is {state} just now; try again"):
        target("azureml").deploy(Order("digits", 2, image(2), {"until": LAST}), lambda ask: None)
    assert len(stage.changes()) == before
    stage.endpoint.state, stage.endpoint.looks = "Succeeded", 0


def test_what_cannot_be_put_back_does_not_hide_why(stage, monkeypatch, caplog):
    deploy(1)

    def silent(*_: Any) -> None:
        raise UnreachableError("It is silent", "wait")

    monkeypatch.setattr(Begun, "_drop", silent)
    with pytest.raises(UserError, match="otherwise than it does here"):
        deploy(2, False)
    assert "is not as before, and may be paid for" in caplog.text


def test_what_cannot_be_ended_is_told_and_the_requests_go_right(stage, caplog):
    deploy(1)
    deploy(2)
    stage.world.fail("arm", "DELETE .*/deployments/", 403, "AuthorizationFailed", None)
    deploy(3)
    assert stage.traffic == {3: 100}
    assert "is not ended, and is paid for" in caplog.text
    assert [one.state for one in target("azureml").deployments() if not one.percent] == [
        "no requests, and paid for",
        "no requests, and paid for, for a rollback",
    ]


def test_traffic_that_the_service_does_not_send_is_no_success(stage, monkeypatch):
    deploy(1)
    monkeypatch.setattr(calls, "divided", lambda *_: None)
    with pytest.raises(UserError, match="has not sent 100 % of the requests"):
        deploy(2)
    assert (stage.traffic, stage.versions) == ({1: 100}, [1])
