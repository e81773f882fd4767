"""Loss and metrics of a model on a split."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

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
    seen: list[tuple[Tensor, Tensor, Tensor]] | None = None,
) -> dict[str, float]:
    """Give the mean loss and the task's metrics over all samples, shared out over the processes.

    Args:
        model: is left in the mode it was in.
        task: says which loss and metrics.
        data: a split, indexed by whole batches.
        batch_size: samples over all processes.
        processes: among which the samples are shared.
        precision: of the forward pass.
        seen: receives (images, targets, decoded predictions) of each batch on the CPU, as many samples as
            `task.keep` asks for.
    """
    device, was_training = processes.device, model.training
    model.eval()
    metrics = {
        name: metric.to(device) for name, metric in {"loss": MeanMetric(), **task.metrics()}.items()
    }
    mine = torch.arange(processes.rank, len(data), processes.count)
    kept = 0
    for indices in mine.split(max(1, batch_size // processes.count)):
        inputs, targets = (tensor.to(device, non_blocking=True) for tensor in data[indices])
        with autocast(device, precision):
            predictions = model(inputs)
            loss = task.loss(predictions, targets)
        for name, metric in metrics.items():
            if name == "loss":
                metric.update(loss.float(), len(inputs))
            else:
                metric.update(predictions.float(), targets)
        if seen is not None and (task.keep is None or kept < task.keep):
            room = len(inputs) if task.keep is None else task.keep - kept
            seen.append(
                tuple(t[:room].cpu() for t in (inputs, targets, task.decode(predictions.float())))
            )  # type: ignore[arg-type]
            kept += len(seen[-1][0])
    model.train(was_training)
    return {name: float(metric.compute()) for name, metric in metrics.items()}
