"""Loss and metrics of a model on a split."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from launcher import UserError
from torch import Tensor, nn
from torchmetrics import SumMetric

from ..config import Precision
from .distributed import Processes
from .tasks import Task


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Compute in `precision` where that is safe."""
    dtype = torch.float16 if precision is Precision.fp16 else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision is not Precision.fp32)


@torch.no_grad()
def score(
    model: nn.Module,
    task: Task,
    data: Any,
    batch_size: int,
    processes: Processes,
    precision: Precision,
    on_batch: Callable[[Tensor, Tensor, Tensor], None] | None = None,
) -> dict[str, float]:
    """Give the mean loss and the task's metrics over all samples, shared out over the processes.

    Args:
        model: is left in the mode it was in.
        task: says which loss and metrics.
        data: a split, indexed by whole batches.
        batch_size: samples over all processes.
        processes: among which the samples are shared.
        precision: of the forward pass.
        on_batch: sees inputs, targets and predictions of each batch, on the device.

    Raises:
        UserError: there are no samples, or the loss is no number.
    """
    if not len(data):
        raise UserError(
            "A split is empty, so there is nothing to measure; make the data anew, or give more of it."
        )
    device, was_training = processes.device, model.training
    model.eval()
    # MeanMetric would leave out what is no number, and its weight.
    losses, samples = (SumMetric(nan_strategy="disable").to(device) for _ in range(2))
    metrics = {name: metric.to(device) for name, metric in task.metrics().items()}
    mine = torch.arange(processes.rank, len(data), processes.count)
    for indices in mine.split(max(1, batch_size // processes.count)):
        inputs, targets = (tensor.to(device, non_blocking=True) for tensor in data[indices])
        with autocast(device, precision):
            predictions = model(inputs)
        predictions = predictions.float()
        losses.update(task.loss(predictions, targets) * len(inputs))
        samples.update(len(inputs))
        for metric in metrics.values():
            metric.update(predictions, targets)
        if on_batch:
            on_batch(inputs, targets, predictions)
    model.train(was_training)
    loss = float(losses.compute() / samples.compute())
    if not math.isfinite(loss):
        raise UserError(
            f"The loss is {loss} on a split that the model was not trained on; lower optimizer.lr, or look at the "
            "loss and at the data of that split."
        )
    return {"loss": loss, **{name: float(metric.compute()) for name, metric in metrics.items()}}
