"""Models at endpoints of Vertex AI, with its strict stand-in: asked before others ask, switched in seconds, ended for good."""

from datetime import UTC, datetime, timedelta

import pytest
import requests
from launcher.errors import UserError
from launcher.mirror import Entry
from launcher.models import deploy as deploying
from launcher.models import deployed
from launcher.providers import mirror, target
from launcher.providers.google.vertex_endpoint_request import (
    ELSEWHERE,
    MACHINES,
    endpoint_id,
    hourly,
)
from stage.google.identity import Identity
from stage.google.vertex_serving import Serving
from vertex_serving_world import (  # noqa: F401 - its fixtures
    EXAMPLE,
    ME,
    MODEL,
    PROJECT,
    UNTIL,
    breaks,
    deploy,
    entry,
    home,
    order,
    running,
    stage,
    traffic,
    who,
)


def rollback() -> str:
    return str(target("vertex").rollback("digits"))


def test_the_first_version_is_on_one_machine_with_no_account_of_the_project(
    stage: Serving,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
):
    made = deploy(1)
    ((name, kept),) = stage.endpoints.kept.items()
    assert (str(made), made.percent) == ("digits@v1", 100)
    assert made.url == f"{kept.dns}/v1/{stage.models.parent}/endpoints/{name}:predict"
    assert kept.message.dedicated_endpoint_enabled
    assert dict(kept.message.labels) == {
        "project": "demo",
        "model": "digits",
        "version": "v1",
        "until": UNTIL,
    }
    ((_, one),) = kept.deployed.items()
    resources = one.dedicated_resources
    assert resources.machine_spec.machine_type == "e2-standard-2"
    assert (resources.min_replica_count, resources.max_replica_count) == (1, 1)
    assert one.service_account == ""
    assert "0.078 USD an hour for each machine, day and night" in capsys.readouterr().out


def test_it_answers_whoever_may_ask_at_its_own_address_only(stage: Serving, who: Identity):  # noqa: F811
    url = deploy(1).url
    headers = {"Authorization": f"Bearer {who.token(ME)}"}
    found = requests.post(url, json={"instances": [EXAMPLE]}, headers=headers, timeout=20).json()
    assert found["predictions"] == [{"values": [1.0]}]
    assert "registry_version" not in found
    shared = url.replace(url.partition("/v1/")[0], stage.url)
    assert "through the shared" in requests.post(shared, json={}, headers=headers, timeout=20).text


def test_a_version_is_the_one_of_the_model_registry(stage: Serving, home: str):  # noqa: F811
    mirror().put(entry(home, 1, "champion"))
    deploy(1)
    assert [*stage.models.models[MODEL]] == ["1"]
    assert stage.models.models[MODEL]["1"].aliases == {"v1", "default"}  # it is no champion in the bucket
    deploy(2)
    assert [*stage.models.models[MODEL]] == ["1", "2"]


def test_a_new_version_gets_its_part_and_then_all_and_back(stage: Serving):  # noqa: F811
    deploy(1)
    assert "10 % of the requests" in deploy(2, traffic="10").state
    assert traffic(stage) == {1: 90, 2: 10}
    started = sum("deployModel" in one.path for one in stage.requests)
    deploy(2)  # is there already: nothing is started
    assert sum("deployModel" in one.path for one in stage.requests) == started
    assert traffic(stage) == {1: 0, 2: 100}
    assert rollback() == "digits@v1"
    assert traffic(stage) == {1: 100}
    assert running(stage) == [1]
    with pytest.raises(UserError, match="has no version before"):
        rollback()


def test_the_version_before_is_kept_and_the_one_before_that_is_not(
    stage: Serving,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
):
    deploy(1)
    deploy(2)
    assert "the version before, which is kept for a rollback and costs 0.078 USD" in capsys.readouterr().out
    deploy(3)
    assert traffic(stage) == {2: 0, 3: 100}
    assert running(stage) == [2, 3]
    told = {str(one): (one.percent, one.state) for one in target("vertex").deployments()}
    assert told == {"digits@v2": (0, "kept for a rollback, and paid for"), "digits@v3": (100, "")}
    assert rollback() == "digits@v2"


def test_a_third_version_while_two_share_the_requests_is_held_against_the_first(stage: Serving):  # noqa: F811
    deploy(1)
    deploy(2, traffic="60")
    deploy(3, traffic="20")
    assert traffic(stage) == {1: 80, 3: 20}
    assert running(stage) == [1, 3]
    deploy(3)
    assert rollback() == "digits@v1"


def test_the_same_version_on_another_machine_is_held_against_the_one_that_answers(stage: Serving):  # noqa: F811
    deploy(3)
    deploy(4)
    deploy(4, traffic="10", machine="e2-standard-4")
    (kept,) = stage.endpoints.kept.values()
    shares = {
        one.dedicated_resources.machine_spec.machine_type: kept.split[number]
        for number, one in kept.deployed.items()
    }
    assert shares == {"e2-standard-2": 90, "e2-standard-4": 10}
    assert running(stage) == [4, 4]
    assert rollback() == "digits@v4"
    assert running(stage) == [4]


def test_a_part_of_the_requests_is_refused_where_nothing_takes_the_rest(stage: Serving):  # noqa: F811
    deploy(1)
    with pytest.raises(
        UserError, match=r"no version before digits@v1 .* take the other 90 %; leave traffic= out"
    ):
        deploy(1, traffic="10")
    deploy(2, traffic="10")
    with pytest.raises(UserError, match="take the other 80 %"):
        deploy(1, traffic="20")
    deploy(1)
    assert traffic(stage) == {1: 100}


@pytest.mark.parametrize("starts", [True, False])
def test_of_a_version_that_does_not_answer_well_nobody_hears(starts: bool, stage: Serving):  # noqa: F811
    deploy(1)
    if not starts:
        breaks(stage, 2)
    with pytest.raises(UserError, match="otherwise than it does here" if starts else "never became ready"):
        deploy(2, False)
    assert traffic(stage) == {1: 100}
    assert running(stage) == [1]
    deploy(3)
    assert rollback() == "digits@v1"


@pytest.mark.parametrize("starts", [True, False])
def test_of_a_first_version_that_fails_nothing_is_left_that_costs(starts: bool, stage: Serving):  # noqa: F811
    if not starts:
        breaks(stage, 1)
    with pytest.raises(UserError):
        deploy(1, False)
    assert stage.endpoints.kept == {}
    assert running(stage) == []
    assert [*stage.models.models] == [MODEL]  # which costs nothing, and the next attempt takes


def test_undeploying_leaves_nothing_but_the_registry(stage: Serving):  # noqa: F811
    deploy(1)
    deploy(2, traffic="30")
    assert target("vertex").remove("digits") is True
    assert stage.endpoints.kept == {}
    assert running(stage) == []
    assert target("vertex").remove("digits") is False
    deploy(3)
    assert traffic(stage) == {3: 100}


def test_what_setup_gives_the_janitor_is_enough_to_end_it(stage: Serving, who: Identity):  # noqa: F811
    deploy(1)
    deploy(2)
    who.accounts[ME].roles = {"roles/aiplatform.user"}
    assert [one.model for one in target("vertex").deployments()] == ["digits", "digits"]
    assert target("vertex").remove("digits") is True
    assert (stage.endpoints.kept, running(stage)) == ({}, [])


def test_it_is_removed_in_the_project_and_region_that_were_noted(
    stage: Serving,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    where = target("vertex").where
    assert where == f"projects/{PROJECT}/locations/us-central1"
    deploy(1)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "another-project")
    now = target("vertex")
    assert now.where != where
    assert now.at(where).remove("digits") is True
    assert stage.endpoints.kept == {}


def test_the_last_day_is_needed_and_told_by_the_endpoint_too(stage: Serving):  # noqa: F811
    wanted = order(1)
    with pytest.raises(UserError, match="needs a last day; give one such as until="):
        target("vertex").prepare(type(wanted)("digits", 1, wanted.image, {}, wanted.uri))
    assert stage.requests == []
    deploy(1)
    assert [one.until for one in target("vertex").deployments()] == [UNTIL]
    deploy(2, until="2998-12-31")
    assert {one.until for one in target("vertex").deployments()} == {"2998-12-31"}


def test_the_janitor_ends_what_is_past_its_day_and_leaves_what_says_another_one(
    stage: Serving,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path,
):
    from launcher.janitor import services

    monkeypatch.setattr(services, "_may_ask", bool)
    monkeypatch.chdir(tmp_path)
    deploy(1)
    there = target("vertex").where
    deployed.note("vertex", "digits", 1, "2020-01-31", there)
    said: list[str] = []
    (trouble,) = services.tidy([object()], False, said.append)  # type: ignore[list-item]
    assert f"the service itself says until={UNTIL}" in trouble
    for kept in stage.endpoints.kept.values():
        kept.message.labels["until"] = "2020-01-31"
    assert services.tidy([object()], False, said.append) == []  # type: ignore[list-item]
    assert "removed digits, deployed until 2020-01-31" in said[-1]
    assert (stage.endpoints.kept, running(stage)) == ({}, [])


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"traffic": "0"}, "traffic=0 is no number from 1 to 100"),
        ({"max": "21"}, "max=21 is no number from 1 to 20"),
        ({"machine": "a3-ultragpu-8g"}, "machine=a3-ultragpu-8g is none whose price is known"),
        ({"until": "2020-01-31"}, "until=2020-01-31 is no day to come"),
        ({"until": "tomorrow"}, "until=tomorrow is no day to come"),
        ({"allow": "allUsers"}, "never opened to everybody"),
        ({"max_usd": "none"}, "no number of USD"),
        ({"max_usd": "nan"}, "nan are the most"),
        ({"max_usd": "10"}, r"could cost about 56\.94 USD a month \(max=1\).*max_usd=58"),
    ],
)
def test_what_vertex_ai_or_the_cap_would_refuse_is_refused_before(
    settings: dict[str, str],
    why: str,
    stage: Serving,  # noqa: F811
):
    with pytest.raises(UserError, match=why):
        deploy(1, **settings)
    assert [one for one in stage.requests if one.method != "GET"] == []


def test_a_version_before_counts_for_the_cap(stage: Serving):  # noqa: F811
    deploy(1, max_usd="60")
    with pytest.raises(
        UserError, match=r"113\.88 USD a month \(max=1; 56\.94 of it for the version before\)"
    ):
        deploy(2, max_usd="60")


def test_a_version_before_counts_by_the_machines_that_it_has(stage: Serving):  # noqa: F811
    deploy(1, max="3", machine="n1-standard-4")
    with pytest.raises(
        UserError, match=r"536\.55 USD a month \(max=1; 479\.61 of it for the version before\)"
    ):
        deploy(2, max_usd="500")
    deploy(2, max_usd="540")
    with pytest.raises(UserError, match=r"113\.88 USD a month"):  # the first one is not kept
        deploy(3, max_usd="113")


def test_what_ends_earlier_may_cost_less(stage: Serving):  # noqa: F811
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    deploy(1, max_usd="4", until=f"{tomorrow:%Y-%m-%d}")
    assert traffic(stage) == {1: 100}


def test_a_version_that_is_in_no_bucket_is_refused(stage: Serving):  # noqa: F811
    wanted = order(1)
    here = type(wanted)("digits", 1, wanted.image, wanted.settings, wanted.uri.replace("bucket", "made"))
    with pytest.raises(UserError, match="register run=ID to=bucket"):
        target("vertex").deploy(here, lambda ask: None)


def test_who_is_named_may_ask_and_nothing_else(stage: Serving, who: Identity):  # noqa: F811
    who.account("caller")
    email = f"caller@{PROJECT}.iam.gserviceaccount.com"
    url = deploy(1, allow=f"serviceAccount:{email},user:a@b.example").url

    def status() -> int:
        headers = {"Authorization": f"Bearer {who.token(email)}"}
        return requests.post(url, json={"instances": [EXAMPLE]}, headers=headers, timeout=20).status_code

    assert status() == 200
    deploy(2)  # nothing is said of it: it stays
    assert status() == 200
    deploy(3, allow="user:c@b.example")
    assert status() == 403
    (kept,) = stage.endpoints.kept.values()
    role = f"projects/{PROJECT}/roles/demo_predict"
    assert kept.policy["bindings"] == [{"role": role, "members": ["user:c@b.example"]}]


def test_what_others_are_allowed_on_a_condition_stays_so(stage: Serving):  # noqa: F811
    deploy(1)
    (kept,) = stage.endpoints.kept.values()
    given = {
        "role": "roles/aiplatform.viewer",
        "members": ["user:d@b.example"],
        "condition": {"title": "a while", "expression": 'request.time < timestamp("2999-01-01T00:00:00Z")'},
    }
    kept.policy = {"version": 3, "etag": "ACAC", "bindings": [given]}
    deploy(2, allow="user:c@b.example")
    role = f"projects/{PROJECT}/roles/demo_predict"
    assert kept.policy["bindings"] == [given, {"role": role, "members": ["user:c@b.example"]}]


@pytest.mark.parametrize(
    ("lacking", "why"),
    [
        ("role", r"make cloud-setup` makes the role projects/.*/demo_predict"),
        ("right", r"roles/aiplatform\.admin"),
    ],
)
def test_where_nobody_can_be_allowed_it_is_said_and_all_is_as_before(
    lacking: str,
    why: str,
    stage: Serving,  # noqa: F811
    who: Identity,  # noqa: F811
):
    deploy(1)
    if lacking == "role":
        stage.endpoints.predict_roles = set()
    else:
        who.accounts[ME].roles = {*who.accounts[ME].roles, "roles/aiplatform.user"} - {
            "roles/aiplatform.admin"
        }
    with pytest.raises(UserError, match=why):
        deploy(2, allow="user:a@b.example")
    assert traffic(stage) == {1: 100}
    assert running(stage) == [1]
    deploy(2)


def test_the_commands_deploy_note_and_take_away(
    stage: Serving,  # noqa: F811
    home: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path,
    capsys: pytest.CaptureFixture[str],
):
    """What `uv run models deploy` calls, but for the image."""
    from launcher.models import versions

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(deploying, "remote_tag", lambda version: "x")
    monkeypatch.setattr(deploying, "pushed", lambda version: order(version.number).image)
    monkeypatch.setattr(deploying.golden, "PATIENCE", 0)
    settings = {"max_usd": "1000", "until": UNTIL}
    one, two = (versions.need(home, "digits", number) for number in (1, 2))
    deploying.deploy("vertex", one, settings, lambda _: [{"values": [1.0]}])
    deploying.deploy("vertex", two, {"max_usd": "1000"}, lambda _: [{"values": [2.0]}])  # the day stays
    (note,) = deployed.notes()[0]
    assert (note.place, note.version, note.until) == ("vertex", 2, UNTIL)
    assert f"about {note.usd:.2f} USD a month at most" in capsys.readouterr().out
    assert str(deploying.rollback("vertex", "digits")) == "digits@v1"
    assert deploying.undeploy("vertex", "digits") is True
    assert (deployed.notes()[0], stage.endpoints.kept) == ([], {})


def test_names_and_prices(stage: Serving):  # noqa: F811
    assert isinstance(entry(str(order(1).uri).rpartition("/digits")[0], 1), Entry)
    assert hourly(order(1), "us-central1") == MACHINES["e2-standard-2"]
    assert hourly(order(1, machine="n1-standard-4"), "mars") == pytest.approx(0.219 * ELSEWHERE)
    long = type(order(1))("a" * 58, 1, "", {})
    assert len(endpoint_id(long)) <= 63
