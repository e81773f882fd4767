"""Checks of what a job is fed: the image, the code in it, and the data in the bucket."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...job import Problem
from .. import inputs
from . import auth as google
from . import registry


def check_image(image: str) -> list[Problem]:
    """Is the image in the registry? Vertex AI finds out only minutes after the submission."""
    registry.resolve(image)  # explains itself
    return []


def check_code(image: str, worktree: bool, newest: bool, root: Path | None = None) -> list[Problem]:
    """Is the code in the image the code in this folder? As `inputs.check_code`."""
    return inputs.check_code(image, registry.revision(image), worktree, newest, root)


def check_data(target: str, root: Path | None = None) -> list[Problem]:
    """Is every object of a data set in the bucket? As `inputs.check_data`."""
    return inputs.check_data(target, "gs", CloudStorage(), root)


class CloudStorage:
    """Objects of Cloud Storage, as `inputs.Bucket` has them."""

    def head(self, bucket: str, name: str) -> object:
        """Look whether there is one."""
        return google.call("GET", self._url(bucket, name), params={"fields": "name"})

    def read(self, bucket: str, name: str) -> Any:
        """Give its content, which is JSON."""
        return google.request("GET", self._url(bucket, name), params={"alt": "media"}).json()

    def _url(self, bucket: str, name: str) -> str:
        return f"{google.endpoint('storage')}/storage/v1/b/{bucket}/o/{quote(name, safe='')}"
