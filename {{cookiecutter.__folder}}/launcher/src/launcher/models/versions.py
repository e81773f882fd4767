"""Versions of models: whole or absent, and never changed."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..records import PATIENCE
from ..storage import NothingThereError, fetch, list_files, read_text, remove, store, write_text
from .names import NAME

HERE, CACHE = (
    "models",
    ".fetched",
)  # the registry of this folder, and in it what was fetched from others
CLAIM, MANIFEST, CARD = "claim.json", "manifest.json", "README.md"
PART = re.compile(r"v([1-9][0-9]*)/(.+)")
FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")  # of a version: in its folder, and nowhere else


@dataclass(frozen=True)
class Version:
    """A whole version, as its manifest says.

    Args:
        home: of the registry.
        run: the run that it comes from.
        files: what belongs to it, each with its sha256 and its size in bytes.
        metrics: of the test split.
        gate: the metric that decides which version is better, whether more of it is better, and of which test data it is.
        made: when, by whom; of which commit and image.
    """

    home: str
    name: str
    number: int
    run: str
    files: dict[str, dict[str, Any]]
    metrics: dict[str, float]
    gate: dict[str, Any]
    made: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name}@v{self.number}"

    @property
    def uri(self) -> str:
        return place(self.home, self.name, self.number)

    @property
    def content(self) -> dict[str, str]:
        """The digest of each file that the model is made of; its card says when it was made, and does not count."""
        return {
            name: str(one["sha256"])
            for name, one in self.files.items()
            if not name.endswith((".md", "lineage.json"))
        }


def place(home: str, name: str, number: int) -> str:
    """Give the URI of a version's folder."""
    return f"{home}/{name}/v{number}"


def add(home: str, name: str, folder: Path, facts: Mapping[str, Any]) -> tuple[Version, bool]:
    """Make a version of the files in a folder; the same run with the same files stays the version that it is.

    Args:
        facts: run, metrics, gate and made, as `Version` has them.

    Returns:
        the version, and whether it is new.

    Raises:
        UserError: it cannot be written; what was begun is no version.
        StorageUnavailable: the bucket cannot be reached.
    """
    files = {path.name: _described(path) for path in sorted(folder.iterdir())}
    wanted = Version(home, name, 0, files=files, **facts)
    known, taken = _numbers(home, name)
    for number in reversed(known):
        there = read(home, name, number)
        if there and (there.run, there.content) == (wanted.run, wanted.content):
            return there, False
    number = _claim(home, name, max(taken, default=0) + 1, wanted.run)
    for path in sorted(folder.iterdir()):
        store(path, f"{place(home, name, number)}/{path.name}")
    version = Version(home, name, number, files=files, **facts)
    publish(version)
    return version, True


def publish(version: Version) -> None:
    """Write the manifest of a version whose files are all there: from then on it is one.

    Raises:
        UserError: it cannot be written.
    """
    write_text(f"{version.uri}/{MANIFEST}", _manifest(version), new=True)


def withdraw(version: Version) -> None:
    """Remove the manifest of a version: nobody takes the rest for one.

    Raises:
        UserError: it cannot be removed.
    """
    remove(f"{version.uri}/{MANIFEST}")


def _claim(home: str, name: str, number: int, run: str) -> int:
    """Take the first number that nobody has: for good, also where the version is never finished."""
    text = json.dumps({"run": run, "id": secrets.token_hex(8), "at": now()}) + "\n"
    while True:
        uri = f"{place(home, name, number)}/{CLAIM}"
        try:
            write_text(uri, text, new=True)
            return number
        except UserError:
            if read_text(uri, PATIENCE) in (None, text):  # it was refused for another reason
                raise
            number += 1


def read(home: str, name: str, number: int) -> Version | None:
    """Read a version; None where there is none, or one that was never finished.

    Raises:
        UserError: its manifest cannot be understood.
    """
    uri = f"{place(home, name, number)}/{MANIFEST}"
    text = read_text(uri, PATIENCE)
    if text is None:
        return None
    try:
        values = json.loads(text)
        names = {each.name for each in fields(Version)} - {"home"}
        version = Version(home=home, **{key: one for key, one in values.items() if key in names})
        _check(version, name, number)
        return version
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(f"{uri} is no manifest of a model ({error}).") from error


def need(home: str, name: str, number: int) -> Version:
    """Read a version that must be there.

    Raises:
        UserError: it is not.
    """
    if version := read(home, name, number):
        return version
    known = ", ".join(f"v{one}" for one in _numbers(home, name)[0]) or "none"
    raise UserError(f"There is no {name}@v{number} in {home}; there is {known}.")


def all_of(home: str, name: str) -> list[Version]:
    """Give the versions of a model, newest first."""
    numbers = reversed(_numbers(home, name)[0])
    return [version for number in numbers if (version := read(home, name, number))]


def models(home: str) -> list[str]:
    """Give the names of the models that a registry has, in their order."""
    try:
        found = list_files(home, PATIENCE)
    except NothingThereError:
        return []
    names = {path.split("/")[0] for path in found if path.count("/") >= 2}
    return sorted(filter(NAME.fullmatch, names))


def download(version: Version, folder: Path, names: tuple[str, ...] = ()) -> None:
    """Copy files of a version to a folder, all where none is named, and the manifest, by which whoever serves them knows them.

    What is there already and whole is not copied again. The card is for people, who may have written on it: it is not compared.

    Raises:
        UserError: one cannot be had, or is not what the manifest says.
        StorageUnavailable: the bucket cannot be reached.
    """
    for name in [one for one in version.files if not names or one in names]:
        path, wanted = folder / name, version.files[name]["sha256"]
        if path.is_file() and digest(path) == wanted:
            continue
        fetch(f"{version.uri}/{name}", path)
        if name != CARD and digest(path) != wanted:
            path.unlink()
            raise UserError(
                f"{version.uri}/{name} is damaged: it is not what the manifest of {version} says."
            )
    write_text(f"{folder}/{MANIFEST}", _manifest(version))


def cached(version: Version, names: tuple[str, ...] = ()) -> Path:
    """Give a folder of this machine that holds a version: all of it, or the files that are named.

    Raises:
        UserError, StorageUnavailable: as `download`.
    """
    # Two registries may each have a version of this name: each has a folder of its own.
    home = hashlib.sha256(version.home.encode()).hexdigest()[:8]
    folder = Path(HERE, CACHE, home, version.name, f"v{version.number}")
    download(version, folder, names)
    return folder


def erase(version: Version) -> None:
    """Remove a version; its number stays taken.

    Raises:
        UserError: it cannot be removed.
    """
    withdraw(version)
    for name in version.files:
        remove(f"{version.uri}/{name}")


def digest(path: Path) -> str:
    """Give the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def now() -> str:
    """Give the time, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _manifest(version: Version) -> str:
    values = {key: value for key, value in asdict(version).items() if key != "home"}
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def _check(version: Version, name: str, number: int) -> None:
    """Refuse a manifest that was written for another place, or names a file outside its folder: whoever can write to the
    registry does not thereby write where they like on the machines of all who fetch from it."""
    if (version.name, version.number) != (name, number):
        raise ValueError(f"it is that of {version}")
    for file, facts in version.files.items():
        if not FILE.fullmatch(file) or not isinstance(facts["sha256"], str):
            raise ValueError(f"{file!r} is no file of a version")


def _described(path: Path) -> dict[str, Any]:
    return {"sha256": digest(path), "bytes": path.stat().st_size}


def _numbers(home: str, name: str) -> tuple[list[int], list[int]]:
    """Give the numbers of the versions that are whole, and of all that are taken, in their order."""
    try:
        found = list_files(f"{home}/{name}", PATIENCE)
    except NothingThereError:
        return [], []
    parts = [match for path in found if (match := PART.fullmatch(path))]
    whole = {int(part[1]) for part in parts if part[2] == MANIFEST}
    return sorted(whole), sorted({int(part[1]) for part in parts})
