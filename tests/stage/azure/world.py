"""All of Azure at its own hosts, behind a proxy of this machine: see `serve`."""

import os
import re
import ssl
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stage.azure import arm_authorization, arm_names, identity_kinds, other_kinds, proxy, tls
from stage.azure.acr import BYTES_HOST, Acr
from stage.azure.arm import Arm
from stage.azure.arm_budgets import Budgets
from stage.azure.arm_deployments import Deployments
from stage.azure.arm_groups import Groups
from stage.azure.arm_operations import HOST as ARM_HOST
from stage.azure.blob import Blob
from stage.azure.entra import HOSTS as LOGIN_HOSTS
from stage.azure.entra import Entra
from stage.azure.errors import AzureError
from stage.azure.history import History
from stage.azure.make import Make
from stage.azure.ml import AzureML
from stage.azure.ml_inference import Inference
from stage.azure.ml_models import datastore
from stage.azure.people import AZ, People, Principal
from stage.azure.retail import HOST as PRICES_HOST
from stage.azure.retail import Retail
from stage.azure.roles import Roles
from stage.azure.server import Call, Place, Server
from stage.azure.storage_kinds import Storage
from stage.azure.vault import Vault
from stage.azure.vault_kinds import Vaults
from stage.azure.workspace_kind import workspace
from stage.clock import Clock
from stage.tokens import Issuer

REGION = "westeurope"


class World:
    """The services, and a test's hands on them.

    Attributes:
        region: in which tests make things; all others are there too.
        clock: the services' own time. Tokens of Entra are measured by this machine's.
        people: the directory.
        roles: who may do what.
        github: signs identity tokens as GitHub does.
        entra, arm, ml, history, blob, acr, vault, retail: the stand-ins.
        make: shortcuts by which tests lay out what they need.
        owner: who made the subscription.
        server: faults (`fault`, `heal`), recorded calls, and where more services are registered.
    """

    def __init__(self, folder: Path, region: str) -> None:
        self.folder, self.region, self.url = folder, region, ""
        self.subscription, self.tenant = str(uuid.uuid4()), str(uuid.uuid4())
        self.clock = Clock()
        self.people = People(self.clock, self.tenant)
        self.roles = Roles(self.clock)
        self.github = Issuer(self.clock)
        self.arm = Arm(self.clock, self.people, self.roles, self.subscription)
        known = [*identity_kinds.kinds(), *other_kinds.kinds(), workspace(), datastore()]
        self.arm.kinds |= {one.type.lower(): one for one in known}
        self.storage, self.vaults = Storage(self.arm), Vaults(self.arm)
        self.groups = Groups(self.arm)
        self.authorization = arm_authorization.Authorization(self.arm)
        self.budgets = Budgets(self.arm)
        self.deployments = Deployments(self.arm, self.authorization)
        arm_names.Names(self.arm, self.storage, self.vaults)
        self.entra = Entra(
            self.clock, self.people, self.github, lambda one: identity_kinds.credentials_of(self.arm, one)
        )
        self.blob = Blob(folder / "azurite", self.people, self.roles, self.storage, self.clock.lock)
        self.acr = Acr(self.arm, self.people)
        self.vault = Vault(self.clock, self.people, self.roles, self.vaults)
        self.retail = Retail()
        self.ml = AzureML(self.arm)
        self.server = Server(self.clock, self.people.whose)
        for place in self._places():
            self.server.register(place)
        self.server.register(Inference(self.ml.endpoints, self.people, self.roles).place)
        self.history = History(self.ml, self.server, self.people, self.roles, self.blob)
        self.owner = self.people.add("owner")
        self.roles.assign(self.owner, "Owner", f"/subscriptions/{self.subscription}")
        self.make = Make(self)

    def _places(self) -> list[Place]:
        logins = [Place(host, "entra", self.entra, refuse=self.entra.refuse) for host in LOGIN_HOSTS]
        return [
            *logins,
            Place(ARM_HOST, "arm", self.arm),
            Place(
                "*.blob.core.windows.net", "blob", self.blob, self.blob.exists, self.blob.refuse, False, True
            ),
            Place(BYTES_HOST, "acr", self.acr.bytes_of, locked=False, bulky=True),
            Place("*.azurecr.io", "acr", self.acr, self.acr.exists, self.acr.refuse, False, True),
            Place("*.vault.azure.net", "vault", self.vault, self.vault.exists),
            Place(PRICES_HOST, "retail", self.retail),
        ]

    @property
    def asked(self) -> list[Call]:
        """The calls so far, oldest first."""
        return self.server.asked

    @property
    def certificates(self) -> Path:
        """What vouches for the stage's hosts, and for the rest of the world, in one file."""
        return self.folder / "certificates.pem"

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which programs find this world, as its owner."""
        return self.at("owner")

    def at(self, principal: Principal | str | None) -> dict[str, str]:
        """Variables by which programs find this world as somebody; None for nobody.

        A service principal has its client secret there. A managed identity has a token in a file, as if it were one of a
        workload that is federated with it; it is the stage's own, and needs no credential of the identity.
        """
        found = {
            "HTTPS_PROXY": self.url,
            "REQUESTS_CA_BUNDLE": str(self.certificates),
            "SSL_CERT_FILE": str(self.certificates),
            "NO_PROXY": "127.0.0.1,localhost",
            "AZURE_CONFIG_DIR": str(self.folder / "no-azure"),
        }
        if principal is None:
            return found
        who = self.people.named(principal) if isinstance(principal, str) else principal
        assert who.client_id != AZ, "a user is who `az login` says: give a program an AZURE_CONFIG_DIR"
        found |= {"AZURE_TENANT_ID": self.tenant, "AZURE_CLIENT_ID": who.client_id}
        found |= {"AZURE_SUBSCRIPTION_ID": self.subscription}
        if not who.resource:
            return found | {"AZURE_CLIENT_SECRET": min(who.passwords)}
        token = self.folder / f"{who.name}.token"
        if not who.passwords:
            who.passwords.add(f"stage.{uuid.uuid4()}")
        token.write_text(min(who.passwords))
        return found | {"AZURE_FEDERATED_TOKEN_FILE": str(token)}

    def token(self, principal: Principal | str, audience: str = "https://management.azure.com") -> str:
        """An access token, as Entra would give it."""
        who = self.people.named(principal) if isinstance(principal, str) else principal
        return self.people.token(who, audience)

    def pass_time(self, seconds: float) -> None:
        """Lets time pass for all services."""
        self.clock.pass_time(seconds)

    def fail(
        self,
        service: str,
        pattern: str,
        status: int = 503,
        code: str = "ServiceUnavailable",
        times: int | None = 1,
        message: str = "The service is unavailable. Please try again.",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Has the next calls refused whose "METHOD path" a regular expression finds; None for all until `heal`."""
        self.server.fault("fail", service, pattern, times, AzureError(status, code, message, headers=headers))

    def lose(self, service: str, pattern: str, times: int | None = 1) -> None:
        """Has the next calls carried out and their answers lost."""
        self.server.fault("lose", service, pattern, times, None)

    def cut(self, service: str, pattern: str, times: int | None = 1) -> None:
        """Has the connection break in the middle of the next answers."""
        self.server.fault("cut", service, pattern, times, None)

    def heal(self) -> None:
        """Ends all faults."""
        self.server.heal()

    def paths(self, service: str, pattern: str = "") -> list[str]:
        """ "METHOD path" of the calls of a service so far, those that a pattern finds."""
        found = [f"{call.method} {call.path}" for call in self.asked if call.service == service]
        return [line for line in found if re.search(pattern, line)]


@contextmanager
def serve(folder: Path, region: str = REGION, port: int = 0) -> Iterator[World]:
    """Runs an empty subscription while the block lasts; several may run at a time.

    Args:
        folder: for what the world has to write.

    Raises:
        AssertionError: at the end, for a fault of the stage, or a host of Microsoft's that it does not play.
    """
    folder.mkdir(parents=True, exist_ok=True)
    world = World(folder, region)
    tls.authority().bundle(world.certificates)
    (folder / "no-azure").mkdir(exist_ok=True)
    try:
        with proxy.serving(world.server, port) as world.url:
            yield world
    finally:
        world.blob.close()
    assert not world.server.broken, world.server.broken[0]


@contextmanager
def inside(environment: dict[str, str]) -> Iterator[None]:
    """Has this process itself be a program of a world's, with these variables, while the block lasts.

    aiohttp, by which adlfs speaks, makes what it trusts when it is imported; so it is told of the stage here, for good: the
    authority is this process's own. fsspec keeps its file systems, which know the address of the world before.
    """
    import aiohttp.connector
    import fsspec

    context: Any = aiohttp.connector._SSL_CONTEXT_VERIFIED
    assert isinstance(context, ssl.SSLContext)
    context.load_verify_locations(cadata=tls.authority().pem)
    names = (
        "AZURE_CLIENT_SECRET",
        "AZURE_FEDERATED_TOKEN_FILE",
        "AZURE_STORAGE_CONNECTION_STRING",
        "https_proxy",
    )
    before = {
        name: os.environ.get(name) for name in (*names, "AZURE_CLIENT_ID", "AZURE_TENANT_ID", *environment)
    }
    for name in before:
        os.environ.pop(name, None)
    os.environ.update(environment)
    try:
        yield
    finally:
        for known in fsspec.registry.values():
            known.clear_instance_cache()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
