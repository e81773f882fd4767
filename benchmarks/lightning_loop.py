"""The same training by pytorch-lightning's Trainer, with everything switched off that costs time.

Runs in an environment of its own (see `projects.py`).
"""
# pyright: reportMissingImports=false

import logging
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch.nn import functional as F  # noqa: N812


class Module(pl.LightningModule):
    """The baked project's model, optimizer and schedule."""

    def __init__(self, setup: Any, parts: Any) -> None:
        super().__init__()
        self.model, self.setup_ = parts.model, setup
        mode = setup.config.trainer.compile
        self.network = torch.compile(parts.model, mode=mode) if mode else parts.model
        self.parts = parts
        self.seconds = 0.0

    def configure_optimizers(self) -> Any:
        # The same objects at every `fit`, so that the optimizer keeps its state from round to round.
        return {
            "optimizer": self.parts.optimizer,
            "lr_scheduler": {"scheduler": self.parts.scheduler, "interval": "step"},
        }

    def training_step(self, batch: Any, index: int) -> Any:
        inputs, targets = batch
        return F.cross_entropy(self.network(inputs).float(), targets)

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        # In mixed precision Lightning refuses to clip for a fused optimizer, though in bf16 nothing is scaled.
        if self.setup_.bf16:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.setup_.config.trainer.clip_norm)
        else:
            super().configure_gradient_clipping(optimizer, *args, **kwargs)

    def on_train_epoch_start(self) -> None:
        self.start = time.perf_counter()

    def on_train_epoch_end(self) -> None:
        self.setup_.end()
        self.seconds = time.perf_counter() - self.start


def lightning(setup: Any, make_batches: Callable[[Any, Any], Any]) -> Callable[[], float]:
    """One epoch of Lightning's `Trainer.fit` at each call; only the epoch itself is timed."""
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    parts = setup.trainer()
    module, batches = Module(setup, parts), make_batches(setup, setup.data.split("train"))
    trainer = pl.Trainer(
        accelerator="gpu" if setup.device.type == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed" if setup.bf16 else "32-true",
        gradient_clip_val=None if setup.bf16 else setup.config.trainer.clip_norm,
        max_epochs=0,
        # Lightning's own switch for measuring its overhead: no logger, no progress bar, no checkpoints, no checks
        barebones=True,
    )

    def epoch() -> float:
        trainer.fit_loop.max_epochs += 1
        trainer.fit(module, batches)
        return module.seconds

    return epoch
