"""What the image that serves a version is made of, and what it is called."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from launcher.errors import UserError
from launcher.models import deploy, image, versions
from launcher.models.versions import Version
from model_files import make

FACTS = {"run": "r1", "metrics": {}, "gate": {}, "made": {"commit": "c" * 40}}


@pytest.fixture
def version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Version:
    monkeypatch.setattr(image, "requirements", lambda: "numpy==2\n")
    folder = make(tmp_path / "export", "digits")
    (folder / "model.safetensors").write_bytes(b"for training on")
    (folder / "README.md").write_text("a card")
    return versions.add(str(tmp_path / "models"), "digits", folder, FACTS)[0]


def test_of_the_version_only_what_serves_is_in_it(version: Version, tmp_path: Path):
    folder = tmp_path / "context"
    folder.mkdir()
    image.compose(version, folder)
    model = {path.name for path in (folder / "model/model").iterdir()}
    assert model == {"model.onnx", "signature.json", "README.md", "manifest.json"}
    assert {path.stat().st_mtime for path in folder.rglob("*")} == {image.TIME}
    modes = {oct(path.stat().st_mode & 0o777) for path in folder.rglob("*") if path.is_file()}
    assert modes == {"0o644"}


def test_what_is_in_it_starts_without_the_rest_of_the_launcher(version: Version, tmp_path: Path):
    folder = tmp_path / "context"
    folder.mkdir()
    image.compose(version, folder)
    loading = (
        "from launcher.commands import serve; from launcher.serving import server; "
        "from launcher.serving.model import Model; print(Model(serve.find({})[0]).version)"
    )
    env = {
        **os.environ,
        "PYTHONPATH": str(folder / "code/app"),
        "MODEL_DIR": str(folder / "model/model"),
    }
    done = subprocess.run(
        [sys.executable, "-c", loading], env=env, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("digits@v1\n", "")


def test_a_version_without_onnx_is_refused(version: Version, tmp_path: Path):
    files = {name: one for name, one in version.files.items() if name != "model.onnx"}
    without = Version(version.home, "digits", 1, "r1", files, {}, {})
    with pytest.raises(UserError, match=r"digits@v1 has no model\.onnx"):
        image.compose(without, tmp_path)


@pytest.mark.parametrize(
    ("training", "serving"),
    [
        ("us-docker.pkg.dev/p/demo/train:main", "us-docker.pkg.dev/p/demo/serve:digits-v1"),
        ("127.0.0.1:5000/demo/train@sha256:abc", "127.0.0.1:5000/demo/serve:digits-v1"),
        ("train:main", "train-serve:digits-v1"),
    ],
)
def test_it_is_called_after_the_version_beside_the_image_that_trains(
    training: str, serving: str, version: Version
):
    assert image.tag_beside(training, version) == serving


def test_where_it_is_pushed_is_told_by_the_project(version: Version, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CLOUD_IMAGE", "registry.example/demo/train")
    assert deploy.remote_tag(version) == "registry.example/demo/serve:digits-v1"


def test_what_is_wrong_with_the_lock_is_said(project: Path):
    with pytest.raises(UserError, match="run `uv lock` and commit it"):
        image.requirements()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("docker.io/somebody/serve", "somebody/serve"),
        ("docker.io/library/serve", "serve"),
        ("127.0.0.1:5000/demo/serve", "127.0.0.1:5000/demo/serve"),
    ],
)
def test_what_was_pushed_is_told_by_its_digest(name: str, shown: str, monkeypatch: pytest.MonkeyPatch):
    """Docker leaves out the name of its own registry."""
    docker_shows(f"other@sha256:1\n{shown}@sha256:2\n", monkeypatch)
    assert image.push(f"{name}:digits-v1") == f"{name}@sha256:2"


def test_a_digest_that_docker_does_not_tell_is_said(monkeypatch: pytest.MonkeyPatch):
    docker_shows("other@sha256:1\n", monkeypatch)
    with pytest.raises(UserError, match="does not tell its digest"):
        image.push("docker.io/somebody/serve:digits-v1")


def docker_shows(digests: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a Docker push anything, and then show these."""
    monkeypatch.setattr(
        image.subprocess, "run", lambda words, **_: subprocess.CompletedProcess(words, 0, digests)
    )
