"""Models on Cloud Run, with its strict stand-in: private, a revision for each version, and the requests go to the good one."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from launcher.deployment import Deployment, Order
from launcher.errors import UserError
from launcher.models import golden
from launcher.providers import target
from launcher.providers.google import auth as google
from launcher.providers.google import cloudrun as client
from launcher.providers.google.cloudrun import CloudRun
from launcher.providers.google.cloudrun_request import TIER_1, TIER_2, check, hourly, service_name
from stage.google.cloudrun import CloudRun as StandIn
from stage.google.cloudrun import cloudrun
from stage.google.grants import Grant
from stage.google.identity import Identity, identity

PROJECT = "stage-project"
REGISTRY = f"us-central1-docker.pkg.dev/{PROJECT}/demo/serve"
SERVICE = "demo-digits"
ME = f"launcher@{PROJECT}.iam.gserviceaccount.com"
ROLES = ("roles/run.admin", "roles/iam.serviceAccountUser", "roles/iam.serviceAccountCreator")
EXAMPLE = [1, 2]


def image(version: int) -> str:
    return f"{REGISTRY}@sha256:{version:064x}"


def answering(image: str, path: str, body: bytes) -> tuple[int, Any]:
    """What a version gives: its number."""
    version = int(image.rpartition(":")[2], 16)
    said = {"registry_version": f"digits@v{version}"}
    if path == "/openapi.json":
        content = {"application/json": {"example": {"instances": [EXAMPLE]}}}
        return 200, {"paths": {"/predict": {"post": {"requestBody": {"content": content}}}}}
    if path == "/predict":
        assert json.loads(body)["instances"] == [EXAMPLE]
        said["predictions"] = [{"values": [float(version)]}]  # type: ignore[assignment]
    return 200, said


@pytest.fixture
def who() -> Iterator[Identity]:
    with identity(PROJECT) as here:
        here.account("launcher", *ROLES, "roles/serviceusage.serviceUsageViewer", repository=True)
        yield here


@pytest.fixture
def stage(who: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """The service, with the login of a workflow."""
    with cloudrun(who, answering) as here:
        login = who.credentials(tmp_path / "login.json", ME)
        env = {**who.env, **here.env, "GOOGLE_CLOUD_PROJECT": PROJECT}
        for name, value in {**env, "GOOGLE_APPLICATION_CREDENTIALS": str(login)}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(google, "DELAYS", ())
        monkeypatch.setattr(client, "POLL", 0)
        monkeypatch.setattr(client, "GRANTED", 0.5)
        monkeypatch.setattr(golden, "POLL", 0)
        google._find_login.cache_clear()
        yield here
        google._find_login.cache_clear()


def deploy(version: int, right: bool = True, /, **settings: str) -> Deployment:
    """What the command does once the image is there."""
    there = target("cloudrun")
    order = Order("digits", version, image(version), {"max_usd": "1000", **settings})
    there.prepare(order)
    answer = [{"values": [float(version if right else -1)]}]
    return there.deploy(order, lambda ask: golden.check(ask, str(order), lambda example: answer, patience=0))


def traffic(stage: StandIn) -> dict[int, int]:
    """Version -> percent of the requests."""
    found = stage.services[SERVICE].message.traffic
    return {int(re.findall(r"-v(\d+)-", one.revision)[0]): one.percent for one in found if one.percent}


def test_what_it_could_cost_is_given_as_it_is_said(stage: StandIn, capsys: pytest.CaptureFixture[str]):
    usd = target("cloudrun").prepare(Order("digits", 1, image(1), {"max_usd": "1000", "max": "2"}))
    assert f"about {usd:.2f} USD a month busy day and night" in capsys.readouterr().out


def test_the_first_version_is_private_scales_to_zero_and_has_an_account_without_roles(
    stage: StandIn, who: Identity, capsys: pytest.CaptureFixture[str]
):
    made = deploy(1)
    assert (str(made), made.percent, made.url) == ("digits@v1", 100, f"{stage.url}/at/{SERVICE}/main")
    message = stage.services[SERVICE].message
    [container] = message.template.containers
    assert container.image == image(1)
    assert container.resources.cpu_idle
    assert container.startup_probe.http_get.path == "/health"
    assert (message.template.scaling.min_instance_count, message.template.scaling.max_instance_count) == (
        0,
        1,
    )
    assert not message.invoker_iam_disabled
    assert stage.invokers(SERVICE) == []
    assert dict(message.labels) == {"project": "demo", "model": "digits", "version": "v1"}
    assert who.accounts[message.template.service_account].roles == set()
    assert message.template.service_account.startswith("demo-server@")
    assert "0.091 USD for each hour" in capsys.readouterr().out


def test_a_new_version_gets_its_part_of_the_requests_and_then_all_and_back(stage: StandIn):
    deploy(1)
    assert "10 % of the requests" in deploy(2, traffic="10").state
    assert traffic(stage) == {1: 90, 2: 10}
    deploy(2)
    assert traffic(stage) == {2: 100}
    assert str(target("cloudrun").rollback("digits")) == "digits@v1"
    assert traffic(stage) == {1: 100}
    assert [(str(one), one.percent) for one in target("cloudrun").deployments()] == [("digits@v1", 100)]
    with pytest.raises(UserError, match="has no version before"):  # v2 was rejected
        target("cloudrun").rollback("digits")


@pytest.mark.parametrize("starts", [True, False])
def test_a_version_that_does_not_answer_well_gets_no_requests(starts: bool, stage: StandIn):
    deploy(1)
    stage.broken = set() if starts else {image(2)}
    why = "otherwise than it does here" if starts else "failed to start"
    with pytest.raises(UserError, match=why):
        deploy(2, False)
    assert traffic(stage) == {1: 100}
    deploy(3)
    assert traffic(stage) == {3: 100}
    assert str(target("cloudrun").rollback("digits")) == "digits@v1"


@pytest.mark.parametrize("starts", [True, False])
def test_of_a_first_version_that_fails_nothing_is_left(starts: bool, stage: StandIn):
    stage.broken = set() if starts else {image(1)}
    with pytest.raises(UserError):
        deploy(1, False)
    assert stage.services == {}


def test_it_is_removed_in_the_project_and_region_that_were_noted(
    stage: StandIn, monkeypatch: pytest.MonkeyPatch
):
    where = target("cloudrun").where
    assert where == f"projects/{PROJECT}/locations/us-central1"
    deploy(1)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "another-project")
    now = target("cloudrun")
    assert now.where != where
    assert now.at(where).where == where
    assert now.at(where).remove("digits") is True
    assert stage.services == {}


def test_the_last_day_is_told_by_the_service_too(stage: StandIn, capsys: pytest.CaptureFixture[str]):
    deploy(1, until="2999-12-31")
    assert "The janitor removes it after 2999-12-31" in capsys.readouterr().out
    assert [one.until for one in target("cloudrun").deployments()] == ["2999-12-31"]
    deploy(2)
    assert [one.until for one in target("cloudrun").deployments()] == [""]


def test_what_setup_gives_the_janitor_is_enough_to_end_it(stage: StandIn, who: Identity):
    deploy(1)
    listed = (files("launcher.providers.google") / "setup/launcher.yaml").read_text()
    given = frozenset(re.findall(r"(?m)^  - (\S+)", listed))
    who.accounts[ME].roles, who.accounts[ME].grants = set(), [Grant(given, lambda _: True)]
    assert [one.model for one in target("cloudrun").deployments()] == ["digits"]
    assert target("cloudrun").remove("digits") is True
    assert stage.services == {}


def test_undeploying_deletes_it_and_doing_so_again_is_no_error(stage: StandIn):
    deploy(1)
    assert target("cloudrun").remove("digits") is True
    assert stage.services == {}
    assert target("cloudrun").remove("digits") is False


def test_only_those_who_are_named_may_ask(stage: StandIn):
    deploy(1, allow="user:a@b.example,group:all@b.example")
    assert stage.invokers(SERVICE) == ["user:a@b.example", "group:all@b.example"]
    deploy(2)
    assert stage.invokers(SERVICE) == ["user:a@b.example", "group:all@b.example"]
    deploy(3, allow="user:c@b.example")
    assert stage.invokers(SERVICE) == ["user:c@b.example"]


@pytest.mark.parametrize(
    "nobody", ["allUsers", "allAuthenticatedUsers", "user:", "a@b.example", "user:a@b.c,allUsers"]
)
def test_nobody_in_particular_is_refused(nobody: str, stage: StandIn):
    with pytest.raises(UserError, match="never opened to everybody"):
        deploy(1, allow=nobody)
    assert stage.requests == []


def test_whoever_deploys_and_may_not_ask_is_told(
    stage: StandIn, who: Identity, monkeypatch: pytest.MonkeyPatch
):
    from stage.google.grants import ROLES as KNOWN

    monkeypatch.setitem(KNOWN, "roles/run.admin", KNOWN["roles/run.admin"] - {"run.routes.invoke"})
    with pytest.raises(UserError, match=r"must be in allow="):
        deploy(1)
    assert stage.services == {}
    deploy(1, allow=f"serviceAccount:{ME}")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"traffic": "0"}, "traffic=0 is no number from 1 to 100"),
        ({"max": "1000"}, "max=1000 is no number from 1 to 100"),
        ({"cpu": "3"}, "cpu=3 is none"),
        ({"cpu": "4", "memory": "1Gi"}, "does not go with cpu=4"),
        ({"memory": "much"}, "is no size"),
        ({"until": "2020-01-31"}, "until=2020-01-31 is no day to come"),
        ({"until": "tomorrow"}, "until=tomorrow is no day to come"),
        ({"until": "2999-W01-1"}, "until=2999-W01-1 is no day to come"),
        ({"max_usd": "none"}, "no number of USD"),
        ({"max_usd": "nan"}, "nan are the most"),
        ({"max_usd": "10"}, r"could cost about 66\.36 USD a month.*max_usd=67"),
        ({"max": "3", "max_usd": "100"}, r"199\.\d\d USD a month"),
    ],
)
def test_what_cloud_run_or_the_cap_would_refuse_is_refused_before(
    settings: dict[str, str], why: str, stage: StandIn
):
    with pytest.raises(UserError, match=why):
        deploy(1, **settings)
    assert stage.requests == []


def test_what_ends_earlier_may_cost_less(stage: StandIn):
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    deploy(1, max_usd="5", until=f"{tomorrow:%Y-%m-%d}")
    assert traffic(stage) == {1: 100}


def test_an_image_of_another_registry_is_refused():
    with pytest.raises(UserError, match=r"takes no image of registry\.example"):
        check(Order("digits", 1, "registry.example/demo/serve:digits-v1"))


def test_an_api_that_is_off_is_told_with_the_command(stage: StandIn, who: Identity):
    who.disabled_services.add("run.googleapis.com")
    with pytest.raises(UserError, match=r"gcloud services enable run\.googleapis\.com"):
        deploy(1)
    assert stage.services == {}


def test_a_service_of_somebody_else_is_left_alone(stage: StandIn):
    deploy(1)
    stage.services[SERVICE].message.labels["project"] = "another"
    for do in (lambda: deploy(2), lambda: target("cloudrun").remove("digits")):
        with pytest.raises(UserError, match="is not of this project"):
            do()
    assert target("cloudrun").deployments() == []
    assert traffic(stage) == {1: 100}


def test_lists_are_read_to_their_end(stage: StandIn):
    there = target("cloudrun")
    assert isinstance(there, CloudRun)
    for model in ("digits", "shapes", "texts"):
        there.deploy(Order(model, 1, image(1)), lambda ask: None)
    assert [one.model for one in there.deployments()] == ["digits", "shapes", "texts"]


def test_a_region_whose_price_is_not_known_counts_as_a_dear_one():
    assert hourly({}, "us-central1") == (pytest.approx(3600 * (TIER_1[0] + TIER_1[1] / 2)), 0.4)
    assert hourly({"cpu": "2", "memory": "1Gi"}, "mars")[0] == pytest.approx(
        3600 * (2 * TIER_2[0] + TIER_2[1])
    )


def test_a_name_that_is_too_long_is_refused():
    with pytest.raises(UserError, match="at most 49 characters"):
        service_name("a" * 50)
