"""From settings to a job and its price. Asks no provider."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from .. import job as words
from ..errors import UserError
from ..identity import branch, git_state, make_run_id, pull_request
from ..job import Job, Kind, Machine, Search
from ..money.prices import Price, price
from ..project import project
from ..providers import find, own_code, starts
from . import predicting

if TYPE_CHECKING:
    from ..records import Record

# What is for launch itself; everything else is passed on to the training.
OWN = re.compile(
    r"[+~]{0,2}(cloud[.=@]|cloud$|predict\.|hydra[./]"
    r"|(dry_run|doctor_only|code|job|sweep|run|run\.id|run\.root)(=|$))"
)


@dataclass
class Plan:
    """One launch before it is made.

    Args:
        config: the whole composed configuration.
        job: what will be started; its image may still be named by a tag.
        price: of one node.
        again: whether the run has an id of the caller's, and so may have been launched before.
        earlier: seconds that it has been running before, and in how many starts.
        packed: the working tree's code, when it travels along.
    """

    config: DictConfig
    job: Job
    price: Price
    again: bool
    earlier: tuple[float, int]
    packed: bytes | None

    @property
    def home(self) -> str:
        from ..records import home

        return home(self.config.cloud.bucket)

    @cached_property
    def state(self) -> dict[str, Any]:
        return git_state()

    @cached_property
    def branch(self) -> str | None:
        return branch()

    @property
    def commit(self) -> str | None:
        """The commit that this folder's code is of, when it is this folder's code that runs."""
        cloud = self.config.cloud
        here = self.packed is not None or own_code(cloud)
        if not here or not self.state["commit"]:
            return None
        return self.state["commit"] + ("-dirty" if self.state["dirty"] else "")

    @property
    def hours(self) -> float:
        """Of all trainings of the launch together, each on all its nodes."""
        return self.job.max_hours * (self.job.search.trials if self.job.search else 1)

    @property
    def starts(self) -> int:
        """How often a machine may be paid for the whole time."""
        return starts(self.config.cloud, self.job.kind.value)

    @property
    def worst_case(self) -> float:
        return self.price.worst_case(self.job.spot, self.hours * self.starts, self.job.nodes)

    def text(self) -> str:
        """Say on what the run would be and what it would cost."""
        cost, job = self.price, self.job
        machine = job.machine
        if not cost.region:
            return f"machine   {machine.type}: {cost.date or 'free'}"
        gpus = f" with {machine.gpus} {machine.gpu}" if machine.gpu else ""
        nodes = f"{job.nodes} node{'s' * (job.nodes > 1)}"
        trials = f"{job.search.trials} trials of " if job.search else ""
        text = (
            f"machine   {machine.name}: {machine.type}{gpus} in {cost.region}{', spot' * job.spot}\n"
            f"price     {cost.text()} (disk and fees of {cost.extra:.2f} included; table of {cost.date})\n"
            f"at most   {self.worst_case:.2f} USD: {trials}{nodes}, {self.starts} x {job.max_hours:g} hours"
        )
        return text.replace(", 1 x ", ", ")

    def guard(self) -> None:
        """Refuse a run that could cost more than was allowed.

        Raises:
            UserError: with the numbers and what to change.
        """
        limit, job = self.config.cloud.max_cost_usd, self.job
        if self.worst_case <= limit:
            return
        rate = self.price.hourly(job.spot) * job.nodes * (self.hours / job.max_hours) * self.starts
        hours = int(limit / rate * 100) / 100
        trials = f"{job.search.trials} trials x " if job.search else ""
        trials += f"{self.starts} starts x " if self.starts > 1 else ""
        fewer = "fewer trials (hydra.sweeper.n_trials), " if job.search else ""
        raise UserError(
            f"This run could cost {self.worst_case:.2f} USD ({trials}{job.nodes} x {self.price.hourly(job.spot):.2f} "
            f"USD x {job.max_hours:g} h), more than cloud.max_cost_usd={limit:g}: give {fewer}cloud.max_hours={hours:g} "
            f"or less, a smaller machine, or allow it with cloud.max_cost_usd={self.worst_case:g}."
        )

    def record(self, job: Job, now: datetime) -> Record:
        """Give what is kept of this launch, made at the time that the provider calls `now`."""
        from ..records import Record

        return Record(
            run_id=job.run_id,
            backend=self.config.cloud.backend,
            launched=now.astimezone(UTC).isoformat(timespec="seconds"),
            machine=job.machine.name,
            type=job.machine.type,
            gpu=job.machine.gpu,
            gpus=job.machine.gpus,
            nodes=job.nodes,
            spot=job.spot,
            region=self.price.region,
            project=self.config.cloud.project,
            hourly_usd=round(self.price.hourly(job.spot), 4),
            worst_case_usd=self.worst_case,
            prices=self.price.date,
            max_hours=job.max_hours,
            image=job.image,
            args=list(job.args),
            code=job.env.get(words.RUN_CODE),
            commit=job.env.get(words.RUN_COMMIT),
            dirty=self.state["dirty"],
            branch=self.branch,
            earlier_seconds=self.earlier[0],
            kind=job.kind.value,
            pull_request=pull_request(),
            env=dict(job.env),
            secrets=dict(job.secrets),
            labels=dict(job.labels),
            output=job.output,
            token=secrets.token_hex(4),
            max_wait_hours=self.config.cloud.max_wait_hours,
        )


def make_plan(
    config: DictConfig,
    overrides: Sequence[str],
    search: Search | None = None,
    constants: tuple[str, ...] = (),
) -> Plan:
    """Make a plan of the composed configuration and of what was typed.

    Args:
        search: what a sweep looks for; None for one training.
        constants: settings that all its trainings need beside what was typed.

    Raises:
        UserError: the settings cannot work somewhere else, or the machine is not in the price table.
    """
    cloud = config.cloud
    _refuse_what_stays_here(config)
    cost = price(cloud.backend, cloud.machine, cloud.region, cloud, config.dry_run)
    run_id = config.run.id or make_run_id()
    earlier = _earlier(config) if config.run.id and not config.dry_run else (0.0, 0)
    packed = _pack(config)
    trials = search.trials if search else 1
    kind = Kind.sweep if search else Kind[config.job]
    if kind is Kind.predict:
        args = (*predicting.arguments(config), f"run.id={run_id}")
    else:
        passed = (word for word in overrides if not OWN.match(word))
        device = _device(cost.machine, overrides, config.job)
        args = (*constants, *passed, *device, f"run.id={run_id}")
    labels = {
        **cloud.labels,
        words.RUN_LABEL: label(run_id),
        words.SECONDS_LABEL: str(math.ceil(cloud.max_hours * 3600 * trials)),
        "branch": label(branch() or "none"),
    }
    job = Job(
        run_id=run_id,
        image=cloud.image or "",
        args=args,
        machine=cost.machine,
        nodes=cloud.nodes,
        spot=cloud.spot and kind is not Kind.notebook,  # a person's work must not be taken away
        max_hours=cloud.max_hours,
        env=_environment(config, run_id, earlier, packed, search),
        secrets={} if kind is Kind.predict else OmegaConf.to_container(cloud.secrets),  # type: ignore[arg-type]
        labels=labels,
        output=f"{cloud.bucket.rstrip('/')}/runs/{run_id}" if cloud.bucket else None,
        kind=kind,
        search=search,
    )
    return Plan(config, job, cost, config.run.id is not None, earlier, packed)


def _device(machine: Machine, overrides: Sequence[str], kind: str) -> tuple[str, ...]:
    """Give the setting with which a training on a GPU that it cannot use ends, instead of going on without it."""
    given = any(word.lstrip("+").startswith("trainer.device=") for word in overrides)
    return ("trainer.device=cuda",) if machine.gpus and kind == "train" and not given else ()


def label(text: str) -> str:
    """Give a text in the alphabet that labels of Google Cloud may have."""
    return re.sub(r"[^a-z0-9_-]", "-", text.lower())[:63]


def _refuse_what_stays_here(config: DictConfig) -> None:
    if not config.cloud.bucket and config.cloud.backend != "local":
        raise UserError("cloud.bucket=null would lose the results; give the address of a bucket.")
    if config.job != Kind.predict.value:  # which reads nothing of a training's settings
        _refuse_of_a_training(config)


def _refuse_of_a_training(config: DictConfig) -> None:
    cloud, folder, source = config.cloud, str(config.data.get("folder", "")), config.restore["from"]
    if config.run.root != "runs":
        raise UserError("run.root is for `uv run train`; results of a launch are in runs/<id>.")
    if Path(folder).is_absolute() or ".." in Path(folder).parts:
        raise UserError(f"data.folder={folder} is on this machine only; give a folder below data/.")
    if config.trainer.compile and cloud.machine != "process" and not _image_has_compiler():
        raise UserError(
            f"trainer.compile={config.trainer.compile} needs a C compiler, and the image has none: let the Dockerfile's last stage "
            "install gcc and libc6-dev, or leave it out."
        )
    if cloud.bucket and source and "://" not in str(source):
        raise UserError(
            f"restore.from={source} is on this machine only; give restore.from={cloud.bucket}/runs/{source}, "
            "or another URI."
        )


def _image_has_compiler() -> bool:
    """Tell whether the Dockerfile installs one; without it torch.compile would fail at the job's first step."""
    text = (project().root / "Dockerfile").read_text(encoding="utf-8")
    return re.search(r"gcc|clang|build-essential", text) is not None


def _pack(config: DictConfig) -> bytes | None:
    cloud = config.cloud
    if config.code != "worktree":
        return None
    if own_code(cloud):
        return None  # it runs this folder's code anyway
    if not cloud.bucket:
        raise UserError("code=worktree travels by the bucket; give cloud.bucket=...")
    from .code import pack

    return pack(project().root)


def _earlier(config: DictConfig) -> tuple[float, int]:
    """Give how long, and in how many starts, a run has been running that is launched again."""
    from ..providers import connect, log_in
    from ..records import attempts, home, seconds

    log_in(connect(config.cloud))
    found = attempts(home(config.cloud.bucket), config.run.id)
    return seconds(found), len(found)


def _environment(
    config: DictConfig,
    run_id: str,
    earlier: tuple[float, int],
    packed: bytes | None,
    search: Search | None,
) -> dict[str, str]:
    cloud = config.cloud
    # The worker counts over all starts of the run, so what was allowed and used before comes on top.
    env = {
        words.RUN_ID: run_id,
        words.RUN_MAX_SECONDS: str(int(cloud.max_hours * 3600 + earlier[0])),
        words.RUN_MAX_ATTEMPTS: str(cloud.max_attempts + earlier[1]),
    }
    # A data set may be in a package, and then nothing is fetched.
    folder = config.data.get("folder")
    if folder and config.job != Kind.predict.value:
        env[words.RUN_DATA] = str(folder)
    if status := getattr(find(cloud.backend), "RETRY_STATUS", None):
        env[words.RUN_RETRY_STATUS] = str(status)
    if cloud.bucket:
        env[words.RUN_OUTPUT] = f"{cloud.bucket.rstrip('/')}/runs/{run_id}"
    if packed:
        from .code import uri

        env[words.RUN_CODE] = uri(packed, cloud.bucket)
    if search:
        env |= {words.RUN_KIND: Kind.sweep.value, words.RUN_OBJECTIVE: search.objective}
    if config.job == Kind.predict.value:
        env |= {words.RUN_KIND: config.job, words.RUN_MODELS: predicting.registry(config)}
    if config.job == "notebook":
        idle = str(int(cloud.idle_minutes * 60))
        env |= {words.RUN_KIND: Kind.notebook.value, words.RUN_IDLE_SECONDS: idle}
    return env
