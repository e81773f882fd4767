"""The image that serves one version of a model: what it is made of, what it is called, and how it is built."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ..errors import UserError
from ..project import project
from ..storage import read_text
from . import versions
from .versions import MANIFEST, Version

PACKAGE = Path(__file__).parents[1]
# Of the launcher, what `launcher.commands.serve` needs: a change of anything else is none of the image.
SERVES = ("__init__.py", "errors.py", "commands/__init__.py", "commands/models.py")
SERVES += ("commands/serve.py", "commands/deploy.py", "serving")
ONNX = "model.onnx"
FILES = (ONNX, "signature.json", "README.md")  # the other weights are for training on
TIME = 946_684_800  # 2000-01-01, of all files, so that the same version is the same layer
# The engine writes its own time into an image unless this says another one.
BUILD_TIME = f"SOURCE_DATE_EPOCH={TIME}"
PLATFORM = "linux/amd64"  # what every service that runs containers has
LABELS = "org.opencontainers.image"


def build(version: Version, tag: str) -> str:
    """Build the image of a version; give its id. What Docker says goes to stderr.

    Raises:
        UserError: the version cannot be served, or the image cannot be built.
    """
    print(f"Building {tag} (a minute the first time, seconds after that) ...", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        compose(version, folder)
        command = ["docker", "build", "--platform", PLATFORM, "--tag", tag]
        command += ["--build-arg", BUILD_TIME, "--iidfile", f"{folder}.id"]
        for name, value in _labels(version).items():
            command += ["--label", f"{name}={value}"]
        # Attestations hold the time of the build, so that the digest would be another one each time.
        env = {**os.environ, "DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
        try:
            _docker([*command, str(folder)], "The image cannot be built", env)
            return Path(f"{folder}.id").read_text(encoding="ascii").strip()
        finally:
            Path(f"{folder}.id").unlink(missing_ok=True)


def push(tag: str) -> str:
    """Push an image; give it by its digest.

    Raises:
        UserError: the registry does not take it.
    """
    host = tag.partition("/")[0]
    what = f"{tag} cannot be pushed: log Docker in to {host}, and see that this repository is there"
    _docker(["docker", "push", tag], what, dict(os.environ))
    form = "{{range .RepoDigests}}{{println .}}{{end}}"
    words = ["docker", "image", "inspect", "--format", form, tag]
    found = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    name = tag.rpartition(":")[0]
    for each in found:
        of, _, digest = each.partition("@")
        if _familiar(of) == _familiar(name):
            return f"{name}@{digest}"
    raise UserError(
        f"{tag} is pushed, but Docker does not tell its digest; push it again, with a newer Docker."
    )


def _familiar(name: str) -> str:
    """Give a name as Docker shows it: its own registry goes without saying."""
    for start in ("index.docker.io/", "docker.io/", "library/"):
        name = name.removeprefix(start)
    return name


def compose(version: Version, folder: Path) -> None:
    """Lay out all that an image is made of, to the time of its files: the same each time, with the same lock.

    The same image comes of it only on the same base, which the Dockerfile names.

    Raises:
        UserError: the version has no ONNX, a file cannot be had, or the project has no lock.
    """
    if ONNX not in version.files:
        raise UserError(
            f"{version} has no {ONNX}, so nothing can serve it; export the run and register it again."
        )
    shutil.copy(PACKAGE / "serving/Dockerfile", folder / "Dockerfile")
    (folder / "requirements.txt").write_text(requirements(), encoding="utf-8")
    for name in SERVES:
        _copy(PACKAGE / name, folder / "code/app/launcher" / name)
    model = folder / "model/model"
    model.mkdir(parents=True)
    names = tuple(name for name in FILES if name in version.files)
    versions.download(version, model, names)
    manifest = read_text(f"{version.uri}/{MANIFEST}")
    (model / MANIFEST).write_text(manifest or "", encoding="utf-8")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (TIME, TIME))


def requirements() -> str:
    """Give what serving needs, of the project's lock, each package with its hash.

    Raises:
        UserError: there is no lock, or it is not that of pyproject.toml.
    """
    command = [os.environ.get("UV", "uv"), "export", "--quiet", "--locked", "--only-group", "serve"]
    command += ["--no-header", "--no-annotate", "--no-emit-project", "--no-emit-package"]
    try:
        done = subprocess.run(
            [*command, "launcher"], cwd=project().root, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise UserError(f"uv cannot be started ({error}); install it: pip install uv.") from error
    if done.returncode:
        said = " ".join(done.stderr.split())[-300:].rstrip(".")
        raise UserError(
            f"What serving needs cannot be read from uv.lock ({said}); run `uv lock` and commit it."
        )
    return done.stdout


def default_tag(version: Version) -> str:
    """Give what an image is called that stays here."""
    return _tagged(f"{project().slug}-serve", version)


def tag_beside(image: str, version: Version) -> str:
    """Give what an image is called beside the one that trains: .../serve:NAME-vN of .../train:main."""
    repository = image.partition("@")[0]
    folder, slash, last = repository.rpartition("/")
    return _tagged(f"{folder}{slash}serve" if slash else f"{last.partition(':')[0]}-serve", version)


def _tagged(repository: str, version: Version) -> str:
    return f"{repository}:{version.name}-v{version.number}"


def _labels(version: Version) -> dict[str, str]:
    """Give what can be told of an image without starting it."""
    found = {"title": project().slug, "version": str(version)}
    if commit := version.made.get("commit"):
        found["revision"] = str(commit)
    return {f"{LABELS}.{key}": value for key, value in found.items()}


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        kept = shutil.ignore_patterns("__pycache__", "Dockerfile", "batch.py", ".*")
        shutil.copytree(source, target, ignore=kept)
    else:
        shutil.copy(source, target)


def _docker(command: list[str], what: str, env: dict[str, str]) -> None:
    try:
        done = subprocess.run(command, env=env, stdout=sys.stderr, check=False)
    except OSError as error:
        raise UserError(f"Docker cannot be started ({error}); install it.") from error
    if done.returncode:
        raise UserError(f"{what} (Docker says above why).")
