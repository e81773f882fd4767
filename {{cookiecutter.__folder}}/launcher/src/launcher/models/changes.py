"""Changes of a registry that two people may make at once: an alias never leads to a version that is not there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ..errors import UserError
from ..records import PATIENCE
from ..storage import list_files, read_text, remove
from . import aliases, versions
from .aliases import Move
from .register import who
from .versions import CLAIM, Version

ABANDONED = timedelta(days=1)  # nobody takes longer to write a version


def lead(
    version: Version,
    alias: str,
    seen: list[Move],
    reason: str = "",
    gate: Mapping[str, Any] | None = None,
) -> None:
    """Let an alias lead to a version, if nobody has moved it since its history was read.

    Raises:
        MovedError: somebody has.
        UserError: the version was removed at the same moment; then the alias leads where it did before.
    """
    home, name = version.home, version.name
    made = aliases.move(home, name, alias, seen, version.number, who(), reason, gate)
    if versions.read(home, name, version.number) is None:
        aliases.move(home, name, alias, [*seen, made], made.previous, who(), aliases.ROLLBACK)
        raise UserError(f"{version} was removed by somebody just now; {name}@{alias} is as before.")


def erase(version: Version) -> None:
    """Remove a version that no alias leads to.

    Its manifest goes first: from then on nobody finds it. Whoever has just let an alias lead to it is seen after that,
    or sees himself that it is gone.

    Raises:
        UserError: an alias leads to it, or it cannot be removed.
    """
    _refuse_if_led(version)
    versions.withdraw(version)
    try:
        _refuse_if_led(version)
    except UserError:
        versions.publish(version)
        raise
    versions.erase(version)


def clear(home: str, name: str, number: int) -> bool:
    """Remove what is left of a version that was never finished; tell whether there was anything. Its number stays taken.

    Raises:
        UserError: somebody may be writing it still, or it cannot be removed.
    """
    uri = versions.place(home, name, number)
    claim = read_text(f"{uri}/{CLAIM}", PATIENCE)
    if claim is None:
        return False
    if datetime.now(UTC) - datetime.fromisoformat(json.loads(claim)["at"]) < ABANDONED:
        raise UserError(
            f"{name}@v{number} is not finished, and may be being written; if it is not, remove it a day after it was begun."
        )
    left = [file for file in list_files(uri, PATIENCE) if file != CLAIM]
    for file in left:
        remove(f"{uri}/{file}")
    return bool(left)


def _refuse_if_led(version: Version) -> None:
    leads = [
        alias
        for alias, number in aliases.of(version.home, version.name).items()
        if number == version.number
    ]
    if leads:
        raise UserError(f"{version} is {' and '.join(leads)}; promote another version first.")
