"""How people name a model: `digits`, `digits@champion`, `digits@v3`, and where there are two of them `bucket:digits`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import UserError

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
VERSION = re.compile(r"v?([1-9][0-9]{0,8})")
NUMBER = re.compile(r"v?[0-9]+")  # what looks like a version is no alias
CHAMPION = "champion"
PLACES = ("here", "bucket")
LONGEST = 63


@dataclass(frozen=True)
class Reference:
    """One model.

    Args:
        name: of the model.
        version: its number; None where an alias is meant.
        alias: a name that moves from version to version; empty where a number is given.
        place: here or bucket; empty for the nearest registry that has it.
    """

    name: str
    version: int | None = None
    alias: str = ""
    place: str = ""

    def __str__(self) -> str:
        return f"{self.name}@{self.alias or f'v{self.version}'}"


def parse(text: str) -> Reference:
    """Read `name`, `name@alias`, `name@v3` or `name@3`; without the second part the champion is meant.

    Raises:
        UserError: it can be no model's name.
    """
    place, _, called = text.rpartition(":")
    name, at, which = called.partition("@")
    if place and place not in PLACES:
        raise UserError(
            f"{text} names no model; write bucket:{name} or here:{name}, or leave it out."
        )
    check(name)
    if found := VERSION.fullmatch(which):
        return Reference(name, int(found[1]), place=place)
    if at and (not NAME.fullmatch(which) or NUMBER.fullmatch(which) or len(which) > LONGEST):
        raise UserError(
            f"{text} names no model; write {name}, {name}@champion or another alias, or {name}@v3."
        )
    return Reference(name, alias=which or CHAMPION, place=place)


def check(name: str, what: str = "model") -> None:
    """Refuse what can name no folder, no image and no provider's model.

    Raises:
        UserError: saying what it may be made of.
    """
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise UserError(
            f"{name!r} can name no {what}; use up to {LONGEST} lower-case letters and digits that begin with a letter, "
            "joined by single dashes."
        )
