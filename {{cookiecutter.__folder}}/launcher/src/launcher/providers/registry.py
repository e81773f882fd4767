"""What a registry knows of an image: its digest, and the commit that it was built from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .errors import MissingError, ServiceError

if TYPE_CHECKING:
    from requests import Response

REVISION = "org.opencontainers.image.revision"  # the label that says the commit
LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")
INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


@dataclass(frozen=True)
class Image:
    """host/name:tag or host/name@digest; where there are both, the digest decides."""

    host: str
    name: str
    tag: str = "latest"
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Image:
        """Take an image's name apart. Docker Hub is meant where no host is named, as everywhere."""
        text, _, digest = text.partition("@")
        host, slash, name = text.partition("/")
        if not slash or not has_host(text):
            host, name = "registry-1.docker.io", text
        name, _, tag = name.partition(":")
        return cls(host, name, tag or "latest", digest)

    def __str__(self) -> str:
        return f"{self.host}/{self.name}" + (f"@{self.digest}" if self.digest else f":{self.tag}")


# Asks the registry of an image: takes the image, the address and headers; logs in as the provider does.
Get = Callable[[Image, str, dict[str, str]], "Response"]


def has_host(name: str) -> bool:
    """Tell whether an image's name begins with a host, by the rule that Docker has for it."""
    first, slash, _ = name.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost")


def resolve(image: str, get: Get) -> str:
    """Give name@digest; asks the registry also where there is a digest, whether it is there.

    Raises:
        MissingError: there is no such image; other ServiceErrors: the registry cannot be asked.
    """
    found = Image.parse(image)
    digest = _ask(found, "manifests", found.digest or found.tag, get)[1]
    return str(replace(found, digest=found.digest or digest))


def revision(image: str, get: Get) -> str | None:
    """Give the commit that an image was built from; None where it does not say.

    Raises:
        ServiceError: as `resolve`.
    """
    found = Image.parse(image)
    manifest = _ask(found, "manifests", found.digest or found.tag, get)[0]
    if manifest.get("mediaType") in INDEXES or "manifests" in manifest:
        # Beside the image itself an index may hold attestations, whose platform is unknown.
        entries = [m for m in manifest["manifests"] if _platform(m) == ("linux", "amd64")]
        if not entries:
            return None
        manifest = _ask(found, "manifests", entries[0]["digest"], get)[0]
    config = _ask(found, "blobs", manifest["config"]["digest"], get)[0]
    labels = (config.get("config") or {}).get("Labels") or {}
    return labels.get(REVISION) or None


def _platform(entry: dict[str, Any]) -> tuple[str, str]:
    platform = entry.get("platform") or {}
    return platform.get("os", ""), platform.get("architecture", "")


def _ask(image: Image, kind: str, reference: str, get: Get) -> tuple[dict[str, Any], str]:
    scheme = "http" if LOOPBACK.fullmatch(image.host) else "https"
    url = f"{scheme}://{image.host}/v2/{image.name}/{kind}/{reference}"
    accept = {"Accept": ", ".join(INDEXES + MANIFESTS)} if kind == "manifests" else {}
    try:
        response = get(image, url, accept)
        content = json.loads(response.content)
    except MissingError as error:
        raise MissingError(
            f"There is no image {image}",
            "push to main and wait until train.yml has built it, or name another one by cloud.image",
        ) from error
    except ValueError as error:
        raise ServiceError(
            f"{image.host} does not answer as a registry does", "check cloud.repository"
        ) from error
    return content, response.headers.get("Docker-Content-Digest", "")
