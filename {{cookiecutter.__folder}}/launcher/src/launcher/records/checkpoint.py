"""Checkpoints as the bucket has them. `training` writes them, and is not imported here: it needs torch."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

FOLDER = "checkpoints"
NAME = re.compile(r"step-(?P<step>\d{8,})-(?P<digest>[0-9a-f]{32})\.pt")


def is_name(name: str) -> bool:
    """Tell whether a file of this name, in the run's folder of checkpoints, is one."""
    return NAME.fullmatch(name) is not None


def is_path(path: str) -> bool:
    """Tell whether a path in the run's folder is a checkpoint's."""
    folder, _, name = path.rpartition("/")
    return folder == FOLDER and is_name(name)


def step(name: str) -> int:
    """Give the step that a checkpoint was made after."""
    match = NAME.fullmatch(name)
    return int(match["step"]) if match else -1


def newest_first(names: list[str]) -> list[str]:
    """Sort the names of checkpoints."""
    return sorted(names, key=step, reverse=True)


def is_whole(path: Path) -> bool:
    """Tell whether the content of a file has the digest (XXH3, 128 bits) that is in its name."""
    import xxhash

    if not (path.is_file() and (match := NAME.fullmatch(path.name))):
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest() == match["digest"]
