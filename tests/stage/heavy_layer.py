"""Torch's layer, pushed before the workflow pushes the image: Docker's engine would take many minutes for it.

It is 5.6 GB, which the engine compresses at 20 MB a second where it was measured. Here the same content is uploaded as it is;
then the engine is told under which digest the registry has it, as it notes itself of what it has pushed. It asks the
registry, finds the layer, and pushes the rest. Where this does not work the engine pushes the layer itself.
"""

import hashlib
import http.client
import json
import os
import subprocess
import tarfile
import urllib.parse
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from stage import images
from stage.containers import docker, program

HEAVY = 1 << 30  # bytes
BLOCK = 4 << 20
TAG = "stage-heavy:latest"


def push_heavy_layer(project: Path, image: str) -> None:
    """Builds a project's image, and puts its heaviest layer into a registry.

    Args:
        image: HOST/NAME, where the workflow will push.
    """
    notes = _notes()
    if notes is None:
        return
    images.build(project, TAG)
    try:
        _push(notes, image)
    except (OSError, http.client.HTTPException, tarfile.TarError) as error:
        warnings.warn(f"Docker's engine pushes torch's layer, which lasts: {error!r}", stacklevel=2)
    finally:
        images.remove(TAG)


def _push(notes: Path, image: str) -> None:
    with subprocess.Popen([program(), "save", TAG], stdout=subprocess.PIPE) as save:
        assert save.stdout
        with tarfile.open(fileobj=save.stdout, mode="r|") as archive:
            for entry in archive:
                if entry.isfile() and entry.size > HEAVY:
                    content, digest = archive.extractfile(entry), hashlib.sha256()
                    assert content
                    blob = _upload(image, _stored(content, digest))
                    _note(notes, digest.hexdigest(), blob, image)


def _notes() -> Path | None:
    """The folder in which the engine of this machine notes which layer it has pushed where; None where it has none."""
    root, driver = docker("info", "--format", "{{.DockerRootDir}} {{.Driver}}").stdout.split()
    folder = Path(root, "image", driver, "distribution")
    return folder / "v2metadata-by-diffid/sha256" if os.access(folder, os.W_OK) else None


def _stored(content: IO[bytes], digest: Any) -> Iterator[bytes]:
    """gzip that only stores; the digest takes in what was read."""
    packer = zlib.compressobj(0, wbits=31)
    while block := content.read(BLOCK):
        digest.update(block)
        yield packer.compress(block)
    yield packer.flush()


def _upload(image: str, blocks: Iterator[bytes]) -> str:
    """Uploads a blob as its blocks come; gives its digest."""
    host, _, name = image.partition("/")
    digest = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        for block in blocks:
            digest.update(block)
            yield block

    connection = http.client.HTTPConnection(host, timeout=600)
    chunked = {"Transfer-Encoding": "chunked", "Content-Type": "application/octet-stream"}
    place = _ask(connection, "POST", f"/v2/{name}/blobs/uploads/")
    place = _ask(connection, "PATCH", place, hashed(), chunked)
    found = f"sha256:{digest.hexdigest()}"
    _ask(connection, "PUT", f"{place}&{urllib.parse.urlencode({'digest': found})}")
    connection.close()
    return found


def _ask(
    connection: http.client.HTTPConnection,
    method: str,
    url: str,
    body: Iterator[bytes] | None = None,
    headers: dict[str, str] | None = None,
) -> str:
    """Sends a request; gives the path and query that its answer says to go on with."""
    connection.request(method, url, body, headers or {"Content-Length": "0"}, encode_chunked=body is not None)
    answer = connection.getresponse()
    said = answer.read()
    if answer.status not in (201, 202):
        raise OSError(f"{method} {url}: {answer.status} {said!r}")
    parts = urllib.parse.urlsplit(answer.headers["Location"])
    return f"{parts.path}?{parts.query}"


def _note(notes: Path, layer: str, blob: str, image: str) -> None:
    """Tells the engine under which digest a registry has a layer, as it does itself after a push."""
    file = notes / layer
    known = json.loads(file.read_text()) if file.exists() else []
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([*known, {"Digest": blob, "SourceRepository": image, "HMAC": ""}]))
