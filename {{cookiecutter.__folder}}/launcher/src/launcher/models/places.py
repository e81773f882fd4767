"""Where registries are: the folder `models` here, and the bucket of the project."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import UserError
from ..project import project
from ..settings.schema import register_resolver
from . import aliases, versions
from .names import Reference
from .versions import HERE, Version


def bucket() -> str | None:
    """Give the registry in the bucket that the files of configs/cloud/ name; None where none does."""
    from omegaconf import OmegaConf

    register_resolver()
    for file in sorted((project().configs / "cloud").glob("*.yaml")):
        if address := OmegaConf.select(OmegaConf.load(file), "bucket"):
            return f"{str(address).rstrip('/')}/models"
    return None


def homes(place: str = "") -> Iterator[str]:
    """Give all registries, the nearest first.

    Args:
        place: here or bucket, for that one alone.
    """
    if place != "bucket":
        yield HERE
    if place != "here" and (there := bucket()):
        yield there


def find(reference: Reference) -> Version:
    """Give the version that is meant, from the nearest registry that has it.

    Raises:
        UserError: none has it.
        StorageUnavailable: the bucket cannot be reached.
    """
    silent = None
    for home in homes(reference.place):
        try:
            number = reference.version or aliases.target(home, reference.name, reference.alias)
            if number and (version := versions.read(home, reference.name, number)):
                return version
        except UserError as error:
            if home == HERE:
                raise
            silent = error
    if silent:
        raise UserError(f"There is no model {reference} in {HERE}, and {silent}") from silent
    raise UserError(f"There is no model {reference}; {_known(reference)}")


def home_of(reference: Reference) -> str:
    """Give the nearest registry that has a model of this name.

    Raises:
        UserError: none has one.
    """
    for home in homes(reference.place):
        if reference.name in versions.models(home):
            return home
    raise UserError(f"There is no model {reference.name}; {_known(reference)}")


def _known(reference: Reference) -> str:
    for home in homes(reference.place):
        names = versions.models(home)
        if reference.name in names:
            numbers = [f"v{one.number}" for one in versions.all_of(home, reference.name)]
            leads = [f"{alias} (v{one})" for alias, one in aliases.of(home, reference.name).items()]
            return f"{home} has {', '.join(leads + numbers) or 'none that is whole'}."
        if names:
            return f"{home} has {', '.join(names)}."
    return "register one by `uv run models register run=ID`."
