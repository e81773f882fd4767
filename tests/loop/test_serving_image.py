"""The image that serves a model, and that model deployed on this machine: built, asked, replaced, ended."""

import json
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from baking import BakedProject
from conftest import Bake
from launcher.deployment import Ask, Order
from launcher.errors import UserError
from launcher.models import deploy, names, places, versions
from launcher.providers import target
from stage import containers, images
from stage.registry import manifest, registry

sys.path.append(str(Path(__file__).parents[1] / "launcher/serving"))
from model_files import make
from servers import free_port
from stage.patience import deadline

MOST = 400_000_000  # bytes, unpacked
BRIGHT = {"instances": [np.full((1, 8, 8), 16).tolist(), np.zeros((1, 8, 8), int).tolist()]}
FACTS = {"metrics": {}, "gate": {}, "made": {"commit": "c" * 40}}
TAG = "cloud-training-serve:digits-v1"
LABEL = "label=launcher.serve.project"


PATH = containers.path()


def launcher(project: BakedProject, *words: str, **env: str) -> str:
    """What Python prints and says with the bake's launcher, without an environment of gigabytes."""
    env |= {"PATH": PATH, "PYTHONPATH": str(project.folder / "launcher/src")}
    done = project.run(sys.executable, *words, check=True, timeout=600, **env)
    return done.stdout + done.stderr


def models(project: BakedProject, *words: str, **env: str) -> str:
    """What `uv run models` prints and says."""
    return launcher(project, "-m", "launcher.commands.models", *words, **env)


def answer(port: int, path: str, body: Any = None) -> Any:
    headers = {"Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
    with urllib.request.urlopen(request, timeout=20) as found:
        return json.loads(found.read())


def ready(port: int) -> Any:
    """What its health says, as soon as it says anything."""
    until = deadline(60)
    while True:
        try:
            return answer(port, "/health")
        except OSError:
            assert time.monotonic() < until, "it does not become ready"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def project(bake: Bake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BakedProject]:
    """A bake with two versions of a model in its folder of models: the second decides the other way round."""
    containers.require()
    made = bake().copy(tmp_path_factory.mktemp("serving") / "cloud-training")
    home, folder = str(made.folder / "models"), tmp_path_factory.mktemp("export")
    versions.add(home, "digits", make(folder / "one", "digits"), {**FACTS, "run": "one"})
    other = make(folder / "two", "digits")
    weights = onnx.load(other / "model.onnx")
    concat = weights.graph.node[-1]
    concat.input[0], concat.input[1] = concat.input[1], concat.input[0]
    onnx.save(weights, other / "model.onnx")
    versions.add(home, "digits", other, {**FACTS, "run": "two"})
    yield made
    models(made, "undeploy", "digits", "to=local")
    images.remove(TAG, "cloud-training-serve:digits-v2")


@pytest.fixture(scope="module")
def built(project: BakedProject) -> str:
    said = models(project, "image", "digits@v1")
    assert TAG in said
    return TAG


def test_it_is_small_and_is_nobodys_in_particular(built: str):
    found = json.loads(containers.docker("image", "inspect", built).stdout)[0]
    assert found["Size"] < MOST
    settings = found["Config"]
    assert settings["User"] == "1000:1000"
    assert settings["Entrypoint"] == ["python", "-m", "launcher.commands.serve"]
    assert {"HOST=0.0.0.0", "MODEL_DIR=/model"} <= set(settings["Env"])
    assert settings["Labels"]["org.opencontainers.image.version"] == "digits@v1"
    assert settings["Labels"]["org.opencontainers.image.revision"] == "c" * 40


def test_nothing_that_trains_is_in_it_and_the_model_is_its_last_layer(built: str, tmp_path: Path):
    layers: dict[int, list[str]] = {}
    for number, entry, _ in images.contents(built, tmp_path):
        layers.setdefault(number, []).append(entry.name)
    names = [name for found in layers.values() for name in found]
    assert not [
        name for name in names if "/torch/" in name or "nvidia" in name or "model.safetensors" in name
    ]
    assert not [name for name in names if "providers" in name and name.startswith("app/")]
    last = set(layers[max(layers)]) - {"model", "model/"}
    assert last == {f"model/{name}" for name in ("model.onnx", "signature.json", "manifest.json")}


def test_the_same_version_has_the_same_layers_whoever_builds_it(
    built: str, project: BakedProject, tmp_path: Path
):
    composing = (
        "import sys, pathlib; from launcher.models import image, names, places; "
        "image.compose(places.find(names.parse('digits@v1')), pathlib.Path(sys.argv[1]))"
    )
    launcher(project, "-c", composing, str(tmp_path))
    again = "serving-again"
    try:
        images.build(tmp_path, again, "--no-cache")
        assert images.diff_ids(again) == images.diff_ids(built)
    finally:
        images.remove(again)


def test_another_version_moves_itself_only(built: str, project: BakedProject):
    models(project, "image", "digits@v2")
    assert images.diff_ids("cloud-training-serve:digits-v2")[:-1] == images.diff_ids(built)[:-1]


def test_it_answers_as_nobody_on_a_disk_that_it_cannot_write_and_ends_with_0(built: str):
    port = free_port()
    options = ("--read-only", "--cap-drop", "ALL")
    container = containers.Container(built, "serving", {"PORT": str(port)}, ["serve"], options=options)
    try:
        assert ready(port) == {"status": "ready", "registry_version": "digits@v1"}
        found = answer(port, "/predict", BRIGHT)
        assert [one["class"] for one in found["predictions"]] == ["bright", "dark"]
        assert found["registry_version"] == "digits@v1"
        container.stop(60)
        assert container.wait(1) == 0
    finally:
        container.remove()


def test_it_is_pushed_and_named_by_its_digest(built: str, project: BakedProject, tmp_path: Path):
    with registry(tmp_path / "registry") as host:
        try:
            said = models(project, "image", "digits@v1", "push=true", CLOUD_IMAGE=f"{host}/demo/train")
            (last,) = [line for line in said.splitlines() if line.startswith(host) and "@" in line]
            name, _, digest = last.partition("@")
            assert name == f"{host}/demo/serve"
            assert manifest(host, "demo/serve", "digits-v1")[0] == digest
        finally:
            images.remove(f"{host}/demo/serve:digits-v1")


def test_a_version_takes_the_place_of_another_one_once_it_answers_well(project: BakedProject):
    port = free_port()
    said = models(project, "deploy", "digits@v1", "to=local", f"port={port}")
    assert f"digits@v1 answers at http://127.0.0.1:{port}" in said
    assert answer(port, "/predict", BRIGHT)["predictions"][0]["class"] == "bright"
    models(project, "deploy", "digits@v2", "to=local")
    found = answer(port, "/predict", BRIGHT)
    assert (found["registry_version"], found["predictions"][0]["class"]) == ("digits@v2", "dark")
    assert "digits@v2" in models(project, "deployments")
    assert "digits@v1" not in models(project, "deployments")
    assert "digits is removed from local." in models(project, "undeploy", "digits", "to=local")
    assert containers.docker("ps", "--all", "--quiet", "--filter", LABEL).stdout == ""
    assert "There is no digits at local." in models(project, "undeploy", "digits", "to=local")


def test_one_that_does_not_answer_well_leaves_the_other_where_it_is(
    project: BakedProject, monkeypatch: pytest.MonkeyPatch
):
    port = free_port()
    models(project, "deploy", "digits@v1", "to=local", f"port={port}")
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("PATH", PATH)
    version = places.find(names.parse("digits@v2"))
    with pytest.raises(UserError, match="answers a request otherwise than it does here"):
        deploy.deploy("local", version, {}, lambda example: [{"predictions": [1.0, 2.0]}])
    assert answer(port, "/health")["registry_version"] == "digits@v1"
    # Nor does one that passes its trial and then fails where people ask.
    order = Order("digits", 2, "cloud-training-serve:digits-v2")
    asked: list[Ask] = []

    def second_time(ask: Ask) -> None:
        asked.append(ask)
        if len(asked) > 1:
            raise UserError("it is broken.")

    with pytest.raises(UserError, match="it is broken"):
        target("local").deploy(order, second_time)
    assert ready(port)["registry_version"] == "digits@v1"
    assert len(containers.docker("ps", "--all", "--quiet", "--filter", LABEL).stdout.split()) == 1
    models(project, "undeploy", "digits", "to=local")
