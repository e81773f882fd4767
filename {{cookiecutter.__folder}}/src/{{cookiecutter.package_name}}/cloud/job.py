"""The words of launching: what a job is, and what each provider's backend can do with one.

Nothing here, or anywhere in `cloud/`, imports torch: a launch must answer at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Protocol

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
RUN_COMMIT = "RUN_COMMIT"  # what the code was, for the record: there is no .git in an image

# Exit statuses of the worker, so that a service can tell whether another attempt may help.
EXIT_FINAL = 1  # bad settings, an error in the code, over a limit: it would only fail again
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


@dataclass(frozen=True)
class Job:
    """A training as every backend understands it.

    Args:
        run_id: names the run folder, the tracker's run and the job.
        image: what to run, by digest (name@sha256:...).
        args: settings of the training, as typed after `uv run train`.
        machine: what each node is.
        nodes: how many machines train together.
        spot: on machines that may be taken away, for a third of the price.
        max_hours: the provider ends the job after so many hours of running.
        env: environment of the worker.
        secrets: environment variable -> name of the secret that the job's own identity reads.
        labels: what the provider keeps with the job, to find it by.
        output: URI of the run's folder in the bucket; None keeps results on the machine.
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


class State(Enum):
    """What has become of a job. A preempted one is queued again until it is over."""

    queued = "queued"
    running = "running"
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
    """

    run_id: str
    state: State
    created: datetime
    seconds: float = 0.0
    url: str = ""
    detail: str = ""


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
