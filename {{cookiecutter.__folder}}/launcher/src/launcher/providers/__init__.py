"""The backends by name: each is a module of a provider's folder, with `connect(cloud) -> Service`.

A bake keeps the folder of its own cloud and those of `EVERYWHERE`. Nothing outside this folder names a provider.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any, Protocol

from ..deployment import Target
from ..errors import UserError
from ..job import Backend
from ..mirror import Mirror
from ..project import project

MODULE = re.compile(r"[a-z][a-z0-9_]*")
EVERYWHERE = ("local", "sky")  # in every project
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


def starts(cloud: Any, kind: str) -> int:
    """Tell how often a machine may be paid for the whole time: once, unless the provider's limit is each start's own.

    Args:
        cloud: the section of the configuration.
        kind: of the job, such as train.
    """
    backend = find(str(cloud.backend))
    each = getattr(backend, "LIMIT_PER_ATTEMPT", False)
    return cloud.max_attempts if each and kind not in getattr(backend, "STARTED_ONCE", ()) else 1


def own_code(cloud: Any) -> bool:
    """Tell whether a job runs this folder's code as it is, instead of an image that has some."""
    own = getattr(find(str(cloud.backend)), "own_code", None)
    return own(cloud) if own else False


def find(name: str) -> ModuleType:
    """Give the module of a backend.

    Raises:
        UserError: there is no such backend.
    """
    for folder in (*EVERYWHERE, FOLDERS.get(project().cloud, "")):
        if MODULE.fullmatch(name) and folder and _has(f"{__package__}.{folder}", name):
            module = importlib.import_module(f".{folder}.{name}", __package__)
            if hasattr(module, "connect"):
                return module
    raise UserError(
        f"There is no backend {name}: cloud.backend names a module with connect() in a folder of {__package__}."
    )


def targets() -> dict[str, str]:
    """Give the places where models of this project can answer, each with its module."""
    return _listed("TARGETS")


def target(place: str) -> Target:
    """Give the place of a name, as in to=local.

    Raises:
        UserError: there is no such place.
    """
    known = targets()
    if place not in known:
        named = " or ".join(f"to={each}" for each in known)
        raise UserError(
            f"to={place} is no place where models of this project answer; give {named}."
        )
    return importlib.import_module(known[place]).connect()


def mirror(place: str = "") -> Mirror:
    """Give a registry of models beside the bucket's.

    Args:
        place: its name, as in to=wandb; empty for the one that the project's cloud has itself.

    Raises:
        UserError: there is none, or none of that name.
    """
    known = _listed("MIRRORS")
    own = [name for name, module in known.items() if not module.startswith(f"{__package__}.local.")]
    if not place and len(own) == 1:
        (place,) = own
    if place not in known:
        named = " or ".join(f"to={each}" for each in known)
        raise UserError(f"Say which registry of models: {named}.")
    return importlib.import_module(known[place]).connect()


def _listed(what: str) -> dict[str, str]:
    """Give what the folders of this project say they have by that name, each with its module."""
    found = {}
    for name in ("local", FOLDERS.get(project().cloud, "")):
        package = f"{__package__}.{name}"
        with suppress(ModuleNotFoundError):
            places = getattr(importlib.import_module(package), what, {})
            found |= {place: f"{package}.{module}" for place, module in places.items()}
    return found


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
