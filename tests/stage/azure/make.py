"""Shortcuts by which tests lay out what they need, as if its owner had done it: no rule but the services' own."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from stage.azure import azurite
from stage.azure.arm import FOR_ENDPOINTS
from stage.azure.arm_kinds import Json, Resource
from stage.azure.arm_paths import parse
from stage.azure.identity_kinds import IDENTITIES
from stage.azure.other_kinds import REGISTRIES
from stage.azure.people import Principal
from stage.azure.server import Call
from stage.azure.storage_kinds import ACCOUNTS
from stage.azure.vault_kinds import VAULTS
from stage.azure.workspace_kind import WORKSPACES
from stage.tokens import ISSUER

if TYPE_CHECKING:
    from stage.azure.world import World

TAGS = {"project": "demo"}


class Make:
    """Makes things in one group, by Azure Resource Manager and as the owner; each is ready at once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._group = ""

    def __call__(self, path: str, body: Json, version: str) -> Resource:
        """Writes what a path names, as PUT would."""
        world = self._world
        address = parse(path)
        kind = world.arm.kinds[address.type.lower()]
        world.arm.version(kind, version)
        with world.clock.lock:
            return world.arm.put(world.owner, address, kind, body, version)

    def register(self) -> None:
        """Registers every provider, as somebody may have done long ago."""
        names = {one.type.partition("/")[0] for one in self._world.arm.kinds.values()}
        names |= {*self._world.arm.own, *FOR_ENDPOINTS}
        self._world.arm.registered |= dict.fromkeys((name.lower() for name in names), "Registered")

    def group(self, name: str = "demo") -> str:
        """A resource group, in which the others are made from now on; gives its id."""
        self.register()
        body = {"location": self._world.region, "tags": TAGS}
        path = f"/subscriptions/{self._world.subscription}/resourceGroups/{name}"
        version = {"api-version": "2021-04-01"}
        call = Call("arm", "PUT", path, version, body, self._world.owner, content=json.dumps(body).encode())
        self._world.groups._put(call, name, None)
        self._group = path
        return path

    def _in_group(self, kind: str, name: str) -> str:
        if not self._group:
            self.group()
        return f"{self._group}/providers/{kind}/{name}"

    def storage(self, name: str = "demostore", container: str = "training", shared_key: bool = False) -> str:
        """A storage account with a container; gives the id of the account."""
        if azurite.find() is None:
            pytest.skip(azurite.MISSING)
        body: Json = {
            "location": self._world.region,
            "tags": TAGS,
            "sku": {"name": "Standard_LRS"},
            "kind": "StorageV2",
            "properties": {"allowSharedKeyAccess": shared_key, "minimumTlsVersion": "TLS1_2"},
        }
        made = self(self._in_group(ACCOUNTS, name), body, "2023-05-01")
        if container:
            self(f"{made.id}/blobServices/default/containers/{container}", {}, "2023-05-01")
        return made.id

    def registry(self, name: str = "demostoreimages") -> str:
        """A container registry; gives its id."""
        body = {"location": self._world.region, "tags": TAGS, "sku": {"name": "Basic"}}
        return self(self._in_group(REGISTRIES, name), body, "2023-07-01").id

    def vault(self, name: str = "kv-demostore", **secrets: str) -> str:
        """A key vault by roles, with secrets; gives its id."""
        properties = {
            "tenantId": self._world.tenant,
            "sku": {"family": "A", "name": "standard"},
            "enableRbacAuthorization": True,
        }
        body = {"location": self._world.region, "tags": TAGS, "properties": properties}
        made = self(self._in_group(VAULTS, name), body, "2023-07-01")
        for key, value in secrets.items():
            self.secret(key.replace("_", "-"), value, name)
        return made.id

    def secret(self, name: str, value: str, vault: str = "kv-demostore") -> str:
        """A secret; gives its address without a version."""
        return self._world.vault.put(vault, name, value)

    def identity(self, name: str = "demo-trainer", *roles: tuple[str, str]) -> Principal:
        """A user-assigned identity with roles as (title, scope); gives the principal."""
        body = {"location": self._world.region, "tags": TAGS}
        made = self(self._in_group(IDENTITIES, name), body, "2023-01-31")
        principal: Principal = made.private["principal"]
        for title, scope in roles:
            self.role(principal, title, scope)
        return principal

    def federate(
        self, identity: Principal, subject: str, audience: str = "api://AzureADTokenExchange"
    ) -> None:
        """Has GitHub's tokens with a subject stand for an identity."""
        body = {"properties": {"issuer": ISSUER, "subject": subject, "audiences": [audience]}}
        self(f"{identity.resource}/federatedIdentityCredentials/c{uuid.uuid4().hex[:8]}", body, "2023-01-31")

    def principal(self, name: str, *roles: tuple[str, str]) -> Principal:
        """A service principal with a client secret, and roles as (title, scope)."""
        made = self._world.people.add(name)
        for title, scope in roles:
            self.role(made, title, scope)
        return made

    def role(self, principal: Principal | str, title: str, scope: str) -> None:
        """Gives a role; a scope is an id."""
        who = self._world.people.named(principal) if isinstance(principal, str) else principal
        self._world.roles.assign(who, title, scope)

    def workspace(
        self, name: str = "demo-ml", account: str = "demostore", identity: str = "demo-trainer"
    ) -> str:
        """A workspace of Azure ML with all that it needs, as `cloud setup` lays it out beside a project's storage account.

        What is there already is taken. Gives its id.
        """
        world, resources = self._world, self._world.arm.resources
        if self._in_group(ACCOUNTS, account).lower() not in resources:
            self.storage(account)
        store = self._in_group(ACCOUNTS, f"ml{account[:22]}")
        if store.lower() not in resources:
            self.storage(f"ml{account[:22]}", "", shared_key=True)
        vault = self._in_group(VAULTS, f"kv-{account[:21]}")
        if vault.lower() not in resources:
            self.vault(f"kv-{account[:21]}")
        registry = self._in_group(REGISTRIES, f"{account}images")
        if registry.lower() not in resources:
            self.registry(f"{account}images")
        trainer = self._in_group(IDENTITIES, identity)
        if trainer.lower() not in resources:
            self.identity(identity)
        properties: dict[str, Any] = {
            "storageAccount": store,
            "keyVault": vault,
            "containerRegistry": registry,
            "applicationInsights": self._insights(name),
        }
        identities = {"type": "SystemAssigned,UserAssigned", "userAssignedIdentities": {trainer: {}}}
        body = {"location": world.region, "tags": TAGS, "identity": identities, "properties": properties}
        return self(self._in_group(WORKSPACES, name), body, "2025-12-01").id

    def _insights(self, name: str) -> str:
        logs = self._in_group("Microsoft.OperationalInsights/workspaces", f"{name}-logs")
        self(
            logs, {"location": self._world.region, "properties": {"sku": {"name": "PerGB2018"}}}, "2023-09-01"
        )
        properties = {"Application_Type": "web", "WorkspaceResourceId": logs}
        body = {"location": self._world.region, "kind": "web", "properties": properties}
        return self(self._in_group("Microsoft.Insights/components", name), body, "2020-02-02").id
