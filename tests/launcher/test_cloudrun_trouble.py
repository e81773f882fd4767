"""Models on Cloud Run where something goes wrong half-way, or somebody else is at it too."""

import json
from pathlib import Path
from typing import Any

import pytest
from launcher.deployment import Order
from launcher.errors import UserError
from launcher.providers import target
from launcher.providers.errors import LoginError, UnreachableError
from launcher.providers.google import auth as google
from launcher.providers.google import id_token
from launcher.providers.google.cloudrun import CloudRun
from launcher.providers.google.cloudrun_request import said_cost
from stage.google.cloudrun import CloudRun as StandIn
from stage.google.identity import Identity
from test_cloudrun_on_stage import (  # noqa: F401 - its fixtures
    ME,
    SERVICE,
    deploy,
    image,
    stage,
    traffic,
    who,
)

LATEST = 1  # TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST


def rollback() -> str:
    return str(target("cloudrun").rollback("digits"))


def to_latest(stage: StandIn) -> None:  # noqa: F811
    """What somebody does by a click in the console."""
    kept = stage.services[SERVICE]
    kept.message.ClearField("traffic")
    kept.message.traffic.add(type_=LATEST, percent=100)
    kept.generation += 1


def test_a_version_that_does_not_pass_opens_the_one_that_answers_to_nobody(stage: StandIn):  # noqa: F811
    deploy(1, allow="user:a@b.example")
    with pytest.raises(UserError, match="otherwise than it does here"):
        deploy(2, False, allow="user:c@b.example")
    assert stage.invokers(SERVICE) == ["user:a@b.example"]


def test_what_somebody_has_let_go_to_the_latest_revision_is_listed_and_kept(stage: StandIn):  # noqa: F811
    deploy(1)
    to_latest(stage)
    assert [str(one) for one in target("cloudrun").deployments()] == ["digits@v1"]
    with pytest.raises(UserError, match="otherwise"):
        deploy(2, False)
    assert traffic(stage) == {1: 100}
    deploy(2)
    assert rollback() == "digits@v1"


def test_what_is_left_of_a_service_that_never_started_is_listed_and_replaced(stage: StandIn):  # noqa: F811
    deploy(1)
    kept = stage.services[SERVICE]
    kept.ready = ""
    assert [one.url for one in target("cloudrun").deployments()] == [""]
    deploy(2)
    assert traffic(stage) == {2: 100}


@pytest.mark.parametrize("first", [True, False])
def test_what_somebody_else_deploys_meanwhile_is_left_alone(
    first: bool,
    stage: StandIn,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
):
    if not first:
        deploy(1)

    def check(_: Any) -> None:
        deploy(5)
        raise UserError("It does not pass.")

    with pytest.raises(UserError, match="does not pass"):
        target("cloudrun").deploy(Order("digits", 2, image(2)), check)
    assert traffic(stage) == {5: 100}
    assert "changed by somebody else" in caplog.text


def test_a_deletion_and_a_change_say_what_they_know(stage: StandIn):  # noqa: F811
    deploy(1)
    deploy(2)
    target("cloudrun").remove("digits")
    sent = [one for one in stage.requests if one.method in ("PATCH", "DELETE")]
    assert all(one.query.get("etag") or one.json().get("etag") for one in sent)


def test_the_most_instances_hold_for_all_revisions_and_the_new_one_keeps_no_tag(stage: StandIn):  # noqa: F811
    deploy(1, max="2")
    deploy(2, max="2")
    message = stage.services[SERVICE].message
    assert message.scaling.max_instance_count == 2
    assert [one.tag for one in message.traffic] == ["", "before"]
    [env] = message.template.containers[0].env
    assert (env.name, env.value) == ("SERVE_DRAIN_SECONDS", "0")


def test_while_the_requests_are_divided_both_revisions_are_counted():
    settings = {"max_usd": "1000"}
    assert "about 66.36 USD" in said_cost(Order("digits", 1, "", settings), "us-central1", 0)
    settings["traffic"] = "10"
    assert "about 132.71 USD" in said_cost(Order("digits", 1, "", settings), "us-central1", 0)


def test_a_login_for_no_account_is_told_so_before_anything_is_made(
    stage: StandIn,  # noqa: F811
    who: Identity,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    login = json.loads(who.credentials(tmp_path / "bare.json", ME).read_text())
    del login["service_account_impersonation_url"]
    (tmp_path / "bare.json").write_text(json.dumps(login))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "bare.json"))
    google._find_login.cache_clear()
    with pytest.raises(LoginError, match="stands for no service account"):
        id_token.fetch("https://demo.example")


def test_without_a_token_nothing_is_made(stage: StandIn, who: Identity):  # noqa: F811
    who.accounts[ME].repository_id = "another"
    with pytest.raises(UserError):
        deploy(1)
    assert [one for one in stage.requests if one.method == "POST" and "services" in one.path] == []


def test_nobody_may_ask_any_more_and_the_public_never(stage: StandIn):  # noqa: F811
    deploy(1, allow="user:a@b.example")
    viewers = {"role": "roles/run.viewer", "members": ["allUsers", "user:v@b.example"]}
    public = {"role": "roles/run.admin", "members": ["allAuthenticatedUsers"]}
    stage.services[SERVICE].policy["bindings"] += [viewers, public]
    deploy(2, allow="nobody")
    assert stage.services[SERVICE].policy["bindings"] == [{**viewers, "members": ["user:v@b.example"]}]


def test_after_a_canary_that_had_most_requests_a_rollback_leads_to_what_was_before(stage: StandIn):  # noqa: F811
    deploy(1)
    deploy(2, traffic="60")
    deploy(2)
    assert rollback() == "digits@v1"
    deploy(3)
    deploy(3)
    assert rollback() == "digits@v1"


@pytest.mark.parametrize("kind", ["late_rights", "late_accounts"])
def test_what_was_granted_or_made_just_now_may_count_later(kind: str, stage: StandIn):  # noqa: F811
    setattr(stage, kind, 3)
    deploy(1, allow=f"serviceAccount:{ME}")
    assert traffic(stage) == {1: 100}


@pytest.mark.parametrize("gone", [KeyboardInterrupt(), UnreachableError("It is silent", "wait")])
@pytest.mark.parametrize("step", ["_beside", "_send"])
def test_what_is_interrupted_leaves_the_requests_where_they_went(
    step: str,
    gone: BaseException,
    stage: StandIn,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    deploy(1, allow="user:a@b.example")
    whole = getattr(CloudRun, step)

    def broken(*args: Any) -> None:
        whole(*args)
        raise gone

    monkeypatch.setattr(CloudRun, step, broken)
    with pytest.raises(type(gone)):
        deploy(2, allow="user:c@b.example")
    assert traffic(stage) == {1: 100}
    assert stage.invokers(SERVICE) == ["user:a@b.example"]


def test_what_cannot_be_put_back_does_not_hide_why(
    stage: StandIn,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    deploy(1)

    def silent(*_: Any) -> None:
        raise UnreachableError("It is silent", "wait")

    monkeypatch.setattr(CloudRun, "_drop", silent)
    with pytest.raises(UserError, match="otherwise than it does here"):
        deploy(2, False)
    assert "is not as before" in caplog.text
