"""Images in the registry of the stage's Azure, which a registry of this machine keeps."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from stage.azure.world import World
from stage.registry import registry

COMMIT = "abc"


@contextmanager
def pushed(world: World, folder: Path, commit: str = COMMIT) -> Iterator[str]:
    """An image of a commit, as the project's newest of main while the block lasts; gives its digest."""
    with registry(folder) as host:
        config = _blob(host, {"config": {"Labels": {"org.opencontainers.image.revision": commit}}})
        kind = "application/vnd.oci.image.manifest.v1+json"
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": []}
        answer = requests.put(
            f"http://{host}/v2/demo/train/manifests/main",
            json.dumps(manifest).encode(),
            headers={"Content-Type": kind},
            timeout=30,
        )
        answer.raise_for_status()
        world.acr.registry = host
        try:
            yield answer.headers["Docker-Content-Digest"]
        finally:
            world.acr.registry = ""


def _blob(host: str, what: Any) -> dict[str, Any]:
    """https://distribution.github.io/distribution/spec/api/#monolithic-upload"""
    content = json.dumps(what).encode()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    place = requests.post(f"http://{host}/v2/demo/train/blobs/uploads/", timeout=30).headers["Location"]
    requests.put(f"{place}&digest={digest}", content, timeout=30).raise_for_status()
    return {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": len(content)}
