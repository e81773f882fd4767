"""Setting up an Azure project where something was there before, is refused, or goes wrong; each time one sentence."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from azure_setup_world import KEY, Place, place
from launcher.providers.azure import azureml_endpoint_calls, login
from stage.azure.role_definitions import Definition

pytestmark = pytest.mark.cloud("azure")
ML, ACCOUNTS = "Microsoft.MachineLearningServices/workspaces", "Microsoft.Storage/storageAccounts"
IDENTITIES = "Microsoft.ManagedIdentity/userAssignedIdentities"


@pytest.fixture
def there(tmp_path: Path, projects: Callable[[str], Path]) -> Iterator[Place]:
    with place(tmp_path, projects("azure")) as there:
        yield there


def test_providers_are_registered_first(there):
    assert there.world.arm.registered == {}
    step = there.run("setup")
    assert not step.error
    assert "Microsoft.MachineLearningServices: registered" in step.output
    assert set(there.world.arm.registered.values()) == {"Registered"}
    # What an online endpoint needs beside what setup makes.
    assert {"microsoft.policyinsights", "microsoft.cdn"} <= there.world.arm.registered.keys()


def test_an_owner_of_the_group_alone_sets_up_all_but_the_quotas(there):
    group = there.world.make.group("demo")
    # Names are asked for in the whole subscription, which a Reader may.
    there.world.make.principal(
        "dev", ("Owner", group), ("Reader", f"/subscriptions/{there.world.subscription}")
    )
    there.env |= there.world.at("dev")
    step = there.run("setup")
    assert not step.error
    assert "GitHub cannot see them" in step.output
    assert there.github.variables["CLOUD_IMAGE"]


def test_a_group_of_others_is_used_and_neither_changed_nor_removed(there):
    there.world.make.group("demo")
    there.world.arm.groups["demo"]["tags"] = {"team": "leaves"}
    there.world.make.storage("somebodyelse")
    assert not there.run("setup").error
    assert there.world.arm.groups["demo"]["tags"] == {"team": "leaves"}
    step = there.run("destroy", YES="1", DATA="delete")
    assert not step.error
    assert "stays, for somebodyelse is in it" in step.output
    assert there.path(ACCOUNTS, "somebodyelse").lower() in there.world.arm.resources


def test_an_empty_group_of_others_stays_too(there):
    there.world.make.group("demo")
    there.world.arm.groups["demo"]["tags"] = {}
    assert not there.run("setup").error
    step = there.run("destroy", YES="1", DATA="delete")
    assert "stays, for this project did not make it" in step.output
    assert "demo" in there.world.arm.groups


def test_a_vault_that_was_deleted_by_hand_is_taken_back_with_its_secret(there):
    assert not there.run("setup", WANDB_API_KEY=KEY).error
    path = there.path("Microsoft.KeyVault/vaults", "kv-demobucket")
    arm = there.world.arm
    arm.remove(arm.get(path), {})
    step = there.run("setup")
    assert not step.error
    assert "kv-demobucket: recovered" in step.output
    assert there.world.vault.values("kv-demobucket") == {"wandb": KEY}
    trainer = there.world.people.named("demo-trainer")
    action = "Microsoft.KeyVault/vaults/secrets/getSecret/action"
    assert there.world.roles.allows(trainer, action, f"{path}/secrets/wandb", data=True)


def test_a_secret_that_was_deleted_by_hand_is_taken_back_and_written(there):
    assert not there.run("setup", WANDB_API_KEY="old").error
    url = "https://kv-demobucket.vault.azure.net/secrets/wandb"
    there.ask("DELETE", url, api="7.4", scope=login.VAULT_SCOPE)
    assert there.world.vault.values("kv-demobucket") == {}
    step = there.run("setup", WANDB_API_KEY=KEY)
    assert not step.error
    assert there.world.vault.values("kv-demobucket") == {"wandb": KEY}


def test_a_role_that_does_not_count_yet_is_waited_for(there, monkeypatch):
    import time

    monkeypatch.setattr(time, "sleep", lambda seconds: there.world.pass_time(30))
    there.world.roles.delayed = 60
    there.world.pass_time(120)  # the owner's own has been there for long
    step = there.run("setup", WANDB_API_KEY=KEY)
    assert not step.error
    assert there.world.vault.values("kv-demobucket") == {"wandb": KEY}


def test_a_failed_deployment_says_what_failed_and_the_next_one_goes_on(there):
    title = f"demo-launcher ({there.world.subscription[:8]})"
    role = Definition("11111111-1111-4111-8111-111111111111", title, kind="CustomRole")
    there.world.roles.definitions[role.name] = role
    step = there.run("setup")
    assert step.error.startswith("The deployment of demo failed: ")
    assert "(Microsoft.Authorization/roleDefinitions): RoleDefinitionWithSameNameExists" in step.error
    assert "\n" not in step.error
    assert there.github.variables == {}
    del there.world.roles.definitions[role.name]
    assert not there.run("setup").error
    assert there.github.variables["CLOUD_IMAGE"]


def test_a_workspace_that_was_deleted_by_hand_is_named_and_destroy_removes_what_is_kept_of_it(there):
    assert not there.run("setup").error
    arm = there.world.arm
    arm.remove(arm.get(there.path(ML, "demo-ml")), {})
    step = there.run("setup")
    assert "Soft-deleted workspace exists" in step.error
    assert "`make cloud-destroy`" in step.error
    assert not there.run("destroy", YES="1").error
    assert not there.run("setup").error


def test_another_deployment_of_the_group_is_waited_for_by_the_person(there):
    assert not there.run("setup").error
    path = there.path("Microsoft.Resources/deployments", "demo")
    there.world.deployments.known[path.lower()]["properties"]["provisioningState"] = "Running"
    step = there.run("setup")
    assert step.error == "Another deployment of demo is under way: run this again in some minutes."
    assert step.changes == []


def test_what_still_runs_is_ended_before_the_rest_goes(there, monkeypatch):
    monkeypatch.setattr(azureml_endpoint_calls, "POLL", 0)
    assert not there.run("setup").error
    workspace = there.path(ML, "demo-ml")
    trainer = there.path(IDENTITIES, "demo-trainer")
    image = {"image": "mcr.microsoft.com/azureml/base:1", "osType": "Linux"}
    there.ask("PUT", f"{workspace}/environments/demo/versions/1", {"properties": image})
    job = {
        "jobType": "Command",
        "command": "sleep 9999",
        "environmentId": f"{workspace}/environments/demo/versions/1",
        "resources": {"instanceType": "Standard_F8s_v2", "instanceCount": 1},
        "queueSettings": {"jobTier": "Standard"},
        "identity": {
            "identityType": "Managed",
            "clientId": there.world.arm.get(trainer).properties["clientId"],
        },
    }
    for name in ("waits", "gone"):
        there.ask("PUT", f"{workspace}/jobs/{name}", {"properties": job})
    there.ask("POST", f"{workspace}/jobs/gone/cancel")
    notebook = {"computeType": "ComputeInstance", "properties": {"vmSize": "Standard_F8s_v2"}}
    there.ask("PUT", f"{workspace}/computes/demo-nb", {"location": "eastus", "properties": notebook})
    server = there.path(IDENTITIES, "demo-server")
    endpoint = {
        "location": "eastus",
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {server: {}}},
        "properties": {"authMode": "AADToken"},
    }
    there.ask("PUT", f"{workspace}/onlineEndpoints/demo-digits", endpoint)  # which is made just now
    step = there.run("destroy", YES="1")
    assert not step.error
    assert "demo-digits: deleted" in step.output
    assert there.world.ml.endpoints.abandoned == []
    assert "demo-nb: deleted" in step.output
    assert "waits: ended" in step.output
    assert "gone: ended" not in step.output
    cancelled = step.changes.index(f"POST {workspace}/jobs/waits/cancel")
    assert cancelled < step.changes.index(f"DELETE {workspace}")


def test_a_budget_that_is_refused_is_said_and_is_no_failure(there):
    text = "Budgets are not supported for this subscription."
    there.world.fail("arm", "PUT .*/budgets/", 400, "RBACAccessDenied", message=text)
    step = there.run("setup", BUDGET="50", MAIL="you@example.org")
    assert not step.error
    assert f"NOT SET: management.azure.com refuses the request: {text[:-1]}" in step.output


def test_a_vault_that_may_not_be_purged_is_told_and_taken_back_by_the_next_setup(there):
    assert not there.run("setup").error
    there.world.fail("arm", "POST .*/purge$", 403, "AuthorizationFailed", message="not authorized")
    step = there.run("destroy", YES="1", DATA="delete")
    assert not step.error
    assert "you may not purge it" in step.output
    step = there.run("setup")
    assert not step.error
    assert "kv-demobucket: recovered" in step.output


@pytest.mark.parametrize(
    ("pattern", "code"),
    [
        ("PUT .*/roleAssignments/", "PrincipalNotFound"),
        ("PUT .*/roleAssignments/", "RoleDefinitionDoesNotExist"),
    ],
)
def test_what_is_not_known_everywhere_yet_is_waited_for(there, pattern, code):
    there.world.fail("arm", pattern, 400, code, times=3)
    step = there.run("setup")
    assert not step.error
    assert there.github.variables["CLOUD_IMAGE"]


def test_a_role_that_somebody_seems_to_have_still_is_deleted_a_little_later(there):
    assert not there.run("setup").error
    there.world.fail("arm", "DELETE .*/roleDefinitions/", 400, "RoleDefinitionHasAssignments", times=3)
    step = there.run("destroy", YES="1")
    assert not step.error
    assert not [one for one in there.world.roles.definitions.values() if one.kind == "CustomRole"]


@pytest.mark.parametrize("lost", ["PUT .*/deployments/", "PUT .*/secrets/wandb", "PUT .*/roleAssignments/"])
def test_an_answer_that_is_lost_does_no_harm(there, lost):
    service = "vault" if "secrets" in lost else "arm"
    there.world.lose(service, lost)
    step = there.run("setup", WANDB_API_KEY=KEY)
    assert not step.error
    assert there.github.variables["CLOUD_IMAGE"]
    assert there.run("setup", WANDB_API_KEY=KEY).changes == []
