"""The training loop: plain PyTorch, from the first batch to the last."""

from __future__ import annotations

import math
import signal
import time
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..config import CheckpointConfig, MonitorConfig, TrainerConfig
from . import sharding
from .batches import Augment, Reader, epoch_order, steps_per_epoch
from .checkpoint import FORMAT, CheckpointStore, copy_to_cpu
from .distributed import Processes
from .journal import Journal
from .metrics_log import MetricsLog
from .parameters import Average, train_mode
from .progress import ProgressBar
from .random_state import get_random_state, set_random_state
from .scoring import score
from .signals import Stopped, StopSignal
from .state import Position
from .step import Stepper
from .tasks import Task


@dataclass
class Trainer:
    """All that a training needs. `fit` runs it; `state` and `restore` are its memory."""

    settings: TrainerConfig
    checkpointing: CheckpointConfig
    monitor: MonitorConfig
    seed: int
    model: nn.Module
    task: Task
    optimizer: Optimizer
    scheduler: LRScheduler
    train_data: Reader
    val_data: Reader
    augment: Augment | None
    processes: Processes
    checkpoints: CheckpointStore
    plain_config: dict[str, Any]

    def __post_init__(self) -> None:
        self.position = Position()
        self.stepper = Stepper(
            self.settings, self.model, self.task, self.optimizer, self.scheduler, self.processes
        )
        self.average = Average(self.model, self.settings.ema) if self.settings.ema else None
        self.best: dict[str, Any] | None = None  # weights of the best validation, on the CPU
        self._signal = StopSignal()
        self._saved_at = time.monotonic()

    @property
    def judged(self) -> nn.Module:
        """The model that is validated and kept: the average, where there is one."""
        return self.average.model if self.average else self.model

    @property
    def finished(self) -> bool:
        """Whether all epochs are over, or no validation has been better for too long."""
        patience, position = self.monitor.patience, self.position
        stuck = patience is not None and position.worse >= patience
        return stuck or position.epoch >= self.settings.max_epochs

    def fit(self, log: MetricsLog | None) -> None:
        """Train from where `position` stands to the last epoch.

        Args:
            log: where measurements go; None in all processes but the first.

        Raises:
            UserError: a loss or a gradient is not finite, or a checkpoint cannot be written.
            Stopped: SIGTERM or SIGINT came; the state is saved.
        """
        settings, position, processes = self.settings, self.position, self.processes
        total = settings.max_epochs * steps_per_epoch(self.train_data.samples, settings.batch_size)
        if log:
            position.lines = log.lines  # fewer than the checkpoint knew, if the file was lost
        with self._signal.noted(), ProgressBar(total, position.step, processes.first) as bar:
            self.journal = Journal(log, bar, position, settings, self.optimizer, processes)
            try:
                while not self.finished:
                    self._train_epoch()
                    self._validate()
                    position.epoch, position.batch = position.epoch + 1, 0
                    self._save_if_due(last=self.finished)
            finally:
                self.checkpoints.wait()

    def _train_epoch(self) -> None:
        position, watch = self.position, self.journal.watch
        order = epoch_order(
            self.train_data.samples,
            self.settings.batch_size,
            seed=self.seed,
            epoch=position.epoch,
            part=self.processes,
        )
        if position.batch < len(order):
            self._validate_in_between()  # it was ended before that
        train_mode(self.stepper.network)
        watch.resume()
        left = order[position.batch :]
        for inputs, targets in self.train_data.read(left, position.epoch, position.batch):
            self._step(*(self.augment(inputs, targets) if self.augment else (inputs, targets)))
            self._save_if_due()
            if position.batch < len(order):
                self._validate_in_between()
        watch.pause()

    def _step(self, inputs: Any, targets: Any) -> None:
        position = self.position
        loss, norm = self.stepper.take(inputs, targets)
        position.batch += 1
        position.step += 1
        if self.average:
            self.average.update(self.model, position.step)
        self.journal.step(loss, norm)

    def _validate_in_between(self) -> None:
        every, position = self.settings.validate_every, self.position
        if every and position.step % every == 0 and position.validated < position.step:
            self.journal.watch.pause()
            self._validate()
            self._save_if_due()
            train_mode(self.stepper.network)
            self.journal.watch.resume()

    def _validate(self) -> None:
        self.journal.settle()
        self.stepper.align(self.judged)
        try:
            values = score(
                self.judged,
                self.task,
                self.val_data,
                self.settings.batch_size,
                self.processes,
                self.settings.precision,
                between=self._stop_if_asked,
            )
        except Stopped:
            self.save()
            raise
        named = {f"val/{name}": value for name, value in values.items()}
        self._compare(self.journal.validation(named))
        self.position.validated = self.position.step

    def _compare(self, values: dict[str, float]) -> None:
        """Keep the weights if they are the best so far; those whose metric is no number never are."""
        position, value = self.position, values[self.monitor.metric]
        sign = 1 if self.monitor.mode == "max" else -1
        before = position.best[self.monitor.metric] if position.best else None
        position.worse += 1
        if not math.isnan(value) and (before is None or sign * value > sign * before):
            position.best, position.worse = values, 0
            self.best = copy_to_cpu(self._weights(self.judged), self.best)

    def _stop_if_asked(self) -> None:
        """Raise `Stopped` in all processes when a signal came to one of them."""
        if self.processes.any(self._signal.number is not None)[0]:
            raise Stopped(self._signal.number or signal.SIGTERM)

    def _save_if_due(self, last: bool = False) -> None:
        """Save when it is time to; save and raise `Stopped` when a signal came."""
        checkpoint = self.checkpointing
        # The clock is that of the process that writes; where the disk is slower than that, training does not wait for it.
        due = self.processes.first and not self.checkpoints.writing
        due &= time.monotonic() - self._saved_at >= 60 * checkpoint.minutes
        due |= checkpoint.steps is not None and self.position.step % checkpoint.steps == 0
        stop, due = self.processes.any(self._signal.number is not None, last or due)
        if stop or due:
            self.save()
        if stop:
            raise Stopped(self._signal.number or signal.SIGTERM)

    def save(self) -> None:
        """Write a checkpoint of this very step in the background. Every process must call it."""
        self.journal.settle()  # never keep weights that a loss that is no number has touched
        random_states = self.processes.gather(get_random_state(self.processes.device))
        state = self.state(random_states)
        if self.processes.first:
            self.checkpoints.save(self.position.step, state)
        self._saved_at = time.monotonic()

    def state(self, random_states: list[dict[str, Any]]) -> dict[str, Any]:
        """Give all that `restore` needs, in plain containers and tensors. Every process must call it."""
        optimizer = self.optimizer
        return {
            "format": FORMAT,
            "config": self.plain_config,
            "model": self._weights(self.model),
            "average": self.average.model.state_dict() if self.average else None,
            "best": self.best,
            "optimizer": sharding.get_optimizer(self.model, optimizer)
            if self.settings.shard
            else optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.stepper.scaler.state_dict(),
            "random": random_states,
            "position": self.position.to_dict(),
        }

    def _weights(self, model: nn.Module) -> dict[str, Any]:
        return sharding.get_model(model) if self.settings.shard else model.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        """Stand exactly where the process that gave `state` stood."""
        if self.settings.shard:
            sharding.set_model(self.model, state["model"])
            sharding.set_optimizer(self.model, self.optimizer, state["optimizer"])
        else:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        if self.average:
            self.average.model.load_state_dict(state["average"])
        self.best = state["best"]
        self.scheduler.load_state_dict(state["scheduler"])
        self.stepper.scaler.load_state_dict(state["scaler"])
        if (
            len(state["random"]) == self.processes.count
        ):  # else each process goes on from its own seed
            set_random_state(state["random"][self.processes.rank], self.processes.device)
        self.position = Position.from_dict(state["position"])
