"""Which inputs there are, and which of them are predicted: asked while predicting, and before a job for it is started.

Nothing here computes anything, so that a launch can ask where no model can be loaded.
"""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..errors import UserError
from ..storage import NothingThereError, list_files, read_text

IMAGES = (".png", ".jpg", ".jpeg")
LINES = (".jsonl", ".ndjson")
DONE = "predictions"  # folder of the output
OWNER = "model.json"  # in the output: whose predictions these are
PART = re.compile(rf"(.*/)?{DONE}/[^/]+\.jsonl")
AT_ONCE = 8  # parts read at the same time


def called(name: str, source: str) -> str:
    """Give what a file is called in the output; a source that is one file goes by its own name."""
    return name or source.rpartition("/")[2]


def find(source: str, once: bool = False) -> list[str]:
    """Give the names of the files to predict from, relative to the source; "" for the source itself.

    Args:
        once: each is to be predicted once, and so has to have a name among others.

    Raises:
        UserError: there are none, or no names.
    """
    try:
        found = list_files(source)
    except NothingThereError:
        found = [""]
    wanted = [name for name in found if (name or source).lower().endswith(IMAGES + LINES)]
    if not wanted:
        raise UserError(
            f"There is nothing to predict from at {source}; put {', '.join(IMAGES + LINES)} files there."
        )
    if once and wanted == [""]:
        raise UserError(
            f"once=true tells inputs apart by their names in a folder; {source} is a file."
        )
    return wanted


def done(output: str, deep: bool = False) -> dict[str, list[dict[str, Any]]]:
    """Give the files whose predictions are there, with the lines of the output that say what of them could not be read.

    Each part is written whole, so all that it names is done.

    Args:
        deep: count what is in folders of the output as well.
    """
    start = output if deep else f"{output}/{DONE}"
    try:
        found = list_files(start)
    except NothingThereError:
        return {}
    parts = [f"{start}/{name}" for name in found if not deep or PART.fullmatch(name)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return {name: bad for files in pool.map(_files, parts) for name, bad in files.items()}


def owner(output: str) -> str:
    """Give the version whose predictions an output holds; empty where nobody has begun."""
    return str(json.loads(read_text(f"{output}/{OWNER}") or "{}").get("model", ""))


def folder(output: str, version: str, once: bool) -> str:
    """Give where predictions of a version go: where each input is predicted once, by whichever, each has its own folder."""
    return f"{output}/{version.replace('@', '-')}" if once else output


def _files(part: str) -> dict[str, list[dict[str, Any]]]:
    files: dict[str, list[dict[str, Any]]] = {}
    for line in (read_text(part) or "").splitlines():
        row = json.loads(line)
        bad = files.setdefault(str(row["file"]), [])
        if "error" in row:
            bad.append(row)
    return files
