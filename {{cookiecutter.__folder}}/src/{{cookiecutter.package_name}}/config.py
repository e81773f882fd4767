"""What a configuration may hold. Importing this must stay fast: no torch here.

The values themselves are in `configs/`. Sections that every project has are typed by the dataclasses below.
Sections that name a class (`data`, `model`, `task`, ...) are yours to extend, so they are typed by example: an
override must have the type of the value that the section's own YAML file gives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from launcher import UserError, hydra_program, identity
from omegaconf import MISSING, DictConfig

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
DEVICES = ("auto", "cpu", "cuda", "mps")
RESTORE_MODES = ("continue", "weights")


class Precision(Enum):
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


@dataclass
class TrainerConfig:
    max_epochs: int = MISSING
    batch_size: int = MISSING
    accumulate: int = MISSING
    precision: Precision = MISSING
    clip_norm: float | None = MISSING
    compile: bool = MISSING
    device: str = MISSING
    num_workers: int = MISSING
    log_every: int = MISSING


@dataclass
class CheckpointConfig:
    minutes: float = MISSING
    steps: int | None = MISSING
    keep: int = MISSING


@dataclass
class RunConfig:
    id: str | None = MISSING
    root: str = MISSING


@dataclass
class TrainConfig:
    data: Any = MISSING
    model: Any = MISSING
    task: Any = MISSING
    optimizer: Any = MISSING
    scheduler: Any = MISSING
    tracking: Any = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    run: RunConfig = field(default_factory=RunConfig)
    restore: Any = MISSING  # a mapping: `from` is a Python keyword, so no dataclass can name it
    seed: int = MISSING
    evaluate: bool = MISSING
    objective: str | None = MISSING


@dataclass
class PrepareConfig:
    data: Any = MISSING


@dataclass
class EvaluateConfig:
    run: str = MISSING
    root: str = MISSING
    device: str = MISSING


for name, schema in {
    "train": TrainConfig,
    "prepare": PrepareConfig,
    "evaluate": EvaluateConfig,
}.items():
    ConfigStore.instance().store(name=f"{name}_schema", node=schema)


def check(config: DictConfig) -> None:
    """Refuse what types cannot tell.

    Raises:
        UserError: naming the key, its value and what would be right.
    """
    if "device" in config:
        _check_device("device", config.device)
    if "trainer" in config:
        _check_ranges(config)


def _check_ranges(config: DictConfig) -> None:
    trainer, checkpoint = config.trainer, config.checkpoint
    least: dict[str, tuple[float | None, float]] = {
        "trainer.max_epochs": (trainer.max_epochs, 1),
        "trainer.batch_size": (trainer.batch_size, 1),
        "trainer.accumulate": (trainer.accumulate, 1),
        "trainer.num_workers": (trainer.num_workers, 0),
        "trainer.log_every": (trainer.log_every, 1),
        "checkpoint.steps": (checkpoint.steps, 1),
        "checkpoint.keep": (checkpoint.keep, 1),
        "checkpoint.minutes": (checkpoint.minutes, 0),
        "data.fraction": (config.data.get("fraction"), 0),
    }
    _check_least(least)
    if trainer.batch_size % trainer.accumulate:
        raise UserError(
            f"trainer.batch_size={trainer.batch_size} does not split into trainer.accumulate="
            f"{trainer.accumulate} equal parts; choose a multiple."
        )
    _check_device("trainer.device", trainer.device)
    if config.run.id is not None:
        identity.check_run_id(config.run.id)
    if config.restore.mode not in RESTORE_MODES:
        raise UserError(
            f"restore.mode={config.restore.mode} is not a mode; choose {' or '.join(RESTORE_MODES)}."
        )


def _check_least(least: dict[str, tuple[float | None, float]]) -> None:
    for key, (value, bound) in least.items():
        if value is not None and not value >= bound:  # so that "nan" is refused too
            raise UserError(f"{key}={value} is too small; the least is {bound}.")


def _check_device(key: str, device: str) -> None:
    if device not in DEVICES:
        raise UserError(f"{key}={device} is not a device; choose {', '.join(DEVICES)}.")


# Makes `main()` of a function of one of these configurations: `@program("train")`.
program = partial(hydra_program, root=ROOT, check=check)
