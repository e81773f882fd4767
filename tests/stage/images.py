"""Images of the project: built as its workflow builds them, pushed, and looked into layer by layer."""

import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from stage.containers import docker, program
from stage.registry import manifest


def build(folder: Path, tag: str, *options: str, timeout: float = 2400) -> None:
    """Builds the folder's Dockerfile with BuildKit; raises AssertionError with its last words if that fails.

    Args:
        options: more for `docker build`, such as --no-cache.
        timeout: seconds; torch's layer alone takes one to four minutes where it is not cached.
    """
    # Over the network of this machine: whatever reaches the package registries from here does so from there.
    command = [program(), "build", "--network", "host", "--progress", "plain", "--tag", tag, *options, "."]
    env = os.environ | {"DOCKER_BUILDKIT": "1"}
    result = subprocess.run(
        command,
        check=False,
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
    )
    assert result.returncode == 0, result.stdout.decode(errors="replace")[-4000:]


def push(tag: str, target: str, timeout: float = 2400) -> str:
    """Pushes an image as HOST/NAME:REFERENCE to a registry of the stage; gives its digest there."""
    docker("tag", tag, target)
    try:
        docker("push", "--quiet", target, timeout=timeout)
    finally:
        docker("rmi", target)
    host, _, name = target.partition("/")
    return manifest(host, *name.rsplit(":", 1))[0]


def settings(tag: str) -> dict:
    """How an image starts: Entrypoint, Env, User, WorkingDir, Labels and so on."""
    return json.loads(docker("image", "inspect", tag).stdout)[0]["Config"]


def diff_ids(tag: str) -> list[str]:
    """The digest of each layer's uncompressed content, lowest first; no registry is needed for it."""
    return json.loads(docker("image", "inspect", tag).stdout)[0]["RootFS"]["Layers"]


def contents(tag: str, folder: Path) -> Iterator[tuple[int, tarfile.TarInfo, bytes]]:
    """Every entry of every layer, lowest layer (0) first: what a later layer hides or removes is seen as well.

    Args:
        folder: where the saved image is kept meanwhile; not for images of gigabytes.
    """
    archive = folder / "image.tar"
    docker("save", "--output", str(archive), tag)
    with tarfile.open(archive) as image:
        names = json.loads(read(image, "manifest.json"))[0]["Layers"]
        for number, name in enumerate(names):
            with tarfile.open(fileobj=image.extractfile(name)) as layer:
                for entry in layer:
                    source = layer.extractfile(entry) if entry.isfile() else None
                    yield number, entry, source.read() if source else b""
    archive.unlink()


def read(archive: tarfile.TarFile, name: str) -> bytes:
    """One file of an archive."""
    source = archive.extractfile(name)
    assert source is not None, name
    return source.read()


def remove(*tags: str) -> None:
    """Removes images; their layers stay in the build cache, which makes the next build fast."""
    docker("rmi", "--force", *tags, check=False)
