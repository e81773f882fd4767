"""Models at endpoints of SageMaker where an answer is lost or late, a deployment is stopped, or somebody else is at it too."""

from collections.abc import Callable
from typing import Any

import pytest
import sagemaker_endpoints
from launcher.deployment import Order
from launcher.errors import UserError
from launcher.providers.aws import auth, sagemaker_endpoint_calls, sagemaker_endpoint_undo
from launcher.providers.aws.sagemaker_endpoint_calls import Calls
from launcher.providers.errors import UnreachableError
from sagemaker_endpoints import (
    NAME,
    REGION,
    answers,
    deploy,
    image,
    left,
    there,
)
from sagemaker_jobs import forget
from stage.aws import World
from test_sagemaker_endpoint_on_stage import MACHINE

pytestmark = pytest.mark.cloud("aws")
account, stage = sagemaker_endpoints.account, sagemaker_endpoints.stage  # fixtures
MAKING = ("CreateModel", "CreateEndpointConfig", "CreateEndpoint")
CHANGING = ("CreateModel", "CreateEndpointConfig", "UpdateEndpoint")


@pytest.mark.parametrize("lost", MAKING)
def test_a_lost_answer_of_a_first_deployment_leaves_nothing(lost: str, stage: World):
    stage.lose("sagemaker", lost)
    with pytest.raises(UnreachableError):
        deploy(1)
    assert left(stage) == []
    deploy(1)


@pytest.mark.parametrize("lost", [*CHANGING, "AddTags"])
def test_a_lost_answer_of_another_one_leaves_the_one_before(lost: str, stage: World):
    deploy(1)
    stage.lose("sagemaker", lost)
    with pytest.raises(UnreachableError):
        deploy(2)
    assert answers(stage) == {1: 100}
    deploy(2)
    assert answers(stage) == {2: 100}


@pytest.mark.parametrize(
    "lost", [*MAKING, "UpdateEndpoint", "AddTags", "DeleteModel", "DeleteEndpointConfig"]
)
def test_a_lost_answer_is_asked_for_again_and_does_no_harm(
    lost: str, stage: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(auth, "ATTEMPTS", 3)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    forget()
    stage.lose("sagemaker", lost)
    for version in (1, 2, 3):
        deploy(version)
    assert answers(stage) == {3: 100}
    assert len(left(stage)) == 5
    stage.lose("sagemaker", "DeleteEndpoint")
    assert there().remove("digits") is True
    assert left(stage) == []


def test_a_rollback_whose_answer_is_lost_can_be_done_again(stage: World):
    deploy(1)
    deploy(2)
    stage.lose("sagemaker", "UpdateEndpoint")
    with pytest.raises(UnreachableError):
        there().rollback("digits")
    with pytest.raises(UserError, match="is Updating just now; try again"):
        there().rollback("digits")
    there().calls.settled(NAME)
    assert answers(stage) == {1: 100}


def test_what_was_made_just_now_may_be_known_later(stage: World):
    stage.sagemaker.endpoints.late_configs = 2
    deploy(1)
    stage.sagemaker.endpoints.late_configs = 1
    deploy(2)
    assert answers(stage) == {2: 100}


@pytest.mark.parametrize("gone", [KeyboardInterrupt(), UnreachableError("It is silent", "wait")])
@pytest.mark.parametrize("step", ["change", "has"])
def test_what_is_interrupted_is_as_it_was(
    step: str, gone: BaseException, stage: World, monkeypatch: pytest.MonkeyPatch
):
    deploy(1)
    whole: Callable[..., Any] = getattr(Calls, step)
    times = [0]

    def cut(*args: Any) -> Any:
        times[0] += 1
        found = whole(*args)
        if times[0] == 1:
            raise gone
        return found

    monkeypatch.setattr(Calls, step, cut)
    with pytest.raises(type(gone)):
        deploy(2)
    assert answers(stage) == {1: 100}
    assert len(left(stage)) == 3


@pytest.mark.parametrize("first", [True, False])
def test_what_somebody_else_deploys_meanwhile_is_left_alone(
    first: bool, stage: World, caplog: pytest.LogCaptureFixture
):
    if not first:
        deploy(1)

    def check(_: Any) -> None:
        deploy(5)
        raise UserError("It does not pass.")

    with pytest.raises(UserError, match="does not pass"):
        there().deploy(Order("digits", 2, image(2)), check)
    assert answers(stage) == {5: 100}
    assert "changed by somebody else" in caplog.text


@pytest.mark.parametrize("settings", [{}, MACHINE])
def test_what_somebody_else_has_deployed_meanwhile_is_not_replaced(settings: dict[str, str], stage: World):
    stage.sagemaker.endpoints.machines["ml.m5.large"] = 9
    deploy(1, **settings)
    with pytest.raises(UserError, match="Somebody else has changed the endpoint"):
        there().deploy(Order("digits", 2, image(2), settings), lambda ask: _other(settings))
    assert answers(stage) == {5: 100}


def _other(settings: dict[str, str]) -> None:
    deploy(5, **settings)


def _stopped(*_: Any) -> None:
    raise KeyboardInterrupt


def test_what_is_stopped_while_it_comes_up_is_waited_for(
    stage: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sagemaker_endpoint_calls, "PATIENCE", 0.0)
    monkeypatch.setattr(Calls, "has", _stopped)
    with pytest.raises(KeyboardInterrupt):
        deploy(1)
    assert left(stage) == []
    assert "digits@v1 is taken back" in (said := capsys.readouterr().out)
    assert "Leave this running." in said


def test_what_could_not_be_taken_back_is_said_with_what_it_costs(
    stage: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(sagemaker_endpoint_undo, "PATIENCE", 0.0)
    monkeypatch.setattr(Calls, "has", _stopped)
    with pytest.raises(KeyboardInterrupt):
        deploy(1)
    assert "may be paid for" in caplog.text
    assert "`uv run models undeploy digits to=sagemaker`" in caplog.text
    there().remove("digits")


def test_what_is_still_asleep_is_asked_again(stage: World):
    stage.fail("sagemaker-runtime", "InvokeEndpoint", "ServiceUnavailable", times=2)
    deploy(1)
    assert answers(stage) == {1: 100}


def test_a_model_has_its_60_seconds_and_is_asked_once():
    config = auth.client("sagemaker-runtime", REGION).meta.config
    assert (config.read_timeout, config.retries["total_max_attempts"]) == (70, 1)


def test_two_who_deploy_a_first_version_at_a_time_make_one(stage: World, monkeypatch: pytest.MonkeyPatch):
    whole = Calls.start

    def later(self: Calls, *args: Any) -> None:
        monkeypatch.setattr(Calls, "start", whole)
        deploy(1)
        whole(self, *args)

    monkeypatch.setattr(Calls, "start", later)
    with pytest.raises(UserError, match="Somebody else changes the endpoint"):
        there().deploy(Order("digits", 2, image(2)), lambda ask: None)
    assert answers(stage) == {1: 100}
