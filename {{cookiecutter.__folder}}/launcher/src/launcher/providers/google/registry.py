"""Artifact Registry, and whatever other registry holds an image: its digest, and the commit that it was built from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import registry
from . import auth as google

if TYPE_CHECKING:
    from requests import Response

GOOGLE_HOSTS = (".pkg.dev", ".gcr.io", "gcr.io")  # only these may see the access token


def resolve(image: str) -> str:
    """Give name@digest, as `registry.resolve` does."""
    return registry.resolve(image, _get)


def revision(image: str) -> str | None:
    """Give the commit that an image was built from, as `registry.revision` does."""
    return registry.revision(image, _get)


def _get(image: registry.Image, url: str, headers: dict[str, str]) -> Response:
    login = image.host.endswith(GOOGLE_HOSTS)
    return google.request("GET", url, headers=headers, login=login)
