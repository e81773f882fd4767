"""A version of the bucket's registry, shown in the provider's own."""

from __future__ import annotations

import json
from typing import Any

from ..errors import UserError
from ..mirror import Entry
from ..providers import mirror as find
from ..storage import read_text
from . import aliases, deploy, places
from .versions import Version


def mirror(version: Version, place: str = "", image_pushed: str = "") -> str:
    """Put a version into a provider's registry; give what it is found by there.

    Args:
        place: which one, where the cloud has several.
        image_pushed: that serves the version, by its digest; empty to make it where it is wanted.

    Raises:
        UserError: it is in no bucket, there is no such registry, or that one does not take it.
    """
    there = find(place)
    if version.home != places.bucket():
        raise UserError(
            f"{version} is in {version.home}; others see what is in the bucket: "
            f"uv run models register run={version.run} to=bucket."
        )
    there.prepare()
    return there.put(
        entry(version, (image_pushed or deploy.pushed(version)) if there.IMAGE else "")
    )


def entry(version: Version, image: str) -> Entry:
    """Give a version as a provider's registry gets it."""
    signature: dict[str, Any] = json.loads(read_text(f"{version.uri}/signature.json") or "{}")
    leads = aliases.of(version.home, version.name)
    return Entry(
        version.name,
        version.number,
        version.uri,
        version.files,
        image,
        str(signature.get("kind", "")),
        version.run,
        version.metrics,
        version.made,
        tuple(alias for alias, number in leads.items() if number == version.number),
    )
