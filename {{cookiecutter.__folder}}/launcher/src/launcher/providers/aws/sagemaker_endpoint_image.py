"""Images in the form that SageMaker takes: it refuses OCI's manifests, which Docker pushes where containerd keeps its images.

github.com/aws/amazon-sagemaker-feedback/issues/180 and github.com/mlflow/mlflow/issues/13834. Layers and configuration are
the same bytes in both forms; so the manifest alone is written anew, with Docker's types, and put beside the one that is there.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ...errors import UserError
from ..errors import MissingError, RefusedError
from . import auth as aws
from .sagemaker_endpoint_request import PLACE, Where

OCI = "application/vnd.oci.image.manifest.v1+json"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
LISTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
CONFIG = "application/vnd.docker.container.image.v1+json"
# OCI's type -> Docker's: of both the configuration, and the one compression that Docker's form knows.
CONFIGS = {"application/vnd.oci.image.config.v1+json": CONFIG, CONFIG: CONFIG}
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
LAYERS = {"application/vnd.oci.image.layer.v1.tar+gzip": LAYER, LAYER: LAYER}


def taken(image: str, where: Where) -> str:
    """Give an image by a digest that SageMaker takes; of one in OCI's form the manifest is put into ECR in Docker's.

    Whoever may not look, or finds nothing there, is told so by SageMaker.

    Raises:
        UserError: it cannot be said in Docker's form.
        ServiceError: ECR does not take it.
    """
    name, _, digest = image.partition("@")
    repository = name.partition("/")[2]
    try:
        found = _manifest(where, repository, digest) if digest else None
    except (MissingError, RefusedError):
        return image
    if found is None:
        return image
    text, kind = found
    if kind in LISTS:
        raise UserError(
            f"SageMaker takes one image and not a list of several, as {image} is; build it with "
            f"`uv run models image MODEL push=true`, which makes one, and deploy that to={PLACE}."
        )
    return f"{name}@{_put(where, repository, _docker(image, text))}" if kind == OCI else image


def _manifest(where: Where, repository: str, digest: str) -> tuple[str, str] | None:
    """Give a manifest and its type as they are in ECR; None where there is none."""
    answer = aws.call(
        "ecr",
        "batch_get_image",
        where.region,
        repositoryName=repository,
        imageIds=[{"imageDigest": digest}],
        acceptedMediaTypes=[OCI, DOCKER, *LISTS],
    )
    for one in answer.get("images") or []:
        text = one["imageManifest"]
        return text, one.get("imageManifestMediaType") or json.loads(text).get("mediaType", "")
    return None


def _docker(image: str, text: str) -> str:
    """Say a manifest of OCI with Docker's types.

    Raises:
        UserError: it has what Docker's form has not.
    """
    manifest = json.loads(text)
    config = _part(image, manifest["config"], CONFIGS)
    layers = [_part(image, one, LAYERS) for one in manifest["layers"]]
    made = {"schemaVersion": 2, "mediaType": DOCKER, "config": config, "layers": layers}
    return json.dumps(made, separators=(",", ":"))


def _part(image: str, part: dict[str, Any], kinds: dict[str, str]) -> dict[str, Any]:
    if part.get("mediaType") not in kinds:
        raise UserError(
            f"SageMaker takes no image with {part.get('mediaType')}, as {image} has; build it anew with layers that are "
            "compressed by gzip, which is Docker's usual way."
        )
    return {
        "mediaType": kinds[part["mediaType"]],
        "size": part["size"],
        "digest": part["digest"],
    }


def _put(where: Where, repository: str, text: str) -> str:
    """Put a manifest into ECR, unless it is there; give its digest."""
    digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    if _manifest(where, repository, digest) is None:
        aws.call(
            "ecr",
            "put_image",
            where.region,
            repositoryName=repository,
            imageManifest=text,
            imageManifestMediaType=DOCKER,
            imageDigest=digest,
        )
    return digest
