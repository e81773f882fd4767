"""Models at endpoints of Vertex AI where something goes wrong half-way, or somebody else is at it too."""

from typing import Any

import pytest
from launcher.deployment import Ask
from launcher.errors import UserError
from launcher.models import golden
from launcher.providers import target
from launcher.providers.errors import UnreachableError
from launcher.providers.google import auth as google
from launcher.providers.google.vertex_api import Region
from launcher.providers.google.vertex_endpoint import Endpoints
from launcher.providers.google.vertex_endpoint_traffic import address
from stage.google.identity import Identity
from stage.google.vertex_serving import Serving
from stage.google.vertex_serving_rules import METRIC
from vertex_serving_world import (  # noqa: F401 - its fixtures
    ME,
    breaks,
    deploy,
    home,
    order,
    running,
    stage,
    traffic,
    who,
)


def names(stage: Serving) -> set[str]:  # noqa: F811
    return set(stage.endpoints.kept)


def made(stage: Serving, what: str) -> int:  # noqa: F811
    return sum(one.method == "POST" and what in one.path for one in stage.requests)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/endpoints$"),
        ("POST", ":deployModel"),
        ("POST", "models:upload"),
        ("GET", "/operations/"),
        ("PATCH", "/endpoints/"),
    ],
)
def test_what_was_done_and_whose_answer_got_lost_is_not_done_twice(
    method: str,
    path: str,
    stage: Serving,  # noqa: F811
):
    stage.faults.add(method, path, lost=True)
    try:
        deploy(1)
    except UserError:  # it may say so, and leave nothing that costs
        assert (names(stage), running(stage)) == (set(), [])
        deploy(1)
    assert traffic(stage) == {1: 100}
    assert len(stage.models.models["demo-digits"]) == 1


@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", ":deployModel"), ("PATCH", "/endpoints/"), ("POST", ":undeployModel")]
)
def test_a_second_version_is_there_or_all_is_as_before(
    method: str,
    path: str,
    lost: bool,
    stage: Serving,  # noqa: F811
):
    deploy(1)
    stage.faults.add(method, path, lost=lost)
    try:
        deploy(2)
    except UserError:
        assert {key for key, one in traffic(stage).items() if one} == {1}
    stage.faults.heal()
    deploy(2)
    shares = {key: one for key, one in traffic(stage).items() if one}
    assert shares == {2: 100}
    assert running(stage) == [1, 2]


@pytest.mark.parametrize("path", [":undeployModel", "/endpoints/[^/]+$"])
def test_what_cannot_be_ended_is_said_and_the_next_attempt_ends_it(path: str, stage: Serving):  # noqa: F811
    deploy(1)
    deploy(2)
    stage.faults.add("POST|DELETE", path, times=2)
    with pytest.raises(UserError):
        target("vertex").remove("digits")
    assert names(stage)
    stage.faults.heal()
    target("vertex").remove("digits")
    assert (names(stage), running(stage)) == (set(), [])


def test_a_rollback_whose_answer_is_lost_is_done(stage: Serving):  # noqa: F811
    deploy(1)
    deploy(2)
    stage.faults.add("PATCH", "/endpoints/", lost=True)
    assert str(target("vertex").rollback("digits")) == "digits@v1"
    assert traffic(stage) == {1: 100}
    assert running(stage) == [1]


@pytest.mark.parametrize("waits", [0, 2])
def test_an_end_whose_answers_are_lost_is_one(
    waits: int,
    stage: Serving,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    deploy(1)
    monkeypatch.setattr(google, "DELAYS", (0,))
    stage.waits = waits
    for method in ("PATCH", "DELETE"):
        stage.faults.add(method, "/endpoints/", lost=True)
    assert target("vertex").remove("digits") is True
    assert (names(stage), running(stage)) == (set(), [])


def test_what_shows_late_and_whose_answer_is_lost_is_waited_for(
    stage: Serving,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(Region, "is_busy", lambda *_: False)
    stage.waits = 6
    stage.faults.add("POST", ":deployModel", lost=True)
    deploy(1)
    assert traffic(stage) == {1: 100}
    assert made(stage, ":deployModel") == 1


def interrupted(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment that is killed while it asks the version, and puts nothing back."""

    def check(_: Ask) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Endpoints, "_undo", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            target("vertex").deploy(order(version), check)


def test_a_first_version_that_was_never_checked_is_not_held_against(
    stage: Serving,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    interrupted(1, monkeypatch)
    (told,) = target("vertex").deployments()
    assert (told.percent, told.state) == (0, "tried, and paid for; if nobody is at it, undeploy")
    deploy(2)
    assert traffic(stage) == {2: 100}
    assert running(stage) == [2]


@pytest.mark.parametrize("empty", [True, False])
def test_what_somebody_may_be_at_is_left_alone(
    empty: bool,
    stage: Serving,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    interrupted(1, monkeypatch)
    ((_, kept),) = stage.endpoints.kept.items()
    if empty:
        stage.endpoints.backend.stop(next(iter(kept.deployed)))
        kept.deployed, kept.versions, kept.split = {}, {}, {}
        kept.message.labels.pop("trial", None)
    stage.endpoints.age = 60
    with pytest.raises(UserError, match="somebody may be at it; try again in 5 minutes"):
        deploy(2)
    assert len(names(stage)) == 1
    stage.endpoints.age = 301
    deploy(2)
    assert traffic(stage) == {2: 100}


def test_an_address_that_is_told_late_is_waited_for(stage: Serving):  # noqa: F811
    stage.endpoints.late_dns = 3
    assert deploy(1).url.startswith("http")


def test_the_old_version_may_answer_for_a_moment_and_not_say_so(stage: Serving):  # noqa: F811
    stage.endpoints.told_by, stage.endpoints.late_split = False, 3
    deploy(1)
    deploy(2)
    assert traffic(stage) == {1: 0, 2: 100}
    stage.endpoints.late_split = 10**6
    with pytest.raises(UserError, match="What answers is digits@v2, not digits@v3"):
        deploy(3)


def test_what_the_answer_to_a_change_leaves_out_is_ended_too(
    stage: Serving,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    whole = Endpoints._change

    def less(*args: Any) -> Any:
        return {key: one for key, one in whole(*args).items() if key != "deployedModels"}

    monkeypatch.setattr(Endpoints, "_change", less)
    for version in (1, 2, 3):
        deploy(version)
    assert running(stage) == [2, 3]


def test_a_trial_that_cannot_be_ended_is_told_of_and_ended_by_the_next_one(
    stage: Serving,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
):
    deploy(1)
    stage.faults.add("POST", ":undeployModel")
    deploy(2)
    assert "may cost" in caplog.text
    assert len(names(stage)) == 2
    told = [(one.percent, one.state) for one in target("vertex").deployments() if "tried" in one.state]
    assert told == [(0, "tried, and paid for; if nobody is at it, undeploy")]
    deploy(3)
    assert traffic(stage) == {2: 0, 3: 100}
    assert running(stage) == [2, 3]


def test_a_version_that_passes_its_trial_and_not_where_people_ask_is_taken_back(stage: Serving):  # noqa: F811
    deploy(1)
    asked: list[Ask] = []

    def second_time(ask: Ask) -> None:
        asked.append(ask)
        golden.check(ask, "digits@v2", lambda _: [{"values": [2.0]}], patience=0)
        if len(asked) > 1:
            raise UserError("It is broken.")

    with pytest.raises(UserError, match="It is broken"):
        target("vertex").deploy(order(2), second_time)
    assert traffic(stage) == {1: 100}
    assert running(stage) == [1]


def test_the_old_version_may_answer_for_a_moment(stage: Serving):  # noqa: F811
    stage.endpoints.late_split = 3
    deploy(1)
    deploy(2)
    assert traffic(stage) == {1: 0, 2: 100}


def test_one_that_answers_for_ever_in_its_place_is_told(stage: Serving):  # noqa: F811
    stage.endpoints.late_split = 10**6
    deploy(1)
    with pytest.raises(UserError, match="is answered by another version still"):
        deploy(2)
    assert running(stage) == [1]


@pytest.mark.parametrize("gone", [KeyboardInterrupt(), UnreachableError("It is silent", "wait")])
@pytest.mark.parametrize(("first", "step"), [(True, "_add"), (False, "_add"), (False, "_change")])
def test_what_is_interrupted_leaves_the_requests_where_they_went(
    first: bool,
    step: str,
    gone: BaseException,
    stage: Serving,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    if not first:
        deploy(1)
    whole, calls = getattr(Endpoints, step), []

    def broken(*args: Any, **more: Any) -> Any:
        calls.append(whole(*args, **more))
        if len(calls) == (1 if first or step == "_change" else 2):
            raise gone
        return calls[-1]

    monkeypatch.setattr(Endpoints, step, broken)
    with pytest.raises(type(gone)):
        deploy(2)
    assert running(stage) == ([] if first else [1])
    if not first:
        assert traffic(stage) == {1: 100}


def test_what_somebody_else_changes_meanwhile_is_left_as_they_want_it(stage: Serving):  # noqa: F811
    deploy(1)
    deploy(2, traffic="50")
    (kept,) = stage.endpoints.kept.values()

    def check(_: Ask) -> None:
        one, two = kept.deployed
        kept.split, kept.generation = {one: 5, two: 95}, kept.generation + 1

    with pytest.raises(UserError, match="changed by somebody else meanwhile"):
        target("vertex").deploy(order(3), check)
    assert traffic(stage) == {1: 5, 2: 95}
    assert running(stage) == [1, 2]


def test_an_endpoint_that_somebody_is_at_is_not_touched(stage: Serving):  # noqa: F811
    deploy(1)
    ((name, _),) = stage.endpoints.kept.items()
    stage.waits = 50
    stage.begin(f"endpoints/{name}", dict)
    with pytest.raises(UserError, match="is being changed just now"):
        deploy(2)
    assert traffic(stage) == {1: 100}


def test_two_endpoints_of_a_model_are_for_people_to_decide(stage: Serving):  # noqa: F811
    deploy(1)
    ((_, kept),) = stage.endpoints.kept.items()
    kept.message.labels["model"] = "other"
    deploy(2)
    kept.message.labels["model"] = "digits"
    with pytest.raises(UserError, match="has more than one endpoint"):
        deploy(3)
    assert target("vertex").remove("digits") is True
    assert (names(stage), running(stage)) == (set(), [])


def test_endpoints_of_others_are_neither_listed_nor_ended(stage: Serving):  # noqa: F811
    deploy(1)
    for kept in stage.endpoints.kept.values():
        kept.message.labels["project"] = "another"
    assert target("vertex").deployments() == []
    assert target("vertex").remove("digits") is False
    assert running(stage) == [1]


def test_an_empty_endpoint_is_told_of_and_replaced(stage: Serving):  # noqa: F811
    deploy(1)
    ((name, kept),) = stage.endpoints.kept.items()
    stage.endpoints.backend.stop(next(iter(kept.deployed)))
    kept.deployed, kept.versions, kept.split = {}, {}, {}
    (told,) = target("vertex").deployments()
    assert (str(told), told.percent, told.state) == ("digits@v1", 0, "nothing is deployed; undeploy it")
    deploy(2)
    assert name not in names(stage)
    assert traffic(stage) == {2: 100}


def test_too_little_quota_is_said_and_nothing_is_left(stage: Serving, who: Identity):  # noqa: F811
    who.quotas[METRIC] = {"us-central1": 4}
    deploy(1)
    deploy(2)  # one and its trial, and then both
    with pytest.raises(UserError, match="custom_model_serving_cpus"):
        deploy(3)  # a trial beside two
    assert traffic(stage) == {1: 0, 2: 100}
    assert running(stage) == [1, 2]


def test_whoever_deploys_and_may_not_ask_is_told(
    stage: Serving,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    from stage.google.grants import ROLES

    for role in ("roles/aiplatform.admin", "roles/aiplatform.user"):
        monkeypatch.setitem(ROLES, role, ROLES[role] - {"aiplatform.endpoints.predict"})
    with pytest.raises(UserError, match=r"must be allowed to ask, too: aiplatform\.endpoints\.predict"):
        deploy(1)
    assert (names(stage), running(stage)) == (set(), [])


def test_a_container_that_fails_only_beside_the_other_leaves_that_one(
    stage: Serving,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    deploy(1)
    whole = Endpoints._try

    def tried(*args: Any) -> None:
        whole(*args)
        breaks(stage, 2)

    monkeypatch.setattr(Endpoints, "_try", tried)
    with pytest.raises(UserError, match="never became ready"):
        deploy(2)
    assert traffic(stage) == {1: 100}


def test_an_address_comes_with_a_scheme_or_without():
    path = "projects/1/locations/us-central1/endpoints/e"
    found = {"name": path, "dedicatedEndpointDns": "e.us-central1-1.prediction.vertexai.goog"}
    wanted = f"https://e.us-central1-1.prediction.vertexai.goog/v1/{path}"
    assert address(found) == wanted
    assert address({**found, "dedicatedEndpointDns": f"https://{found['dedicatedEndpointDns']}"}) == wanted
    assert address({"name": path}) == ""
