"""Versions in the registry of an Azure ML workspace, with its strict stand-in."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from azureml_world import Place, fast, workspace
from launcher.errors import UserError
from launcher.mirror import Entry
from launcher.providers import mirror
from launcher.providers.azure import azureml_models as client
from launcher.providers.errors import MissingError, UnreachableError

pytestmark = pytest.mark.cloud("azure")
BUCKET = "abfss://training@demobucket.dfs.core.windows.net"
ENTRY = Entry(
    "digits",
    3,
    f"{BUCKET}/models/digits/v3",
    {"model.onnx": {"sha256": "a" * 64, "bytes": 10}, "signature.json": {"sha256": "b" * 64, "bytes": 5}},
    "",
    "classification",
    "digits-cnn-7",
    {"test/accuracy": 0.9812, "test/loss": 0.07},
    {"commit": "c" * 40, "image": None, "by": "octo-cat", "at": "2026-11-29T01:02:03"},
    ("champion", "staging"),
)
STORE: dict[str, Any] = {
    "datastoreType": "AzureBlob",
    "accountName": "demobucket",
    "containerName": "training",
    "credentials": {"credentialsType": "None"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with workspace(tmp_path_factory.mktemp("azure")) as place:
        path = f"{place.workspace}/datastores/training"
        place.world.make(path, {"properties": STORE}, "2025-12-01")
        yield place


@pytest.fixture
def place(made: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    fast(monkeypatch)
    made.clear()
    made.world.ml.models.known.clear()
    monkeypatch.setattr(client, "connect", lambda: client.Models(made.backend(bucket=BUCKET)))
    return made


def put(entry: Entry = ENTRY) -> str:
    there = mirror("azureml")
    there.prepare()
    return there.put(entry)


def shown(place: Place) -> dict[str, Any]:
    (one,) = place.world.ml.models.known.values()
    return one["properties"]


def test_a_version_is_shown_with_its_folder_in_the_bucket_and_where_it_comes_from(place):
    said = put()
    assert said == (
        f"digits:3 in demo-ml, https://ml.azure.com/model/digits:3/details?wsid={place.workspace}"
    )
    of = shown(place)
    group = f"azureml://subscriptions/{place.world.subscription}/resourcegroups/demo"
    assert of["modelUri"] == f"{group}/workspaces/demo-ml/datastores/training/paths/models/digits/v3"
    assert (of["modelType"], of["stage"]) == ("custom_model", "Production")
    assert of["tags"] == {
        "project": "demo",
        "kind": "classification",
        "aliases": "champion,staging",
        "test.accuracy": "0.9812",
        "test.loss": "0.07",
    }
    assert of["properties"] == {
        "run": "digits-cnn-7",
        "commit": "c" * 40,
        "by": "octo-cat",
        "at": "2026-11-29T01:02:03",
        "registry": ENTRY.uri,
        "sha256": client.digest(ENTRY),
    }
    assert mirror().IMAGE is False  # it is the only one of this cloud


def test_an_alias_that_has_moved_on_is_moved_there_too_and_all_else_stays(place):
    put()
    before = shown(place)
    put(replace(ENTRY, aliases=()))
    now = shown(place)
    assert now["stage"] == "Development"
    assert "aliases" not in now["tags"]
    same = ("modelUri", "modelType", "properties")
    assert [now[each] for each in same] == [before[each] for each in same]
    put()
    assert shown(place) == before


def test_another_champion_takes_the_alias_from_the_one_before(place):
    put()
    put(replace(ENTRY, version=2, aliases=("old",)))
    put(replace(ENTRY, version=4, aliases=("champion",)))
    known = {one["name"]: one["properties"] for one in place.world.ml.models.known.values()}
    assert {name: (of["stage"], of["tags"].get("aliases")) for name, of in known.items()} == {
        "2": ("Development", "old"),
        "3": ("Development", "staging"),
        "4": ("Production", "champion"),
    }
    assert known["3"]["properties"] == {**known["4"]["properties"]}
    assert known["3"]["tags"]["test.accuracy"] == "0.9812"


def test_what_somebody_else_has_named_so_is_left(place):
    put()
    shown(place)["tags"]["project"] = "another"
    put(replace(ENTRY, version=4))
    (before, _) = place.world.ml.models.known.values()
    assert before["properties"]["tags"]["aliases"] == "champion,staging"


def test_the_same_entry_twice_is_there_once(place):
    put()
    put()
    assert len(place.world.ml.models.known) == 1


@pytest.mark.parametrize("fault", ["lose", "cut"])
def test_an_answer_that_is_lost_does_no_harm(fault, place):
    getattr(place.world, fault)("arm", "PUT .*/models/")
    put()
    assert len(place.world.ml.models.known) == 1


def test_what_somebody_has_added_stays(place):
    put()
    shown(place)["properties"]["reviewed"] = "yes"
    put(replace(ENTRY, aliases=()))
    assert shown(place)["properties"]["reviewed"] == "yes"


def test_another_version_of_that_number_is_never_written_over(place):
    put()
    files = {**ENTRY.files, "model.onnx": {"sha256": "d" * 64, "bytes": 10}}
    with pytest.raises(UserError, match=r"has another digits@v3, with other files"):
        put(replace(ENTRY, files=files))
    assert shown(place)["properties"]["sha256"] == client.digest(ENTRY)


@pytest.mark.parametrize(
    "uri",
    [
        "abfss://other@demobucket.dfs.core.windows.net/models/digits/v3",
        f"{BUCKET}-2/models/digits/v3",
        "/home/somebody/models/digits/v3",
    ],
)
def test_what_the_workspace_cannot_reach_is_refused(uri, place):
    with pytest.raises(UserError, match="and the workspace's datastore is abfss://training@demobucket"):
        put(replace(ENTRY, uri=uri))
    assert place.world.ml.models.known == {}


def test_a_folder_of_the_bucket_may_hold_the_registry(place, monkeypatch):
    backend = place.backend(bucket=f"{BUCKET}/team")
    monkeypatch.setattr(client, "connect", lambda: client.Models(backend))
    put(replace(ENTRY, uri=f"{BUCKET}/team/models/digits/v3"))
    assert shown(place)["modelUri"].endswith("/datastores/training/paths/team/models/digits/v3")


def test_a_setup_from_before_is_told_to_run_again(place):
    place.world.fail("arm", "GET .*/datastores/", 404, "ResourceNotFound", None)
    try:
        with pytest.raises(MissingError, match=r"no datastore training; run `make cloud-setup`"):
            put()
    finally:
        place.world.heal()


def test_a_service_that_stays_away_is_told(place):
    place.world.fail("arm", "PUT .*/models/", times=None)
    try:
        with pytest.raises(UnreachableError):
            put()
    finally:
        place.world.heal()
    assert place.world.ml.models.known == {}


def test_long_facts_are_cut_as_the_service_would_refuse_them(place):
    put(replace(ENTRY, made={"note": "x" * 1000}))
    assert len(shown(place)["properties"]["note"]) == 256
