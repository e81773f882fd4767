"""The life of one project in Azure: set up, set up again, changed, taken back, and all of it once more."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure_setup_world import KEY, Place, Step, place
from launcher.providers.azure.setup.names import guid

pytestmark = pytest.mark.cloud("azure")
ML, IDENTITIES = (
    "Microsoft.MachineLearningServices/workspaces",
    "Microsoft.ManagedIdentity/userAssignedIdentities",
)
ACCOUNTS, REGISTRIES = "Microsoft.Storage/storageAccounts", "Microsoft.ContainerRegistry/registries"
BLOBS = f"{ACCOUNTS}/blobServices/containers/blobs"


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory, projects: Callable[[str], Path]) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("azure"), projects("azure")) as there:
        yield there


@pytest.fixture(scope="module")
def prepared(there: Place) -> Step:
    return there.run("setup", WANDB_API_KEY=KEY, REVIEWER="octo-cat", BUDGET="50", MAIL="you@example.org")


@pytest.fixture(scope="module")
def again(there: Place, prepared: Step) -> Step:
    return there.run("setup", WANDB_API_KEY=KEY, REVIEWER="octo-cat", BUDGET="50", MAIL="you@example.org")


def properties(there: Place, kind: str, name: str) -> dict[str, Any]:
    return there.world.arm.get(there.path(kind, name)).properties


def test_it_says_what_it_made_and_what_is_next(there, prepared):
    assert not prepared.error
    assert f"{there.world.subscription} in eastus" in prepared.output
    assert "launch cloud=azureml doctor_only=true" in prepared.output


def test_the_storage_is_closed_and_keeps_nothing_that_was_deleted(there, prepared):
    found = properties(there, ACCOUNTS, "demobucket")
    assert not found["allowBlobPublicAccess"]
    assert not found["allowSharedKeyAccess"]
    assert found["minimumTlsVersion"] == "TLS1_2"
    service = properties(there, ACCOUNTS, "demobucket/blobServices/default")
    assert not service["deleteRetentionPolicy"]["enabled"]
    container = properties(there, ACCOUNTS, "demobucket/blobServices/default/containers/training")
    assert container["publicAccess"] == "None"
    policy = properties(there, ACCOUNTS, "demobucket/managementPolicies/default")["policy"]
    assert not any("baseBlob" in rule["definition"]["actions"] for rule in policy["rules"])


def test_the_workspace_has_an_account_of_its_own_that_takes_keys_and_none_of_the_data(there, prepared):
    assert properties(there, ML, "demo-ml")["storageAccount"] == there.path(ACCOUNTS, "mldemobucket")
    assert properties(there, ML, "demo-ml")["systemDatastoresAuthMode"] == "AccessKey"
    account = there.world.arm.get(there.path(ACCOUNTS, "mldemobucket"))
    assert (account.content["kind"], account.content["sku"]["name"]) == ("StorageV2", "Standard_LRS")
    assert account.properties["allowSharedKeyAccess"]
    assert not account.properties["allowBlobPublicAccess"]
    assert account.properties["minimumTlsVersion"] == "TLS1_2"
    assert there.world.storage.containers("mldemobucket") == []
    assert "mldemobucket" in prepared.output


def test_the_workspace_lets_jobs_have_the_trainers_identity(there, prepared):
    found = there.world.arm.get(there.path(ML, "demo-ml"))
    trainer = there.path(IDENTITIES, "demo-trainer")
    assert [each.lower() for each in found.content["identity"]["userAssignedIdentities"]] == [trainer.lower()]
    assert found.properties["containerRegistry"].endswith("/registries/demobucketimages")
    assert not properties(there, REGISTRIES, "demobucketimages")["adminUserEnabled"]


def test_the_workspace_reaches_the_data_without_a_key(there, prepared):
    found = properties(there, f"{ML}", "demo-ml/datastores/training")
    assert (found["accountName"], found["containerName"]) == ("demobucket", "training")
    assert found["credentials"] == {"credentialsType": "None"}


def test_all_that_is_in_the_group_carries_the_projects_tag(there, prepared):
    group = there.world.arm.groups["demo"]
    assert group["tags"] == {"project": "demo"}
    located = [one for one in there.world.arm.under(there.group) if one.content.get("location") == "eastus"]
    assert len(located) == 10
    assert {one.content["tags"]["project"] for one in located} == {"demo"}


def test_the_key_is_in_its_secret_and_nowhere_else(there, prepared):
    assert there.world.vault.values("kv-demobucket") == {"wandb": KEY}
    held = [f"{call.method} {call.host}" for call in prepared.asked if KEY in str(call.body)]
    assert held == ["PUT kv-demobucket.vault.azure.net"]
    assert KEY not in prepared.output
    assert KEY not in str(there.github.__dict__)


def test_the_workflow_finds_its_identity_and_the_image(there, prepared):
    launcher = properties(there, IDENTITIES, "demo-launcher")
    assert there.github.variables == {
        "AZURE_CLIENT_ID": launcher["clientId"],
        "AZURE_TENANT_ID": there.world.tenant,
        "AZURE_SUBSCRIPTION_ID": there.world.subscription,
        "CLOUD_IMAGE": "demobucketimages.azurecr.io/demo/train",
    }
    assert there.github.environments == {"cloud": ["octo-cat"]}
    assert "train" in there.github.labels


def test_the_group_has_its_budget(there, prepared):
    found = there.world.budgets.known[there.path("Microsoft.Consumption/budgets", "demo").lower()][
        "properties"
    ]
    assert found["amount"] == 50
    assert sorted(each["threshold"] for each in found["notifications"].values()) == [50, 90, 100]
    assert {each["contactEmails"][0] for each in found["notifications"].values()} == {"you@example.org"}


def test_a_second_run_changes_nothing_and_says_so(again):
    assert not again.error
    assert again.changes == []
    assert "nothing was changed" in again.output


def test_whoever_set_it_up_may_write_the_data(there, prepared):
    owner = there.world.people.by_client(there.env["AZURE_CLIENT_ID"])
    path = there.path(ACCOUNTS, "demobucket/blobServices/default/containers/training")
    assert there.world.roles.allows(owner, f"{BLOBS}/write", path, data=True)


def test_a_thing_that_was_deleted_by_hand_is_made_again(there, again):
    path = there.path(IDENTITIES, "demo-launcher")
    credential = f"{path}/federatedIdentityCredentials/cloud-numbered"
    del there.world.arm.resources[credential.lower()]
    step = there.run("setup", BUDGET="50", MAIL="you@example.org")
    assert not step.error
    assert credential.lower() in there.world.arm.resources
    assert "nothing was changed" not in step.output


def test_an_identity_that_was_deleted_by_hand_gets_its_roles_again(there, again):
    path = there.path(IDENTITIES, "demo-launcher")
    arm = there.world.arm
    arm.remove(arm.get(path), {})
    step = there.run("setup", BUDGET="50", MAIL="you@example.org")
    assert not step.error
    principal = there.world.people.named("demo-launcher")
    assert there.world.roles.allows(principal, f"{ML}/jobs/write", there.path(ML, "demo-ml/jobs/x"))
    assert there.github.variables["AZURE_CLIENT_ID"] == principal.client_id


def test_the_names_of_assignments_are_those_of_the_templates_function(there, again):
    registry = there.path(REGISTRIES, "demobucketimages")
    push = "8311e382-0749-4cb8-b61a-304f252e45ec"
    name = guid(registry, there.path(IDENTITIES, "demo-launcher"), push)
    assert f"{registry}/providers/Microsoft.Authorization/roleAssignments/{name}".lower() in (
        there.world.roles.assignments
    )


def test_it_asks_before_it_removes_anything(there, again):
    step = there.run("destroy", typed="no\n")
    assert step.error == "Nothing was removed."
    assert step.changes == []


def test_it_is_taken_back_and_the_data_stays(there, again):
    step = there.run("destroy", typed="demo\n")
    assert not step.error
    arm = there.world.arm
    left = {one.name for one in arm.under(there.group) if one.content.get("location") == "eastus"}
    assert left == {"demobucket"}
    assert "demobucket: kept, and paid for" in step.output
    assert arm.groups["demo"], "with the data"
    github = there.github
    assert (github.variables, github.environments, github.labels) == ({}, {}, ["bug"])
    titles = {one.title for one in there.world.roles.definitions.values() if one.kind == "CustomRole"}
    assert titles == set(), "no role of the project's is left"
    known = there.world.people
    gone = [one for one in there.world.roles.assignments.values() if not known.by_object(one.principal_id)]
    assert gone == [], "nobody who is gone has a role"


def test_what_is_gone_is_no_trouble(there):
    step = there.run("destroy", typed="demo\n")
    assert not step.error
    assert "workspace demo-ml: was gone" in " ".join(step.output.split())


def test_it_is_set_up_again_on_the_data_that_stayed(there):
    step = there.run("setup", WANDB_API_KEY=KEY)
    assert not step.error
    assert there.world.vault.values("kv-demobucket") == {"wandb": KEY}


def test_with_the_data_all_of_it_goes(there):
    step = there.run("destroy", typed="demo\ndemobucket\n", DATA="delete")
    assert not step.error
    assert "demo" not in there.world.arm.groups
    assert there.world.arm.under(there.group) == []


def test_another_project_can_have_the_names_at_once(there):
    step = there.run("setup")
    assert not step.error, "neither vault nor workspace was kept under its name"
