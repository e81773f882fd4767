"""Pictures for the report, made batch by batch: of a large split no more is kept than is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from matplotlib.figure import Figure
from torch import Tensor

from . import plots

Decode = Callable[[Any], Tensor]


class Picture(Protocol):
    """Sees each batch of the test split, on the device, and then draws; None where there is nothing to show."""

    def update(self, inputs: Any, targets: Any, predictions: Any) -> None: ...

    def draw(self) -> Figure | None: ...


class Confusion:
    """How often each class was taken for each other.

    Args:
        decode: gives the classes (B,) of predictions.
        classes: how many there are.
    """

    def __init__(self, decode: Decode, classes: int) -> None:
        self.decode, self.classes = decode, classes
        self.counts: Tensor | None = None

    def update(self, inputs: Any, targets: Tensor, predictions: Any) -> None:
        pairs = targets * self.classes + self.decode(predictions)
        counts = torch.bincount(pairs, minlength=self.classes**2)
        self.counts = counts if self.counts is None else self.counts + counts

    def draw(self) -> Figure | None:
        if self.counts is None:
            return None
        return plots.confusion_matrix(self.counts.cpu().view(self.classes, self.classes))


class Samples:
    """Keeps the first samples of a split, on the CPU, decoded.

    Args:
        decode: gives what a prediction means.
        most: how many are kept.
    """

    def __init__(self, decode: Decode, most: int) -> None:
        self.decode, self.most = decode, most
        self.kept: list[tuple[Tensor, Tensor, Tensor]] = []

    def update(self, inputs: Any, targets: Tensor, predictions: Any) -> None:
        room = self.most - sum(len(targets) for _, targets, _ in self.kept)
        if room > 0:
            self.keep(inputs[:room], targets[:room], self.decode(predictions)[:room])

    def keep(self, *columns: Tensor) -> None:
        inputs, targets, decoded = (column.cpu() for column in columns)
        self.kept.append((inputs, targets, decoded))

    def columns(self) -> list[Tensor]:
        """Inputs, targets and decoded predictions of all samples."""
        return [torch.cat(column) for column in zip(*self.kept, strict=True)]


class Mistakes(Samples):
    """The first images whose class was not found; nothing where inputs are no images."""

    def __init__(self, decode: Decode, most: int = 12) -> None:
        super().__init__(decode, most)
        self.images = False

    def update(self, inputs: Any, targets: Tensor, predictions: Any) -> None:
        self.images = (
            isinstance(inputs, Tensor) and inputs.ndim == 4 and inputs.shape[1] in plots.CHANNELS
        )
        if self.images:
            decoded = self.decode(predictions)
            wrong = torch.nonzero(targets != decoded)[:, 0]
            room = self.most - sum(len(targets) for _, targets, _ in self.kept)
            if len(wrong) and room > 0:
                wrong = wrong[:room]
                self.keep(inputs[wrong], targets[wrong], decoded[wrong])

    def draw(self) -> Figure | None:
        if not self.images:
            return None
        return plots.mistakes(*self.columns()) if self.kept else plots.mistakes()


class Pixels(Samples):
    """Image, target and prediction side by side.

    Args:
        decode: gives maps (B, H, W).
        largest: value at the top of the scale; None for the largest target of each sample.
        most: how many samples are shown.
    """

    def __init__(self, decode: Decode, largest: float | None, most: int = 6) -> None:
        super().__init__(decode, most)
        self.largest = largest

    def draw(self) -> Figure:
        images, targets, decoded = self.columns()
        return plots.pixel_predictions(images, targets.view_as(decoded), decoded, self.largest)


class Scatter(Samples):
    """Predicted numbers over true ones, of the first thousand samples."""

    def __init__(self, decode: Decode, most: int = 1000) -> None:
        super().__init__(decode, most)

    def update(self, inputs: Any, targets: Tensor, predictions: Any) -> None:
        super().update(targets, targets, predictions)  # inputs may be anything, and are not drawn

    def draw(self) -> Figure:
        _, targets, decoded = self.columns()
        return plots.scatter(targets, decoded)
