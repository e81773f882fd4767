"""Versions that answer on the stage's Azure ML, with something that answers in the place of their containers."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from azureml_world import Place, fast
from azureml_world import workspace as world_of
from launcher.deployment import Deployment, Order
from launcher.models import golden
from launcher.providers import target
from launcher.providers.azure import azureml_endpoint as client
from launcher.providers.azure import azureml_endpoint_calls as calls
from launcher.providers.azure import quotas
from launcher.providers.azure.setup.names import guid
from launcher.providers.azure.setup.template import definition
from stage.azure.ml_served import Endpoint
from stage.azure.people import Principal
from stage.azure.role_definitions import Definition
from stage.azure.roles import Assignment

LAST = "2999-12-31"
EXAMPLE = [1, 2]
REGISTRY = "demobucketimages.azurecr.io"


def image(version: int) -> str:
    return f"{REGISTRY}/demo/serve@sha256:{version:012x}{0:052x}"


class Fake:
    """Answers as a version's container does: with its number."""

    def __init__(self, image: str, broken: set[str]) -> None:
        # What an environment is called tells twelve digits of the digest.
        self.version, self.broken, self.ended = int(image.rpartition(":")[2][:12], 16), image in broken, False

    def ready(self, path: str) -> bool | None:
        assert path == "/health"
        return None if self.broken else True

    def ask(self, method: str, path: str, body: bytes, kind: str) -> tuple[int, bytes]:
        said: dict[str, Any] = {"registry_version": f"digits@v{self.version}"}
        if path == "/openapi.json":
            content = {"application/json": {"example": {"instances": [EXAMPLE]}}}
            said = {"paths": {"/predict": {"post": {"requestBody": {"content": content}}}}}
        elif path in ("/", "/predict"):
            assert (method, kind) == ("POST", "application/json")
            assert json.loads(body)["instances"] == [EXAMPLE]
            said["predictions"] = [{"values": [float(self.version)]}]
        elif path != "/health":
            return 404, b'{"error": "Not Found."}'
        return 200, json.dumps(said).encode()

    def lines(self) -> list[str]:
        return ["starting", "RuntimeError: the model cannot be loaded"] if self.broken else ["ready"]

    def close(self) -> None:
        assert not self.ended
        self.ended = True


class Served:
    """The workspace, as setup prepares it for endpoints.

    Attributes:
        broken: images whose container ends as soon as it is started.
        started: containers, oldest first.
    """

    def __init__(self, place: Place) -> None:
        self.place, self.world = place, place.world
        self.broken: set[str] = set()
        self.started: list[Fake] = []
        group = f"/subscriptions/{self.world.subscription}/resourceGroups/demo"
        self.group, registry = (
            group,
            f"{group}/providers/Microsoft.ContainerRegistry/registries/demobucketimages",
        )
        self.server = self.world.make.identity("demo-server", ("AcrPull", registry))
        own = f"{group}/providers/Microsoft.Storage/storageAccounts/mldemobucket"
        self.world.make.role(self.server, "Storage Blob Data Reader", own)
        role = definition("caller", "demo-caller", group)["permissions"][0]
        self.caller = Definition(guid(group, "caller"), "demo-caller", tuple(role["actions"]))
        self.world.roles.definitions[self.caller.name] = self.caller

    def start(self, image: str, env: dict[str, str]) -> Fake:
        assert env == {"AIP_PREDICT_ROUTE": "/"}
        made = Fake(image, self.broken)
        self.started.append(made)
        return made

    def clear(self) -> None:
        """Nothing is deployed, and the quota is a new subscription's."""
        self.place.clear()
        self.world.ml.endpoints.reset()
        self.world.ml.endpoints.start = self.start
        self.world.ml.usages.reset()
        self.broken.clear()
        self.started.clear()
        for key in [key for key, one in self.world.roles.assignments.items() if one.role == self.caller.name]:
            del self.world.roles.assignments[key]
        quotas._answer.cache_clear()

    @property
    def endpoint(self) -> Endpoint:
        return self.world.ml.endpoints.only

    @property
    def traffic(self) -> dict[int, int]:
        """Version -> percent of the requests."""
        return {number(name): part for name, part in self.endpoint.traffic.items() if part}

    @property
    def versions(self) -> list[int]:
        """Those that have a deployment, which is paid for."""
        return sorted(
            number(one.name) for one in self.endpoint.deployments.values() if one.state != "Deleting"
        )

    @property
    def callers(self) -> list[Assignment]:
        """Who has our role, wherever."""
        return [one for one in self.world.roles.assignments.values() if one.role == self.caller.name]

    def person(self, name: str) -> Principal:
        return self.world.people.add(name, "User")

    def changes(self) -> list[str]:
        """The requests that were no looks."""
        return self.world.paths("arm", "^(PUT|DELETE|PATCH) ")


def number(deployment: str) -> int:
    return int(deployment.removeprefix("v").partition("-")[0])


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """The world while the block lasts, as its owner sees it."""
    with world_of(folder) as place:
        yield Served(place)


def ready(made: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    """The workspace with nothing in it, and nothing is waited for."""
    fast(monkeypatch)
    for module, name, value in (
        (calls, "POLL", 0.0),
        (calls, "BRIEF", 2.0),
        (client, "GRANTED", 0.5),
        (golden, "POLL", 0.0),
    ):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(client, "connect", lambda: client.Endpoints(made.place.backend(), 50.0))
    made.clear()
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The workspace of a file of tests."""
    with serving(tmp_path_factory.mktemp("azure")) as here:
        yield here


@pytest.fixture
def stage(made: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """That workspace for one test."""
    yield ready(made, monkeypatch)
    made.world.heal()


def deploy(version: int, right: bool = True, /, **settings: str) -> Deployment:
    """What the command does once the image is there."""
    there = target("azureml")
    order = Order("digits", version, image(version), {"max_usd": "1000", "until": LAST, **settings})
    there.prepare(order)
    answer = [{"values": [float(version if right else -1)]}]
    return there.deploy(order, lambda ask: golden.check(ask, str(order), lambda example: answer, patience=0))


def rollback() -> str:
    return str(target("azureml").rollback("digits"))
