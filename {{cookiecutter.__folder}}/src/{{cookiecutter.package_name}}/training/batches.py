"""Which samples make up each batch, the same however the run was interrupted or divided."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import torch
from launcher import UserError
from torch import Tensor
from torch.utils.data import DataLoader

from .distributed import Processes


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """Whole batches in an epoch; the samples left over differ from epoch to epoch.

    Raises:
        UserError: there is not one whole batch.
    """
    if samples < batch_size:
        raise UserError(
            f"The training split has {samples} samples, fewer than trainer.batch_size={batch_size}; "
            "give a smaller one, or more data."
        )
    return samples // batch_size


def epoch_order(samples: int, batch_size: int, *, seed: int, epoch: int, part: Processes) -> Tensor:
    """Shuffle for one epoch and give this process its part of each batch.

    The order depends on `seed` and `epoch` alone, so a run can go on in mid-epoch, and with another number of
    processes.

    Returns:
        int64 (steps, batch_size / processes): indices of samples.
    """
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    steps = steps_per_epoch(samples, batch_size)
    order = torch.randperm(samples, generator=generator)[: steps * batch_size]
    return order.view(steps, part.count, batch_size // part.count)[:, part.rank].contiguous()


def batches(
    data: Any, order: Tensor, num_workers: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Give `data[indices]` on the device for each row of `order`."""
    loader: Any = (data[indices] for indices in order)
    if num_workers:
        # a generator of its own: the loader would otherwise draw from the one that the checkpoint keeps
        loader = DataLoader(
            data,
            sampler=list(order),
            batch_size=None,
            num_workers=num_workers,
            pin_memory=device.type == "cuda",
            generator=torch.Generator().manual_seed(0),
            worker_init_fn=_leave_signals,
        )
    for inputs, targets in loader:
        yield inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True)


def _leave_signals(worker: int) -> None:
    """Have a worker leave to its parent what is sent to all processes of a group: only that one can save.

    A worker ends when its parent tells it to, or is gone.
    """
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, signal.SIG_IGN)
