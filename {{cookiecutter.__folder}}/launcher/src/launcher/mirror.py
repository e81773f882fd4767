"""What it is to show a version of a model in a provider's own registry: a copy of what the bucket says, and never the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Entry:
    """A version as a provider's registry gets it.

    Args:
        model: its name.
        version: its number here; a provider that numbers by itself keeps it beside its own.
        uri: of its folder in the bucket.
        files: in that folder, each with its sha256 and its size in bytes.
        image: that serves it, by its digest; empty where the provider wants none.
        kind: of the task, such as classification.
        run: that it comes from.
        metrics: of the test split.
        made: when, by whom; of which commit and image. Values may be None.
        aliases: that lead to it now, such as champion. One that it has there and not here is to go.
    """

    model: str
    version: int
    uri: str
    files: Mapping[str, Mapping[str, Any]]
    image: str
    kind: str
    run: str
    metrics: Mapping[str, float]
    made: Mapping[str, Any]
    aliases: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.model}@v{self.version}"


class Mirror(Protocol):
    """A provider's registry.

    Attributes:
        IMAGE: whether it wants the image that serves a version.
    """

    IMAGE: bool

    def prepare(self) -> None:
        """Refuse what cannot work, before an image is made. Changes nothing.

        Raises:
            UserError: there is no login, or something is missing.
        """
        ...

    def put(self, entry: Entry) -> str:
        """Make a version there, or bring the one that is there up to date: the same entry twice is there once.

        Returns:
            what people find it by: its name there, and the page that shows it where there is one.

        Raises:
            UserError: it does not take it.
        """
        ...
