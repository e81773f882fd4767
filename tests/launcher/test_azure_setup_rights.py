"""Who gets in, and what each identity may do, once `cloud setup` has prepared a subscription of Azure."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from azure_setup_world import KEY, Place, place
from stage.azure.roles import Roles

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
        assert not there.run("setup", WANDB_API_KEY=KEY).error
        yield there


SUBJECTS = {
    "old": ("repo:octo-org/leaves:environment:cloud", True),
    "numbered": ("repo:octo-org@815/leaves@4711:environment:cloud", True),
    "unattended": ("repo:octo-org/leaves:environment:unattended", True),
    "unattended, numbered": ("repo:octo-org@815/leaves@4711:environment:unattended", True),
    "a branch": ("repo:octo-org/leaves:ref:refs/heads/main", False),
    "another environment": ("repo:octo-org/leaves:environment:production", False),
    "a repository of the same name": ("repo:octo-org@815/leaves@9:environment:cloud", False),
    "another case": ("repo:Octo-Org/leaves:environment:cloud", False),
}


@pytest.mark.parametrize(("subject", "let_in"), SUBJECTS.values(), ids=SUBJECTS)
def test_only_this_repositorys_environments_get_in(there, monkeypatch, subject, let_in):
    for name, value in there.env.items():
        monkeypatch.setenv(name, value)
    usual = {"repository": "octo-org/leaves", "aud": "api://AzureADTokenExchange"}
    form = {
        "grant_type": "client_credentials",
        "client_id": there.github.variables["AZURE_CLIENT_ID"],
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": there.world.github.token(**{**usual, "sub": subject}),
        "scope": "https://management.azure.com/.default",
    }
    url = f"https://login.microsoftonline.com/{there.world.tenant}/oauth2/v2.0/token"
    answer = requests.post(url, data=form, timeout=30)
    assert answer.ok == let_in, answer.text


GROUP, WORKSPACE = "", f"/providers/{ML}/demo-ml"
STORAGE, TRAINER = f"/providers/{ACCOUNTS}/demobucket", f"/providers/{IDENTITIES}/demo-trainer"
SERVER = f"/providers/{IDENTITIES}/demo-server"
CONTAINER = f"{STORAGE}/blobServices/default/containers"
OWN = f"/providers/{ACCOUNTS}/mldemobucket"
VAULT, REGISTRY = (
    "/providers/Microsoft.KeyVault/vaults/kv-demobucket",
    f"/providers/{REGISTRIES}/demobucketimages",
)
VALUE, META = (f"Microsoft.KeyVault/vaults/secrets/{each}/action" for each in ("getSecret", "readMetadata"))
RIGHTS = [
    # who, action (of the data plane after a colon), where in the group, allowed
    ("launcher", f"{ML}/jobs/write", f"{WORKSPACE}/jobs/r1", True),
    ("launcher", f"{ML}/jobs/cancel/action", f"{WORKSPACE}/jobs/r1", True),
    ("launcher", f"{ML}/jobs/delete", f"{WORKSPACE}/jobs/r1", False),
    ("launcher", f"{ML}/environments/versions/write", f"{WORKSPACE}/environments/demo/versions/1", True),
    ("launcher", f"{ML}/computes/read", f"{WORKSPACE}/computes/c", True),
    ("launcher", f"{ML}/computes/write", f"{WORKSPACE}/computes/c", False),
    ("launcher", f"{ML}/computes/delete", f"{WORKSPACE}/computes/c", True),
    ("launcher", f"{ML}/onlineEndpoints/read", f"{WORKSPACE}/onlineEndpoints/e", True),
    ("launcher", f"{ML}/onlineEndpoints/delete", f"{WORKSPACE}/onlineEndpoints/e", True),
    ("launcher", f"{ML}/onlineEndpoints/write", f"{WORKSPACE}/onlineEndpoints/e", False),
    ("launcher", f"{ML}/onlineEndpoints/score/action", f"{WORKSPACE}/onlineEndpoints/e", False),
    (
        "launcher",
        f"{ML}/onlineEndpoints/deployments/write",
        f"{WORKSPACE}/onlineEndpoints/e/deployments/d",
        False,
    ),
    ("launcher", f"{IDENTITIES}/assign/action", SERVER, False),
    ("launcher", f"{ML}/listKeys/action", WORKSPACE, False),
    ("launcher", f"{ML}/connections/listsecrets/action", f"{WORKSPACE}/connections/x", False),
    ("launcher", f"{ML}/write", WORKSPACE, False),
    ("launcher", f"{ML}/delete", WORKSPACE, False),
    ("launcher", f"{IDENTITIES}/assign/action", TRAINER, True),
    ("launcher", f"{IDENTITIES}/read", TRAINER, True),
    ("launcher", f"{IDENTITIES}/assign/action", f"/providers/{IDENTITIES}/demo-launcher", False),
    ("launcher", f"{IDENTITIES}/federatedIdentityCredentials/write", f"{TRAINER}/x", False),
    ("launcher", f"{REGISTRIES}/push/write", REGISTRY, True),
    ("launcher", f"{REGISTRIES}/artifacts/delete", REGISTRY, False),
    ("launcher", f"data:{BLOBS}/write", f"{CONTAINER}/training", True),
    ("launcher", f"data:{BLOBS}/write", f"{CONTAINER}/azureml", False),
    ("launcher", f"{ACCOUNTS}/listKeys/action", STORAGE, False),
    ("launcher", f"{ACCOUNTS}/listKeys/action", OWN, False),
    ("launcher", f"{ML}/datastores/listsecrets/action", f"{WORKSPACE}/datastores/workspaceblobstore", False),
    ("launcher", f"data:{META}", f"{VAULT}/secrets/wandb", True),
    ("launcher", f"data:{VALUE}", f"{VAULT}/secrets/wandb", False),
    ("launcher", "Microsoft.Authorization/roleAssignments/write", GROUP, False),
    ("trainer", f"data:{VALUE}", f"{VAULT}/secrets/wandb", True),
    ("trainer", f"data:{VALUE}", f"{VAULT}/secrets/other", False),
    ("trainer", f"data:{BLOBS}/write", f"{CONTAINER}/training", True),
    ("trainer", f"data:{BLOBS}/write", f"{CONTAINER}/azureml", False),
    ("trainer", f"data:{BLOBS}/read", f"{OWN}/blobServices/default/containers/azureml", False),
    ("trainer", f"{ACCOUNTS}/listKeys/action", OWN, False),
    ("trainer", f"{ML}/datastores/listsecrets/action", f"{WORKSPACE}/datastores/workspaceblobstore", False),
    ("server", f"{REGISTRIES}/pull/read", REGISTRY, True),
    ("server", f"{REGISTRIES}/push/write", REGISTRY, False),
    ("server", f"data:{BLOBS}/read", f"{OWN}/blobServices/default/containers/azureml", True),
    ("server", f"data:{BLOBS}/write", f"{OWN}/blobServices/default/containers/azureml", False),
    ("server", f"data:{BLOBS}/read", f"{CONTAINER}/training", False),
    ("server", f"{ML}/read", WORKSPACE, False),
    ("server", f"data:{VALUE}", f"{VAULT}/secrets/wandb", False),
    ("trainer", f"{REGISTRIES}/pull/read", REGISTRY, True),
    ("trainer", f"{REGISTRIES}/push/write", REGISTRY, False),
    ("trainer", f"{ML}/jobs/write", f"{WORKSPACE}/jobs/r1", False),
    ("trainer", f"{ML}/experiments/runs/write", WORKSPACE, True),
]


@pytest.mark.parametrize(("who", "action", "where", "allowed"), RIGHTS)
def test_each_identity_may_do_what_it_needs_and_no_more(there, who, action, where, allowed):
    roles: Roles = there.world.roles
    principal = there.world.people.named(f"demo-{who}")
    plane, _, name = action.rpartition(":")
    assert roles.allows(principal, name, f"{there.group}{where}", plane == "data") == allowed


@pytest.mark.parametrize(
    ("action", "allowed"),
    [
        ("Microsoft.MachineLearningServices/locations/usages/read", True),
        ("Microsoft.MachineLearningServices/locations/vmsizes/read", True),
        ("Microsoft.MachineLearningServices/locations/updateQuotas/action", False),
        ("Microsoft.Resources/subscriptions/resourceGroups/read", False),
    ],
)
def test_github_reads_the_subscriptions_quotas_and_nothing_else_of_it(there, action, allowed):
    principal = there.world.people.named("demo-launcher")
    scope = f"/subscriptions/{there.world.subscription}"
    assert there.world.roles.allows(principal, action, scope) == allowed


def test_whoever_may_ask_an_endpoint_may_do_nothing_else(there):
    from launcher.providers.azure.setup.names import guid

    role = there.world.roles.definitions[guid(there.group, "caller")]
    assert role.actions == (f"{ML}/onlineEndpoints/score/action",)
    assert (role.data, role.scopes) == ((), (there.group,))
    assert not [one for one in there.world.roles.assignments.values() if one.role == role.name]
