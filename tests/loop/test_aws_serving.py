"""A model from the registry to an endpoint of SageMaker and back, its image run by Docker as SageMaker runs it."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from baking import BakedProject
from conftest import Bake
from launcher.providers.aws.setup import template
from stage import containers, scene
from stage.aws import World, serve
from stage.aws.bench import client
from stage.aws.ecr import host_of
from stage.aws.endpoint_hosts import Docker, hosting
from stage.registry import registry

sys.path.append(str(Path(__file__).parents[1] / "launcher/serving"))
from model_files import make

BRIGHT = {"instances": [np.full((1, 8, 8), 16).tolist(), np.zeros((1, 8, 8), int).tolist()]}

NAME = "cloud-training-digits"
PROGRAM = """#!/usr/bin/env python3
# The engine could reach no host of that name: what is ECR's goes to a registry of this machine.
import subprocess, sys
words = [word.replace({ecr!r}, {here!r}) for word in sys.argv[1:]]
done = subprocess.run([{docker!r}, *words], stdout=subprocess.PIPE, text=True)
sys.stdout.write(done.stdout.replace({here!r}, {ecr!r}))
sys.exit(done.returncode)
"""
# A new version, which is the champion.
ADD = """
import pathlib, sys
from launcher.models import aliases, places, versions
home, (folder, run) = places.bucket(), sys.argv[1:]
facts = {"metrics": {"test/accuracy": 0.9}, "gate": {}, "made": {"commit": "c" * 40}, "run": run}
made, _ = versions.add(home, "digits", pathlib.Path(folder), facts)
aliases.move(home, "digits", "champion", aliases.history(home, "digits", "champion"), made.number, "me", "")
"""


@dataclass
class Stage:
    """A project, its account, and a person who works on it."""

    project: BakedProject
    world: World
    host: Docker
    env: dict[str, str]

    def run(self, *words: str) -> str:
        """What Python prints and says with the bake's launcher, without an environment of gigabytes."""
        done = self.project.run(sys.executable, *words, check=True, timeout=600, **self.env)
        return done.stdout + done.stderr

    def models(self, *words: str) -> str:
        """What `uv run models` prints and says."""
        return self.run("-m", "launcher.commands.models", *words)

    def ask(self, body: Any = BRIGHT) -> Any:
        """What the endpoint answers."""
        runtime = client(self.world, "sagemaker-runtime")
        given = {"ContentType": "application/json", "Body": json.dumps(body).encode()}
        return json.loads(runtime.invoke_endpoint(EndpointName=NAME, **given)["Body"].read())

    def packages(self) -> dict[str, str]:
        """Version -> whether SageMaker's registry has it approved."""
        found = self.world.sagemaker.packages.packages.values()
        return {one.metadata["version"]: one.approval for one in found}


def set_up(world: World) -> None:
    """Makes what `cloud setup` makes for endpoints, by its own template, and the bucket."""
    whole = template.template("cloud-training", [], [])
    kept = {name: whole["Resources"][name] for name in ("Serving", "Server")}
    names = {"Slug": "cloud-training", "Prefix": "cloud-training"}
    body = {"Parameters": {name: {"Type": "String"} for name in names}, "Resources": kept}
    client(world, "cloudformation").create_stack(
        StackName="cloud-training",
        TemplateBody=json.dumps(body),
        Parameters=[{"ParameterKey": key, "ParameterValue": one} for key, one in names.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    client(world, "s3").create_bucket(Bucket="cloud-training-bucket")


@pytest.fixture
def stage(bake: Bake, tmp_path: Path) -> Iterator[Stage]:
    containers.require()
    project = bake(cloud="aws").copy(tmp_path / "cloud-training")
    with serve(tmp_path / "world") as world, registry(tmp_path / "registry") as here:
        set_up(world)
        program = tmp_path / "programs/docker"
        program.parent.mkdir()
        program.write_text(PROGRAM.format(ecr=host_of(world), here=here, docker=containers.program()))
        program.chmod(0o755)
        with hosting(world, here) as host:
            world.sagemaker.endpoints.waits = 1
            path = os.pathsep.join([str(program.parent), os.environ["PATH"]])
            found = {"PATH": path, "PYTHONPATH": str(project.folder / "launcher/src")}
            yield Stage(project, world, host, world.environment | found)
            assert world.sagemaker.endpoints.harm == []
        assert containers.ids(host.stage) == []
        scene.remove_images(here)


def test_a_model_is_shown_deployed_asked_replaced_brought_back_and_removed(stage: Stage):
    folder = stage.project.folder
    stage.run("-c", ADD, str(make(folder / "one", "digits")), "one")
    assert "model-package/cloud-training-digits/1" in stage.models("mirror", "digits")
    assert stage.packages() == {"v1": "Approved"}

    said = stage.models("deploy", "digits", "to=sagemaker", "max_usd=100")
    assert "0.0000200 USD for each second" in said
    assert f"digits@v1 answers at https://runtime.sagemaker.us-east-1.amazonaws.com/endpoints/{NAME}" in said
    found = stage.ask()
    assert (found["registry_version"], found["predictions"][0]["class"]) == ("digits@v1", "bright")

    stage.run("-c", ADD, str(_turned(folder)), "two")
    stage.models("mirror", "digits")
    assert stage.packages() == {"v1": "PendingManualApproval", "v2": "Approved"}
    stage.models("deploy", "digits", "to=sagemaker", "max_usd=100")
    found = stage.ask()
    assert (found["registry_version"], found["predictions"][0]["class"]) == ("digits@v2", "dark")
    assert "digits@v2" in stage.models("deployments")

    assert "digits@v1 answers" in stage.models("rollback", "digits", "to=sagemaker")
    assert stage.ask()["registry_version"] == "digits@v1"
    assert len(containers.ids(stage.host.stage)) == 1

    assert "digits is removed from sagemaker." in stage.models("undeploy", "digits", "to=sagemaker")
    assert stage.world.sagemaker.endpoints.names() == ([], [], [])
    assert containers.ids(stage.host.stage) == []
    assert "There is no digits at sagemaker." in stage.models("undeploy", "digits", "to=sagemaker")


def _turned(folder: Path) -> Path:
    """A model that decides the other way round."""
    made = make(folder / "two", "digits")
    weights = onnx.load(made / "model.onnx")
    concat = weights.graph.node[-1]
    concat.input[0], concat.input[1] = concat.input[1], concat.input[0]
    onnx.save(weights, made / "model.onnx")
    return made
