"""Who may do what on the stage: roles, where they count, and how they are given."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from stage import azure
from stage.azure import World
from stage.azure.bench import refusal, send
from stage.azure.people import Principal

READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
JOBS = "Microsoft.MachineLearningServices/workspaces/jobs"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with azure.serve(tmp_path / "world") as world:
        world.make.group("demo")
        yield world


def group(world: World) -> str:
    return f"/subscriptions/{world.subscription}/resourceGroups/demo"


def give(
    world: World, to: Principal | str, role: str = READER, scope: str = "", name: str = "", **more: Any
) -> requests.Response:
    """Asks for a role, as `who` if that is told."""
    who = more.pop("who", "owner")
    body = {
        "roleDefinitionId": f"/subscriptions/{world.subscription}/providers/Microsoft.Authorization/roleDefinitions/{role}",
        "principalId": to if isinstance(to, str) else to.object_id,
        "principalType": "ServicePrincipal",
        **more,
    }
    body = {key: one for key, one in body.items() if one is not None}
    path = f"{scope or group(world)}/providers/Microsoft.Authorization/roleAssignments/{name or uuid.uuid4()}"
    return send(world, "PUT", path, who, api="2022-04-01", json={"properties": body})


def test_a_role_counts_where_it_is_given_and_below(world: World) -> None:
    account = world.make.storage()
    person = world.make.principal("person")
    assert not world.roles.allows(person, "Microsoft.Storage/storageAccounts/read", account)
    assert give(world, person).status_code == 201
    assert world.roles.allows(person, "Microsoft.Storage/storageAccounts/read", account)
    assert not world.roles.allows(person, "Microsoft.Storage/storageAccounts/write", account)
    assert not world.roles.allows(
        person, "Microsoft.Resources/subscriptions/read", f"/subscriptions/{world.subscription}"
    )


def test_a_scope_does_not_reach_what_only_begins_like_it(world: World) -> None:
    person = world.make.principal("person", ("Reader", group(world)))
    assert not world.roles.allows(person, "Microsoft.Storage/storageAccounts/read", f"{group(world)}-other/x")


def test_an_owner_has_no_right_to_data(world: World) -> None:
    container = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read"
    assert not world.roles.allows(world.owner, container, world.make.storage(), data=True)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (f"{JOBS}/write", True),
        (f"{JOBS}/cancel/action", True),
        ("Microsoft.MachineLearningServices/workspaces/write", False),
        ("Microsoft.MachineLearningServices/workspaces/computes/write", False),
        ("Microsoft.MachineLearningServices/workspaces/computes/stop/action", True),
        ("Microsoft.MachineLearningServices/workspaces/read", True),
    ],
)
def test_a_data_scientist_may_all_but_what_is_left_out(world: World, action: str, expected: bool) -> None:
    """A star between two slashes stands for nothing too: computes/*/write leaves out computes/write."""
    person = world.make.principal("person", ("AzureML Data Scientist", group(world)))
    assert world.roles.allows(person, action, f"{group(world)}/x") is expected


def test_what_is_not_allowed_is_refused_before_it_is_looked_for(world: World) -> None:
    person = world.make.principal("person", ("AcrPull", group(world)))
    path = f"{group(world)}/providers/Microsoft.Storage/storageAccounts/nobodys"
    answer = send(world, "GET", path, person, api="2023-05-01")
    assert refusal(answer) == (403, "AuthorizationFailed")
    assert f"'{person.object_id}'" in answer.json()["error"]["message"]
    assert "'Microsoft.Storage/storageAccounts/read'" in answer.json()["error"]["message"]


def test_a_contributor_gives_no_roles(world: World) -> None:
    person = world.make.principal("person", ("Contributor", group(world)))
    assert refusal(give(world, person, who=person)) == (403, "AuthorizationFailed")
    world.make.role(person, "User Access Administrator", group(world))
    assert give(world, person, who=person).status_code == 201


def test_the_same_role_again_exists_and_the_same_name_again_does_not_matter(world: World) -> None:
    person, name = world.make.principal("person"), str(uuid.uuid4())
    assert give(world, person, name=name).status_code == 201
    assert give(world, person, name=name).status_code == 200
    assert refusal(give(world, person)) == (409, "RoleAssignmentExists")
    other = world.make.principal("other")
    assert refusal(give(world, other, name=name)) == (400, "RoleAssignmentUpdateNotPermitted")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"name": "reader"}, "InvalidRoleAssignmentId"),
        ({"role": "55555555-5555-5555-5555-555555555555"}, "RoleDefinitionDoesNotExist"),
        ({"to": "55555555-5555-5555-5555-555555555555"}, "PrincipalNotFound"),
        ({"principalType": "User"}, "UnmatchedPrincipalType"),
        ({"principalType": "Robot"}, "InvalidRequestContent"),
        ({"principle": "x"}, "InvalidRequestContent"),
    ],
)
def test_an_assignment_that_is_not_as_described_is_refused(
    world: World, given: dict[str, Any], code: str
) -> None:
    to = given.pop("to", world.make.principal("person"))
    assert refusal(give(world, to, **given)) == (400, code)


def test_a_role_at_what_is_not_there_is_refused(world: World) -> None:
    scope = f"{group(world)}/providers/Microsoft.Storage/storageAccounts/nobodys"
    assert refusal(give(world, world.make.principal("person"), scope=scope)) == (404, "ResourceNotFound")


def test_an_identity_of_just_now_is_found_by_its_type_only(world: World) -> None:
    identity = world.make.identity("demo-trainer")
    assert refusal(give(world, identity, principalType=None)) == (400, "PrincipalNotFound")
    world.pass_time(60)
    assert give(world, identity, principalType=None).status_code == 201


def test_roles_can_take_their_time(world: World) -> None:
    person = world.make.principal("person")
    world.roles.delayed = 300
    assert give(world, person).ok
    assert not world.roles.allows(person, "Microsoft.Storage/storageAccounts/read", f"{group(world)}/x")
    world.pass_time(300)
    assert world.roles.allows(person, "Microsoft.Storage/storageAccounts/read", f"{group(world)}/x")


def test_roles_are_listed_by_principal_and_taken_back(world: World) -> None:
    person, name = world.make.principal("person"), str(uuid.uuid4())
    path = f"{group(world)}/providers/Microsoft.Authorization/roleAssignments"
    assert give(world, person, name=name).ok
    asked = {"$filter": f"principalId eq '{person.object_id}'"}
    (found,) = send(world, "GET", path, api="2022-04-01", params=asked).json()["value"]
    assert found["properties"]["roleDefinitionId"].endswith(READER)
    assert send(world, "DELETE", f"{path}/{name}", api="2022-04-01").status_code == 200
    assert send(world, "DELETE", f"{path}/{name}", api="2022-04-01").status_code == 204
    assert world.roles.of(person) == []


def define(world: World, title: str, actions: list[str], name: str = "", **more: Any) -> requests.Response:
    body = {
        "roleName": title,
        "description": "",
        "type": "CustomRole",
        "permissions": [
            {"actions": actions, "notActions": [], "dataActions": [], "notDataActions": [], **more}
        ],
        "assignableScopes": [group(world)],
    }
    path = f"{group(world)}/providers/Microsoft.Authorization/roleDefinitions/{name or uuid.uuid4()}"
    return send(world, "PUT", path, api="2022-04-01", json={"properties": body})


def test_a_role_of_ones_own_gives_what_it_says(world: World) -> None:
    name = str(uuid.uuid4())
    assert define(world, "demo-launcher", [f"{JOBS}/write", f"{JOBS}/read"], name).status_code == 201
    person = world.make.principal("person")
    assert give(world, person, name).status_code == 201
    assert world.roles.allows(person, f"{JOBS}/write", f"{group(world)}/x")
    assert not world.roles.allows(person, f"{JOBS}/cancel/action", f"{group(world)}/x")
    outside = f"/subscriptions/{world.subscription}"
    code = "RoleAssignmentScopeNotAssignableToRoleDefinition"
    assert refusal(give(world, person, name, outside)) == (400, code)


@pytest.mark.parametrize(
    ("actions", "more"),
    [
        ([f"{JOBS}/start/action"], {}),
        (["Microsoft.MachineLearningServices/workspaces/jobs"], {}),
        (["Microsoft.KeyVault/vaults/secrets/getSecret/action"], {}),  # is of the data plane
        ([], {"dataActions": [f"{JOBS}/read"]}),
    ],
)
def test_a_role_of_actions_that_no_provider_has_is_refused(
    world: World, actions: list[str], more: dict[str, Any]
) -> None:
    assert refusal(define(world, "demo-launcher", actions, **more)) == (400, "InvalidActionOrNotAction")


def test_two_roles_of_one_title_are_refused(world: World) -> None:
    assert define(world, "demo-launcher", [f"{JOBS}/read"]).ok
    assert refusal(define(world, "demo-launcher", [f"{JOBS}/read"])) == (
        409,
        "RoleDefinitionWithSameNameExists",
    )
    assert refusal(define(world, "Owner", ["*"])) == (409, "RoleDefinitionWithSameNameExists")


def test_a_role_that_somebody_has_cannot_go(world: World) -> None:
    name = str(uuid.uuid4())
    path = f"{group(world)}/providers/Microsoft.Authorization/roleDefinitions/{name}"
    assert define(world, "demo-launcher", [f"{JOBS}/read"], name).ok
    person = world.make.principal("person", ("demo-launcher", group(world)))
    assert refusal(send(world, "DELETE", path, api="2022-04-01")) == (400, "RoleDefinitionHasAssignments")
    world.roles.revoke(person, "demo-launcher", group(world))
    assert send(world, "DELETE", path, api="2022-04-01").ok


def test_one_can_ask_what_one_may(world: World) -> None:
    person = world.make.principal("person", ("Contributor", group(world)))
    path = f"{group(world)}/providers/Microsoft.Authorization/permissions"
    (found,) = send(world, "GET", path, person, api="2022-04-01").json()["value"]
    assert found["actions"] == ["*"]
    assert "Microsoft.Authorization/*/Write" in found["notActions"]
