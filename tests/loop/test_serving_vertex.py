"""A model from the bucket to Vertex AI and back: shown, deployed as a real container, asked, replaced, rolled back, ended."""

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import requests
from baking import BakedProject
from conftest import Bake
from launcher.models import aliases, versions
from model_files import make
from servers import google as bucket
from stage import containers, images
from stage.google.identity import Identity, identity
from stage.google.vertex_serving import Serving, serving
from stage.google.vertex_serving_containers import RealContainers
from stage.registry import registry

BRIGHT = {"instances": [np.full((1, 8, 8), 16).tolist(), np.zeros((1, 8, 8), int).tolist()]}
FACTS = {"metrics": {}, "gate": {}, "made": {"commit": "c" * 40}}
PROJECT = "stage-project"
HOST = "us-central1-docker.pkg.dev"
ROLES = ("aiplatform.user", "iam.serviceAccountUser", "iam.serviceAccountCreator")
UNTIL = "until=2999-12-31"
# Docker's client, for which a registry here stands for Google's: it is said so in what it is told, and in what it tells.
DOCKER = """#!/usr/bin/env python3
import subprocess, sys
words = [word.replace("{google}/", "{here}/") for word in sys.argv[1:]]
shown = subprocess.PIPE if words[:2] == ["image", "inspect"] else None
done = subprocess.run(["{docker}", *words], stdout=shown, text=True, check=False)
print((done.stdout or "").replace("{here}/", "{google}/"), end="")
sys.exit(done.returncode)
"""


@dataclass
class World:
    """A project with two versions of a model in its bucket, of which the second decides the other way round."""

    project: BakedProject
    who: Identity
    stage: Serving
    env: dict[str, str]

    def models(self, *words: str) -> str:
        """What `uv run models` prints and says."""
        command = (sys.executable, "-m", "launcher.commands.models", *words)
        done = self.project.run(*command, check=True, timeout=600, **self.env)
        return done.stdout + done.stderr

    def answer(self, url: str) -> list[str]:
        """What a bright and a dark image are, for somebody who may ask."""
        headers = {"Authorization": f"Bearer {self.who.token(f'launcher@{PROJECT}.iam.gserviceaccount.com')}"}
        found = requests.post(url, json=BRIGHT, headers=headers, timeout=30)
        return [one["class"] for one in found.json()["predictions"]]

    @property
    def running(self) -> list[str]:
        return containers.ids(self.stage.endpoints.backend.stage)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def world(bake: Bake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    containers.require()
    folder = tmp_path_factory.mktemp("vertex")
    project = bake().copy(folder / "cloud-training")
    with (
        bucket("cloud-training-bucket", folder) as store,
        registry(folder / "registry") as here,
        identity(PROJECT) as who,
        pytest.MonkeyPatch.context() as patch,
    ):
        who.account("launcher", *(f"roles/{role}" for role in ROLES), repository=True)
        for name, value in store.items():
            patch.setenv(name, value)
        home = "gs://cloud-training-bucket/models"
        register(home, folder)
        backend = RealContainers({HOST: here})
        with serving(who, backend) as stage:
            stage.waits = 0
            program = folder / "bin/docker"
            program.parent.mkdir()
            text = DOCKER.replace("{google}", HOST).replace("{here}", here)
            program.write_text(text.replace("{docker}", containers.program()))
            program.chmod(0o755)
            login = who.credentials(folder / "login.json", f"launcher@{PROJECT}.iam.gserviceaccount.com")
            env = {**store, **who.env, **stage.env, "GOOGLE_CLOUD_PROJECT": PROJECT}
            env |= {"GOOGLE_APPLICATION_CREDENTIALS": str(login)}
            env |= {"CLOUD_IMAGE": f"{HOST}/{PROJECT}/cloud-training/train"}
            env |= {"PATH": os.pathsep.join([str(program.parent), os.environ["PATH"]])}
            # Without an environment of the bake's own, which has gigabytes.
            env |= {"PYTHONPATH": str(project.folder / "launcher/src")}
            try:
                yield World(project, who, stage, env)
            finally:
                backend.close()
                images.remove(*(f"{here}/{PROJECT}/cloud-training/serve:digits-v{one}" for one in (1, 2)))


def register(home: str, folder: Path) -> None:
    """Puts the two versions into the bucket; the first is the champion."""
    versions.add(home, "digits", make(folder / "one", "digits"), {**FACTS, "run": "one"})
    other = make(folder / "two", "digits")
    weights = onnx.load(other / "model.onnx")
    concat = weights.graph.node[-1]
    concat.input[0], concat.input[1] = concat.input[1], concat.input[0]
    onnx.save(weights, other / "model.onnx")
    versions.add(home, "digits", other, {**FACTS, "run": "two"})
    aliases.move(home, "digits", "champion", [], 1, "me", "")


def test_a_model_goes_to_vertex_ai_answers_is_replaced_and_leaves_nothing(world: World):
    said = world.models("mirror", "digits@champion")
    assert "models/cloud-training-digits@1" in said
    shown = world.stage.models.models["cloud-training-digits"]
    assert shown["1"].aliases == {"v1", "champion", "default"}
    assert re.fullmatch(rf"{HOST}/.*@sha256:[0-9a-f]{{64}}", shown["1"].message.container_spec.image_uri)

    said = world.models("deploy", "digits@v1", "to=vertex", UNTIL, "max_usd=1000")
    url = re.findall(r"digits@v1 answers at (\S+:predict)", said)[0]
    assert world.answer(url) == ["bright", "dark"]
    assert len(world.running) == 1
    assert [*shown] == ["1"], "the one of the registry is deployed"

    world.models("deploy", "digits@v2", "to=vertex", "max_usd=1000")
    world.answer(url)  # of a change of the parts the first requests do not know
    assert world.answer(url) == ["dark", "bright"]
    assert len(world.running) == 2, "the version before is kept"
    told = world.models("deployments")
    assert re.search(r"digits@v1 +vertex +0 %.*kept for a rollback", told)
    assert re.search(r"digits@v2 +vertex +100 %", told)

    assert "digits@v1 answers" in world.models("rollback", "digits", "to=vertex")
    world.answer(url)
    assert world.answer(url) == ["bright", "dark"]
    assert len(world.running) == 1

    assert "digits is removed from vertex" in world.models("undeploy", "digits", "to=vertex")
    assert (world.stage.endpoints.kept, world.running) == ({}, [])
    assert "There is no digits at vertex" in world.models("undeploy", "digits", "to=vertex")


def test_an_image_that_never_becomes_healthy_is_the_error_of_its_operation(world: World):
    backend = world.stage.endpoints.backend
    assert isinstance(backend, RealContainers)
    broken = f"{HOST}/{PROJECT}/cloud-training/serve@sha256:{'0' * 64}"
    env = {"AIP_HEALTH_ROUTE": "/health", "AIP_PREDICT_ROUTE": "/predict"}
    assert backend.start("1", broken, env) is False
    image = world.stage.models.models["cloud-training-digits"]["1"].message.container_spec.image_uri
    assert (
        backend.start("2", image, {**env, "AIP_PREDICT_ROUTE": "no route", "MODEL_DIR": "/nowhere"}) is False
    )
    assert world.running == []


def test_the_server_answers_the_routes_that_it_is_told(world: World):
    backend = world.stage.endpoints.backend
    assert isinstance(backend, RealContainers)
    image = world.stage.models.models["cloud-training-digits"]["1"].message.container_spec.image_uri
    routes = {
        "AIP_HEALTH_ROUTE": "/v1/endpoints/1/deployedModels/2",
        "AIP_PREDICT_ROUTE": "/v1/endpoints/1:predict",
    }
    assert backend.start("3", image, routes)
    try:
        status, found = backend.ask("3", "/v1/endpoints/1:predict", json.dumps(BRIGHT).encode())
        assert (status, [one["class"] for one in found["predictions"]]) == (200, ["bright", "dark"])
    finally:
        backend.stop("3")
    assert os.environ.get("AIP_HTTP_PORT") is None
