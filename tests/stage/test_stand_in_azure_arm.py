"""Azure Resource Manager on the stage: groups, providers, registries and storage."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stage import azure
from stage.azure import World
from stage.azure.bench import ask, finish, refusal, send, where
from stage.one_field import REMOVED, with_field

STORAGE: dict[str, Any] = {
    "location": "westeurope",
    "tags": {"project": "demo"},
    "sku": {"name": "Standard_LRS"},
    "kind": "StorageV2",
    "properties": {"allowSharedKeyAccess": False, "minimumTlsVersion": "TLS1_2"},
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with azure.serve(tmp_path / "world") as world:
        world.make.group("demo")
        yield world


# Groups, providers


def test_a_group_is_made_once_and_keeps_its_place(world: World) -> None:
    path = f"/subscriptions/{world.subscription}/resourceGroups/other"
    assert ask(world, "PUT", path, {"location": "West Europe"}).status_code == 201
    assert ask(world, "PUT", path, {"location": "westeurope", "tags": {"a": "b"}}).json()["tags"] == {
        "a": "b"
    }
    assert refusal(ask(world, "PUT", path, {"location": "eastus"})) == (409, "InvalidResourceGroupLocation")


@pytest.mark.parametrize("name", ["ends.", "x" * 91, "a b"])
def test_a_name_that_no_group_can_have_is_refused(world: World, name: str) -> None:
    path = f"/subscriptions/{world.subscription}/resourceGroups/{name}"
    assert refusal(ask(world, "PUT", path, {"location": "westeurope"})) == (400, "InvalidResourceGroup")


def test_a_group_goes_in_the_background_with_all_that_is_in_it(world: World) -> None:
    world.make.storage()
    identity = world.make.identity("demo-trainer", ("Reader", where(world)))
    answer = ask(world, "DELETE", where(world))
    assert answer.status_code == 202
    assert ask(world, "GET", where(world)).json()["properties"]["provisioningState"] == "Deleting"
    assert finish(world, answer).status_code == 200
    assert refusal(ask(world, "GET", where(world))) == (404, "ResourceGroupNotFound")
    assert world.arm.resources == {}
    assert world.people.by_object(identity.object_id) is None
    assert {one.scope for one in world.roles.assignments.values()} == {f"/subscriptions/{world.subscription}"}


def test_what_is_in_a_group_is_listed_by_tag_and_type(world: World) -> None:
    world.make.storage()
    world.make.vault()
    listed = ask(world, "GET", f"{where(world)}/resources").json()["value"]
    assert sorted(one["name"] for one in listed) == ["demostore", "kv-demostore"]
    for asked, expected in (
        ("tagName eq 'project' and tagValue eq 'demo'", 2),
        ("tagName eq 'project' and tagValue eq 'other'", 0),
        ("resourceType eq 'Microsoft.KeyVault/vaults'", 1),
    ):
        found = ask(world, "GET", f"{where(world)}/resources", params={"$filter": asked})
        assert len(found.json()["value"]) == expected


def test_a_provider_has_to_be_registered_first(tmp_path: Path) -> None:
    with azure.serve(tmp_path / "new") as world:
        group = f"/subscriptions/{world.subscription}/resourceGroups/demo"
        assert ask(world, "PUT", group, {"location": "westeurope"}).ok
        path = "Microsoft.Storage/storageAccounts/demostore"
        assert refusal(ask(world, "PUT", path, STORAGE)) == (409, "MissingSubscriptionRegistration")
        provider = f"/subscriptions/{world.subscription}/providers/Microsoft.Storage"
        looks = [("GET", ""), ("POST", "/register"), ("GET", ""), ("GET", "")]
        answers = [ask(world, method, provider + verb, api="2021-04-01") for method, verb in looks]
        states = [one.json()["registrationState"] for one in answers]
        assert states == ["NotRegistered", "Registering", "Registering", "Registered"]
        assert ask(world, "PUT", path, STORAGE).status_code == 201


# What every request needs


def test_a_request_without_a_version_is_refused(world: World) -> None:
    assert refusal(ask(world, "GET", where(world), api="")) == (400, "MissingApiVersionParameter")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("Microsoft.Storage/storageAccounts/demostore", "NoRegisteredProviderFound"),
        ("Microsoft.Authorization/roleAssignments", "InvalidApiVersionParameter"),
        ("Microsoft.Resources/deployments/x", "InvalidApiVersionParameter"),
        ("Microsoft.Consumption/budgets/x", "InvalidApiVersionParameter"),
        ("", "InvalidApiVersionParameter"),
    ],
)
def test_a_version_that_there_is_not_is_refused(world: World, path: str, code: str) -> None:
    assert refusal(ask(world, "GET", where(world, path), api="2019-13-01")) == (400, code)


def test_what_is_not_there_is_told_by_what_is_missing(world: World) -> None:
    account = "Microsoft.Storage/storageAccounts/nobodys"
    assert refusal(ask(world, "GET", account)) == (404, "ResourceNotFound")
    container = f"{account}/blobServices/default/containers/training"
    assert refusal(ask(world, "PUT", container, {})) == (404, "ParentResourceNotFound")
    elsewhere = where(world).replace("demo", "other") + f"/providers/{account}"
    assert refusal(ask(world, "GET", elsewhere)) == (404, "ResourceGroupNotFound")
    other = elsewhere.replace(world.subscription, "33333333-3333-3333-3333-333333333333")
    assert refusal(ask(world, "GET", other)) == (404, "SubscriptionNotFound")
    assert refusal(ask(world, "GET", "Microsoft.Storage/unknownThings/x")) == (404, "InvalidResourceType")


def test_a_body_must_be_json(world: World) -> None:
    path = where(world, "Microsoft.Storage/storageAccounts/demostore")
    for content, kind, expected in (
        (b"{", "application/json", (400, "InvalidRequestContent")),
        (b"[]", "application/json", (400, "InvalidRequestContent")),
        (b"{}", "text/plain", (415, "UnsupportedMediaType")),
    ):
        answer = send(world, "PUT", path, api="2023-05-01", data=content, headers={"Content-Type": kind})
        assert refusal(answer) == expected


# Storage


def test_an_account_is_ready_only_when_it_is_said_to_be(world: World) -> None:
    path = "Microsoft.Storage/storageAccounts/demostore"
    answer = ask(world, "PUT", path, STORAGE)
    assert (answer.status_code, answer.json()["properties"]["provisioningState"]) == (201, "Creating")
    early = ask(world, "PUT", f"{path}/blobServices/default/containers/training", {})
    assert refusal(early) == (409, "Conflict")
    assert finish(world, answer).json()["status"] == "Succeeded"
    found = ask(world, "GET", path).json()
    assert found["properties"]["provisioningState"] == "Succeeded"
    assert found["properties"]["primaryEndpoints"]["blob"] == "https://demostore.blob.core.windows.net/"
    assert ask(world, "PUT", f"{path}/blobServices/default/containers/training", {}).status_code == 201
    assert ask(world, "PUT", path, STORAGE).status_code == 200


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("properties.allowSharedKeyAcess", True, "InvalidRequestContent"),
        ("properties.allowSharedKeyAccess", "false", "InvalidRequestContent"),
        ("properties.minimumTlsVersion", "TLS1.2", "InvalidRequestContent"),
        ("sku.name", "Cheap", "InvalidRequestContent"),
        ("sku", REMOVED, "InvalidRequestContent"),
        ("kind", "BlobStorageV2", "InvalidRequestContent"),
        ("tags.project", 1, "InvalidRequestContent"),
        ("tags.project", "x" * 257, "InvalidTagValueLength"),
        ("tags", {"a/b": "c"}, "InvalidTagNameCharacters"),
        ("location", "mars", "LocationNotAvailableForResourceType"),
    ],
)
def test_an_account_that_is_not_as_described_is_refused(
    world: World, field: str, value: Any, code: str
) -> None:
    body = with_field(STORAGE, field, value)
    assert refusal(ask(world, "PUT", "Microsoft.Storage/storageAccounts/demostore", body)) == (400, code)


def test_an_accounts_name_is_one_in_the_world(world: World) -> None:
    world.storage.taken.add("takenstore")
    kind = {"type": "Microsoft.Storage/storageAccounts"}
    check = f"/subscriptions/{world.subscription}/providers/Microsoft.Storage/checkNameAvailability"
    taken = ask(world, "POST", check, {**kind, "name": "takenstore"}).json()
    assert (taken["nameAvailable"], taken["reason"]) == (False, "AlreadyExists")
    assert ask(world, "POST", check, {**kind, "name": "Bad_Name"}).json()["reason"] == "AccountNameInvalid"
    assert ask(world, "POST", check, {**kind, "name": "freestore"}).json() == {"nameAvailable": True}
    answer = ask(world, "PUT", "Microsoft.Storage/storageAccounts/takenstore", STORAGE)
    assert refusal(answer) == (409, "StorageAccountAlreadyTaken")


def test_a_rule_for_the_life_of_blobs_names_a_container(world: World) -> None:
    account = world.make.storage()
    rule = {
        "name": "old",
        "type": "Lifecycle",
        "enabled": True,
        "definition": {
            "actions": {"baseBlob": {"delete": {"daysAfterModificationGreaterThan": 30}}},
            "filters": {"blobTypes": ["blockBlob"], "prefixMatch": ["training/runs/"]},
        },
    }
    path, body = f"{account}/managementPolicies/default", {"properties": {"policy": {"rules": [rule]}}}
    assert ask(world, "PUT", path, body).status_code == 201
    for field, value in (
        ("definition.filters.prefixMatch", ["runs/"]),
        ("definition.actions.baseBlob.remove", {}),
        ("type", "Life"),
    ):
        wrong = with_field(body, f"properties.policy.rules.0.{field}", value)
        assert ask(world, "PUT", path, wrong).status_code == 400


# Registries


def test_a_registrys_name_is_one_in_the_world(world: World) -> None:
    world.arm.taken.add("takenimages")
    body = {"location": "westeurope", "sku": {"name": "Basic"}}
    answer = ask(world, "PUT", "Microsoft.ContainerRegistry/registries/TakenImages", body)
    assert refusal(answer) == (409, "AlreadyInUse")
    answer = ask(world, "PUT", "Microsoft.ContainerRegistry/registries/with-hyphen", body)
    assert answer.status_code == 400
    made = ask(world, "PUT", "Microsoft.ContainerRegistry/registries/FreeImages", body)
    assert made.json()["properties"]["loginServer"] == "freeimages.azurecr.io"


def test_only_a_premium_registry_forgets_images_by_itself(world: World) -> None:
    path = "Microsoft.ContainerRegistry/registries/demoimages"
    policies = {"retentionPolicy": {"status": "enabled", "days": 7}}
    body = {"location": "westeurope", "sku": {"name": "Basic"}, "properties": {"policies": policies}}
    assert ask(world, "PUT", path, body).status_code == 400
    assert ask(world, "PUT", path, {**body, "sku": {"name": "Premium"}}).status_code == 201
