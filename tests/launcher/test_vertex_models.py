"""Versions shown in Vertex AI's model registry, with its strict stand-in: once each, with the aliases of the bucket."""

import pytest
from launcher.errors import UserError
from launcher.providers import mirror
from launcher.providers.google import vertex_api
from launcher.providers.google.vertex_models import label, model_id
from stage.google.identity import Identity
from stage.google.vertex_serving import Serving
from vertex_serving_world import (  # noqa: F401 - its fixtures
    MODEL,
    PROJECT,
    entry,
    home,
    image,
    stage,
    who,
)


def aliases(stage: Serving) -> dict[str, set[str]]:  # noqa: F811
    return {number: one.aliases for number, one in stage.models.models[MODEL].items()}


def uploads(stage: Serving) -> int:  # noqa: F811
    return sum(request.path.endswith("models:upload") for request in stage.requests)


def test_a_version_is_there_with_its_image_both_routes_and_where_it_comes_from(stage: Serving, home: str):  # noqa: F811
    there = mirror()
    there.prepare()
    said = there.put(entry(home, 1, "champion"))
    assert said.startswith(f"projects/{PROJECT}/locations/us-central1/models/{MODEL}@1, https://console.")
    message = stage.models.models[MODEL]["1"].message
    container = message.container_spec
    assert (container.image_uri, container.ports[0].container_port) == (image(1), 8080)
    assert (container.health_route, container.predict_route) == ("/health", "/predict")
    assert message.version_description == f"digits@v1: run Run_1, commit {'c' * 40}, {home}/digits/v1"
    wanted = {"project": "demo", "model": "digits", "version": "v1", "run": "run_1", "kind": "regression"}
    assert dict(message.labels) == {**wanted, "image": image(1).rpartition(":")[2][:32]}
    assert aliases(stage) == {"1": {"v1", "champion", "default"}}


def test_the_same_twice_is_there_once_and_changes_nothing(stage: Serving, home: str):  # noqa: F811
    first = mirror().put(entry(home, 1, "champion"))
    asked = len(stage.requests)
    assert mirror().put(entry(home, 1, "champion")) == first
    assert {one.method for one in stage.requests[asked:]} == {"GET"}


def test_a_version_is_known_by_its_image_where_the_list_leaves_that_out(stage: Serving, home: str):  # noqa: F811
    stage.models.lists_containers = False
    one, other = (f"{image(1).partition('@')[0]}@sha256:{digit * 64}" for digit in "ab")
    for of in (one, one, other, other):
        mirror().put(entry(home, 1, of=of))
    assert uploads(stage) == 2
    assert aliases(stage) == {"1": {"default"}, "2": {"v1"}}


def test_a_later_version_is_one_of_the_same_model_and_takes_the_aliases(stage: Serving, home: str):  # noqa: F811
    mirror().put(entry(home, 1, "champion", "staging"))
    mirror().put(entry(home, 2))
    assert aliases(stage) == {"1": {"v1", "champion", "staging", "default"}, "2": {"v2"}}
    mirror().put(entry(home, 2, "champion"))
    assert aliases(stage) == {"1": {"v1", "staging"}, "2": {"v2", "champion", "default"}}
    mirror().put(entry(home, 1))
    assert aliases(stage)["1"] == {"v1"}


def test_the_default_stays_where_it_is_until_there_is_a_champion(stage: Serving, home: str):  # noqa: F811
    mirror().put(entry(home, 1, "default"))
    mirror().put(entry(home, 2, "default", "x"))  # an alias of one letter is none there
    assert aliases(stage) == {"1": {"v1", "default"}, "2": {"v2"}}


def test_the_same_version_in_another_image_is_another_version_there(stage: Serving, home: str):  # noqa: F811
    mirror().put(entry(home, 1, "champion"))
    mirror().put(entry(home, 1, "champion", of=image(77)))
    assert aliases(stage) == {"1": set(), "2": {"v1", "champion", "default"}}


@pytest.mark.parametrize("path", ["models:upload", ":mergeVersionAliases"])
@pytest.mark.parametrize("lost", [True, False])
def test_what_got_lost_on_its_way_is_made_once(path: str, lost: bool, stage: Serving, home: str):  # noqa: F811
    mirror().put(entry(home, 1))
    stage.faults.add("POST", path, lost=lost)
    try:
        mirror().put(entry(home, 2, "champion"))
    except UserError:  # it was never made, or nobody knows; the next attempt does
        mirror().put(entry(home, 2, "champion"))
    assert aliases(stage) == {"1": {"v1"}, "2": {"v2", "champion", "default"}}


def test_an_upload_whose_answer_is_lost_is_found(stage: Serving, home: str):  # noqa: F811
    stage.faults.add("POST", "models:upload", lost=True)
    mirror().put(entry(home, 1))
    assert uploads(stage) == 1
    assert aliases(stage) == {"1": {"v1", "default"}}


def test_an_upload_is_waited_for_longer_than_the_rest(
    stage: Serving,  # noqa: F811
    home: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(vertex_api, "LOST", 0)
    stage.waits = 6
    stage.faults.add("POST", "models:upload", lost=True)
    mirror().put(entry(home, 1))
    assert uploads(stage) == 1


def test_a_model_of_somebody_else_is_left_alone(stage: Serving, home: str):  # noqa: F811
    mirror().put(entry(home, 1))
    stage.models.models[MODEL]["1"].message.labels["project"] = "another"
    with pytest.raises(UserError, match="is not of this project"):
        mirror().put(entry(home, 2))
    assert aliases(stage) == {"1": {"v1", "default"}}


def test_what_the_service_may_not_pull_is_told(stage: Serving, home: str):  # noqa: F811
    stage.agents = {}
    with pytest.raises(UserError, match="should be granted access to the image"):
        mirror().put(entry(home, 1))
    assert stage.models.models == {}


def test_an_image_of_another_registry_is_refused_before(stage: Serving, home: str):  # noqa: F811
    with pytest.raises(UserError, match=r"takes no image of registry\.example"):
        mirror().put(entry(home, 1, of="registry.example/demo/serve@sha256:1"))
    assert stage.requests == []


def test_who_may_not_is_told_the_role(stage: Serving, who: Identity, home: str):  # noqa: F811
    who.accounts[f"launcher@{PROJECT}.iam.gserviceaccount.com"].roles = {"roles/aiplatform.viewer"}
    with pytest.raises(UserError, match=r"roles/aiplatform\.user \(it holds aiplatform\.models\.upload\)"):
        mirror().put(entry(home, 1))


def test_an_api_that_is_off_is_told_with_the_command(stage: Serving, who: Identity):  # noqa: F811
    who.disabled_services.add("aiplatform.googleapis.com")
    with pytest.raises(UserError, match=r"gcloud services enable aiplatform\.googleapis\.com"):
        mirror().prepare()


def test_names_and_labels_are_such_as_google_has():
    assert label("Run 7/ÄÖ." + "x" * 99) == ("run-7----" + "x" * 99)[:63]
    with pytest.raises(UserError, match="at most 63 characters"):
        model_id("a" * 60)
