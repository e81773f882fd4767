"""One split of a data set, in memory, indexed by whole batches."""

from collections.abc import Sequence
from pathlib import Path

import torch
from launcher import UserError
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.data import Dataset


class Split(Dataset):
    """Inputs and targets that fit into memory.

    `split[indices]` gathers a batch with one call for each tensor. A DataLoader that asks for its
    samples one by one spends longer on the asking than a small model does on the training.

    Args:
        inputs: (N, C, H, W), most often uint8.
        targets: (N, ...), integers (classes, masks) or floating point (maps).
        scale: what turns stored inputs into [0, 1].
    """

    def __init__(self, inputs: Tensor, targets: Tensor, scale: float) -> None:
        self.inputs = inputs
        self.targets = targets
        self.scale = scale
        self._target_type = torch.float32 if targets.is_floating_point() else torch.int64

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, indices: Tensor | Sequence[int] | int) -> tuple[Tensor, Tensor]:
        """Give the batch at `indices` (B,), or the one sample at an integer.

        Returns:
            inputs float32 (B, C, H, W) in [0, 1], and targets: int64 (B,) classes,
            int64 (B, H, W) masks or float32 (B, 1, H, W) maps; without the B for one sample.
        """
        if isinstance(indices, int):
            inputs, targets = self[[indices]]
            return inputs[0], targets[0]
        # index_select: for images of bytes `self.inputs[indices]` takes up to twenty times as long.
        index = torch.as_tensor(indices)
        inputs = self.inputs.index_select(0, index).to(torch.float32).mul_(self.scale)
        return inputs, self.targets.index_select(0, index).to(self._target_type)

    def part(self, fraction: float) -> "Split":
        """Give the same random part every time; a larger fraction contains the smaller ones."""
        if fraction == 1:
            return self
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(0))
        chosen = order[: max(1, round(fraction * len(self)))]
        return Split(self.inputs[chosen], self.targets[chosen], self.scale)


def open_split(path: Path, target: str, scale: float, command: str) -> Split:
    """Open a .safetensors file with the arrays `inputs` and `target`, mapped rather than read.

    Raises:
        UserError: the file is damaged or lacks an array; it names `command`, which makes it.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return Split(file.get_tensor("inputs"), file.get_tensor(target), scale)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); make it again with `{command}`."
        ) from error
