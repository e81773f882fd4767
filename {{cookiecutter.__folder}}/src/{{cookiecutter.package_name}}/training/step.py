"""One optimizer step. Nothing in it reads a number back, so that a GPU's work can be given out ahead of it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..config import Precision, TrainerConfig
from . import sharding
from .distributed import Processes
from .scoring import autocast
from .tasks import Task
from .trees import as_float, call, chunks


class Stepper:
    """Forward, backward, clipping, update and learning rate.

    Args:
        settings: precision, compile mode, accumulation and clipping.
        model: whose parameters the optimizer has.
        task: says what the loss is.
        optimizer: of the parameters that are trained.
        scheduler: of its learning rates, one step at each of ours.
        processes: over which gradients are averaged.
    """

    def __init__(
        self,
        settings: TrainerConfig,
        model: nn.Module,
        task: Task,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        processes: Processes,
    ) -> None:
        self.settings, self.task = settings, task
        self.optimizer, self.scheduler = optimizer, scheduler
        self.device = processes.device
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=settings.precision is Precision.fp16
        )
        self.trained = [weight for weight in model.parameters() if weight.requires_grad]
        # A batch that is no number has been through the model before anything tells: its statistics are put back.
        self._buffers = list(model.buffers()) if settings.bad_step == "skip" else []
        self.network: Any = model
        if processes.count > 1 and not settings.shard:
            self.network = DistributedDataParallel(
                model, find_unused_parameters=settings.find_unused_parameters
            )
        if settings.compile:
            self.network = torch.compile(self.network, mode=settings.compile)
        graphs = self.device.type == "cuda" and settings.compile in (
            "reduce-overhead",
            "max-autotune",
        )
        self._graphs = graphs
        # A replayed graph writes its gradients where it wrote the last ones: a sum of parts needs a place of its own.
        self._keeps_gradients = graphs and settings.accumulate > 1
        if self._keeps_gradients:
            for weight in self.trained:
                weight.grad = torch.zeros_like(weight)

    def take(self, inputs: Any, targets: Any) -> tuple[Tensor, Tensor]:
        """Train on one batch, in `accumulate` parts; give its loss and the gradient's norm, on the device."""
        settings, loss = self.settings, torch.zeros(())
        parts = settings.accumulate
        both = zip(chunks(inputs, parts), chunks(targets, parts), strict=True)
        before = [buffer.clone() for buffer in self._buffers]
        for part, (some, wanted) in enumerate(both, start=1):
            if self._graphs:
                torch.compiler.cudagraph_mark_step_begin()
            with self._gradients_stay_here(part < parts):
                with autocast(self.device, settings.precision):
                    predictions = call(self.network, some)
                share = self.task.loss(as_float(predictions), wanted) / parts
                self.scaler.scale(share).backward()
            loss = share.detach() if part == 1 else loss + share.detach()
        norm = self._clip()
        # To leave a step out it has to be known by now: that setting waits for the device at each step.
        # The norm is the same in all processes, and so is what is done.
        if settings.bad_step == "stop" or bool(torch.isfinite(norm)):
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            for buffer, old in zip(self._buffers, before, strict=True):
                buffer.copy_(old)
        self.optimizer.zero_grad(set_to_none=not self._keeps_gradients)
        self.scheduler.step()
        return loss, norm

    def align(self, model: nn.Module) -> None:
        """Give the buffers of a model the values of the first process, so that all measure what that one keeps.

        DistributedDataParallel does so at the beginning of a step only; running statistics differ after it.
        """
        if isinstance(self._parallel, DistributedDataParallel):
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def _clip(self) -> Tensor:
        """Bound the gradient, where that is asked for; give the norm that it had."""
        limit = self.settings.clip_norm
        self.scaler.unscale_(self.optimizer)
        if limit is not None:
            norm = sharding.whole(nn.utils.clip_grad_norm_(self.trained, limit))
        else:
            given = [weight.grad for weight in self.trained if weight.grad is not None]
            norm = sharding.whole(nn.utils.get_total_norm(given))
        # One that is too large for half precision is the scaler's, which skips the step.
        return torch.nan_to_num(norm, 0.0, 0.0) if self.scaler.is_enabled() else norm

    @property
    def _parallel(self) -> Any:
        """The network as it was before it was compiled."""
        return getattr(self.network, "_orig_mod", self.network)

    def _gradients_stay_here(self, wanted: bool) -> AbstractContextManager[None]:
        """Keep accumulated parts from being averaged over the processes before the last."""
        network = self._parallel
        if self.settings.shard:
            sharding.average_gradients(network, not wanted)
        return (
            network.no_sync()
            if wanted and isinstance(network, DistributedDataParallel)
            else nullcontext()
        )
