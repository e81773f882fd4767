"""Versions of a model in a registry, Vertex AI's stand-in with a function for each image, and the login of a workflow."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from launcher.deployment import Deployment, Order
from launcher.mirror import Entry
from launcher.models import golden, mirror, places, versions
from launcher.providers import target
from launcher.providers.google import auth as google
from launcher.providers.google import vertex_api, vertex_endpoint_ask, vertex_endpoint_end, vertex_models
from stage.google.identity import Identity, identity
from stage.google.vertex_serving import Serving, serving
from stage.google.vertex_serving_containers import Functions

PROJECT = "stage-project"
REGION = "us-central1"
REGISTRY = f"us-central1-docker.pkg.dev/{PROJECT}/demo/serve"
MODEL = "demo-digits"
ME = f"launcher@{PROJECT}.iam.gserviceaccount.com"
ROLES = ("roles/aiplatform.admin",)
EXAMPLE = [0, 0]
SIGNATURE = {"kind": "regression", "inputs": [{"name": "x", "shape": ["batch", 2], "dtype": "int64"}]}
UNTIL = "2999-12-31"


def image(version: int) -> str:
    return f"{REGISTRY}@sha256:{version:064x}"


def answering(image: str, path: str, body: bytes) -> tuple[int, Any]:
    """What a version gives at the route that Vertex AI knows: its number."""
    assert path == "/predict", path
    version = int(image.rpartition(":")[2], 16)
    assert json.loads(body)["instances"] == [EXAMPLE]
    return 200, {"predictions": [{"values": [float(version)]}], "registry_version": f"digits@v{version}"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A registry with five versions, in what stands for the bucket."""
    found = f"{tmp_path}/bucket/models"
    monkeypatch.setattr(places, "bucket", lambda: found)
    for number in range(1, 6):
        folder = tmp_path / f"made-{number}"
        folder.mkdir()
        (folder / "signature.json").write_text(json.dumps(SIGNATURE))
        facts = {"run": f"Run_{number}", "metrics": {}, "gate": {}, "made": {"commit": "c" * 40}}
        versions.add(found, "digits", folder, facts)
    return found


@pytest.fixture
def who() -> Iterator[Identity]:
    with identity(PROJECT) as here:
        here.account("launcher", *ROLES, "roles/serviceusage.serviceUsageViewer", repository=True)
        yield here


@pytest.fixture
def stage(home: str, who: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    with serving(who, Functions(answering)) as here:
        login = who.credentials(tmp_path / "login.json", ME)
        env = {**who.env, **here.env, "GOOGLE_CLOUD_PROJECT": PROJECT}
        for name, value in {**env, "GOOGLE_APPLICATION_CREDENTIALS": str(login)}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(google, "DELAYS", ())
        for module in (vertex_api, vertex_endpoint_ask, golden):
            monkeypatch.setattr(module, "POLL", 0)
        monkeypatch.setattr(vertex_api, "LOST", 0.5)
        monkeypatch.setattr(vertex_models, "UPLOADING", 0.5)
        monkeypatch.setattr(vertex_endpoint_end, "SPREAD", 0)
        monkeypatch.setattr(vertex_endpoint_ask, "ANSWERING", 0.5)
        google._find_login.cache_clear()
        yield here
        google._find_login.cache_clear()


def entry(home: str, version: int, *aliases: str, of: str = "") -> Entry:
    found = mirror.entry(versions.need(home, "digits", version), of or image(version))
    return Entry(**{**found.__dict__, "aliases": aliases})


def order(version: int, **settings: str) -> Order:
    given = {"max_usd": "1000", "until": UNTIL, **settings}
    return Order("digits", version, image(version), given, f"{places.bucket()}/digits/v{version}")


def deploy(version: int, right: bool = True, /, **settings: str) -> Deployment:
    """What the command does once the image is there."""
    there, wanted = target("vertex"), order(version, **settings)
    there.prepare(wanted)
    answer = [{"values": [float(version if right else -1)]}]
    return there.deploy(wanted, lambda ask: golden.check(ask, str(wanted), lambda _: answer, patience=0))


def traffic(stage: Serving) -> dict[int, int]:
    """Version -> percent of the requests, of all that is deployed at the one endpoint."""
    (kept,) = stage.endpoints.kept.values()
    return {
        int(one.display_name.rpartition("v")[2]): kept.split.get(number, 0)
        for number, one in kept.deployed.items()
    }


def running(stage: Serving) -> list[int]:
    """The versions that a machine is paid for."""
    backend = stage.endpoints.backend
    assert isinstance(backend, Functions)
    return sorted(int(one.rpartition(":")[2], 16) for one in backend.running.values())


def breaks(stage: Serving, *numbers: int) -> None:
    """The images of these versions never become healthy."""
    backend = stage.endpoints.backend
    assert isinstance(backend, Functions)
    backend.broken = {image(number) for number in numbers}
