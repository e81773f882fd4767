"""Random changes of training batches, made where the model is. One of your own is a class like this and a YAML file."""

from __future__ import annotations

import torch
from torch import Tensor


class FlipCrop:
    """Mirrors and moves images, and masks or maps along with them.

    Args:
        flip: whether every second image, on average, is mirrored from left to right.
        shift: part of a side by which an image is moved at most, in [0, 1); the pixels of its rim are repeated.
    """

    def __init__(self, flip: bool, shift: float) -> None:
        self.flip = flip
        self.shift = shift

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Change images (B, C, H, W); targets (B,) stay, masks (B, H, W) and maps (B, C, H, W) move with them."""
        count, _, height, width = images.shape
        rows = self._places(height, count, images.device)
        columns = self._places(width, count, images.device)
        if self.flip:
            mirrored = torch.rand(count, 1, device=images.device) < 0.5
            columns = torch.where(mirrored, columns.flip(1), columns)
        moves = targets.shape[-2:] == (height, width) and targets.ndim > 2
        return _pick(images, rows, columns), _pick(targets, rows, columns) if moves else targets

    def _places(self, side: int, count: int, device: torch.device) -> Tensor:
        """Give for each image which of its rows, or columns, is shown at each: int64 (count, side)."""
        most = int(self.shift * side)
        offset = torch.randint(-most, most + 1, (count, 1), device=device)
        return (torch.arange(side, device=device) + offset).clamp(0, side - 1)


def _pick(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Give `images[..., rows, columns]` with rows and columns (B, side) of each image."""
    between = [1] * (images.ndim - 3)  # channels, where there are some
    each = torch.arange(len(images), device=images.device).view(-1, *between, 1, 1)
    rows = rows.view(len(rows), *between, -1, 1)
    columns = columns.view(len(columns), *between, 1, -1)
    if not between:
        return images[each, rows, columns]
    channels = torch.arange(images.shape[1], device=images.device).view(1, -1, 1, 1)
    return images[each, channels, rows, columns]
