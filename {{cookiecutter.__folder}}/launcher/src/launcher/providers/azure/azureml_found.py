"""A job of Azure ML, put together from what the service, run history and the run's folder in the bucket say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ...job import RUN_ID, RUN_LABEL, RUN_MAX_ATTEMPTS, RUN_MAX_SECONDS, State
from . import azureml_request as requests
from . import azureml_state as states

SWEEP = "Sweep"  # a job's type
SLACK = 300.0  # seconds within which the service ends a job that is at its limit
OWN = ("_", "mlflow.", "azureml.")  # begin the tags that the service adds


@dataclass(frozen=True)
class Found:
    """A job of this project.

    Args:
        said: what the service says of it.
        details: what run history does.
        trials: the same of each trial of a sweep that has begun, by its number.
        noted: how the run ended by what its worker has left in the bucket, where the service does not say.
        attempts: what the worker has noted there of the starts, by the number of the trial; of a training, of 0.
    """

    said: Mapping[str, Any]
    details: Mapping[str, Any] = field(default_factory=dict)
    trials: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    noted: State | None = None
    attempts: Mapping[int, Sequence[Mapping[str, Any]]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.said["name"])

    @property
    def of(self) -> Mapping[str, Any]:
        return self.said["properties"]

    @property
    def is_sweep(self) -> bool:
        return self.of.get("jobType") == SWEEP

    @property
    def tags(self) -> dict[str, str]:
        found = self.of.get("tags") or {}
        return {key: str(value) for key, value in found.items() if not key.startswith(OWN)}

    @property
    def variables(self) -> Mapping[str, str]:
        definition = self.of.get("trial") or self.of
        return definition.get("environmentVariables") or {}

    @property
    def run_id(self) -> str:
        """The run that it is of: its tag holds but some of what an id may have."""
        return str(self.variables.get(RUN_ID) or self.tags.get(RUN_LABEL, ""))

    @property
    def allowed(self) -> tuple[Any, ...]:
        """What its launch allowed the run in all; another launch of it allows something else."""
        return tuple(self.variables.get(name) for name in (RUN_MAX_SECONDS, RUN_MAX_ATTEMPTS))

    @property
    def created(self) -> datetime:
        return states.time(str(self.said["systemData"]["createdAt"]))

    @property
    def status(self) -> str:
        return str(self.of.get("status", ""))

    @property
    def error(self) -> str:
        return states.error_text(self.details)

    @property
    def state(self) -> State:
        ours = states.state(self.status, self.error)
        if (
            self.is_sweep
        ):  # whose trials the service starts itself; another sweep would have their folders
            if self.outliving:
                return State.running
            if self.status == "Running" and not any(map(_has_begun, self.trials.values())):
                return State.queued
            over = State.stopped if self.status == "Canceled" else State.failed
            return over if ours is State.preempted else ours
        if ours is State.stopped and self._cut_short:
            return State.preempted
        return self.noted if ours is State.failed and self.noted else ours

    @property
    def _cut_short(self) -> bool:
        """Whether it was ended by its time limit although it had waited for most of that.

        Of `timeout` it is only documented that it is of running; here is what helps should waiting count too.
        """
        limit = requests.seconds_of(str((self.of.get("limits") or {}).get("timeout") or ""))
        end = self.details.get("endTimeUtc")
        if not limit or not end:
            return False
        ended = states.time(str(end))
        late = (ended - self.created).total_seconds() - limit
        return 0 <= late <= SLACK and self._seconds(0, self.details, ended) < limit - SLACK

    @property
    def has_ended(self) -> bool:
        """Whether the service does nothing more about it; of some another one may go on with the run."""
        return self.status in states.ENDED and not self.outliving

    @property
    def outliving(self) -> list[str]:
        """The ids of trials that are at work although their sweep has ended: nothing of the service ends those."""
        if not self.is_sweep or self.status not in states.ENDED:
            return []
        return [
            trial_name(self.name, number)
            for number, each in self.trials.items()
            if _has_begun(each)
            and not each.get("endTimeUtc")
            and str(each.get("status")) not in states.ENDED
        ]

    @property
    def may_be_taken(self) -> bool:
        """Whether its machine may have been, so that it was started more than once."""
        tier = (self.of.get("queueSettings") or {}).get("jobTier")
        return bool(self.of.get("computeId")) or tier == requests.TIERS[True]

    @property
    def ending(self) -> bool:
        """Whether it will be over in a moment, whatever is asked of it."""
        return self.status in states.ENDING

    @property
    def detail(self) -> str:
        said = self.error or self.status
        if self.state is State.preempted and self._cut_short:
            return f"{said}: its time limit was counted from its submission on"
        if not self.is_sweep:
            return said
        ended = sum(str(each.get("status")) in states.ENDED for each in self.trials.values())
        most = (self.of.get("limits") or {}).get("maxTotalTrials", "?")
        alone = f", but {', '.join(self.outliving)} at work" if self.outliving else ""
        return f"{ended} of {most} trials, {said}{alone}"

    @property
    def url(self) -> str:
        studio = (self.of.get("services") or {}).get("Studio") or {}
        return str(studio.get("endpoint") or "")

    def seconds(self, now: datetime) -> float:
        """Tell how long each machine of it is paid for; of a sweep, all trials together.

        Which of several starts is the one that run history tells of is not documented, so that what the worker has
        noted of all of them is the least.
        """
        return sum(self._seconds(number, details, now) for number, details in self._parts.items())

    @property
    def _parts(self) -> Mapping[int, Mapping[str, Any]]:
        return self.trials if self.is_sweep else {0: self.details}

    def _seconds(self, number: int, details: Mapping[str, Any], now: datetime) -> float:
        status = str(details.get("status", "")) if self.is_sweep else self.status
        end = details.get("endTimeUtc") if status in states.ENDED else None
        until = states.time(str(end)) if end else now
        noted = states.noted_seconds(self.attempts.get(number, ()), self.created, until)
        return max(noted, states.seconds(status, details, now))


def trial_name(sweep: str, number: int) -> str:
    """Give the id of a sweep's trial, as in lr-1f0e2d-1_0."""
    return f"{sweep}_{number}"


def _has_begun(trial: Mapping[str, Any]) -> bool:
    return bool(trial.get("startTimeUtc"))
