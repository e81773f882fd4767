"""Vaults, identities, workspaces and budgets on the stage, as Azure Resource Manager has them."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from stage import azure
from stage.azure import World
from stage.azure.bench import ask, finish, refusal, where
from stage.one_field import REMOVED, with_field

VAULT: dict[str, Any] = {
    "location": "westeurope",
    "properties": {
        "tenantId": "",
        "sku": {"family": "A", "name": "standard"},
        "enableRbacAuthorization": True,
        "softDeleteRetentionInDays": 7,
    },
}
CREDENTIAL = {
    "properties": {
        "issuer": "https://token.actions.githubusercontent.com",
        "subject": "repo:octo-org/octo-repo:environment:cloud",
        "audiences": ["api://AzureADTokenExchange"],
    }
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with azure.serve(tmp_path / "world") as world:
        world.make.group("demo")
        yield world


def vault_of(world: World, **properties: Any) -> dict[str, Any]:
    return {**VAULT, "properties": {**VAULT["properties"], "tenantId": world.tenant, **properties}}


# Vaults


def test_a_vault_that_was_deleted_keeps_its_name_and_comes_back_with_its_secrets(world: World) -> None:
    vault = world.make.vault(wandb="secret")
    user = world.make.principal("user", ("Key Vault Secrets User", vault))
    assert ask(world, "DELETE", vault).status_code == 200
    assert refusal(ask(world, "PUT", vault, vault_of(world))) == (409, "ConflictError")
    assert finish(world, ask(world, "PUT", vault, vault_of(world, createMode="recover"))).ok
    assert world.vault.values("kv-demostore") == {"wandb": "secret"}
    assert not world.roles.allows(
        user, "Microsoft.KeyVault/vaults/secrets/getSecret/action", vault, data=True
    )


def test_a_deleted_vault_is_forgotten_when_it_is_purged_or_its_days_are_over(world: World) -> None:
    path = "Microsoft.KeyVault/vaults/kv-demo"
    gone = f"/subscriptions/{world.subscription}/providers/Microsoft.KeyVault/locations/westeurope/deletedVaults/kv-demo"
    assert ask(world, "PUT", path, vault_of(world)).status_code == 201
    assert ask(world, "DELETE", path).ok
    assert ask(world, "GET", gone).json()["properties"]["vaultId"] == where(world, path)
    assert ask(world, "POST", f"{gone}/purge").status_code == 202
    assert refusal(ask(world, "GET", gone)) == (404, "DeletedVaultNotFound")
    assert ask(world, "PUT", path, vault_of(world)).status_code == 201
    assert ask(world, "DELETE", path).ok
    world.pass_time(7 * 86400)
    assert refusal(ask(world, "GET", gone)) == (404, "DeletedVaultNotFound")


def test_who_has_only_a_group_cannot_purge(world: World) -> None:
    vault = world.make.vault()
    person = world.make.principal("person", ("Owner", where(world)))
    assert ask(world, "DELETE", vault, who=person).ok
    gone = f"/subscriptions/{world.subscription}/providers/Microsoft.KeyVault/locations/westeurope/deletedVaults/kv-demostore"
    assert refusal(ask(world, "POST", f"{gone}/purge", who=person)) == (403, "AuthorizationFailed")


@pytest.mark.parametrize(
    ("properties", "code"),
    [
        ({"enableSoftDelete": False}, "BadRequest"),
        ({"enablePurgeProtection": False}, "BadRequest"),
        ({"softDeleteRetentionInDays": 6}, "BadRequest"),
        ({"tenantId": "44444444-4444-4444-4444-444444444444"}, "BadRequest"),
        ({"enableRbacAuthorization": False}, "BadRequest"),  # and no access policies
        ({"sku": {"name": "standard"}}, "InvalidRequestContent"),
    ],
)
def test_a_vault_that_is_not_as_described_is_refused(
    world: World, properties: dict[str, Any], code: str
) -> None:
    body = vault_of(world, **properties)
    assert refusal(ask(world, "PUT", "Microsoft.KeyVault/vaults/kv-demo", body)) == (400, code)


@pytest.mark.parametrize("name", ["kv", "kv--demo", "1vault", "kv-demo-", "x" * 25])
def test_a_name_that_no_vault_can_have_is_refused(world: World, name: str) -> None:
    answer = ask(world, "PUT", f"Microsoft.KeyVault/vaults/{name}", vault_of(world))
    assert refusal(answer) == (400, "VaultNameNotValid")


# Identities


def test_an_identity_has_at_most_twenty_credentials(world: World) -> None:
    identity = world.make.identity("demo-launcher")
    for number in range(20):
        world.make.federate(identity, f"repo:octo-org/octo-repo:environment:e{number}")
    answer = ask(world, "PUT", f"{identity.resource}/federatedIdentityCredentials/more", CREDENTIAL)
    assert refusal(answer)[0] == 400


def test_two_credentials_of_the_same_subject_are_refused(world: World) -> None:
    path = f"{world.make.identity('demo-launcher').resource}/federatedIdentityCredentials"
    assert ask(world, "PUT", f"{path}/one", CREDENTIAL).status_code == 201
    assert ask(world, "PUT", f"{path}/one", CREDENTIAL).status_code == 200
    assert refusal(ask(world, "PUT", f"{path}/two", CREDENTIAL)) == (409, "Conflict")


def test_credentials_that_are_written_at_the_same_time_are_refused(world: World) -> None:
    """The first one waits in the middle until the second one has come."""
    identity = world.make.identity("demo-launcher")
    arrived, answers = threading.Event(), list[requests.Response]()
    place = f"{identity.resource}/federatedIdentityCredentials"

    def meanwhile(call: Any) -> None:
        if call.path.endswith("/first"):
            second = threading.Thread(
                target=lambda: answers.append(ask(world, "PUT", f"{place}/second", other))
            )
            second.start()
            threads.append(second)
            assert arrived.wait(600)
        elif call.path.endswith("/second"):
            arrived.set()

    threads: list[threading.Thread] = []
    other = with_field(CREDENTIAL, "properties.subject", "repo:octo-org/octo-repo:environment:other")
    world.server.before = meanwhile
    assert ask(world, "PUT", f"{place}/first", CREDENTIAL).status_code == 201
    threads[0].join()
    code = "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity"
    assert refusal(answers[0]) == (409, code)


# Workspaces


def test_a_workspace_needs_what_it_is_made_of(world: World) -> None:
    workspace = world.make.workspace()
    found = ask(world, "GET", workspace).json()
    body = {key: found[key] for key in ("location", "identity", "properties")}
    body["identity"] = {
        "type": "SystemAssigned,UserAssigned",
        "userAssignedIdentities": {one: {} for one in body["identity"]["userAssignedIdentities"]},
    }
    read_only = ("provisioningState", "workspaceId", "tenantId", "mlFlowTrackingUri")
    body["properties"] = {key: one for key, one in body["properties"].items() if key not in read_only}
    assert ask(world, "PUT", workspace, body).status_code == 200
    for field, value in (
        ("properties.applicationInsights", REMOVED),
        ("properties.keyVault", where(world, "Microsoft.KeyVault/vaults/other")),
        ("properties.storageAcount", "x"),
        ("properties.provisioningState", "Succeeded"),
        ("identity", REMOVED),
        ("properties.storageAccount", world.make.storage("other", "", shared_key=True)),  # it keeps its own
    ):
        assert ask(world, "PUT", workspace, with_field(body, field, value)).status_code == 400, field


@pytest.mark.parametrize(
    ("field", "value", "mode", "status"),
    [
        ("allowSharedKeyAccess", False, "AccessKey", 400),
        ("allowSharedKeyAccess", False, "Identity", 200),
        ("isHnsEnabled", True, "AccessKey", 400),
    ],
)
def test_a_workspace_takes_no_account_that_it_could_not_use(
    world: World, field: str, value: bool, mode: str, status: int
) -> None:
    workspace = world.make.workspace()
    found = ask(world, "GET", workspace).json()["properties"]
    world.arm.get(found["storageAccount"]).properties[field] = value
    needs = ("storageAccount", "keyVault", "containerRegistry", "applicationInsights")
    properties = {name: found[name] for name in needs} | {"systemDatastoresAuthMode": mode}
    body = {"location": world.region, "identity": {"type": "SystemAssigned"}, "properties": properties}
    assert ask(world, "PUT", workspace, body).status_code == status


def test_a_deleted_workspace_keeps_its_name_for_two_weeks(world: World) -> None:
    workspace = world.make.workspace()
    assert finish(world, ask(world, "DELETE", workspace)).ok
    with pytest.raises(azure.AzureError, match="Soft-deleted workspace exists"):
        world.make.workspace()
    world.pass_time(14 * 86400)
    assert world.make.workspace() == workspace


def test_a_workspace_that_is_purged_keeps_nothing(world: World) -> None:
    workspace = world.make.workspace()
    assert finish(world, ask(world, "DELETE", workspace, params={"forceToPurge": "true"})).ok
    assert world.make.workspace() == workspace
    assert finish(world, ask(world, "DELETE", workspace)).ok
    assert ask(world, "DELETE", workspace, params={"forceToPurge": "true"}).status_code == 200
    assert world.make.workspace() == workspace


# Budgets


def test_a_budget_begins_with_a_month_and_tells_somebody(world: World) -> None:
    import datetime

    now = datetime.datetime.fromtimestamp(world.clock.now(), datetime.UTC)
    note = {"enabled": True, "operator": "GreaterThan", "threshold": 90, "contactEmails": ["a@example.org"]}
    body = {
        "properties": {
            "category": "Cost",
            "amount": 50,
            "timeGrain": "Monthly",
            "timePeriod": {"startDate": now.strftime("%Y-%m-01T00:00:00Z")},
            "notifications": {"most": note},
        }
    }
    path = "Microsoft.Consumption/budgets/demo"
    made = ask(world, "PUT", path, body)
    assert made.status_code == 201
    for field, value in (
        ("amount", 0),
        ("timeGrain", "Daily"),
        ("timePeriod.startDate", now.strftime("%Y-%m-02T00:00:00Z")),
        ("timePeriod.startDate", "2020-01-01T00:00:00Z"),
        ("notifications.most.contactEmails", []),
        ("notifications.most.threshold", 1001),
    ):
        assert ask(world, "PUT", path, with_field(body, f"properties.{field}", value)).status_code == 400, (
            field
        )
    assert ask(world, "PUT", path, {**body, "eTag": '"old"'}).status_code == 409
    assert ask(world, "PUT", path, {**body, "eTag": made.json()["eTag"]}).status_code == 200
    assert ask(world, "DELETE", path).ok
    assert ask(world, "GET", path).status_code == 404
