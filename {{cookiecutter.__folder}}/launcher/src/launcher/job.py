"""The words of launching: what a job is, and what each provider's backend can do with one.

Nothing here, or anywhere in this package, imports torch: a launch must answer at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Protocol

from .errors import UserError

# What the worker in the container is told by its environment. Secrets are named there, never given.
RUN_ID = "RUN_ID"
RUN_OUTPUT = (
    "RUN_OUTPUT"  # URI of the run's folder in the bucket; absent: results stay on the machine
)
RUN_DATA = "RUN_DATA"  # what `dvc pull` fetches; absent: the data is there already
RUN_CODE = "RUN_CODE"  # URI of an archive to lay over the image; absent: the image's own code
RUN_SECRETS = "RUN_SECRETS"  # VARIABLE=resource, separated by commas
RUN_MAX_SECONDS = "RUN_MAX_SECONDS"  # of running, over all attempts
RUN_MAX_ATTEMPTS = "RUN_MAX_ATTEMPTS"  # starts of the container, the first one included
RUN_IMAGE = "RUN_IMAGE"  # name@digest, for the record
RUN_NODES = "RUN_NODES"  # how many machines train together, where the service tells it by a file
RUN_RANK = "RUN_RANK"  # which of them this is, from 0, where the job itself tells it
RUN_FIRST = "RUN_FIRST"  # HOST:PORT of the first of them, where the job itself tells it
RUN_COMMIT = "RUN_COMMIT"  # what the code was, for the record: there is no .git in an image
RUN_KIND = "RUN_KIND"  # one of Kind; absent: a training
RUN_OBJECTIVE = "RUN_OBJECTIVE"  # the metric that a trial of a sweep reports
RUN_DIRECTION = "RUN_DIRECTION"  # maximize or minimize: whether more of it is better
RUN_RETRY_STATUS = "RUN_RETRY_STATUS"  # with which the container ends where another start may help
RUN_IDLE_SECONDS = "RUN_IDLE_SECONDS"  # after which a notebook that nobody uses ends
RUN_MODELS = "RUN_MODELS"  # URI of the registry that holds the model to predict with
RUN_DISK = "RUN_DISK"  # folder for data and results, where the project's own has no room for them
RUN_EVENTS = "RUN_EVENTS"  # where to ask whether the machine is about to be taken away; absent: a signal says so
RUN_MORE = "RUN_MORE"  # URI of arguments and variables that a service does not take in a job itself

# What a service that tunes a training hands over and looks for, where it knows neither arguments nor a file for results.
ARGUMENTS = "launcher.arguments"  # name of the setting that holds the arguments, as JSON
# Before a setting's name: its value is the logarithm of what is meant, in the second case of a whole number.
EXP, EXP_INTEGER = "exp:", "expint:"
OBJECTIVE_LINE = "sweep objective="  # so begins what a trial prints of each validation

# Labels that the provider keeps with whatever was made for a run, beside those of the configuration. They alone tell
# what is this project's, and how long it may be there: the record may be missing.
RUN_LABEL = "run"
SECONDS_LABEL = "max-seconds"  # of running, from the provider's own start time

# What of a project is code: what an archive holds that is laid over an image.
CODE_PARTS = ("src", "launcher", "configs", "dvc.yaml", "dvc.lock")

LEAST_SECONDS = 60.0  # of running; with less left a machine would only start up

# Exit statuses of the worker, so that a service can tell whether another attempt may help.
EXIT_FINAL = 1  # bad settings, an error in the code: it would only fail again
EXIT_STOPPED = 124  # at its time limit, as `timeout` of coreutils says it
EXIT_RETRY = 75  # network or bucket trouble (EX_TEMPFAIL of sysexits.h)
EXIT_PREEMPTED = 143  # SIGTERM: the machine was taken away


@dataclass(frozen=True)
class Machine:
    """One node.

    Args:
        name: the row of the price table: cpu, t4, l4, ...
        type: the provider's machine type, such as g2-standard-8.
        gpu: the provider's name of the GPU, such as NVIDIA_L4; None for none.
        gpus: how many of them.
    """

    name: str
    type: str
    gpu: str | None = None
    gpus: int = 0


class Kind(Enum):
    """What a job does."""

    train = "train"
    sweep = "sweep"  # trials of one training, with settings that the service chooses
    notebook = "notebook"  # Jupyter, for a person at work
    predict = "predict"  # a registered model's predictions of what is in a bucket


@dataclass(frozen=True)
class Parameter:
    """One setting that a sweep looks for: choices, or a range of numbers.

    Args:
        name: the training's setting, such as optimizer.lr.
        choices: what it may be; empty for a range.
        low, high: the range, both ends included.
        log: whether it is looked for by its magnitude.
        integer: whether only whole numbers count.
    """

    name: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    integer: bool = False


@dataclass(frozen=True)
class Search:
    """A sweep.

    Args:
        objective: the metric, such as val/accuracy.
        maximize: whether more of it is better.
        trials: how many trainings.
        parallel: how many of them at a time.
        algorithm: bayesian, random or grid.
    """

    parameters: tuple[Parameter, ...]
    objective: str
    maximize: bool
    trials: int
    parallel: int = 1
    algorithm: str = "bayesian"


@dataclass(frozen=True)
class Job:
    """A training, or what else runs in the project's image, as every backend understands it.

    Args:
        run_id: names the run folder, the tracker's run and the job.
        image: what to run, by digest (name@sha256:...).
        args: settings of the training, as typed after `uv run train`, or of what else runs.
        machine: what each node is.
        nodes: how many machines train together.
        spot: on machines that may be taken away, for less.
        max_hours: the provider ends the job after so many hours of running.
        env: environment of the worker.
        secrets: environment variable -> name of the secret that the job's own identity reads.
        labels: what the provider keeps with the job, to find it by.
        output: URI of the run's folder in the bucket; None keeps results on the machine.
        search: what a sweep looks for; `max_hours` is then that of each trial.
    """

    run_id: str
    image: str
    args: tuple[str, ...]
    machine: Machine
    nodes: int = 1
    spot: bool = True
    max_hours: float = 1.0
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    output: str | None = None
    kind: Kind = Kind.train
    search: Search | None = None


class NoMachineError(UserError):
    """There is no such machine for a job now; submitted later, it may get one."""


class State(Enum):
    """What has become of a job. Where the service itself starts a preempted one again, it is queued until then."""

    queued = "queued"
    running = "running"
    preempted = "preempted"  # its machine is gone, nothing is paid; submitted again, it goes on
    succeeded = "succeeded"
    failed = "failed"
    stopped = "stopped"  # by a person or by its time limit

    @property
    def over(self) -> bool:
        return self in (State.succeeded, State.failed, State.stopped)


@dataclass(frozen=True)
class Problem:
    """One finding before a launch.

    Args:
        what: what is wrong.
        remedy: what to do about it.
        fatal: whether it forbids the launch; else it is only said.
    """

    what: str
    remedy: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


@dataclass(frozen=True)
class Handle:
    """A submitted job: the provider's name for it, and a page for people (or a command)."""

    name: str
    url: str


@dataclass(frozen=True)
class Status:
    """What the provider says of a job now.

    Args:
        seconds: how long it has been running and is paid for.
        detail: the provider's own words, when there are any.
        name: what the provider calls the job, as in `Handle`.
        labels: what the provider keeps with it.
    """

    run_id: str
    state: State
    created: datetime
    seconds: float = 0.0
    url: str = ""
    detail: str = ""
    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Leftover:
    """Something that still costs although no job needs it: a disk, a machine that was only stopped.

    Args:
        name: the provider's name for it, which `Backend.remove` takes.
        what: what it is, for people: "disk demo-x in us-central1-a".
    """

    name: str
    what: str


class Backend(Protocol):
    """What a provider can do; each is one file with `connect(cloud) -> Backend` and one in `configs/cloud/`."""

    def check(self, job: Job) -> list[Problem]:
        """Look for what would make the job fail. Changes nothing."""
        ...

    def request(self, job: Job) -> dict[str, Any]:
        """Give exactly what `submit` sends. Needs no network."""
        ...

    def submit(self, job: Job) -> Handle:
        """Start the job.

        Raises:
            NoMachineError: the provider has no such machine now.
            UserError: the provider refused it, or cannot be reached.
        """
        ...

    def status(self, run_id: str) -> Status | None:
        """Tell how the newest job of a run is; None when there is none."""
        ...

    def logs(self, run_id: str) -> Iterator[str]:
        """Give the lines that the job has printed so far."""
        ...

    def stop(self, run_id: str) -> None:
        """End the job; returns when the provider has taken the order. Ending an ended job is no error."""
        ...

    def list(self) -> list[Status]:
        """Give all jobs of this project that the provider still knows, newest first."""
        ...

    def leftovers(self) -> list[Leftover]:
        """Find what carries this project's labels, belongs to no job that is at work, and still costs."""
        ...

    def remove(self, leftover: Leftover) -> None:
        """Remove one of them. What is gone already is no error."""
        ...

    def now(self) -> datetime:
        """Tell the time by the provider's clock, as of its last answer: this machine's may be wrong."""
        ...
