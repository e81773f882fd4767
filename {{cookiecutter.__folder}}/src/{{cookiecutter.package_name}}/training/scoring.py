"""Loss and metrics of a model on a split."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from launcher import UserError
from torch import nn
from torch.distributed.fsdp import FSDPModule

from ..config import Precision
from .batches import Reader, whole_order
from .distributed import Processes
from .trees import as_float, call, samples

if TYPE_CHECKING:
    from .pictures import Picture
    from .tasks import Task


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Compute in `precision` where that is safe."""
    dtype = torch.float16 if precision is Precision.fp16 else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision is not Precision.fp32)


@torch.no_grad()
def score(
    model: nn.Module,
    task: Task,
    reader: Reader,
    batch_size: int,
    processes: Processes,
    precision: Precision,
    *,
    between: Callable[[], None] = lambda: None,
    pictures: Iterable[Picture] = (),
) -> dict[str, float]:
    """Give the mean loss and the task's metrics over all samples, shared out over the processes.

    Args:
        model: is left in evaluation mode.
        task: says which loss and metrics.
        reader: of the split.
        batch_size: samples over all processes.
        processes: among which the samples are shared.
        precision: of the forward pass.
        between: is called before each batch, as often in each process.
        pictures: see each batch.

    Raises:
        UserError: there are no samples, or the loss is no number.
    """
    if not reader.samples:
        raise UserError(
            "A split is empty, so there is nothing to measure; make the data anew, or give more of it."
        )
    device = processes.device
    model.eval()
    total, count = torch.zeros((), device=device), 0
    metrics = {name: metric.to(device) for name, metric in task.metrics().items()}
    for each in metrics.values() if device.type == "cuda" else ():
        # What they look for in each batch would wait for the GPU; the loss refuses such targets too.
        if hasattr(each, "validate_args"):
            each.validate_args = False
    order = whole_order(reader.samples, batch_size, processes)
    # A process that has nothing left takes part in `between`, and where a model is divided in computing: with any sample.
    spare = [0] if isinstance(model, FSDPModule) else []
    batches = reader.read([row or spare for row in order if row or spare])
    for row in order:
        between()
        if not row and not spare:
            continue
        inputs, targets = next(batches)
        with autocast(device, precision):
            predictions = call(model, inputs)
        if not row:
            continue
        predictions = as_float(predictions)
        total += task.loss(predictions, targets).float() * samples(inputs)
        count += samples(inputs)
        for each in metrics.values():
            each.update(predictions, targets)
        for each in pictures:
            each.update(inputs, targets, predictions)
    both = processes.mean(torch.tensor([float(total), float(count)], dtype=torch.float64))
    loss = float(both[0] / both[1])
    if not math.isfinite(loss):
        raise UserError(
            f"The loss is {loss} on a split that the model was not trained on; lower optimizer.lr, or look at the "
            "loss and at the data of that split."
        )
    return {"loss": loss, **{name: float(metric.compute()) for name, metric in metrics.items()}}
