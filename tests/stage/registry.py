"""A container registry on this machine: Debian's docker-registry, the program that Docker itself publishes."""

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from servers import free_port, running

from stage import containers

STORE = "store/docker/registry/v2"
LARGE = 100_000_000  # bytes
MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.list.v2",
        "docker.distribution.manifest.v2",
    )
)


@contextmanager
def registry(folder: Path, port: int | None = None) -> Iterator[str]:
    """Runs an empty registry that keeps its blobs in `folder`; gives its host, 127.0.0.1:PORT.

    It speaks plain http, as Docker accepts from loopback addresses, and lets anybody in.
    """
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed; `make engine` installs it")
    folder.mkdir(parents=True, exist_ok=True)
    host = f"127.0.0.1:{port or free_port()}"
    # The packaged configuration wants a password, and JSON is YAML too.
    config = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "store")}, "delete": {"enabled": True}},
        "http": {"addr": host},
    }
    (folder / "registry.yml").write_text(json.dumps(config))
    command = [program, "serve", str(folder / "registry.yml")]
    with running(command, int(host.partition(":")[2]), folder / "registry.log"):
        yield host


def blobs(folder: Path) -> dict[str, int]:
    """Digest (sha256:...) -> bytes of everything that was pushed: layers, configurations, manifests."""
    found = folder.glob(f"{STORE}/blobs/sha256/*/*/data")
    return {f"sha256:{data.parent.name}": data.stat().st_size for data in found}


def keep(folder: Path) -> None:
    """Lays what is large of a registry into STAGE_LAYERS, where that is set, for registries of other processes."""
    if kept := os.environ.get("STAGE_LAYERS"):
        for digest, size in blobs(folder).items():
            if size > LARGE:
                _lay(_blob(folder, digest), Path(kept) / digest.partition(":")[2])


def seed(folder: Path, name: str) -> None:
    """Has a registry's repository hold what is in STAGE_LAYERS, before it runs.

    The engine compresses each layer anew for each registry, which takes minutes for torch's; but what it has once pushed it
    looks for by its digest in any other first (moby's distribution/push_v2.go, layerAlreadyExists).
    """
    for path in Path(os.environ.get("STAGE_LAYERS", "/nowhere")).glob("[0-9a-f]" * 64):
        digest = f"sha256:{path.name}"
        _lay(path, _blob(folder, digest))
        link = folder / f"{STORE}/repositories/{name}/_layers/sha256/{path.name}/link"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.write_text(digest)


def _blob(folder: Path, digest: str) -> Path:
    number = digest.partition(":")[2]
    return folder / f"{STORE}/blobs/sha256/{number[:2]}/{number}/data"


def _lay(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        try:
            os.link(path, target)
        except OSError:  # on another disk
            part = target.with_suffix(".part")
            shutil.copyfile(path, part)
            part.replace(target)


def manifest(host: str, name: str, reference: str) -> tuple[str, dict]:
    """Gives the digest and the manifest of a tag or digest; raises HTTPError where there is none."""
    request = urllib.request.Request(
        f"http://{host}/v2/{name}/manifests/{reference}", headers={"Accept": MANIFESTS}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.headers["Docker-Content-Digest"], json.load(answer)


def layers(host: str, name: str, reference: str) -> dict[str, int]:
    """Digest -> compressed bytes of each layer of an image, lowest first."""
    content = manifest(host, name, reference)[1]
    if "manifests" in content:  # of several platforms; attestations are not of any
        real = [one for one in content["manifests"] if one["platform"]["os"] != "unknown"]
        content = manifest(host, name, real[0]["digest"])[1]
    return {layer["digest"]: layer["size"] for layer in content["layers"]}


def push_bash(host: str) -> str:
    """Makes an image of this machine's bash and what it needs, pushes it; gives its name by digest."""
    files = {name: name for name in ("/bin/bash", "/bin/sleep", "/usr/bin/env", "/bin/touch", "/bin/mv")}
    for name in list(files):
        libraries = subprocess.run(["ldd", name], check=True, capture_output=True, text=True).stdout
        files |= {path: path for path in re.findall(r"(/\S+) \(0x", libraries)}
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name in files:
            archive.add(Path(name).resolve(), name)
    tag = f"{host}/stage/bash:latest"
    command = [
        containers.program(),
        "import",
        "-c",
        'ENTRYPOINT ["/bin/bash", "-c"]',
        "-c",
        "ENV PATH=/usr/bin:/bin",
    ]
    subprocess.run([*command, "-", tag], input=content.getvalue(), check=True, capture_output=True)
    containers.docker("push", tag)
    digest = manifest(host, "stage/bash", "latest")[0]
    containers.docker("rmi", tag)
    return f"{host}/stage/bash@{digest}"
