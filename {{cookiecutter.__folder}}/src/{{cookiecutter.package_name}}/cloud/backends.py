"""The backends by name: each is a module here with `connect(cloud) -> Service` and a file in `configs/cloud/`."""

from __future__ import annotations

import importlib
import re
from typing import Any, Protocol

from ..errors import UserError
from .job import Backend

MODULE = re.compile(r"[a-z][a-z0-9_]*")


class Service(Backend, Protocol):
    """A backend that also knows its images."""

    def reference(self) -> str:
        """Name the image that would run, by tag or digest. Needs no network."""
        ...

    def image(self) -> str:
        """Name that image for good, by its digest where it has one.

        Raises:
            UserError: there is none, or the registry cannot be asked.
        """
        ...

    def revision(self, image: str) -> str | None:
        """Give the commit that an image was built from; None where it does not say."""
        ...


def connect(cloud: Any) -> Service:
    """Make the backend that a section `cloud` of the configuration names. Needs no network.

    Raises:
        UserError: there is no such backend.
    """
    name = str(cloud.backend)
    try:
        if not MODULE.fullmatch(name):
            raise ModuleNotFoundError(name=f"{__package__}.{name}")
        module = importlib.import_module(f".{name}", __package__)
        return module.connect(cloud)
    except ModuleNotFoundError as error:
        if error.name != f"{__package__}.{name}":
            raise
        raise UserError(
            f"There is no backend {name}: cloud.backend names a module of {__package__}."
        ) from None
    except AttributeError as error:
        if error.name != "connect":
            raise
        raise UserError(f"{__package__}.{name} is no backend: it has no connect().") from None
