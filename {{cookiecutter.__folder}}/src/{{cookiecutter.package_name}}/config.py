"""What a configuration may hold. Importing this must stay fast: no torch here.

The values themselves are in `configs/`. Sections that every project has are typed by the dataclasses below.
Sections that name a class (`data`, `model`, `task`, ...) are yours to extend, so they are typed by example: an
override must have the type of the value that the section's own YAML file gives.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from .errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DEVICES = ("auto", "cpu", "cuda", "mps")
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
RESTORE_MODES = ("continue", "weights")
OPEN_SECTIONS = ("data", "model", "task", "optimizer", "scheduler", "tracking")


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


class JobKind(Enum):
    train = "train"
    notebook = "notebook"


class Code(Enum):
    image = "image"
    worktree = "worktree"


@dataclass
class CloudConfig:
    backend: str = MISSING
    project: str | None = MISSING
    region: str | None = MISSING
    bucket: str | None = MISSING
    image: str | None = MISSING
    repository: str | None = MISSING
    service_account: str | None = MISSING
    labels: dict[str, str] = MISSING
    machine: str = MISSING
    nodes: int = MISSING
    spot: bool = MISSING
    max_hours: float = MISSING
    max_cost_usd: float = MISSING
    max_month_usd: float = MISSING
    max_attempts: int = MISSING
    secrets: dict[str, str] = MISSING
    one_per_branch: bool = MISSING
    parallel: int = 1  # trials of a sweep at the same time
    zones: list[str] | None = None  # of virtual machines; None: all of the region
    vm_image: str | None = None  # what virtual machines start from
    idle_minutes: float = 30.0  # after which a notebook that nobody uses is ended


@dataclass
class LaunchConfig(TrainConfig):
    cloud: CloudConfig = field(default_factory=CloudConfig)
    job: JobKind = MISSING
    dry_run: bool = MISSING
    doctor_only: bool = MISSING
    code: Code = MISSING


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
    "launch": LaunchConfig,
    "prepare": PrepareConfig,
    "evaluate": EvaluateConfig,
}.items():
    ConfigStore.instance().store(name=f"{name}_schema", node=schema)


def check(config: DictConfig, choices: dict[str, Any]) -> None:
    """Refuse what the dataclasses cannot see. `choices` maps each group to the file chosen in it.

    Raises:
        UserError: naming the key, its value and what would be right.
    """
    for section in OPEN_SECTIONS:
        example = CONFIGS / section / f"{choices.get(section)}.yaml"
        if section in config and example.is_file():
            _check_types(section, OmegaConf.load(example), config[section])
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UserError(f"Give a value for {', '.join(missing)}, for example {missing[0]}=...")
    if "device" in config:
        _check_device("device", config.device)
    if "trainer" in config:
        _check_ranges(config)
    if "cloud" in config:
        _check_cloud(config.cloud)


def _check_types(where: str, example: Any, actual: Any) -> None:
    if not OmegaConf.is_dict(example) or not OmegaConf.is_dict(actual):
        return
    for key in example:
        if OmegaConf.is_interpolation(example, key) or key not in actual:
            continue
        expected, value = example[key], actual[key]
        if OmegaConf.is_dict(expected):
            _check_types(f"{where}.{key}", expected, value)
        elif expected is not None and not _fits(expected, value):
            raise UserError(
                f"{where}.{key}={value} is {_kind(value)}; give {_kind(expected)}, such as {where}.{key}={expected}."
            )


def _fits(expected: Any, value: Any) -> bool:
    if isinstance(expected, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(expected)


def _kind(value: Any) -> str:
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        type(None): "nothing",
    }
    return names.get(type(value), "a list or mapping")


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
        check_run_id(config.run.id)
    if config.restore.mode not in RESTORE_MODES:
        raise UserError(
            f"restore.mode={config.restore.mode} is not a mode; choose {' or '.join(RESTORE_MODES)}."
        )


def _check_least(least: dict[str, tuple[float | None, float]]) -> None:
    for key, (value, bound) in least.items():
        if value is not None and not value >= bound:  # so that "nan" is refused too
            raise UserError(f"{key}={value} is too small; the least is {bound}.")


def _check_cloud(cloud: DictConfig) -> None:
    least: dict[str, tuple[float | None, float]] = {
        "cloud.nodes": (cloud.nodes, 1),
        "cloud.max_hours": (cloud.max_hours, 0.01),
        "cloud.max_cost_usd": (cloud.max_cost_usd, 0),
        "cloud.max_month_usd": (cloud.max_month_usd, 0),
        "cloud.parallel": (cloud.parallel, 1),
        "cloud.idle_minutes": (cloud.idle_minutes, 1),
        "cloud.max_attempts": (cloud.max_attempts, 1),
    }
    _check_least(least)
    if math.isinf(cloud.max_hours):
        raise UserError("cloud.max_hours=inf would never end the job; give a number of hours.")
    for variable in cloud.secrets:
        if not VARIABLE.fullmatch(str(variable)):
            raise UserError(
                f"cloud.secrets.{variable} cannot name an environment variable; use capital letters, digits and "
                "underscores, such as cloud.secrets.WANDB_API_KEY."
            )


def _check_device(key: str, device: str) -> None:
    if device not in DEVICES:
        raise UserError(f"{key}={device} is not a device; choose {', '.join(DEVICES)}.")


def check_run_id(run_id: str) -> None:
    """Refuse an id that could not name a folder, an object in a bucket and a run of the tracker."""
    if not RUN_ID.fullmatch(run_id):
        raise UserError(
            f"run.id={run_id} cannot name a run; use up to 64 letters, digits, dots, dashes or underscores."
        )
