"""Aliases: names that move from version to version, with all their history.

A move is a file that can be made only once, so of two at the same time one fails: whoever it is has compared with a version
that is no longer the alias's, and must look again.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..errors import UserError
from ..records import PATIENCE
from ..storage import NothingThereError, list_files, read_text, write_text
from .names import check
from .versions import now

ROLLBACK = "rollback"  # the reason of a move that takes back the one before
ENTRY = re.compile(r"(\d{8})\.json")


@dataclass(frozen=True)
class Move:
    """One move of an alias.

    Args:
        version: it leads to since then; 0 for none any more.
        previous: it led to before; 0 for none.
        by, at: who and when.
        reason: why the gate was passed over; empty where it was not.
        gate: what was compared.
        id: tells two moves at the same moment apart.
    """

    version: int
    previous: int
    by: str
    at: str = ""
    reason: str = ""
    gate: dict[str, Any] = field(default_factory=dict)
    id: str = ""


class MovedError(UserError):
    """Somebody else has moved the alias in the meantime."""


def history(home: str, name: str, alias: str) -> list[Move]:
    """Give all moves of an alias, oldest first.

    Raises:
        UserError: one of them cannot be understood.
    """
    moves = []
    for number in _numbers(home, name, alias):
        uri = _entry(home, name, alias, number)
        try:
            values = json.loads(read_text(uri, PATIENCE) or "")
            known = {each.name for each in fields(Move)}
            moves.append(Move(**{key: one for key, one in values.items() if key in known}))
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{uri} is no move of an alias ({error}).") from error
    return moves


def target(home: str, name: str, alias: str) -> int | None:
    """Give the number of the version that an alias leads to; None for none."""
    moves = history(home, name, alias)
    return (moves[-1].version or None) if moves else None


def before(moves: list[Move]) -> int:
    """Give the version that an alias led to before; a rollback takes back a move, and the next one that before it. 0 for none."""
    stood: list[int] = []
    for one in moves:
        if one.reason == ROLLBACK and not one.gate:  # what was forced has a gate
            stood = stood[:-1]
        if not stood or stood[-1] != one.version:
            stood.append(one.version)
    return stood[-2] if len(stood) > 1 else 0


def of(home: str, name: str) -> dict[str, int]:
    """Give where each alias of a model leads."""
    try:
        found = list_files(f"{home}/{name}/aliases", PATIENCE)
    except NothingThereError:
        return {}
    names = sorted({path.split("/")[0] for path in found})
    targets = {alias: target(home, name, alias) for alias in names}
    return {alias: number for alias, number in targets.items() if number}


def move(
    home: str,
    name: str,
    alias: str,
    seen: list[Move],
    version: int,
    by: str,
    reason: str = "",
    gate: Mapping[str, Any] | None = None,
) -> Move:
    """Let an alias lead to a version, if nobody has moved it since its history was read.

    Args:
        seen: that history.

    Raises:
        MovedError: somebody has.
        UserError: it cannot be written.
    """
    check(alias, "alias")
    previous = seen[-1].version if seen else 0
    made = Move(version, previous, by, now(), reason, dict(gate or {}), secrets.token_hex(8))
    uri = _entry(home, name, alias, len(seen) + 1)
    text = json.dumps(asdict(made), indent=2) + "\n"
    try:
        write_text(uri, text, new=True)
    except UserError as error:
        if read_text(uri, PATIENCE) in (None, text):
            raise
        raise MovedError(
            f"{name}@{alias} was moved by somebody else just now; look at `uv run models list {name}`, and run the same again."
        ) from error
    return made


def _entry(home: str, name: str, alias: str, number: int) -> str:
    return f"{home}/{name}/aliases/{alias}/{number:08d}.json"


def _numbers(home: str, name: str, alias: str) -> list[int]:
    try:
        found = list_files(f"{home}/{name}/aliases/{alias}", PATIENCE)
    except NothingThereError:
        return []
    return sorted(int(match[1]) for path in found if (match := ENTRY.fullmatch(path)))
