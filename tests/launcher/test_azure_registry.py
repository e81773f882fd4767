"""Images, secrets and identities of Azure by name: what is asked of whom, and with which login."""

from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import pytest
from azure_answers import CUT, Answers, answers
from launcher.errors import UserError
from launcher.providers import secret_reader
from launcher.providers.azure import auth as azure
from launcher.providers.azure import registry
from launcher.providers.azure.backend import UNKNOWN_ID, AzureBackend
from launcher.providers.errors import LoginError, MissingError, RefusedError
from launcher.storage import StorageUnavailable

pytestmark = pytest.mark.cloud("azure")
DIGEST = f"sha256:{'a' * 64}"
IMAGE = "demobucketimages.azurecr.io/demo/train"
SUBSCRIPTION = "12345678-1234-1234-1234-123456789012"
VAULT = "https://kv-demobucket.vault.azure.net/secrets"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Answers:
    monkeypatch.setattr(azure, "tenant", lambda: "the-tenant")
    return answers(monkeypatch)


def cloud(**given: Any) -> SimpleNamespace:
    """A section `cloud` as configs/cloud/azureml.yaml has it."""
    settings = {
        "project": SUBSCRIPTION,
        "workspace": "demo/demo-ml",
        "region": "eastus",
        "bucket": "abfss://training@demobucket.dfs.core.windows.net",
        "image": None,
        "repository": IMAGE,
        "service_account": "demo-trainer",
        "labels": {"project": "demo"},
        "compute": None,
    }
    return SimpleNamespace(**{**settings, **given})


def log_in(service: Answers) -> None:
    service.say({"refresh_token": "refresh"})
    service.say({"access_token": "pull"})


# Images


def test_a_tag_is_resolved_to_its_digest_with_the_registrys_own_token(service: Answers) -> None:
    log_in(service)
    service.say({}, Docker_Content_Digest=DIGEST)
    assert AzureBackend(cloud()).image() == f"{IMAGE}@{DIGEST}"
    exchange, token, manifest = service.asked
    assert (exchange.method, exchange.url) == ("POST", "https://demobucketimages.azurecr.io/oauth2/exchange")
    assert parse_qs(exchange.form) == {
        "grant_type": ["access_token"],
        "service": ["demobucketimages.azurecr.io"],
        "tenant": ["the-tenant"],
        "access_token": ["token for https://containerregistry.azure.net/.default"],
    }
    assert token.url == "https://demobucketimages.azurecr.io/oauth2/token"
    assert parse_qs(token.form)["scope"] == ["repository:demo/train:pull"]
    assert parse_qs(token.form)["refresh_token"] == ["refresh"]
    assert "Authorization" not in exchange.headers
    assert manifest.url.endswith("/v2/demo/train/manifests/main")
    assert manifest.headers["Authorization"] == "Bearer pull"


@pytest.mark.parametrize("host", ["ghcr.io", "azurecr.io.example.com", "a.azurecr.io.b", "localhost:5000"])
def test_no_other_registry_sees_the_login(service: Answers, host: str) -> None:
    service.say({}, Docker_Content_Digest=DIGEST)
    assert registry.resolve(f"{host}/demo/train:main") == f"{host}/demo/train@{DIGEST}"
    assert [asked.headers.get("Authorization") for asked in service.asked] == [None]


def test_an_image_by_its_digest_is_taken_as_it_is(service: Answers) -> None:
    assert AzureBackend(cloud(image=f"{IMAGE}@{DIGEST}")).image() == f"{IMAGE}@{DIGEST}"
    assert service.asked == []


def test_an_image_without_a_host_is_in_the_projects_registry() -> None:
    assert AzureBackend(cloud(image="demo/train:x")).reference() == f"{IMAGE}:x"


def test_an_image_that_was_never_built_says_what_builds_it(service: Answers) -> None:
    log_in(service)
    service.say(
        {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest tagged by main is not found"}]}, 404
    )
    with pytest.raises(MissingError, match=r"no image .*demo/train:main; push to main"):
        AzureBackend(cloud()).image()


def test_the_commit_of_an_image_is_read_from_its_label(service: Answers) -> None:
    for body in (
        {"config": {"digest": "sha256:c"}},
        {"config": {"Labels": {"org.opencontainers.image.revision": "abc"}}},
    ):
        log_in(service)
        service.say(body)
    assert AzureBackend(cloud()).revision(f"{IMAGE}@{DIGEST}") == "abc"


@pytest.mark.parametrize("step", ["exchange", "manifest"])
def test_who_may_not_pull_is_told_the_role(service: Answers, step: str) -> None:
    if step == "manifest":
        log_in(service)
    service.say({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}, 401)
    with pytest.raises(RefusedError, match=r"may not read the image .*AcrPull"):
        AzureBackend(cloud()).image()


def test_nobody_is_not_told_a_role_but_how_to_log_in(
    service: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(scope: str = "") -> str:
        raise LoginError("There is no login to Azure here", "run `az login`")

    monkeypatch.setattr(azure, "token", nobody)
    with pytest.raises(LoginError, match="az login"):
        AzureBackend(cloud()).image()


# Secrets


def test_a_secret_is_read_without_the_newline_that_echo_adds(service: Answers) -> None:
    service.say({"value": "schlüssel\n", "id": f"{VAULT}/wandb/1"})
    assert secret_reader()(f"{VAULT}/wandb") == "schlüssel"
    (asked,) = service.asked
    assert (asked.url, asked.query) == (f"{VAULT}/wandb", {"api-version": "7.4"})
    assert asked.headers["Authorization"] == "Bearer token for https://vault.azure.net/.default"


def test_a_secret_that_cannot_be_read_says_which_role_reads_it(service: Answers) -> None:
    said = (
        "Caller is not authorized to perform action on resource.\r\nCaller: appid=1;oid=2\r\n"
        "Action: 'Microsoft.KeyVault/vaults/secrets/getSecret/action'\r\nResource: 'x'"
    )
    service.refuse(403, "Forbidden", said)
    with pytest.raises(RefusedError, match=r"getSecret/action \(role Key Vault Secrets User\)"):
        secret_reader()(f"{VAULT}/wandb")


def test_a_vault_that_does_not_answer_may_do_so_later(service: Answers) -> None:
    for _ in range(5):
        service.say(status=CUT)
    with pytest.raises(StorageUnavailable, match=r"kv-demobucket\.vault\.azure\.net cannot be reached"):
        secret_reader()(f"{VAULT}/wandb")


def test_what_is_no_secret_is_one_sentence(service: Answers) -> None:
    service.say({"value": []})
    with pytest.raises(UserError, match="is no secret"):
        secret_reader()("https://kv-demobucket.vault.azure.net/secrets")


# Names


def test_the_workspace_is_named_as_azure_resource_manager_does() -> None:
    assert AzureBackend(cloud()).path == (
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/demo"
        "/providers/Microsoft.MachineLearningServices/workspaces/demo-ml"
    )


@pytest.mark.parametrize(
    "given",
    [
        {"project": "my-subscription"},
        {"workspace": "demo-ml"},
        {"workspace": "demo/a"},
        {"workspace": "demo./demo-ml"},
        {"workspace": None},
        {"bucket": "s3://training"},
        {"bucket": "abfss://training@demo_bucket.dfs.core.windows.net"},
        {"bucket": "abfss://a--b@demobucket.dfs.core.windows.net"},
        {"region": "westeurope"},
        {"compute": "my cluster"},
    ],
    ids=str,
)
def test_a_name_that_azure_cannot_have_is_refused(given: dict[str, Any]) -> None:
    ((key, value),) = given.items()
    with pytest.raises(UserError, match=f"cloud.{key}={value} "):
        AzureBackend(cloud(**given)).check_names()


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"compute": "gpu-2"},
        {"project": None},
        {"bucket": "az://training/team"},
        {"workspace": "Team.A(x)/ml_2"},
    ],
    ids=str,
)
def test_a_name_that_azure_can_have_is_taken(given: dict[str, Any]) -> None:
    AzureBackend(cloud(**given)).check_names()


def test_a_job_is_told_where_its_secrets_are() -> None:
    secrets = {"WANDB_API_KEY": "wandb", "OTHER": "https://other.vault.azure.net/secrets/a"}
    given: Any = SimpleNamespace(env={"RUN_ID": "r1"}, secrets=secrets)
    assert AzureBackend(cloud())._environment(given) == {
        "RUN_ID": "r1",
        "RUN_SECRETS": f"WANDB_API_KEY={VAULT}/wandb,OTHER=https://other.vault.azure.net/secrets/a",
    }


def test_the_identity_of_jobs_is_known_by_its_client_id(service: Answers) -> None:
    service.say({"properties": {"clientId": "the-client", "principalId": "p"}})
    assert AzureBackend(cloud())._identity() == "the-client"
    assert service.asked[0].url.endswith(
        "/resourceGroups/demo/providers/Microsoft.ManagedIdentity/userAssignedIdentities/demo-trainer"
    )


def test_an_identity_that_was_never_made_says_what_makes_it(service: Answers) -> None:
    service.refuse(404, "ResourceNotFound", "The Resource was not found.")
    with pytest.raises(MissingError, match=r"no identity demo-trainer .*make cloud-setup"):
        AzureBackend(cloud())._identity()


def test_without_a_login_a_dry_run_shows_zeros(service: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object) -> str:
        raise LoginError("There is no login to Azure here", "run `az login`")

    monkeypatch.setattr(azure, "token", nobody)
    monkeypatch.setattr(azure, "subscription", nobody)
    backend = AzureBackend(cloud(project=None))
    assert backend._identity() == UNKNOWN_ID
    assert f"/subscriptions/{UNKNOWN_ID}/" in backend.path


def test_a_service_that_does_not_answer_is_no_dry_run(service: Answers) -> None:
    for _ in range(5):
        service.refuse(503, "ServiceUnavailable")
    with pytest.raises(UserError, match="answers 503"):
        AzureBackend(cloud())._identity()
