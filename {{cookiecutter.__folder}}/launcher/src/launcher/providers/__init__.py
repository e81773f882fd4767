"""The backends by name: each is a module of a provider's folder, with `connect(cloud) -> Service`.

A bake keeps the folder of its own cloud and `local`. Nothing outside this folder names a provider.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any, Protocol

from ..errors import UserError
from ..job import Backend
from ..project import project

MODULE = re.compile(r"[a-z][a-z0-9_]*")
FOLDERS = {"gcp": "google", "aws": "aws", "azure": "azure"}  # of each choice of a cloud


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
    return find(str(cloud.backend)).connect(cloud)


def log_in(service: Any) -> None:
    """Refuse a backend that wants a login and has none: asked later, its bucket would be tried for a minute before.

    Raises:
        UserError: there is no login, or it has expired.
    """
    if who := getattr(service, "who", None):
        who()


def abilities(name: str) -> frozenset[str]:
    """Give what a backend can do that others cannot: SWEEPS, NODES, NOTEBOOKS.

    Raises:
        UserError: there is no such backend.
    """
    return frozenset(getattr(find(name), "ABILITIES", ()))


def find(name: str) -> ModuleType:
    """Give the module of a backend.

    Raises:
        UserError: there is no such backend.
    """
    for folder in ("local", FOLDERS.get(project().cloud, "")):
        if MODULE.fullmatch(name) and folder and _has(f"{__package__}.{folder}", name):
            module = importlib.import_module(f".{folder}.{name}", __package__)
            if hasattr(module, "connect"):
                return module
    raise UserError(
        f"There is no backend {name}: cloud.backend names a module with connect() in a folder of {__package__}."
    )


def folder(cloud: str) -> str:
    """Give the package of a cloud's provider; empty where there is none yet."""
    package = f"{__package__}.{FOLDERS.get(cloud, '')}"
    try:
        importlib.import_module(package)
    except ModuleNotFoundError:
        return ""
    return package


def browse(uri: str) -> str:
    """Give the page on which people see what is at an address in a bucket; empty where there is none."""
    package = folder(project().cloud)
    return importlib.import_module(package).browse(uri) if package else ""


def secret_reader() -> Callable[[str], str]:
    """Give what reads a secret of the project's cloud by its name.

    Raises:
        UserError: this cloud keeps none yet.
    """
    folder = FOLDERS.get(project().cloud, "")
    if not _has(f"{__package__}.{folder}", "secrets"):
        raise UserError("Secrets of this cloud cannot be read yet; leave cloud.secrets empty.")
    return importlib.import_module(f".{folder}.secrets", __package__).access


def _has(package: str, name: str) -> bool:
    try:
        path = importlib.import_module(package).__path__
    except ModuleNotFoundError:
        return False
    return any(each.name == name for each in pkgutil.iter_modules(path))
