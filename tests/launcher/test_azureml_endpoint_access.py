"""Models at managed online endpoints answer those who are named when they are deployed, and nobody else."""

import azureml_endpoints
import pytest
import requests
from azure_logins import logged_in
from azureml_endpoints import deploy
from launcher.errors import UserError
from launcher.providers.azure import azureml_endpoint_access as access

pytestmark = pytest.mark.cloud("azure")
made, stage = azureml_endpoints.made, azureml_endpoints.stage  # fixtures
SOMEBODY = "0f0e0d0c-1111-4222-8333-444455556666"


def test_only_those_who_are_named_may_ask(stage):
    first, second = stage.person("a"), stage.person("b")
    said = deploy(1, allow=f"user:{first.object_id}")
    (one,) = stage.callers
    assert (one.principal_id, one.scope) == (first.object_id, stage.endpoint.id)
    ask = {"url": said.url, "json": {"instances": [[1, 2]]}, "verify": str(stage.world.certificates)}
    for who, status in ((first, 200), (second, 401)):
        headers = {"Authorization": f"Bearer {stage.world.token(who, 'https://ml.azure.com')}"}
        answer = requests.post(**ask, headers=headers, proxies={"https": stage.world.url}, timeout=30)
        assert answer.status_code == status
    assert requests.post(**ask, proxies={"https": stage.world.url}, timeout=30).status_code == 401
    deploy(2)
    assert [one.principal_id for one in stage.callers] == [first.object_id]
    deploy(3, allow=f"user:{second.object_id}")
    assert [one.principal_id for one in stage.callers] == [second.object_id]
    deploy(4, allow="nobody")
    assert stage.callers == []


def test_whom_an_endpoint_of_the_same_name_had_let_in_the_new_one_does_not(stage):
    who = stage.person("former")
    deploy(1)
    scope = stage.endpoint.id
    stage.world.ml.endpoints.reset()
    stage.world.make.role(who, stage.caller.title, scope)
    deploy(1)
    assert stage.callers == []


@pytest.mark.parametrize(
    "nobody", ["user:a@b.example", "allUsers", SOMEBODY, "user:", f"user:{SOMEBODY},b@c.example"]
)
def test_who_is_no_object_id_is_refused_with_the_command_that_gives_it(nobody, stage):
    with pytest.raises(UserError, match=r"az ad user show --id MAIL --query id"):
        deploy(1, allow=nobody)
    assert stage.changes() == []


def test_somebody_of_no_directory_is_told_and_nothing_is_left(stage):
    with pytest.raises(UserError, match="does not exist in the directory"):
        deploy(1, allow=f"user:{SOMEBODY}")
    assert stage.world.ml.endpoints.known == {}


def test_whoever_deploys_and_may_not_ask_is_told(stage):
    manager = stage.world.people.add("manager")
    parts = (
        "onlineEndpoints/read",
        "onlineEndpoints/write",
        "onlineEndpoints/delete",
        "environments/*",
        "read",
    )
    from stage.azure.role_definitions import Definition

    ml = "Microsoft.MachineLearningServices/workspaces"
    actions = (*(f"{ml}/{each}" for each in parts), f"{ml}/onlineEndpoints/deployments/*", "*/read")
    role = Definition(
        "22222222-0000-0000-0000-000000000000",
        "Deployer",
        (
            *actions,
            "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action",
            "Microsoft.Authorization/roleAssignments/*",
        ),
    )
    stage.world.roles.definitions[role.name] = role
    stage.world.make.role(manager, role.title, f"/subscriptions/{stage.world.subscription}")
    with logged_in(stage.world, "manager"):
        with pytest.raises(UserError, match=r"whoever deploys must be in allow="):
            deploy(1)
        assert stage.world.ml.endpoints.known == {}
        deploy(1, allow=f"servicePrincipal:{manager.object_id}")
    assert stage.traffic == {1: 100}


def test_roles_of_others_at_an_endpoint_are_left(stage):
    deploy(1)
    other = stage.person("reader")
    stage.world.make.role(other, "Reader", stage.endpoint.id)
    access.allow(stage.endpoint.id, {})
    assert [one for one in stage.world.roles.assignments.values() if one.principal_id == other.object_id]


def test_a_role_that_was_given_by_hand_counts(stage):
    who = stage.person("by-hand")
    deploy(1)
    stage.world.make.role(who, stage.caller.title, stage.endpoint.id)
    deploy(2, allow=f"user:{who.object_id}")
    assert [one.principal_id for one in stage.callers] == [who.object_id]
    deploy(3, allow="nobody")
    assert stage.callers == []
