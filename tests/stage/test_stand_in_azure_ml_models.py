"""The stand-in for Azure ML's models and datastores refuses what the service would."""

from collections.abc import Iterator
from typing import Any

import pytest

from stage import azure
from stage.azure.ml_bench import Bench, bench

VERSION = "models/digits/versions/3"
STORE: dict[str, Any] = {
    "datastoreType": "AzureBlob",
    "accountName": "demostore",
    "containerName": "training",
    "credentials": {"credentialsType": "None"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with azure.serve(tmp_path_factory.mktemp("azure")) as world:
        here = bench(world)
        here.who = world.owner
        assert here.ask("PUT", "datastores/training", {"properties": STORE}).status_code == 201
        yield here


@pytest.fixture
def place(made: Bench) -> Bench:
    made.world.ml.models.known.clear()
    return made


def uri(place: Bench, store: str = "training", workspace: str = "demo-ml") -> str:
    group = f"azureml://subscriptions/{place.world.subscription}/resourcegroups/demo"
    return f"{group}/workspaces/{workspace}/datastores/{store}/paths/models/digits/v3"


def body(place: Bench, **changes: Any) -> dict[str, Any]:
    given = {
        "modelUri": uri(place),
        "modelType": "custom_model",
        "tags": {"a": "b"},
        "properties": {"run": "r1"},
        **changes,
    }
    return {"properties": {key: one for key, one in given.items() if one is not None}}


def test_a_version_is_made_and_found(place):
    assert place.ask("PUT", VERSION, body(place)).status_code == 201
    assert place.get(VERSION)["properties"]["provisioningState"] == "Succeeded"
    assert place.ask("GET", "models/digits/versions/4").status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [
        "abfss://training@demostore.dfs.core.windows.net/models",
        "https://demostore.blob.core.windows.net/training/models",
        "azureml://datastores/training/paths/models",
        "",
    ],
)
def test_an_address_that_is_no_path_on_a_datastore_is_refused(place, wrong):
    assert place.ask("PUT", VERSION, body(place, modelUri=wrong)).status_code == 400


def test_a_datastore_must_be_there_and_of_the_workspace(place):
    assert place.ask("PUT", VERSION, body(place, modelUri=uri(place, "other"))).status_code == 404
    assert place.ask("PUT", VERSION, body(place, modelUri=uri(place, workspace="x-ml"))).status_code == 400


def test_what_a_version_is_never_changes_and_what_describes_it_does(place):
    place.ask("PUT", VERSION, body(place))
    changed = body(place, tags={"c": "d"}, stage="Production", properties={"run": "r1", "more": "x"})
    assert place.ask("PUT", VERSION, changed).status_code == 200
    for change in (
        {"modelUri": uri(place) + "4"},
        {"jobName": "j"},
        {"properties": {}},
        {"properties": {"run": "r2"}},
    ):
        assert place.ask("PUT", VERSION, body(place, **change)).status_code == 409, change
    said = place.get(VERSION)["properties"]
    assert (said["tags"], said["stage"], said["properties"]) == (
        {"c": "d"},
        "Production",
        {"run": "r1", "more": "x"},
    )


@pytest.mark.parametrize(
    "change",
    [{"modelUrl": "x"}, {"tags": {"a": 1}}, {"provisioningState": "Succeeded"}, {"isArchived": "no"}],
)
def test_a_version_of_another_shape_is_refused(place, change):
    assert place.ask("PUT", VERSION, body(place, **change)).status_code == 400


@pytest.mark.parametrize(
    "change",
    [
        {"datastoreType": "Blob"},
        {"credentials": {"credentialsType": "none"}},
        {"accountName": None},
        {"key": "x"},
    ],
)
def test_a_datastore_of_another_shape_is_refused(place, change):
    given = {key: one for key, one in {**STORE, **change}.items() if one is not None}
    assert place.ask("PUT", "datastores/other", {"properties": given}).status_code == 400
    assert place.ask("GET", "datastores/other").status_code == 404


def test_nobody_writes_without_the_right(place):
    reader = place.world.make.principal("reader", ("Reader", place.workspace))
    assert place.ask("PUT", VERSION, body(place), who=reader).status_code == 403
    assert place.ask("PUT", "datastores/training", {"properties": STORE}, who=reader).status_code == 403
