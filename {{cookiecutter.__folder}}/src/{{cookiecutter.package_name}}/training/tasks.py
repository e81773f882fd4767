"""What a model is trained for: its loss, its metrics, and pictures of how it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex
from torchmetrics.regression import MeanSquaredError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Task(Protocol):
    """What the loop and the report need to know; a task of your own is a class like those below and a YAML file.

    `outputs` is how many values the model gives for each image or pixel, and `keep` how many test samples
    `pictures` wants to see (None for all).
    """

    outputs: int
    keep: int | None

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor: ...

    def metrics(self) -> dict[str, Metric]: ...

    def decode(self, predictions: Tensor) -> Tensor: ...

    def pictures(self, images: Tensor, targets: Tensor, decoded: Tensor) -> dict[str, Figure]: ...


class Classification:
    """One class an image: logits (B, outputs), targets int64 (B,)."""

    keep = None

    def __init__(self, outputs: int) -> None:
        self.outputs = outputs

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(predictions, targets)

    def metrics(self) -> dict[str, Metric]:
        return {"accuracy": MulticlassAccuracy(self.outputs, average="micro")}

    def decode(self, predictions: Tensor) -> Tensor:
        """(B, outputs) -> classes (B,)."""
        return predictions.argmax(dim=1)

    def pictures(self, images: Tensor, targets: Tensor, decoded: Tensor) -> dict[str, Figure]:
        from . import plots  # matplotlib takes a second, and only a report needs it

        return {
            "confusion": plots.confusion_matrix(targets, decoded, self.outputs),
            "mistakes": plots.mistakes(images, targets, decoded),
        }


class Segmentation:
    """One class a pixel: logits (B, outputs, H, W), targets int64 (B, H, W)."""

    keep = 6

    def __init__(self, outputs: int) -> None:
        self.outputs = outputs

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(predictions, targets)

    def metrics(self) -> dict[str, Metric]:
        return {
            "mean_iou": MulticlassJaccardIndex(self.outputs, average="macro"),
            "accuracy": MulticlassAccuracy(self.outputs, average="micro"),
        }

    def decode(self, predictions: Tensor) -> Tensor:
        """(B, outputs, H, W) -> classes (B, H, W)."""
        return predictions.argmax(dim=1)

    def pictures(self, images: Tensor, targets: Tensor, decoded: Tensor) -> dict[str, Figure]:
        from . import plots

        return {
            "predictions": plots.pixel_predictions(
                images, targets, decoded, largest=self.outputs - 1
            )
        }


class Depth:
    """One distance a pixel, in the data's unit: predictions and targets float32 (B, 1, H, W)."""

    keep = 6

    def __init__(self, outputs: int) -> None:
        self.outputs = outputs

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        # between L1 and L2: edges between near and far would otherwise dominate
        return F.smooth_l1_loss(predictions, targets, beta=0.05)

    def metrics(self) -> dict[str, Metric]:
        return {"rmse": MeanSquaredError(squared=False), "baseline_rmse": MeanBaseline()}

    def decode(self, predictions: Tensor) -> Tensor:
        """(B, 1, H, W) -> distances (B, H, W)."""
        return predictions[:, 0]

    def pictures(self, images: Tensor, targets: Tensor, decoded: Tensor) -> dict[str, Figure]:
        from . import plots

        return {
            "predictions": plots.pixel_predictions(images, targets[:, 0], decoded, largest=None)
        }


class MeanBaseline(Metric):
    """RMSE of the best constant prediction, the targets' own mean: what a useful model must beat."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        for name in ("count", "total", "squares"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        wide = targets.to(torch.float64)
        self.count += wide.numel()  # type: ignore[operator]
        self.total += wide.sum()  # type: ignore[operator]
        self.squares += wide.square().sum()  # type: ignore[operator]

    def compute(self) -> Tensor:
        mean = self.total / self.count  # type: ignore[operator]
        return (self.squares / self.count - mean**2).clamp(min=0).sqrt()  # type: ignore[operator]
