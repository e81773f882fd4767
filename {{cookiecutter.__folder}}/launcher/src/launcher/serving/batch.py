"""Predictions of many inputs: what is done is not done again, and what cannot be read is listed and stops nothing.

Inputs are files of images, one of which is one instance, and files of JSON lines, each line one. Predictions go to JSON
lines, a file for each part of the inputs; pictures that are predicted go to PNG files beside them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..errors import UserError
from ..storage import fetch, read_text, store, write_text
from .images import InputError
from .inputs import Arrays
from .model import Model
from .waiting import DONE, IMAGES, LINES, OWNER, called, done, find

PART = 256  # images of a part, each of which is written whole
BATCH = 32  # instances at a time
Place = tuple[str, int]  # a file, and a line of it; 0 for all of it


@dataclass
class Tally:
    """How many instances were predicted, how many files had been before, and what could not be read."""

    done: int = 0
    before: int = 0
    bad: list[dict[str, Any]] = field(default_factory=list)


def predict(
    model: Model, source: str, output: str, plain: bool = False, once: str | None = None
) -> Tally:
    """Predict all that is at `source`, and write it below `output`.

    Args:
        source: a file, a folder or the URI of either.
        output: a folder or its URI.
        plain: the numbers themselves, in place of pictures of them.
        once: a folder or its URI; what was predicted anywhere below it is not predicted again.

    Raises:
        UserError: there is nothing at the source, or the output is of another model.
    """
    _apart(source, output)
    names, tally = find(source, bool(once)), Tally()
    _claim(output, model)
    before = done(once, deep=True) if once else done(output)
    new = [name for name in names if called(name, source) not in before]
    tally.before = len(names) - len(new)
    found = [row for name in names for row in before.get(called(name, source), [])]
    # What an attempt before this one could not read counts; a night before this one has said so.
    run = _run()
    tally.bad += [row for row in found if not once or (run and row.get("run") == run)]
    parts = list(divide(new, source))
    for number, part in enumerate(parts, start=1):
        rows = list(_part(model, source, output, part, plain))
        tally.done += sum("error" not in row for row in rows)
        tally.bad += [row for row in rows if "error" in row]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        write_text(f"{output}/{DONE}/{_name_of(part, source)}.jsonl", text)
        print(
            f"{number} of {len(parts)} parts, {tally.done} predictions", file=sys.stderr, flush=True
        )
    return tally


def divide(names: list[str], source: str) -> Iterator[list[str]]:
    """Divide them into parts: one file of lines, or some images."""
    images = [name for name in names if (name or source).lower().endswith(IMAGES)]
    for start in range(0, len(images), PART):
        yield images[start : start + PART]
    others = set(names) - set(images)
    yield from ([name] for name in names if name in others)


def _part(
    model: Model, source: str, output: str, names: list[str], plain: bool
) -> Iterator[dict[str, Any]]:
    """Give a line of the output for each instance of a part, in its order."""
    with TemporaryDirectory() as folder:
        waiting: list[tuple[Place, Any]] = []
        for item in _instances(model, source, names, Path(folder)):
            waiting.append(item)
            if len(waiting) == BATCH:
                yield from _predicted(model, output, waiting, plain)
                waiting = []
        yield from _predicted(model, output, waiting, plain)


def _instances(
    model: Model, source: str, names: list[str], folder: Path
) -> Iterator[tuple[Place, Any]]:
    """Give the file and the line of each instance, and its arrays; or why there are none."""
    image, read, decode = model.inputs.image, model.inputs.read, model.inputs.decode
    for name in names:
        path = folder / "file"
        if ".." in name.split("/"):  # which a bucket takes for a name like any other
            yield (name, 0), "its name leads out of the folder"
            continue
        fetch(f"{source}/{name}" if name else source, path)
        file = called(name, source)
        if not file.lower().endswith(LINES):
            yield (file, 0), _read(lambda path=path: {image: decode(path.read_bytes())})
            continue
        empty = True
        # Lines end where the form says so: U+2028 and the like, which splitlines() takes for ends, are in texts.
        with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    empty = False
                    yield (file, number), _read(lambda line=line: read(json.loads(line)))
        if empty:  # without a line of the output it would never be done
            yield (file, 0), "it holds no instance"


def _read(reading: Any) -> Any:
    try:
        return reading()
    except InputError as error:
        return str(error)
    except (ValueError, RecursionError) as error:
        return f"it is no JSON ({type(error).__name__})"


def _predicted(
    model: Model, output: str, waiting: list[tuple[Place, Any]], plain: bool
) -> Iterator[dict[str, Any]]:
    found = _computed(
        model, [arrays for _, arrays in waiting if not isinstance(arrays, str)], plain
    )
    for (name, line), arrays in waiting:
        place = {"file": name, **({"line": line} if line else {})}
        prediction = arrays if isinstance(arrays, str) else next(found)
        if isinstance(prediction, str):
            yield {**place, "error": prediction, **({"run": run} if (run := _run()) else {})}
            continue
        if picture := prediction.pop("b64", None):
            prediction["picture"] = _keep(output, f"{name}-{line}" if line else name, picture)
        yield {**place, **prediction}


def _run() -> str:
    """Give the job that predicts; empty where it is none."""
    return os.environ.get("RUN_ID", "")


def _computed(model: Model, rows: list[Arrays], plain: bool) -> Iterator[dict[str, Any] | str]:
    """Give the prediction of each row, or why there is none: one that the model cannot compute with stops no others."""
    try:
        if rows:
            yield from model.predict_arrays(model.inputs.collate(rows), plain)
    except InputError as error:
        if len(rows) == 1:
            yield str(error)
        else:
            for row in rows:
                yield from _computed(model, [row], plain)


def _keep(output: str, name: str, picture: str) -> str:
    """Write a picture that was predicted; give its name below the output."""
    kept = f"pictures/{name}.png"
    with TemporaryDirectory() as folder:
        path = Path(folder, "picture.png")
        path.write_bytes(base64.b64decode(picture))
        store(path, f"{output}/{kept}")
    return kept


def _claim(output: str, model: Model) -> None:
    """Take the output for this model: what another one has begun is not gone on with.

    Raises:
        UserError: it is another one's.
    """
    # The digest too: what is not registered has no name of its own, and two registries may use one.
    place = f"{output}/{OWNER}"
    mine = json.dumps({"model": model.version, "sha256": model.digest}) + "\n"
    text = read_text(place)
    try:
        if text is None:
            write_text(place, mine, new=True)
    except UserError:
        if (text := read_text(place)) is None:
            raise
    if text not in (None, mine):
        other = json.loads(text).get("model")
        raise UserError(
            f"{output} holds predictions of {other}, and this is {model.version}, or other weights of it; choose another output=."
        )


def _apart(source: str, output: str) -> None:
    """Refuse an output among the inputs: its pictures and lines would be inputs the next time.

    Raises:
        UserError: it is there.
    """
    inside, around = (
        place if "://" in place else str(Path(place).resolve()) for place in (output, source)
    )
    if f"{inside}/".startswith(f"{around}/"):
        raise UserError(
            f"{output} is in {source}, whose files are the inputs; choose another output=."
        )


def _name_of(names: list[str], source: str) -> str:
    """Give a part's name, from what it holds: another part has another one."""
    held = "\n".join(called(name, source) for name in names)
    return hashlib.sha256(held.encode()).hexdigest()[:16]
