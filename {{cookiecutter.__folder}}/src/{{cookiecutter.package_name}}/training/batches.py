"""Which samples make up each batch, the same however the run was interrupted or divided, and how they get there."""

from __future__ import annotations

import atexit
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import torch
import xxhash
from launcher import UserError
from torch.utils.data import DataLoader, Dataset, default_collate

from .distributed import Processes
from .random_state import isolated
from .trees import map_tensors, tensors

Batch = tuple[Any, Any]  # inputs and targets: trees of tensors whose first side is the samples


class Data(Protocol):
    """What a data section of the configuration gives; data/base.py says what else it may have."""

    def split(self, name: str) -> Dataset[Any]: ...


class Augment(Protocol):
    """Changes a training batch once it is on the device, at random; torch's generators are the ones that a run keeps."""

    def __call__(self, inputs: Any, targets: Any) -> Batch: ...


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


def epoch_order(
    samples: int, batch_size: int, *, seed: int, epoch: int, part: Processes
) -> list[list[int]]:
    """Shuffle for one epoch and give this process its part of each batch.

    The order depends on `seed` and `epoch` alone, so a run can go on in mid-epoch, and with another number of
    processes.

    Returns:
        For each step the batch_size / processes indices of its samples.
    """
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    steps = steps_per_epoch(samples, batch_size)
    order = torch.randperm(samples, generator=generator)[: steps * batch_size]
    return order.view(steps, part.count, batch_size // part.count)[:, part.rank].tolist()


def whole_order(samples: int, batch_size: int, part: Processes) -> list[list[int]]:
    """Share all samples out over the processes, for a validation or a test.

    Returns:
        For each round the indices of this process; every process has as many rounds, and may have nothing in the last.
    """
    size = max(1, batch_size // part.count)
    mine = range(part.rank, samples, part.count)
    rounds = -(-samples // (size * part.count))
    return [list(mine[start * size : (start + 1) * size]) for start in range(rounds)]


class Reader:
    """Reads batches of one split, here or in worker processes, and has the next one ready on the device.

    What is random in reading a sample depends on `seed`, the epoch, the process and the batch's place in the epoch: a
    run that goes on in mid-epoch reads what the undisturbed one would have, with any number of workers.

    Args:
        data: the section of the configuration that gave `split`.
        split: its items.
        workers: processes that read; 0 reads here.
        device: where batches go.
        seed: of what is random in reading.
        rank: of this process; each draws its own random numbers.
    """

    def __init__(
        self,
        data: Data,
        split: Dataset[Any],
        *,
        workers: int,
        device: torch.device,
        seed: int,
        rank: int = 0,
    ) -> None:
        self.samples: int = len(split)  # type: ignore[arg-type]
        self.device = device
        self._seed, self._rank = seed, rank
        self._finish: Callable[..., Batch] | None = getattr(data, "on_device", None)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        # The loader asks for them anew in each epoch, so its workers can stay.
        self._places: list[tuple[int, Sequence[int]]] = []
        self._loader = DataLoader(
            _WholeBatches(split, getattr(data, "collate", None) or default_collate),
            sampler=self._places,
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            # of its own: the loader would otherwise draw from the one that the checkpoint keeps
            generator=torch.Generator().manual_seed(0),
            worker_init_fn=_leave_signals,
        )

    def read(self, order: list[list[int]], epoch: int = 0, first: int = 0) -> Iterator[Batch]:
        """Give the batches with the samples of each row of `order`, on the device.

        Each is on its way while the step before it is computed. Only one such reading can go on at a time.

        Args:
            order: indices of samples.
            epoch: whose batches they are.
            first: the place in the epoch of the first of them.
        """
        self._places[:] = [
            (_mix(self._seed, self._rank, epoch, place), row)
            for place, row in enumerate(order, start=first)
        ]
        loaded = iter(self._loader)
        # Workers leave signals alone, so at its end Python would wait for them for ever: this is done first of all there.
        if self._loader.num_workers:
            atexit.unregister(_end_workers)
            atexit.register(_end_workers)
        coming = None
        for batch in loaded:
            following = self._send(batch)
            if coming:
                yield self._take(*coming)
            coming = following
        if coming:
            yield self._take(*coming)

    def _send(self, batch: Any) -> tuple[Any, Any]:
        if self._stream is None:
            return map_tensors(lambda tensor: tensor.to(self.device), batch), None
        with torch.cuda.stream(self._stream):
            sent = map_tensors(lambda tensor: tensor.to(self.device, non_blocking=True), batch)
            return sent, self._stream.record_event()

    def _take(self, batch: Any, sent: Any) -> Batch:
        if sent:
            now = torch.cuda.current_stream(self.device)
            now.wait_event(sent)
            for tensor in tensors(batch):
                tensor.record_stream(now)
        inputs, targets = batch
        return self._finish(inputs, targets) if self._finish else (inputs, targets)


class _WholeBatches(Dataset[Any]):
    """A data set whose items are batches, each read with random numbers of its own."""

    def __init__(self, split: Any, collate: Callable[[Any], Any]) -> None:
        self.split = split
        self.collate = collate

    def __getitem__(self, place: tuple[int, list[int]]) -> Any:
        seed, indices = place
        # To seed them all takes longer than to read a batch of arrays.
        with nullcontext() if getattr(self.split, "deterministic", False) else isolated(seed):
            if hasattr(self.split, "__getitems__"):  # PyTorch's own name for it
                return self.collate(self.split.__getitems__(indices))
            return self.collate([self.split[index] for index in indices])


def _mix(*numbers: int) -> int:
    """Make one seed of several numbers: far from those of its neighbours."""
    return xxhash.xxh3_64_intdigest(repr(numbers).encode())


def _as_it_is(batch: Any) -> Any:
    return batch


def _end_workers() -> None:
    """End what still reads when the program does: nothing of theirs is to be kept."""
    # PyTorch raises where a worker was killed, in whatever the program does then: here, what else is done at its end.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


def _leave_signals(worker: int) -> None:
    """Have a worker leave to its parent what is sent to all processes of a group: only that one can save.

    A worker ends when its parent tells it to, or is gone.
    """
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, signal.SIG_IGN)
