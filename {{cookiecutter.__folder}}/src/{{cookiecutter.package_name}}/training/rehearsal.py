"""Before anything is written, a batch of each split goes through augment, model, loss and metrics.

What does not fit together is so found in seconds, and said in a sentence that names the part. Afterwards weights, running
statistics and random numbers are as they were.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from launcher import UserError

from .batches import Batch, Reader
from .explain import described, working
from .loop import Trainer
from .parameters import train_mode
from .random_state import get_random_state, set_random_state
from .scoring import autocast
from .trees import as_float, call, tensors


def rehearse(trainer: Trainer, readers: Mapping[str, Reader]) -> None:
    """Try a batch of each split, of samples from its beginning to its end.

    Raises:
        UserError: naming the part that failed, what it was given and what it said.
    """
    model, device = trainer.model, trainer.processes.device
    generators = get_random_state(device)
    statistics = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            for name, reader in readers.items():
                _try(trainer, name, reader)
    finally:
        for buffer, before in statistics:
            buffer.copy_(before)
        set_random_state(generators, device)


def _try(trainer: Trainer, name: str, reader: Reader) -> None:
    model, task, settings = trainer.model, trainer.task, trainer.settings
    parts = trainer.processes.count * (settings.accumulate if name == "train" else 1)
    least = 1 if name == "train" else 2  # some metrics say nothing of a single sample
    inputs, targets = _read(reader, name, max(least, settings.batch_size // parts))
    if name == "train" and trainer.augment:
        with working("augment", f"the {name} split", inputs=inputs, targets=targets):
            inputs, targets = _pair(trainer.augment(inputs, targets))
    train_mode(model) if name == "train" else model.eval()
    with working("model", f"the {name} split", inputs=inputs):
        with autocast(trainer.processes.device, settings.precision):
            predictions = call(model, inputs)
        predictions = as_float(predictions)
    both = {"predictions": predictions, "targets": targets}
    with working("task", f"the {name} split", **both), warnings.catch_warnings():
        warnings.filterwarnings("error", message="Using a target size")  # (N,) against (N, 1)
        getattr(task, "check", lambda targets: None)(targets)
        loss = task.loss(predictions, targets)
        if loss.ndim:
            raise ValueError(f"the loss has shape {tuple(loss.shape)} and must be one number")
    if settings.bad_step == "stop" and not loss.isfinite():
        for key, tree in {"inputs": inputs, "targets": targets}.items():
            if not all(each.isfinite().all() for each in tensors(tree)):
                raise UserError(
                    f"data: {key} of the {name} split are nan or inf, and so the loss is {float(loss)}; correct them "
                    "where the data are made."
                )
    for key, metric in task.metrics().items() if name != "train" else ():
        with working("metric", f"{key} of the {name} split", **both):
            metric = metric.to(trainer.processes.device)
            metric.update(predictions, targets)
            float(metric.compute())


def _read(reader: Reader, name: str, size: int) -> Batch:
    """Read a batch whose samples are spread over the split: in sorted data they are of all kinds."""
    last, count = reader.samples - 1, min(size, reader.samples)
    rows = [place * last // max(1, count - 1) for place in range(count)]
    with working("data", f"reading its {name} split"):
        (batch,) = reader.read([rows])
        return _pair(batch)


def _pair(batch: Any) -> Batch:
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise TypeError(f"{described(batch)} is no pair")
    for each in batch:
        if next(tensors(each), None) is None:
            raise TypeError(f"there is no tensor in {described(each)}")
    return batch[0], batch[1]
