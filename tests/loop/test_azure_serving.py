"""A model on Azure: registered in the container, shown in the workspace, answering at an endpoint from the pushed image; and back."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import requests
from baking import BakedProject
from conftest import Bake
from stage import account, azure, containers, images
from stage.azure.ml_serving import Serving
from stage.azure.people import Principal
from stage.azure.world import World
from stage.registry import registry

sys.path.append(str(Path(__file__).parents[1] / "launcher/serving"))
from model_files import make

PROGRAMS = Path(containers.__file__).parent
BRIGHT = {"instances": [np.full((1, 8, 8), 16).tolist(), np.zeros((1, 8, 8), int).tolist()]}
ADD = (
    "import sys; from launcher.models import places, versions; from pathlib import Path; "
    "versions.add(places.bucket(), 'digits', Path(sys.argv[1]), "
    "{'metrics': {'test/accuracy': 0.9}, 'gate': {}, 'made': {'commit': 'c' * 40}, 'run': sys.argv[2]})"
)


@dataclass
class Place:
    """The project, its subscription as `cloud setup` makes it, and a person who may ask what is deployed.

    Args:
        env: of its owner, who works on a laptop with Docker.
    """

    project: BakedProject
    world: World
    env: dict[str, str]
    caller: Principal

    def python(self, *words: str) -> str:
        """What Python prints and says with the bake's launcher, without an environment of gigabytes."""
        env = {**self.env, "PYTHONPATH": str(self.project.folder / "launcher/src")}
        done = self.project.run(sys.executable, *words, check=True, timeout=600, **env)
        return done.stdout + done.stderr

    def models(self, *words: str) -> str:
        """What `uv run models` prints and says."""
        return self.python("-m", "launcher.commands.models", *words)

    def ask(self, url: str, who: Principal) -> requests.Response:
        token = self.world.token(who, "https://ml.azure.com")
        return requests.post(
            url,
            json=BRIGHT,
            headers={"Authorization": f"Bearer {token}"},
            proxies={"https": self.world.url},
            verify=str(self.world.certificates),
            timeout=60,
        )

    def said(self, url: str) -> tuple[str, list[str]]:
        """Which version answers, and what it decides."""
        answer = self.ask(url, self.caller)
        assert answer.ok, answer.text
        found: dict[str, Any] = answer.json()
        return found["registry_version"], [one["class"] for one in found["predictions"]]


@pytest.fixture(scope="module")
def place(bake: Bake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Two versions of a model are in the bucket: the second decides the other way round."""
    containers.require()
    folder = tmp_path_factory.mktemp("azure")
    baked = bake(cloud="azure", project_name="Azure Serving").copy(folder / "azure-serving")
    baked.run("git", "remote", "add", "origin", f"https://github.com/{account.Repository().repository}.git")
    stage = f"azure-serving-{os.getpid()}"
    with azure.serve(folder / "world") as world, registry(folder / "registry") as host:
        world.acr.registry = host
        world.ml.endpoints.start = Serving(host, stage)
        owner = account.Owner(baked, world.environment, folder / "setup")
        made = Place(baked, world, {**owner._env, "HOME": str(folder)}, world.people.add("caller", "User"))
        made.python("-m", "launcher.commands.setup", "setup")
        programs = folder / "programs"
        programs.mkdir()
        (programs / "docker").symlink_to(PROGRAMS / "docker_program.py")
        (programs / "az").symlink_to(PROGRAMS / "azure/az_program.py")
        made.env |= {
            "PATH": f"{programs}:{owner._env['PATH']}",
            "STAGE_IMAGES": f"{world.acr.host}={host}",
            "AZURE_CONFIG_DIR": str(folder / "az"),
        }
        log_in(made)
        home = folder / "export"
        made.python("-c", ADD, str(make(home / "one", "digits")), "one")
        other = make(home / "two", "digits")
        weights = onnx.load(other / "model.onnx")
        concat = weights.graph.node[-1]
        concat.input[0], concat.input[1] = concat.input[1], concat.input[0]
        onnx.save(weights, other / "model.onnx")
        made.python("-c", ADD, str(other), "two")
        try:
            yield made
        finally:
            world.ml.endpoints.reset()
            containers.cleanup(stage)
            images.remove(*(f"{host}/azure-serving/serve:digits-v{number}" for number in (1, 2)))
    assert containers.ids(stage) == [], "a container of the stage is still there"


def log_in(place: Place) -> None:
    """What a person does once: az login, az acr login."""
    world = place.world
    password = min(world.owner.passwords)
    words = ("login", "--service-principal", "-u", world.owner.client_id, "-p", password, "-t", world.tenant)
    for command in (words, ("acr", "login", "--name", world.acr.host.partition(".")[0])):
        done = subprocess.run(
            ["az", *command], env={**os.environ, **place.env}, capture_output=True, text=True, check=False
        )
        assert not done.returncode, done.stderr


def test_a_version_is_shown_deployed_replaced_and_brought_back_and_nothing_is_left(place: Place) -> None:
    world = place.world
    # Registered and shown
    place.models("promote", "digits@v1", "force=the first one")
    said = place.models("mirror", "digits@champion")
    assert "digits:1 in azure-serving-ml, https://ml.azure.com/model/digits:1/details" in said
    (shown,) = world.ml.models.known.values()
    assert shown["properties"]["modelUri"].endswith("/datastores/training/paths/models/digits/v1")
    assert shown["properties"]["stage"] == "Production"
    # The first version, for one who is named
    settings = ("to=azureml", "max_usd=1000", "until=2999-12-31")
    said = place.models("deploy", "digits@champion", *settings, f"allow=user:{place.caller.object_id}")
    url = re.findall(r"digits@v1 answers at (https://\S+)", said)[0]
    assert place.said(f"{url}predict") == ("digits@v1", ["bright", "dark"])
    assert place.said(url) == ("digits@v1", ["bright", "dark"])
    assert place.ask(f"{url}predict", world.people.add("stranger", "User")).status_code == 401
    # A better one beside it, and then in its place
    said = place.models("deploy", "digits@v2", *settings[:2])
    assert "digits@v2 answers at" in said
    assert "v1 stays for a rollback until the next deployment" in said
    assert place.said(f"{url}predict") == ("digits@v2", ["dark", "bright"])
    assert "0 %" in place.models("deployments")
    # Back, and the rejected one is paid for no longer
    assert "digits@v1 answers at" in place.models("rollback", "digits", "to=azureml")
    assert place.said(f"{url}predict") == ("digits@v1", ["bright", "dark"])
    # Nothing is left
    assert "digits is removed from azureml." in place.models("undeploy", "digits", "to=azureml")
    assert world.ml.endpoints.known == {}
    assert containers.ids(f"azure-serving-{os.getpid()}") == []
    assert "Nothing is deployed" in place.models("deployments")
    account_name = place.world.acr.host.removesuffix("images.azurecr.io")
    assert not list(world.blob.names(account_name, "training", "models/.deployed"))
    assert not [one for one in world.roles.assignments.values() if "/onlineendpoints/" in one.scope.lower()]


def test_an_image_that_does_not_start_is_told_with_the_end_of_its_log(place: Place) -> None:
    broken = Serving(place.world.acr.registry, f"azure-serving-{os.getpid()}")
    place.world.ml.endpoints.start = lambda image, env: broken(image, {**env, "SERVE_WORKERS": "none"})
    try:
        with pytest.raises(AssertionError, match=r"its log ends with: .*SERVE_WORKERS=none is no number"):
            place.models("deploy", "digits@v1", "to=azureml", "max_usd=1000", "until=2999-12-31")
    finally:
        place.world.ml.endpoints.start = broken
    assert place.world.ml.endpoints.known == {}
