"""A container registry on this machine: Debian's docker-registry, the program that Docker itself publishes."""

import io
import json
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
    store = folder / "store/docker/registry/v2/blobs"
    return {f"sha256:{data.parent.name}": data.stat().st_size for data in store.glob("sha256/*/*/data")}


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
