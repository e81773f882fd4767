"""The training loop: plain PyTorch, from the first batch to the last."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from launcher import UserError
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..config import CheckpointConfig, Precision, TrainerConfig
from .batches import batches, epoch_order, steps_per_epoch
from .checkpoint import FORMAT, CheckpointStore
from .distributed import Processes
from .metrics_log import MetricsLog
from .progress import ProgressBar, Speed
from .random_state import get_random_state, set_random_state
from .scoring import autocast, score
from .state import Position
from .tasks import Task


class Stopped(BaseException):
    """A signal ended the training after its state was saved.

    Args:
        signum: the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.exit_code = 128 + signum


@dataclass
class Trainer:
    """All that a training needs. `fit` runs it; `state` and `restore` are its memory."""

    settings: TrainerConfig
    checkpointing: CheckpointConfig
    seed: int
    model: nn.Module
    task: Task
    optimizer: Optimizer
    scheduler: LRScheduler
    train_data: Any
    val_data: Any
    processes: Processes
    checkpoints: CheckpointStore
    plain_config: dict[str, Any]

    def __post_init__(self) -> None:
        self.device = self.processes.device
        self.position = Position()
        fp16 = self.settings.precision is Precision.fp16
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=fp16)
        self.network: Any = self.model
        if self.processes.count > 1:
            self.network = DistributedDataParallel(self.model)
        if self.settings.compile:
            self.network = torch.compile(self.network)
        self._unread: list[Tensor] = []  # of each step the loss and the norm of its gradient
        self._signal: int | None = None
        self._validating = False
        self._saved_at = time.monotonic()
        self._speed = Speed()

    def fit(self, log: MetricsLog | None) -> None:
        """Train from where `position` stands to the last epoch.

        Args:
            log: where measurements go; None in all processes but the first.

        Raises:
            UserError: a loss or a gradient is not finite, or a checkpoint cannot be written.
            Stopped: SIGTERM or SIGINT came; the state is saved.
        """
        settings, position = self.settings, self.position
        per_epoch = steps_per_epoch(len(self.train_data), settings.batch_size)
        total, first = settings.max_epochs * per_epoch, self.processes.first
        if log:
            position.lines = log.lines  # fewer than the checkpoint knew, if the file was lost
        with self._signals(), ProgressBar(total, position.step, shown=first) as bar:
            try:
                while position.epoch < settings.max_epochs:
                    self._train_epoch(log, bar)
                    self._validate(log, bar)
                    position.epoch, position.batch = position.epoch + 1, 0
                    self._save_if_due(last=position.epoch == settings.max_epochs)
            finally:
                self.checkpoints.wait()

    def _train_epoch(self, log: MetricsLog | None, bar: ProgressBar) -> None:
        settings, position = self.settings, self.position
        self.network.train()
        order = epoch_order(
            len(self.train_data),
            settings.batch_size,
            seed=self.seed,
            epoch=position.epoch,
            part=self.processes,
        )
        self._speed.resume()
        for inputs, targets in batches(
            self.train_data, order[position.batch :], settings.num_workers, self.device
        ):
            self._step(inputs, targets)
            position.batch += 1
            position.step += 1
            self._speed.samples += settings.batch_size
            bar.step()
            if position.step % settings.log_every == 0:
                self._log_losses(log, bar)
            self._save_if_due(wait=position.batch == len(order))
        self._speed.pause()

    def _step(self, inputs: Tensor, targets: Tensor) -> None:
        settings, loss = self.settings, torch.zeros(())
        parts = settings.accumulate
        for part, (some, wanted) in enumerate(
            zip(inputs.chunk(parts), targets.chunk(parts), strict=True), start=1
        ):
            with self._gradients_stay_here(part < parts):
                with autocast(self.device, settings.precision):
                    predictions = self.network(some)
                share = self.task.loss(predictions.float(), wanted) / parts
                self.scaler.scale(share).backward()
            loss = share.detach() if part == 1 else loss + share.detach()
        norm = self._clip()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.scheduler.step()
        # Read later: reading them now would wait for the GPU.
        self._unread.append(torch.stack([loss.float(), norm.float()]))

    def _clip(self) -> Tensor:
        """Bound the gradient, where that is asked for; give the norm that it had."""
        limit, parameters = self.settings.clip_norm, list(self.model.parameters())
        self.scaler.unscale_(self.optimizer)
        if limit is not None:
            norm = nn.utils.clip_grad_norm_(parameters, limit)
        else:
            given = [each.grad for each in parameters if each.grad is not None]
            norm = nn.utils.get_total_norm(given)
        # One that is too large for half precision is the scaler's, which skips the step.
        return torch.zeros_like(norm) if self.scaler.is_enabled() else norm

    def _gradients_stay_here(self, wanted: bool) -> AbstractContextManager[None]:
        """Keep accumulated parts from being averaged over the processes before the last."""
        network = getattr(self.network, "_orig_mod", self.network)
        return (
            network.no_sync()
            if wanted and isinstance(network, DistributedDataParallel)
            else nullcontext()
        )

    def _read_losses(self) -> None:
        """Bring the newest losses and norms to the CPU and stop at the first that is no number."""
        if not self._unread:
            return
        read = self.processes.mean(torch.stack(self._unread).cpu())
        first_step = self.position.step - len(self._unread) + 1
        self._unread.clear()
        for step, (loss, norm) in enumerate(read.tolist(), start=first_step):
            for what, value in (("training loss", loss), ("gradient's norm", norm)):
                if not math.isfinite(value):
                    raise UserError(
                        f"The {what} is {value} at step {step}; lower optimizer.lr, set trainer.clip_norm, "
                        "or look at the loss and at the data of that step."
                    )
            self.position.losses.append(loss)

    def _log_losses(self, log: MetricsLog | None, bar: ProgressBar) -> None:
        self._read_losses()
        speed = self._speed.take()  # only now has the device done what is counted
        position, settings = self.position, self.settings
        loss = sum(position.losses) / len(position.losses)
        position.losses = []
        values = {
            "train/loss": loss,
            "lr": self.optimizer.param_groups[0]["lr"],
            "samples_per_second": round(speed, 1),
        }
        self._write(log, values)
        bar.line(
            f"epoch {position.epoch + 1}/{settings.max_epochs}  step {position.step}  loss {loss:.4f}  "
            f"{speed:,.0f} samples/s"
        )

    def _validate(self, log: MetricsLog | None, bar: ProgressBar) -> None:
        self._read_losses()
        settings = self.settings
        try:
            self._validating = True
            values = score(
                self.model,
                self.task,
                self.val_data,
                settings.batch_size,
                self.processes,
                settings.precision,
            )
        except Stopped:
            self._validating = False  # another signal must not end the saving
            self.save()
            raise
        finally:
            self._validating = False
        values = {f"val/{name}": value for name, value in values.items()}
        self.position.history.append(self._write(log, values))
        bar.line(
            f"epoch {self.position.epoch + 1}/{settings.max_epochs}  "
            + "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        )

    def _write(self, log: MetricsLog | None, values: dict[str, float]) -> dict[str, Any]:
        self.position.lines += 1
        if log:
            log.add(self.position.step, self.position.epoch + 1, **values)
        return {"step": self.position.step, "epoch": self.position.epoch + 1, **values}

    def _save_if_due(self, wait: bool = False, last: bool = False) -> None:
        """Save when it is time to, unless told to `wait`; save and raise `Stopped` when a signal came."""
        checkpoint = self.checkpointing
        due = time.monotonic() - self._saved_at >= 60 * checkpoint.minutes
        due |= checkpoint.steps is not None and self.position.step % checkpoint.steps == 0
        stop, due = self.processes.any(self._signal is not None, last or (due and not wait))
        if stop or due:
            self.save()
        if stop:
            raise Stopped(self._signal or signal.SIGTERM)

    def save(self) -> None:
        """Write a checkpoint of this very step in the background. Every process must call it."""
        self._read_losses()  # never keep weights that a loss that is no number has touched
        random_states = self.processes.gather(get_random_state(self.device))
        if self.processes.first:
            self.checkpoints.save(self.position.step, self.state(random_states))
        self._saved_at = time.monotonic()

    def state(self, random_states: list[dict[str, Any]]) -> dict[str, Any]:
        """Give all that `restore` needs, in plain containers and tensors."""
        return {
            "format": FORMAT,
            "config": self.plain_config,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": random_states,
            "position": self.position.to_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Stand exactly where the process that gave `state` stood."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        if (
            len(state["random"]) == self.processes.count
        ):  # else each process goes on from its own seed
            set_random_state(state["random"][self.processes.rank], self.device)
        self.position = Position.from_dict(state["position"])

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Note SIGTERM and SIGINT, to save and end after the step; a second SIGINT ends at once."""

        def note(signum: int, frame: FrameType | None) -> None:
            self._signal = signum
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if self._validating and self.processes.count == 1:  # nothing of it needs to be kept
                raise Stopped(signum)

        before = {each: signal.signal(each, note) for each in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)
