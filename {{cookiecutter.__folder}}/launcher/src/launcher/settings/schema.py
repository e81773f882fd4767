"""What `configs/launch.yaml` and `configs/cloud/*.yaml` may hold."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from ..errors import UserError
from ..identity import check_run_id
from ..project import project

VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
CHOICES = {"job": ("train", "notebook", "predict"), "code": ("image", "worktree")}
SWITCHES = ("dry_run", "doctor_only")


@dataclass
class CloudConfig:
    """Where a job runs, and what it may cost; a setting that a backend has no use for has a value here."""

    backend: str = MISSING
    infra: str | None = None  # where an engine of one's own is to start it, in that engine's words
    project: str | None = None
    region: str | None = None
    bucket: str | None = None
    image: str | None = None
    repository: str | None = None
    service_account: str | None = None
    workspace: str | None = None  # in which jobs are, where the cloud has such
    compute: str | None = None  # a cluster of one's own; None: machines for this job only
    labels: dict[str, str] = MISSING
    machine: Any = MISSING  # one, or a list of which the first that can be had is taken
    nodes: int = 1
    spot: bool = False
    max_hours: float = MISSING
    attempt_hours: float | None = (
        None  # of one start, where a queue allows less than the job needs; None: all of them
    )
    max_wait_hours: float = 24.0  # for a machine; then the janitor ends the job
    max_cost_usd: float = MISSING
    max_month_usd: float = MISSING
    max_attempts: int = 1
    secrets: dict[str, str] = MISSING
    one_per_branch: bool = False
    parallel: int = 1  # trials of a sweep at the same time
    zones: list[str] | None = None  # of a region; None: all of them
    driver: str | None = None  # version of NVIDIA's; None: the one of the machine's system
    idle_minutes: float = 30.0  # after which a notebook that nobody uses is ended


@dataclass
class PredictConfig:
    """What job=predict does; typed without the section's name, as after `uv run predict`."""

    model: str | None = None
    input: str | None = None
    output: str | None = None
    arrays: bool = False
    once: bool = False


def register_resolver() -> None:
    """Let a configuration name values of [tool.launcher]: ${launcher:bucket}."""

    def value(name: str) -> str:
        found = getattr(project(), name, None)
        if not isinstance(found, str):
            raise UserError(f"${{launcher:{name}}} is not in [tool.launcher] of pyproject.toml.")
        return found

    OmegaConf.register_new_resolver("launcher", value, replace=True)


def register() -> None:
    """Give Hydra the schemas that `configs/launch.yaml` names.

    The training's own schema is the project's and not imported here: `train --check` is asked before a launch.
    """
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance().store
    store(name="train_schema", node={})
    store(name="launch_schema", node={"cloud": CloudConfig, "predict": PredictConfig})


def machines(cloud: DictConfig) -> list[str]:
    """Give the machines that would do, best first."""
    return [str(cloud.machine)] if isinstance(cloud.machine, str) else list(map(str, cloud.machine))


def backends() -> list[str]:
    """Give the backends that the files of configs/cloud/ name."""
    files = sorted((project().configs / "cloud").glob("*.yaml"))
    return [str(OmegaConf.select(OmegaConf.load(file), "backend")) for file in files]


def check_launch(config: DictConfig) -> None:
    """Refuse settings of a launch that cannot work, beside those of the training.

    Raises:
        UserError: naming the key, its value and what would be right.
    """
    for key, words in CHOICES.items():
        if config[key] not in words:
            raise UserError(f"{key}={config[key]} is no choice; give {' or '.join(words)}.")
    for key in SWITCHES:
        if not isinstance(config[key], bool):
            raise UserError(f"{key}={config[key]} is neither true nor false.")
    check_id(config.run.id)
    check_cloud(config.cloud)


def check_id(run_id: Any) -> None:
    """Refuse what could not name a run; of a number in a file it is not known how it was written.

    Raises:
        UserError: saying what it may be made of.
    """
    if isinstance(run_id, str):
        check_run_id(run_id)
    elif run_id is not None:
        raise UserError(f"run.id={run_id} is no text; put it in quotes, or use letters.")


def check_cloud(cloud: DictConfig) -> None:
    """Refuse numbers that make no sense, and names that no environment variable can have.

    Raises:
        UserError: naming the key, its value and what would be right.
    """
    least: dict[str, tuple[float, float]] = {
        "cloud.nodes": (cloud.nodes, 1),
        "cloud.max_hours": (cloud.max_hours, 0.01),
        "cloud.max_wait_hours": (cloud.max_wait_hours, 0),
        "cloud.max_cost_usd": (cloud.max_cost_usd, 0),
        "cloud.max_month_usd": (cloud.max_month_usd, 0),
        "cloud.parallel": (cloud.parallel, 1),
        "cloud.idle_minutes": (cloud.idle_minutes, 1),
        "cloud.max_attempts": (cloud.max_attempts, 1),
    }
    if cloud.attempt_hours is not None:
        least["cloud.attempt_hours"] = (cloud.attempt_hours, 0.01)
    for key, (value, bound) in least.items():
        if not value >= bound:  # so that "nan" is refused too
            raise UserError(f"{key}={value} is too small; the least is {bound}.")
    for key in ("max_hours", "max_wait_hours"):
        if math.isinf(cloud[key]):
            raise UserError(f"cloud.{key}=inf would never end the job; give a number of hours.")
    if not machines(cloud) or not all(machines(cloud)):
        raise UserError("cloud.machine is empty; give one, such as l4, or a list such as [l4,t4].")
    for variable in cloud.secrets:
        if not VARIABLE.fullmatch(str(variable)):
            raise UserError(
                f"cloud.secrets.{variable} cannot name an environment variable; use capital letters, digits and "
                "underscores, such as cloud.secrets.WANDB_API_KEY."
            )
