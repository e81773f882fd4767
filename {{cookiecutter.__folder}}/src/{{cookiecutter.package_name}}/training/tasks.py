"""What a model is trained for: its loss, its metrics, and pictures of how it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from launcher import UserError
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

if TYPE_CHECKING:
    from .pictures import Picture

IGNORED = -100  # what the loss leaves out


class Task(Protocol):
    """What the loop and the report need to know; a task of your own is a class like those below and a YAML file.

    Predictions are what the model gives, in float32. `metrics` and `pictures` give new ones at each call, which are
    updated batch by batch. A task may have `check(targets)`, which refuses a batch of them before the training.
    """

    def loss(self, predictions: Any, targets: Any) -> Tensor: ...

    def metrics(self) -> dict[str, Metric]: ...

    def decode(self, predictions: Any) -> Any: ...

    def pictures(self) -> dict[str, Picture]: ...


class _Measured:
    """A task whose metrics are those of its YAML file.

    Args:
        outputs: values that the model gives for each sample or pixel.
        metrics: by name, any of torchmetrics or of your own.
    """

    #: What a served model makes of the predictions; "values" gives them as they are.
    kind: str = "values"
    #: How many sides the targets of a batch have, if they must.
    sides: int | None = None

    def __init__(self, outputs: int, metrics: Mapping[str, Metric]) -> None:
        self.outputs = outputs
        self._metrics = dict(metrics)
        for name, metric in metrics.items():
            if not isinstance(metric, Metric):
                raise UserError(
                    f"task.metrics.{name} is {type(metric).__name__}; name a class of torchmetrics, or one like those."
                )

    def check(self, targets: Tensor) -> None:
        """Refuse targets of other data, which a loss might take all the same.

        Raises:
            UserError: naming their shape.
        """
        if self.sides and targets.ndim != self.sides:
            raise UserError(
                f"{type(self).__name__} is for targets with {self.sides} sides, and these are {tuple(targets.shape)}; "
                "choose another task, or other data."
            )

    def metrics(self) -> dict[str, Metric]:
        return {name: metric.clone() for name, metric in self._metrics.items()}


class _Classes(_Measured):
    """A task whose targets are numbers of classes."""

    def check(self, targets: Tensor) -> None:
        """Refuse numbers of classes that there are not; what a loss on a GPU says of them helps nobody.

        Raises:
            UserError: naming the numbers.
        """
        super().check(targets)
        known = targets[targets != IGNORED]
        if known.numel() and not 0 <= known.min() <= known.max() < self.outputs:
            raise UserError(
                f"The targets run from {known.min()} to {known.max()}, but task.outputs={self.outputs} allows 0 to "
                f"{self.outputs - 1}; correct the data, or data.classes."
            )

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        try:
            return F.cross_entropy(predictions, targets)
        except IndexError:  # on the CPU
            self.check(targets)
            raise


class Classification(_Classes):
    """One class a sample: logits (B, outputs), targets int64 (B,)."""

    kind = "classification"

    def decode(self, predictions: Tensor) -> Tensor:
        """(B, outputs) -> classes (B,)."""
        return predictions.argmax(dim=1)

    def pictures(self) -> dict[str, Picture]:
        from . import pictures  # matplotlib takes a second, and only a report needs it

        return {
            "confusion": pictures.Confusion(self.decode, self.outputs),
            "mistakes": pictures.Mistakes(self.decode),
        }


class Segmentation(_Classes):
    """One class a pixel: logits (B, outputs, H, W), targets int64 (B, H, W)."""

    kind = "segmentation"

    sides = 3

    def decode(self, predictions: Tensor) -> Tensor:
        """(B, outputs, H, W) -> classes (B, H, W)."""
        return predictions.argmax(dim=1)

    def pictures(self) -> dict[str, Picture]:
        from . import pictures

        return {"predictions": pictures.Pixels(self.decode, largest=self.outputs - 1)}


class Depth(_Measured):
    """One distance a pixel, in the data's unit: predictions and targets float32 (B, 1, H, W)."""

    kind = "depth"

    sides = 4

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        # between L1 and L2: edges between near and far would otherwise dominate
        return F.smooth_l1_loss(predictions, targets, beta=0.05)

    def decode(self, predictions: Tensor) -> Tensor:
        """(B, 1, H, W) -> distances (B, H, W)."""
        return predictions[:, 0]

    def pictures(self) -> dict[str, Picture]:
        from . import pictures

        return {"predictions": pictures.Pixels(self.decode, largest=None)}


class Regression(_Measured):
    """Numbers for each sample: predictions and targets float32 (B, outputs)."""

    kind = "regression"

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(predictions, targets)

    def decode(self, predictions: Tensor) -> Tensor:
        """(B, outputs) as they are, in the targets' unit."""
        return predictions

    def pictures(self) -> dict[str, Picture]:
        from . import pictures

        return {"predictions": pictures.Scatter(self.decode)}


class MeanBaseline(Metric):
    """RMSE of the best constant prediction, the targets' own mean: what a useful model must beat."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[Tensor]
        self.add_state("pieces", [], dist_reduce_fx="cat")

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        # Around the batch's own mean: a sum of squares would lose digits in float32, and Apple's GPUs have no float64.
        targets = targets.float()
        mean = targets.mean()
        count = torch.full_like(mean, targets.numel())
        self.pieces.append(torch.stack([count, mean, (targets - mean).square().sum()])[None])

    def compute(self) -> Tensor:
        count, means, squares = dim_zero_cat(self.pieces).cpu().double().T
        mean = (count * means).sum() / count.sum()
        return ((squares + count * (means - mean).square()).sum() / count.sum()).sqrt()
