"""What a configuration may hold. Importing this must stay fast: no torch here.

The values themselves are in `configs/`. Sections that every project has are typed by the dataclasses below.
Sections that name a class (`data`, `model`, `task`, ...) are yours to extend, so they are typed by example: an
override must have the type of the value that the section's own YAML file gives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from launcher import UserError, check_arguments, hydra_program, identity
from omegaconf import MISSING, DictConfig, OmegaConf

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
NOT_FOR_ITS_CLASS = {"optimizer": ("groups", "frozen")}  # training makes its parameters of these
MADE = ("data", "model", "task", "optimizer", "scheduler")  # of what their sections name
MAX_SEED = 10**18  # torch takes 64 bits, and each process adds its number
MAX_DATA_SEED = 2**32 - 1  # what scikit-learn takes
DEVICES = ("auto", "cpu", "cuda", "mps")
WORDS = {
    "trainer.device": DEVICES,
    "trainer.compile": (None, "default", "reduce-overhead", "max-autotune"),
    "trainer.matmul_precision": ("highest", "high", "medium"),
    "trainer.bad_step": ("stop", "skip"),
    "trainer.shard": (None, "fsdp"),
    "monitor.mode": ("min", "max"),
    "monitor.keep": ("best", "last"),
    "restore.mode": ("continue", "weights"),
}


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
    matmul_precision: str = MISSING
    clip_norm: float | None = MISSING
    bad_step: str = MISSING
    ema: float | None = MISSING
    compile: str | None = MISSING
    find_unused_parameters: bool = MISSING
    shard: str | None = MISSING
    device: str = MISSING
    num_workers: int = MISSING
    threads: int | None = MISSING
    validate_every: int | None = MISSING
    log_every: int = MISSING


@dataclass
class MonitorConfig:
    metric: str = MISSING
    mode: str = MISSING
    patience: int | None = MISSING
    keep: str = MISSING


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
    augment: Any = None
    model: Any = MISSING
    task: Any = MISSING
    optimizer: Any = MISSING
    scheduler: Any = MISSING
    tracking: Any = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    run: RunConfig = field(default_factory=RunConfig)
    restore: Any = MISSING  # a mapping: `from` is a Python keyword, so no dataclass can name it
    seed: int = MISSING
    evaluate: bool = MISSING
    objective: str | None = MISSING


@dataclass
class EvaluateConfig:
    run: str = MISSING
    root: str = MISSING
    device: str = MISSING


@dataclass
class ExportConfig:
    run: str = MISSING
    root: str = MISSING


for name, schema in {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
}.items():
    ConfigStore.instance().store(name=f"{name}_schema", node=schema)


def check(config: DictConfig) -> None:
    """Refuse what types cannot tell.

    Raises:
        UserError: naming the key, its value and what would be right.
    """
    for name in MADE:
        if OmegaConf.is_dict(config.get(name)) and "_target_" not in config[name]:
            raise UserError(
                f"{name} has no _target_: its file has to name a class, as in _target_: package.module.Name."
            )
    check_arguments(config, ROOT / "src", NOT_FOR_ITS_CLASS)
    for key, value in _numbers(config):
        if math.isnan(value):
            raise UserError(
                f"{key}=nan is no number that anything could be done with; give another."
            )
    if "device" in config:
        _check_word("device", config.device, DEVICES)
    if "data" in config:
        _check_range("data.seed", config.data.get("seed"), 0, MAX_DATA_SEED)
    if "trainer" in config:
        _check_training(config)


def _check_training(config: DictConfig) -> None:
    from .training.tracking import check_tracking  # wandb's own rules stand beside what uses it

    trainer, checkpoint = config.trainer, config.checkpoint
    least: dict[str, tuple[Any, float]] = {
        "trainer.max_epochs": (trainer.max_epochs, 1),
        "trainer.batch_size": (trainer.batch_size, 1),
        "trainer.accumulate": (trainer.accumulate, 1),
        "trainer.num_workers": (trainer.num_workers, 0),
        "trainer.log_every": (trainer.log_every, 1),
        "trainer.validate_every": (trainer.validate_every, 1),
        "trainer.threads": (trainer.threads, 1),
        "monitor.patience": (config.monitor.patience, 1),
        "checkpoint.steps": (checkpoint.steps, 1),
        "checkpoint.keep": (checkpoint.keep, 1),
        "checkpoint.minutes": (checkpoint.minutes, 0),
        "optimizer.lr": (config.optimizer.get("lr"), 0),
        "optimizer.weight_decay": (config.optimizer.get("weight_decay"), 0),
    }
    for key, (value, bound) in least.items():
        _check_range(key, value, bound)
    for key in ("data.fraction", "scheduler.warmup", "scheduler.final", "trainer.ema"):
        _check_range(key, OmegaConf.select(config, key), 0, 1)
    if OmegaConf.select(config, "data.fraction") == 0:
        raise UserError("data.fraction=0 leaves nothing to train on; give a number above 0.")
    if trainer.clip_norm is not None and trainer.clip_norm <= 0:
        raise UserError(
            f"trainer.clip_norm={trainer.clip_norm} leaves nothing of a gradient; give a number above 0, or null."
        )
    _check_groups(config.optimizer.get("groups"))
    _check_range("seed", config.seed, -MAX_SEED, MAX_SEED)
    if OmegaConf.is_interpolation(config.task, "outputs"):  # one output for each class of the data
        _check_range("data.classes", config.data.get("classes"), 2)
    if trainer.batch_size % trainer.accumulate:
        raise UserError(
            f"trainer.batch_size={trainer.batch_size} does not split into trainer.accumulate="
            f"{trainer.accumulate} equal parts; choose a multiple."
        )
    for key, known in WORDS.items():
        _check_word(key, OmegaConf.select(config, key), known)
    if trainer.shard and (trainer.ema or trainer.compile or trainer.precision is Precision.fp16):
        raise UserError(
            "trainer.shard does not go together with trainer.ema, trainer.compile and precision=fp16; leave these out."
        )
    _check_metric("monitor.metric", config.monitor.metric, config.task)
    _check_metric("objective", config.objective, config.task)
    if config.run.id is not None:
        identity.check_run_id(config.run.id)
    check_tracking(config.tracking)


def _check_groups(groups: Any) -> None:
    """Refuse groups of parameters that are of another form than docs/your-own.md shows."""
    for number, group in enumerate(groups or ()):
        key = f"optimizer.groups[{number}]"
        if not isinstance(group, DictConfig):
            raise UserError(f"{key}={group} is no mapping; give its names, lr and so on by name.")
        names = group.get("names")
        if names is not None and not OmegaConf.is_list(names):
            raise UserError(f"{key}.names={names} is no list; give names: ['{names}'] there.")
        for setting, least in (("lr", 0), ("weight_decay", 0), ("max_dims", 0)):
            _check_range(f"{key}.{setting}", group.get(setting), least)


def _numbers(node: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """Find all numbers with a fraction, by their keys."""
    for key in node if isinstance(node, DictConfig) else ():
        if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, str(key)):
            continue
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(node[key], float):
            yield name, node[key]
        yield from _numbers(node[key], name)


def _check_range(key: str, value: Any, least: float, most: float = math.inf) -> None:
    if not isinstance(value, int | float):
        return
    if value < least:
        raise UserError(f"{key}={value} is too small; the least is {least}.")
    if value > most:
        raise UserError(f"{key}={value} is too large; the most is {most}.")


def _check_word(key: str, word: str | None, known: tuple[str | None, ...]) -> None:
    if word not in known:
        listed = ", ".join(each or "null" for each in known)
        raise UserError(f"{key}={word} is unknown; choose of {listed}.")


def _check_metric(key: str, name: str | None, task: DictConfig) -> None:
    """Refuse a metric that the task's YAML file does not have; a task without such a list is asked when it is built."""
    if name is None or "metrics" not in task:
        return
    known = ["val/loss", *(f"val/{metric}" for metric in task.metrics)]
    if name not in known:
        raise UserError(f"{key}={name} is not measured; choose one of {', '.join(known)}.")


# Makes `main()` of a function of one of these configurations: `@program("train")`.
program = partial(hydra_program, root=ROOT, check=check)
