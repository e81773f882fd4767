"""Deployments of templates on the stage: what is refused before anything is done, and what happens in which order."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from stage import azure
from stage.azure import World
from stage.azure.bench import finish, refusal, send
from stage.azure.template_functions import of_place
from stage.azure.template_words import filled

SCHEMA = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"
IDENTITY: dict[str, Any] = {
    "type": "Microsoft.ManagedIdentity/userAssignedIdentities",
    "apiVersion": "2024-11-30",
    "name": "demo-trainer",
    "location": "[resourceGroup().location]",
}
STORAGE: dict[str, Any] = {
    "type": "Microsoft.Storage/storageAccounts",
    "apiVersion": "2024-01-01",
    "name": "[parameters('store')]",
    "location": "westeurope",
    "sku": {"name": "Standard_LRS"},
    "kind": "StorageV2",
}
STORE = "[resourceId('Microsoft.Storage/storageAccounts', parameters('store'))]"
CONTAINER: dict[str, Any] = {
    "type": "Microsoft.Storage/storageAccounts/blobServices/containers",
    "apiVersion": "2024-01-01",
    "name": "[format('{0}/default/training', parameters('store'))]",
    "dependsOn": [STORE],
    "properties": {},
}
TRAINER = "[resourceId('Microsoft.ManagedIdentity/userAssignedIdentities', 'demo-trainer')]"
ROLE: dict[str, Any] = {
    "type": "Microsoft.Authorization/roleAssignments",
    "apiVersion": "2022-04-01",
    "name": "[guid(resourceGroup().id, 'reader')]",
    "dependsOn": [TRAINER],
    "properties": {
        "roleDefinitionId": "[subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'acdd72a7-3385-48ef-bd42-f606fba81ae7')]",
        "principalId": f"[reference({TRAINER[1:-1]}, '2024-11-30').principalId]",
        "principalType": "ServicePrincipal",
    },
}


def without(resource: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: one for key, one in resource.items() if key not in names}


def credential(name: str, *needs: str) -> dict[str, Any]:
    return {
        "type": "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials",
        "apiVersion": "2024-11-30",
        "name": f"demo-trainer/{name}",
        "dependsOn": [TRAINER, *needs],
        "properties": {"issuer": "https://token.example.org", "subject": name, "audiences": ["api://x"]},
    }


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with azure.serve(tmp_path / "world") as world:
        world.make.group("demo")
        yield world


def path(world: World, name: str = "demo") -> str:
    group = f"/subscriptions/{world.subscription}/resourceGroups/demo"
    return f"{group}/providers/Microsoft.Resources/deployments/{name}"


def put(
    world: World, *resources: dict[str, Any], who: Any = "owner", values: Any = None, **more: Any
) -> requests.Response:
    template = {
        "$schema": SCHEMA,
        "contentVersion": "1.0.0.0",
        "parameters": {"store": {"type": "string"}},
        "resources": list(resources),
        **more,
    }
    given = {"store": {"value": "demostore"}} if values is None else values
    body = {"properties": {"mode": "Incremental", "template": template, "parameters": given}}
    return send(world, "PUT", path(world), who, api="2022-09-01", json=body)


def deploy(world: World, *resources: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What a deployment has become, when it is over."""
    finish(world, put(world, *resources, **more))
    return send(world, "GET", path(world), api="2022-09-01").json()["properties"]


def failures(world: World, *resources: dict[str, Any], **more: Any) -> list[tuple[str, str]]:
    """Name and code of what has failed."""
    assert deploy(world, *resources, **more)["provisioningState"] == "Failed"
    listed = send(world, "GET", f"{path(world)}/operations", api="2022-09-01").json()["value"]
    found = [one["properties"] for one in listed]
    return [
        (one["targetResource"]["resourceName"], one["statusMessage"]["error"]["code"])
        for one in found
        if one["provisioningState"] == "Failed"
    ]


def test_a_template_makes_what_it_says(world: World) -> None:
    outputs = {"who": {"type": "string", "value": f"[reference({TRAINER[1:-1]}, '2024-11-30').clientId]"}}
    done = deploy(world, CONTAINER, ROLE, STORAGE, IDENTITY, outputs=outputs)
    assert done["provisioningState"] == "Succeeded"
    trainer = world.people.named("demo-trainer")
    assert done["outputs"]["who"]["value"] == trainer.client_id
    assert [title for title, _ in world.roles.of(trainer)] == ["Reader"]
    assert world.storage.containers("demostore") == ["training"]
    assert len(done["outputResources"]) == 4


def test_a_second_time_changes_nothing(world: World) -> None:
    first = deploy(world, STORAGE, CONTAINER, IDENTITY, ROLE)
    who = world.people.named("demo-trainer")
    second = deploy(world, STORAGE, CONTAINER, IDENTITY, ROLE)
    assert first["outputResources"] == second["outputResources"]
    assert world.people.named("demo-trainer") is who


def test_it_is_under_way_until_it_is_looked_at(world: World) -> None:
    answer = put(world, STORAGE)
    assert (answer.status_code, answer.json()["properties"]["provisioningState"]) == (201, "Running")
    assert refusal(put(world, STORAGE)) == (409, "DeploymentActive")
    assert finish(world, answer).json()["status"] == "Succeeded"
    assert finish(world, put(world, STORAGE)).json()["status"] == "Succeeded"


@pytest.mark.parametrize(
    ("resources", "more", "says"),
    [
        ([{**STORAGE, "dependsOn": ["nothing"]}], {}, "'nothing' is not defined in the template"),
        (
            [{**IDENTITY, "dependsOn": [STORE]}, {**STORAGE, "dependsOn": [TRAINER]}],
            {},
            "Circular dependency",
        ),
        ([STORAGE, STORAGE], {}, "two resources of the same name"),
        ([{**CONTAINER, "name": "demostore/training"}], {}, "incorrect segment lengths"),
        ([STORAGE], {"values": {}}, "parameter 'store' is not provided"),
        ([STORAGE], {"values": {"store": {"value": "x"}, "stroe": {"value": "x"}}}, "'stroe'"),
        ([STORAGE], {"values": {"store": {"value": 7}}}, "type is not valid"),
        ([{**STORAGE, "name": "[parameters('other')]"}], {}, "'other' is not found"),
        ([{**STORAGE, "name": "[variables('other')]"}], {}, "'other' is not found"),
        ([{**STORAGE, "name": "[upper('x')]"}], {}, "'upper' is not valid"),
        ([{**STORAGE, "name": "[toLower('x']"}], {}, "Unable to parse"),
        ([{**STORAGE, "name": "[reference('x').name]"}], {}, "not expected at this location"),
        ([without(STORAGE, "apiVersion")], {}, "'apiVersion'"),
        ([STORAGE], {"resource": []}, "Could not find member 'resource'"),
        ([STORAGE], {"$schema": "https://example.org"}, "schema"),
    ],
)
def test_a_wrong_template_is_refused_before_anything_is_done(
    world: World, resources: list[Any], more: dict[str, Any], says: str
) -> None:
    answer = put(world, *resources, **more)
    assert refusal(answer) == (400, "InvalidTemplate")
    assert says in answer.json()["error"]["message"]
    assert world.arm.resources == {}


def test_a_version_that_there_is_not_is_refused_before_anything_is_done(world: World) -> None:
    answer = put(world, IDENTITY, {**STORAGE, "apiVersion": "2024-13-01"})
    assert refusal(answer) == (400, "NoRegisteredProviderFound")
    assert world.arm.resources == {}


def test_who_may_not_give_roles_is_refused_before_anything_is_done(world: World) -> None:
    group = f"/subscriptions/{world.subscription}/resourceGroups/demo"
    person = world.make.principal("person", ("Contributor", group))
    answer = put(world, STORAGE, IDENTITY, ROLE, who=person)
    assert refusal(answer) == (403, "InvalidTemplateDeployment")
    assert "'Microsoft.Authorization/roleAssignments/write'" in answer.json()["error"]["message"]
    assert world.arm.resources == {}
    assert put(world, STORAGE, IDENTITY, who=person).status_code == 201


def test_a_dependency_that_was_forgotten_shows(world: World) -> None:
    assert failures(world, STORAGE, without(CONTAINER, "dependsOn")) == [
        ("demostore/default/training", "ParentResourceNotFound")
    ]


def test_what_was_there_before_needs_no_dependency(world: World) -> None:
    deploy(world, STORAGE)
    assert deploy(world, STORAGE, without(CONTAINER, "dependsOn"))["provisioningState"] == "Succeeded"


def test_a_reference_by_id_is_no_dependency_and_one_by_name_is(world: World) -> None:
    assert failures(world, IDENTITY, without(ROLE, "dependsOn")) == [(world_guid(world), "ResourceNotFound")]
    finish(world, send(world, "DELETE", world.people.named("demo-trainer").resource, api="2024-11-30"))
    named = {**ROLE["properties"], "principalId": "[reference('demo-trainer').principalId]"}
    done = deploy(world, IDENTITY, {**without(ROLE, "dependsOn"), "properties": named})
    assert done["provisioningState"] == "Succeeded"


def world_guid(world: World) -> str:
    group = world.arm.groups["demo"]
    return filled(ROLE["name"], of_place(group, world.subscription, world.tenant, "demo"))


def test_credentials_side_by_side_are_refused_and_one_after_the_other_are_not(world: World) -> None:
    (failed,) = failures(world, IDENTITY, credential("one"), credential("two"))
    assert failed[1] == "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity"
    first = "[resourceId('Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials', 'demo-trainer', 'one')]"
    done = deploy(world, IDENTITY, credential("one"), credential("two", first))
    assert done["provisioningState"] == "Succeeded"


def test_what_needs_something_that_failed_is_not_begun(world: World) -> None:
    wrong = {**STORAGE, "sku": {"name": "Cheap"}}
    assert failures(world, wrong, CONTAINER, IDENTITY) == [("demostore", "InvalidRequestContent")]
    assert [one.kind.type for one in world.arm.resources.values()] == [IDENTITY["type"]]


def test_a_failure_is_told_by_the_operation_and_the_deployment(world: World) -> None:
    world.storage.taken.add("demostore")
    answer = finish(world, put(world, STORAGE))
    assert answer.json()["status"] == "Failed"
    error = answer.json()["error"]
    assert (error["code"], error["details"][0]["code"]) == ("DeploymentFailed", "StorageAccountAlreadyTaken")
    known = send(world, "GET", path(world), api="2022-09-01").json()["properties"]
    assert (known["provisioningState"], known["error"]) == ("Failed", error)


def test_a_condition_leaves_out_and_a_copy_repeats(world: World) -> None:
    copies = {
        **IDENTITY,
        "name": "[format('demo-{0}', copyIndex())]",
        "copy": {"name": "all", "count": 3},
        "dependsOn": [STORE],
    }
    deploy(world, copies, {**STORAGE, "condition": "[equals(1, 2)]"})
    names = sorted(one.name for one in world.arm.resources.values())
    assert names == ["demo-0", "demo-1", "demo-2"]


def test_a_deployments_record_goes_and_what_it_made_stays(world: World) -> None:
    deploy(world, STORAGE)
    assert finish(world, send(world, "DELETE", path(world), api="2022-09-01")).status_code == 200
    assert refusal(send(world, "GET", path(world), api="2022-09-01")) == (404, "DeploymentNotFound")
    assert world.storage.account("demostore")


def test_a_template_can_be_looked_at_without_being_carried_out(world: World) -> None:
    template = {
        "$schema": SCHEMA,
        "contentVersion": "1.0.0.0",
        "resources": [{**STORAGE, "name": "demostore"}],
    }
    body = {"properties": {"mode": "Incremental", "template": template}}
    assert send(world, "POST", f"{path(world)}/validate", api="2022-09-01", json=body).ok
    assert world.arm.resources == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[concat('a', 'b''c', 1)]", "ab'c1"),
        ("[[not an expression]", "[not an expression]"),
        ("[format('{0}-{1}', toUpper('x'), length(createArray(1, 2)))]", "X-2"),
        ("[if(equals('a', 'b'), json('broken'), 'fine')]", "fine"),
        ("[split('a/b', '/')[1]]", "b"),
        (
            "[resourceId('Microsoft.X/a/b', 'one', 'two')]",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.X/a/one/b/two",
        ),
        ("[union(createObject('a', 1), createObject('b', true()))]", {"a": 1, "b": True}),
        ("[subscription().tenantId]", "t"),
        # A name-based UUID (version 5) of the words with hyphens between them, in a namespace that is documented.
        ("[guid('a', 'b')]", "2d796349-8c7e-55ec-9624-54ece82ed031"),
    ],
)
def test_expressions_are_worth_what_the_service_says(text: str, expected: Any) -> None:
    group = {"id": "/subscriptions/s/resourceGroups/g", "location": "westeurope"}
    assert filled(text, of_place(group, "s", "t", "demo")) == expected
