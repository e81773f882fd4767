"""What is the same for every service that ends its machines itself: how checks are made, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from types import ModuleType
from typing import Protocol, TypeVar

from ..errors import UserError
from ..job import Leftover, Problem, State
from .errors import ServiceError

Check = Callable[[], list[Problem]]


class Submitted(Protocol):
    """A job that a service knows.

    Args:
        allowed: what its launch allowed the run in all; another launch of it allows something else.
    """

    @property
    def run_id(self) -> str: ...
    @property
    def created(self) -> datetime: ...
    @property
    def state(self) -> State: ...
    @property
    def allowed(self) -> object: ...


Known = TypeVar("Known", bound=Submitted)


class Managed:
    """Base of the backends of such services: nothing is ever left over.

    Args:
        SERVICE: its name, for people.
        CLOCK: the provider's module `auth`, which keeps the time of the service's last answer.
        UNKNOWN: what a request has in place of what only a login tells, and what that is.
    """

    SERVICE: str
    CLOCK: ModuleType
    UNKNOWN: tuple[str, str]

    def leftovers(self) -> list[Leftover]:
        """Give nothing: machines and disks are the service's own, and end with their job or some minutes after it."""
        return []

    def remove(self, leftover: Leftover) -> None:
        raise UserError(f"{self.SERVICE} knows no {leftover.what}.")

    def now(self) -> datetime:
        return self.CLOCK.now()


def together(checks: Sequence[Check]) -> list[Problem]:
    """Make all checks at the same time; one that cannot be made is a finding itself, and each is told once."""
    with ThreadPoolExecutor(len(checks)) as pool:
        found = [problem for problems in pool.map(_guarded, checks) for problem in problems]
    return list({problem.what: problem for problem in found}.values())


def _guarded(check: Check) -> list[Problem]:
    try:
        return check()
    except ServiceError as error:
        return [Problem(error.what, error.remedy)]


def chain(found: Known, known: Iterable[Known]) -> list[Known]:
    """Give a job and those that were submitted before it, for the same launch, and had ended too early.

    Their time is this launch's too.
    """
    before = [
        job
        for job in known
        if (job.run_id, job.allowed) == (found.run_id, found.allowed)
        and job.created < found.created
        and job.state is State.preempted
    ]
    return [found, *before]


def without_labels(labels: object) -> list[Problem]:
    """Refuse to launch what nobody could find again."""
    if labels:
        return []
    what = "Without cloud.labels no job can be told to be this project's"
    return [Problem(what, "give cloud.labels={project: NAME}")]


def at_work(run_id: str, state: State) -> Problem:
    """Refuse a second job in the run folder of one that is not over."""
    what = f"A job of run {run_id} is {state.name}, and would share its run folder"
    remedy = f"wait for it, end it by `uv run runs stop {run_id}`, or choose another run.id"
    return Problem(what, remedy)
