"""What a configuration names is yours: what its classes are, give and raise becomes one sentence that names the section."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from launcher import UserError
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from .batches import Data

MOST = 4  # parts of a batch that a message describes
REMEDIES = {
    "data": "correct split, collate or on_device of the data, whose items are (inputs, targets)",
    "augment": "correct it so that it gives (inputs, targets), or leave it out with augment=null",
    "model": "choose a model, or settings of it, for such inputs",
    "task": "choose a task, a model and targets that go together",
    "metric": "choose metrics for what this model gives and these targets",
}


def of_kind(section: str, made: Any, *methods: str) -> Any:
    """Give what a section's class has made, if it has what training calls.

    Raises:
        UserError: it is of another kind.
    """
    lacks = [name for name in methods if not callable(getattr(made, name, None))]
    if lacks or (section == "model" and not isinstance(made, nn.Module)):
        wanted = " and ".join(lacks) or "a torch.nn.Module"
        raise UserError(
            f"{section}._target_ gives {type(made).__name__}, without {wanted}; name another."
        )
    return made


def opened(data: Data, name: str) -> Dataset[Any]:
    """Give a split of the data section.

    Raises:
        UserError: it cannot be opened, is empty, or is nothing whose samples could be shuffled.
    """
    with working("data", f"opening its {name} split"):
        split: Any = data.split(name)
    if isinstance(split, IterableDataset) or not hasattr(split, "__len__"):
        raise UserError(
            f"data: split('{name}') gives {type(split).__name__}; it must give a Dataset with __len__ and __getitem__."
        )
    if not len(split):
        raise UserError(
            f"The {name} split is empty, and it needs at least one sample; give more data, or {name} a share of it."
        )
    return split


@contextmanager
def working(part: str, doing: str, **given: Any) -> Iterator[None]:
    """Turn an error into a sentence about this part of a training."""
    try:
        yield
    except Exception as error:
        # From a process that reads comes all of its traceback, as a text.
        lines = str(error).strip().splitlines() or [""]
        said = lines[-1] if lines[0].startswith("Caught ") else " ".join(lines)
        if isinstance(error, UserError):
            said = said.removeprefix("launcher.errors.UserError: ")
            raise UserError(f"In {doing}: {said}" if part == "task" else said) from error
        shapes = "".join(f", {name} {described(tree)}" for name, tree in given.items())
        raise UserError(
            f"{part} failed ({doing}{shapes}): {type(error).__name__}: {textwrap.shorten(said, 400).rstrip('.')}; {REMEDIES[part]}. "
            "(HYDRA_FULL_ERROR=1 shows where.)"
        ) from error


def described(tree: Any) -> str:
    """Give types and shapes: `float32 (64, 1, 8, 8)`."""
    if isinstance(tree, Tensor):
        return f"{str(tree.dtype).removeprefix('torch.')} {tuple(tree.shape)}"
    if isinstance(tree, Mapping):
        return f"[{', '.join(f'{key}: {described(each)}' for key, each in tree.items())}]"
    if isinstance(tree, tuple | list):
        more = ", ..." if len(tree) > MOST else ""
        return f"[{', '.join(map(described, tree[:MOST]))}{more}]"
    return type(tree).__name__
