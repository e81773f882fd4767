"""One split of arrays, mapped from its file and indexed by whole batches."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from launcher import UserError
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.data import Dataset


class Split(Dataset):
    """Inputs and targets as they are stored.

    Whole batches are gathered with one call for each array (`__getitems__`). A DataLoader that asks for its samples
    one by one spends longer on the asking than a small model does on the training.

    Args:
        inputs: (N, ...), most often uint8 images (N, C, H, W); or a dict of such arrays.
        targets: (N, ...), integers (classes, masks) or floating point (values, maps).
        rows: int64, which of them belong to the split; None for all.
    """

    #: Reading draws no random numbers.
    deterministic = True

    def __init__(self, inputs: Any, targets: Tensor, rows: Tensor | None = None) -> None:
        self.inputs = inputs
        self.targets = targets
        self.rows = rows

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

    def part(self, fraction: float) -> "Split":
        """Give the same random part every time; a larger fraction contains the smaller ones."""
        if fraction == 1:
            return self
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(0))
        return Split(self.inputs, self.targets, order[: max(1, round(fraction * len(self)))])


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
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith("inputs.")]  # noqa: SIM118 - no mapping
            inputs = (
                {name.removeprefix("inputs."): file.get_tensor(name) for name in names}
                if names
                else file.get_tensor("inputs")
            )
            return Split(inputs, file.get_tensor(target))
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); make it again with `{command}`."
        ) from error
