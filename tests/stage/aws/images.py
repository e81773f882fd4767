"""Images in ECR, as moto keeps them: who asks for one gets it only where its repository is."""

import hashlib
import json
import re
from typing import Any

from moto.ecr.models import ecr_backends

from stage.aws.people import ACCOUNT

NAME = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com/"
    r"(?P<repository>[a-z0-9._/-]+?)(?::(?P<tag>[\w.-]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


def found(image: str, region: str) -> bool:
    """Whether an image is in ECR of a region, by its tag, its digest, or both."""
    parts = NAME.fullmatch(image)
    if not parts or parts["region"] != region or parts["account"] != ACCOUNT:
        return False
    repository = ecr_backends[ACCOUNT][region].repositories.get(parts["repository"])
    if repository is None:
        return False
    tag, digest = parts["tag"] or ("" if parts["digest"] else "latest"), parts["digest"]
    return any(
        (not tag or tag in one.image_tags) and (not digest or digest == one.get_image_digest())
        for one in repository.images
    )


OCI = "application/vnd.oci.image.manifest.v1+json"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"


def kind(image: str, region: str) -> str:
    """The media type of an image's manifest; "" of one that is not there."""
    parts = NAME.fullmatch(image)
    if not parts:
        return ""
    there = ecr_backends[ACCOUNT][region].repositories.get(parts["repository"])
    for one in there.images if there else []:
        if parts["digest"] == one.get_image_digest() or (
            not parts["digest"] and parts["tag"] in one.image_tags
        ):
            return one.image_manifest_media_type or ""
    return ""


def put(
    repository: str, region: str, manifest: dict[str, Any] | None = None, digest: str = "", tag: str = "main"
) -> str:
    """Puts an image into a repository of ECR, made if need be; gives its name by digest.

    Args:
        manifest: None makes up one of an image that is nowhere.
        digest: of the manifest; "" computes it.
    """
    registry = ecr_backends[ACCOUNT][region]
    if repository not in registry.repositories:
        registry.create_repository(repository, None, {}, {}, "MUTABLE", [])
    usual = {
        "schemaVersion": 2,
        "mediaType": DOCKER,
        "config": {"digest": "sha256:" + "0" * 64, "size": 2},
        "layers": [],
    }
    text = json.dumps(manifest or usual | {"annotations": {"tag": tag}})
    digest = digest or "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    media = (manifest or usual).get("mediaType", DOCKER)
    if not any(
        one.get_image_digest() == digest and tag in one.image_tags
        for one in registry.repositories[repository].images
    ):
        registry.put_image(repository, text, tag, image_manifest_mediatype=media, digest=digest)
    return f"{ACCOUNT}.dkr.ecr.{region}.amazonaws.com/{repository}@{digest}"
