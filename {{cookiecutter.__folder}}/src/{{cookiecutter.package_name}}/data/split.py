"""One split of arrays, mapped from its file and indexed by whole batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from launcher import UserError
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.data import Dataset


class MappedFile:
    """The arrays of a .safetensors file, mapped rather than read. Pickled it is the file's path, to be mapped again.

    Args:
        path: of the file.
        command: what makes the file, for messages.

    Raises:
        UserError: the file is damaged.
    """

    def __init__(self, path: Path, command: str) -> None:
        self.path, self.command = path, command
        try:
            found = path.stat()
            with safe_open(path, framework="pt") as file:
                self.arrays: dict[str, Tensor] = {
                    name: file.get_tensor(name)
                    for name in file.keys()  # noqa: SIM118 - no mapping
                }
        except (SafetensorError, OSError) as error:
            raise self._error(error) from error
        self.version = (found.st_size, found.st_mtime_ns)

    def array_of(self, name: str | Tensor) -> Tensor:
        """Give the array of this name; an array stays what it is.

        Raises:
            UserError: there is none.
        """
        if isinstance(name, str) and name not in self.arrays:
            raise self._error(f"it has no array {name}")
        return self.arrays[name] if isinstance(name, str) else name

    def name_of(self, array: Tensor) -> str | Tensor:
        """Give the name of an array of this file; another array stays what it is."""
        return next((name for name, mine in self.arrays.items() if mine is array), array)

    def __reduce__(self) -> tuple[Any, ...]:
        return _map_again, (self.path.absolute(), self.command, self.version)

    def _error(self, reason: Any) -> UserError:
        return UserError(
            f"{self.path} cannot be read ({reason}); make it again with `{self.command}`."
        )


def _map_again(path: Path, command: str, version: tuple[int, int]) -> MappedFile:
    """Map the file that another process has mapped, and not one that has taken its place since."""
    file = MappedFile(path, command)
    if file.version != version:
        raise UserError(f"{path} was made again while it was in use; start the program again.")
    return file


class Split(Dataset):
    """Inputs and targets as they are stored.

    Whole batches are gathered with one call for each array (`__getitems__`). A DataLoader that asks for its samples
    one by one spends longer on the asking than a small model does on the training.

    A process that reads for another may get it pickled (by default on macOS, and from Python 3.14 on): then arrays that
    are mapped from a file are not sent, but mapped there too.

    Args:
        inputs: (N, ...), most often uint8 images (N, C, H, W); or a dict of such arrays.
        targets: (N, ...), integers (classes, masks) or floating point (values, maps).
        rows: int64, which of them belong to the split; None for all.
        file: from which arrays are mapped, if they are.
    """

    #: Reading draws no random numbers.
    deterministic = True

    def __init__(
        self,
        inputs: Any,
        targets: Tensor,
        rows: Tensor | None = None,
        file: MappedFile | None = None,
    ) -> None:
        self.inputs = inputs
        self.targets = targets
        self.rows = rows
        self.file = file

    def __getstate__(self) -> dict[str, Any]:
        return self._with_arrays(self.file.name_of) if self.file else vars(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self.file:
            vars(self).update(self._with_arrays(self.file.array_of))

    def _with_arrays(self, change: Callable[[Any], Any]) -> dict[str, Any]:
        """Give all that the split is made of, with each array changed."""
        inputs = self.inputs
        changed = (
            {name: change(array) for name, array in inputs.items()}
            if isinstance(inputs, dict)
            else change(inputs)
        )
        return {**vars(self), "inputs": changed, "targets": change(self.targets)}

    def __len__(self) -> int:
        return len(self.targets if self.rows is None else self.rows)

    def __getitem__(self, index: int) -> tuple[Any, Tensor]:
        """Give one sample as it is stored, without the N."""
        inputs, targets = self.__getitems__([index])
        if isinstance(inputs, dict):
            return {name: array[0] for name, array in inputs.items()}, targets[0]
        return inputs[0], targets[0]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Any, Tensor]:
        """Give the batch at `indices` (B,) as it is stored: inputs (B, ...) and targets (B, ...)."""
        # index_select: for images of bytes `self.inputs[indices]` takes up to twenty times as long.
        index = torch.as_tensor(indices)
        if self.rows is not None:
            index = self.rows[index]
        if isinstance(self.inputs, dict):
            inputs = {name: array.index_select(0, index) for name, array in self.inputs.items()}
        else:
            inputs = self.inputs.index_select(0, index)
        return inputs, self.targets.index_select(0, index)

    def part(self, fraction: float) -> Split:
        """Give the same random part every time; a larger fraction contains the smaller ones."""
        if fraction == 1:
            return self
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(0))
        chosen = order[: max(1, round(fraction * len(self)))]
        rows = chosen.clone() if self.rows is None else self.rows[chosen]  # not the whole order
        return Split(self.inputs, self.targets, rows, self.file)


def as_inputs(inputs: Any, scale: float) -> Any:
    """Give bytes as float32 times `scale`, and narrow floats as float32; other numbers stay what they are."""
    if isinstance(inputs, dict):
        return {name: as_inputs(array, scale) for name, array in inputs.items()}
    if inputs.dtype == torch.uint8:
        return inputs.to(torch.float32).mul_(scale)
    return inputs.to(torch.float32) if inputs.is_floating_point() else inputs


def as_targets(targets: Tensor) -> Tensor:
    """Give classes and masks as int64, values and maps as float32."""
    return targets.to(torch.float32 if targets.is_floating_point() else torch.int64)


def open_split(path: Path, target: str, command: str) -> Split:
    """Open a .safetensors file with arrays `inputs`, or `inputs.<name>`, and `target`, mapped rather than read.

    Raises:
        UserError: the file is damaged or lacks an array; it names `command`, which makes it.
    """
    file = MappedFile(path, command)
    names = [name for name in file.arrays if name.startswith("inputs.")]
    inputs = {name.removeprefix("inputs."): file.array_of(name) for name in names}
    return Split(inputs or file.array_of("inputs"), file.array_of(target), file=file)
