"""Losses, gradient norms and speed, read when the device has them and not before: asking would wait for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from launcher import UserError
from torch import Tensor

from .distributed import Processes


class StepNumbers:
    """The loss and the gradient's norm of each step, on their way from the device.

    Args:
        processes: over which they are averaged.
        skip: whether a step that is no number is left out, rather than the end of the training.
        step: the last step before the first that is added.
    """

    def __init__(self, processes: Processes, skip: bool, step: int) -> None:
        self.processes = processes
        self.skip = skip
        self.step = step
        self._new: list[tuple[Tensor, Tensor]] = []
        self._sent: list[tuple[Tensor, Any]] = []  # each with the event of its arrival, on a GPU

    def add(self, loss: Tensor, norm: Tensor) -> None:
        """Keep a step's loss and norm, which are scalars on the device."""
        self._new.append((loss, norm))

    def send(self) -> None:
        """Let what was added begin its way to the CPU."""
        if not self._new:
            return
        both = torch.stack([torch.stack(column).float() for column in zip(*self._new, strict=True)])
        self._new.clear()
        if both.device.type != "cuda":
            self._sent.append((both.cpu(), None))
            return
        here = torch.empty(both.shape, pin_memory=True).copy_(both, non_blocking=True)
        self._sent.append((here, torch.cuda.current_stream(both.device).record_event()))

    def receive(self) -> list[tuple[float, float]]:
        """Give loss and norm of each step that was sent; those that were left out are not among them.

        Raises:
            UserError: one is no number.
        """
        found: list[tuple[float, float]] = []
        for numbers, arrived in self._sent:
            if arrived:
                arrived.synchronize()
            for loss, norm in zip(*self.processes.mean(numbers).tolist(), strict=True):
                self.step += 1
                if math.isfinite(loss) and math.isfinite(norm):
                    found.append((loss, norm))
                elif not self.skip:
                    what = "gradient's norm" if math.isfinite(loss) else "training loss"
                    raise UserError(
                        f"The {what} is {norm if math.isfinite(loss) else loss} at step {self.step}; lower "
                        "optimizer.lr, set trainer.clip_norm, look at the loss and at the data of that step, or give "
                        "trainer.bad_step=skip."
                    )
        self._sent.clear()
        return found


class Stopwatch:
    """Samples a second that the device trains on, without validations.

    Args:
        device: a GPU is behind the program that gives it its work, so the time is its own.
    """

    def __init__(self, device: torch.device) -> None:
        self.samples = 0
        self._cuda = device.type == "cuda"
        self._since: Any = None
        self._pieces: list[tuple[Any, Any]] = []

    def resume(self) -> None:
        self._since = self._now()

    def pause(self) -> None:
        if self._since is not None:
            self._pieces.append((self._since, self._now()))
        self._since = None

    def lap(self) -> Callable[[], float]:
        """Begin anew; what is given tells the speed until now, once the device is there."""
        self.pause()
        samples, pieces = self.samples, self._pieces
        self.samples, self._pieces = 0, []
        self.resume()
        return lambda: samples / max(sum(self._seconds(*piece) for piece in pieces), 1e-9)

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _seconds(self, start: Any, end: Any) -> float:
        return start.elapsed_time(end) / 1000 if self._cuda else end - start  # CUDA counts in ms
