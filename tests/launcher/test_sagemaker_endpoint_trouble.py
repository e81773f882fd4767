"""Models at endpoints of SageMaker where a version fails or does not pass, and where something is left behind."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sagemaker_endpoints
from launcher import storage
from launcher.deployment import Order
from launcher.errors import UserError
from launcher.janitor import services
from launcher.models import deploy as deploying
from launcher.models import deployed, places
from launcher.providers.aws import sagemaker_endpoint
from sagemaker_endpoints import (
    ACCOUNT,
    NAME,
    REGION,
    answers,
    deploy,
    image,
    left,
    there,
)
from stage.aws import World
from stage.aws.bench import client
from test_sagemaker_endpoint_on_stage import MACHINE

pytestmark = pytest.mark.cloud("aws")
account, stage = sagemaker_endpoints.account, sagemaker_endpoints.stage  # fixtures


def broken(stage: World, version: int) -> None:
    """The image of a version does not start."""
    stage.sagemaker.endpoints.host.broken.add(image(version))  # type: ignore[union-attr]


@pytest.mark.parametrize("starts", [True, False])
def test_of_a_first_version_that_fails_nothing_is_left_but_its_log(starts: bool, stage: World):
    if not starts:
        broken(stage, 1)
    with pytest.raises(UserError, match="otherwise than" if starts else "ping health check"):
        deploy(1, False)
    assert left(stage) == []
    assert client(stage, "logs").describe_log_groups()["logGroups"]


@pytest.mark.parametrize("update", ["silent", "told", "Failed"])
@pytest.mark.parametrize("starts", [True, False])
def test_a_version_that_does_not_answer_well_leaves_the_one_before(starts: bool, update: str, stage: World):
    stage.sagemaker.endpoints.failed_update = update
    deploy(1, until="2999-12-31")
    before = left(stage)
    if not starts:
        broken(stage, 2)
    with pytest.raises(UserError, match="otherwise than" if starts else "has not brought"):
        deploy(2, False)
    assert answers(stage) == {1: 100}
    assert left(stage) == before
    assert [(one.version, one.until) for one in there().deployments()] == [(1, "2999-12-31")]
    deploy(3)
    assert str(there().rollback("digits")) == "digits@v1"


def test_a_part_of_the_requests_is_taken_back_from_a_version_that_does_not_pass(stage: World):
    deploy(1, **MACHINE)
    deploy(2, **MACHINE)
    with pytest.raises(UserError, match="otherwise than"):
        deploy(3, False, traffic="10", **MACHINE)
    assert answers(stage) == {2: 100}
    assert str(there().rollback("digits")) == "digits@v1"


@pytest.mark.parametrize("settings", [{}, MACHINE])
@pytest.mark.parametrize("passes", [True, False])
def test_a_version_gets_no_request_before_it_has_passed(passes: bool, settings: dict[str, str], stage: World):
    deploy(1, **settings)
    seen: list[dict[int, int]] = []

    def check(ask: Any) -> None:
        assert ask("/health", None) == (200, {"registry_version": "digits@v2"})
        [config] = [
            stage.sagemaker.endpoints.configs[REGION, one.config].given["ProductionVariants"]
            for (_, name), one in stage.sagemaker.endpoints.endpoints.items()
            if name == NAME
        ]
        number = {one["ModelName"].split("-")[2]: int(one["InitialVariantWeight"]) for one in config}
        seen.append(number)
        assert [str(one) for one in there().deployments() if one.percent] == ["digits@v1"]
        if not passes:
            raise UserError("It does not pass.")

    order = Order("digits", 2, image(2), settings)
    if passes:
        there().deploy(order, check)
    else:
        with pytest.raises(UserError, match="does not pass"):
            there().deploy(order, check)
    assert seen in ([{"v1": 1}], [{"v1": 100, "v2": 0}])
    assert answers(stage) == ({2: 100} if passes else {1: 100})
    assert len(left(stage)) == (5 if passes else 3)


def test_a_trial_that_was_left_behind_is_found_and_removed(stage: World, monkeypatch: pytest.MonkeyPatch):
    def abandoned() -> None:
        deploy(1)
        with monkeypatch.context() as patch:
            patch.setattr(sagemaker_endpoint, "undo", lambda *_: None)
            with pytest.raises(UserError):
                deploy(2, False)
        assert f"{NAME}-trial" in left(stage)

    abandoned()
    deploy(3)
    assert answers(stage) == {3: 100}
    assert there().remove("digits") is True
    assert left(stage) == []
    abandoned()
    there().calls.end(NAME)
    assert sagemaker_endpoint.remove_all(ACCOUNT, REGION) == ["digits"]
    assert left(stage) == []
    assert client(stage, "logs").describe_log_groups()["logGroups"] == []


def test_an_endpoint_of_a_trial_s_name_is_left_alone(stage: World):
    there().deploy(Order("digits-trial", 1, image(1)), lambda ask: None)
    deploy(1)
    with pytest.raises(UserError, match="is another one; register digits by another name"):
        deploy(2)
    assert {str(one) for one in there().deployments()} == {"digits@v1", "digits-trial@v1"}
    there().remove("digits")
    assert [str(one) for one in there().deployments()] == ["digits-trial@v1"]


def test_the_log_of_what_failed_goes_with_undeploy(stage: World):
    broken(stage, 1)
    with pytest.raises(UserError):
        deploy(1)
    assert there().remove("digits") is False
    assert client(stage, "logs").describe_log_groups()["logGroups"] == []


def test_what_is_out_of_service_for_good_is_to_be_undeployed(stage: World):
    deploy(1)
    [endpoint] = stage.sagemaker.endpoints.endpoints.values()
    endpoint.status = "OutOfService"
    with pytest.raises(
        UserError, match=r"run `uv run models undeploy digits to=sagemaker`, and deploy again"
    ):
        deploy(2)


def test_what_failed_and_was_never_cleared_away_is_replaced(stage: World, monkeypatch: pytest.MonkeyPatch):
    broken(stage, 1)
    monkeypatch.setattr(sagemaker_endpoint, "undo", lambda *_: None)
    with pytest.raises(UserError, match="ping health check"):
        deploy(1)
    [told] = there().deployments()
    assert told.state.startswith("Failed The primary container")
    deploy(2)
    assert answers(stage) == {2: 100}
    assert len(left(stage)) == 3


def test_what_cannot_be_put_back_does_not_hide_why(stage: World, caplog: pytest.LogCaptureFixture):
    deploy(1)
    stage.fail("sagemaker", "DeleteModel", "AccessDeniedException", status=400)
    with pytest.raises(UserError, match="otherwise than it does here"):
        deploy(2, False)
    assert "is not as before" in caplog.text


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A registry with notes of what is deployed, and a place whose login is asked for nothing else."""
    monkeypatch.setattr(places, "bucket", lambda: f"{tmp_path}/models")
    monkeypatch.setattr(storage, "PATIENCE", 0.0)
    monkeypatch.setattr(deploying, "target", lambda place: there())
    monkeypatch.setattr(services, "target", lambda place: there())
    monkeypatch.setattr(services, "_may_ask", lambda place: True)
    return lambda until: deployed.note("sagemaker", "digits", 1, until, there().where)


def test_the_janitor_ends_what_is_past_its_last_day_and_leaves_nothing(
    noted: Callable[[str], None], stage: World, monkeypatch: pytest.MonkeyPatch
):
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"
    deploy(1, machine="ml.m5.large", until=tomorrow)
    noted("2020-01-31")
    said: list[str] = []
    # What the endpoint itself says is looked at, too.
    assert "the service itself says" in services.tidy([object()], False, said.append)[0]  # type: ignore[list-item]
    [endpoint] = stage.sagemaker.endpoints.endpoints.values()
    endpoint.tags["until"] = "2020-01-31"
    assert services.tidy([object()], False, said.append) == []  # type: ignore[list-item]
    assert "removed digits, deployed until 2020-01-31" in said[-1]
    assert left(stage) == []


def test_the_janitor_names_what_nobody_has_noted(noted: Callable[[str], None], stage: World):
    deploy(1)
    deployed.note("sagemaker", "shapes", 1, "", there().where)
    said: list[str] = []
    services.tidy([object()], False, said.append)  # type: ignore[list-item]
    assert "sagemaker: digits@v1 answers at https://runtime.sagemaker" in said[0]
