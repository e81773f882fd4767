"""What was deployed elsewhere, noted in the registry: so that others know of it, and the janitor when it has to end."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

from ..errors import UserError
from ..records import PATIENCE
from ..storage import NothingThereError, list_files, read_text, remove, write_text
from . import places
from .register import who
from .versions import HERE, now

FOLDER = ".deployed"  # beside the models; no model has such a name


@dataclass(frozen=True)
class Note:
    """One deployment, the newest of its model at a place.

    Args:
        where: in which project and region of the place, so that it ends there whatever is configured by then.
        until: the last day, such as 2026-12-31; empty where nothing was said of it.
        by, at: who and when.
        usd: that it could cost to its end, a month at most; None where it is not known.
    """

    place: str
    model: str
    version: int
    until: str = ""
    by: str = ""
    at: str = ""
    where: str = ""
    usd: float | None = None

    @property
    def uri(self) -> str:
        return "/".join(
            filter(None, (home(), FOLDER, self.place, self.where, f"{self.model}.json"))
        )


def home() -> str:
    """Give the registry that all see: that of the bucket, where there is one."""
    return places.bucket() or HERE


def note(
    place: str, model: str, version: int, until: str, where: str = "", usd: float | None = None
) -> None:
    """Note a deployment, instead of the one before that was there.

    Raises:
        UserError: it cannot be written.
    """
    renote(Note(place, model, version, until, who(), now(), where, usd))


def renote(made: Note) -> None:
    """Write a note as it is, whatever is there.

    Raises:
        UserError: it cannot be written.
    """
    write_text(made.uri, json.dumps(asdict(made), indent=2) + "\n")


def of(place: str, model: str, where: str = "") -> Note | None:
    """Give the note of a model at a place; None where there is none.

    Raises:
        UserError: it cannot be understood.
        StorageUnavailable: the registry cannot be reached.
    """
    return _read(Note(place, model, 0, where=where).uri)


def forget(place: str, model: str, where: str = "") -> None:
    """Take the note away; that there is none is no error."""
    remove(Note(place, model, 0, where=where).uri)


def notes() -> tuple[list[Note], list[str]]:
    """Give all notes, and one line for each that cannot be read: the others count all the same.

    Raises:
        StorageUnavailable: the registry cannot be reached.
    """
    try:
        found = list_files(f"{home()}/{FOLDER}", PATIENCE)
    except NothingThereError:
        return [], []
    read: list[Note] = []
    troubles: list[str] = []
    for path in sorted(found):
        try:
            if one := _read(f"{home()}/{FOLDER}/{path}"):
                read.append(one)
        except UserError as error:
            troubles.append(str(error))
    return read, troubles


def _read(uri: str) -> Note | None:
    names = {each.name for each in fields(Note)}
    if (text := read_text(uri, PATIENCE)) is None:
        return None
    try:
        return Note(**{key: one for key, one in json.loads(text).items() if key in names})
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{uri} is no note of a deployment ({error}); see what it was of, and delete it."
        ) from error
