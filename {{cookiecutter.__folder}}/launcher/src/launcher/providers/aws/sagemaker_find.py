"""Finds this project's training and tuning jobs.

Two ways, for neither will do alone. `Search` knows tags and gives all that is known of a job, but from an index that is
behind by an unknown time. The lists are complete, but know names only. So of one run the list of all that are named like
it is read; of the whole project the index is, and of all jobs in the account those at work and those just made. Whatever
is found by its name counts as ours by its tags, compared whole: `leaf` and `leaf-two` never meet.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ...job import RUN_ID, RUN_LABEL, RUN_MAX_ATTEMPTS, RUN_MAX_SECONDS, State
from ..errors import MissingError
from . import auth as aws
from . import sagemaker_state as states
from . import sagemaker_tuning as tuning
from .sagemaker_request import LONGEST_NAME, TOKEN, stem

SERVICE = "sagemaker"
FRESH = timedelta(hours=1)  # by which the index is surely not behind
AT_WORK = ("InProgress", "Stopping")
OWN = "aws:"  # begins the tags that AWS itself adds


@dataclass(frozen=True)
class Kind:
    """The operations of one of the two kinds of jobs, and the words of their answers."""

    resource: str
    create: str
    describe: str
    stop: str
    list: str
    listed: str
    name: str
    arn: str
    status: str
    longest: int

    def described(self, region: str, name: str) -> dict[str, Any]:
        """Give all that the service says of a job of this name.

        Raises:
            MissingError: there is none.
        """
        return aws.call(SERVICE, self.describe, region, **{self.name: name})


TRAINING = Kind(
    *("TrainingJob", "create_training_job", "describe_training_job", "stop_training_job"),
    *("list_training_jobs", "TrainingJobSummaries", "TrainingJobName", "TrainingJobArn"),
    *("TrainingJobStatus", LONGEST_NAME),
)
TUNING = Kind(
    *("HyperParameterTuningJob", "create_hyper_parameter_tuning_job"),
    *("describe_hyper_parameter_tuning_job", "stop_hyper_parameter_tuning_job"),
    *("list_hyper_parameter_tuning_jobs", "HyperParameterTuningJobSummaries"),
    *("HyperParameterTuningJobName", "HyperParameterTuningJobArn"),
    *("HyperParameterTuningJobStatus", tuning.LONGEST_NAME),
)


@dataclass(frozen=True)
class Found:
    """A job of this project.

    Args:
        said: what the service says of it.
        trials: what it says of those of a tuning job.
    """

    kind: Kind
    said: Mapping[str, Any]
    tags: Mapping[str, str]
    trials: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.said[self.kind.name])

    @property
    def run_id(self) -> str:
        """The run that it is of: its tag holds but some of what an id may have."""
        return str(self._variables.get(RUN_ID) or self.tags.get(RUN_LABEL, ""))

    @property
    def allowed(self) -> tuple[Any, ...]:
        """What its launch allowed the run in all; another launch of it allows something else."""
        most = (self._variables.get(name) for name in (RUN_MAX_SECONDS, RUN_MAX_ATTEMPTS))
        return (self.kind, *most)

    @property
    def _variables(self) -> Mapping[str, str]:
        definition = self.said.get("TrainingJobDefinition") or self.said
        return definition.get("Environment") or {}

    @property
    def created(self) -> datetime:
        return self.said["CreationTime"]

    @property
    def state(self) -> State:
        if self.kind is TUNING:
            return tuning.state(self.said, self.trials)
        return states.state(self.said)

    @property
    def has_ended(self) -> bool:
        """Whether the service does nothing more about it; of some another one may go on with the run."""
        return self.state.over or self.state is State.preempted

    @property
    def ending(self) -> bool:
        """Whether the order to end has been taken."""
        return self.said[self.kind.status] == "Stopping"

    @property
    def detail(self) -> str:
        return tuning.detail(self.said) if self.kind is TUNING else states.detail(self.said)

    def seconds(self, now: datetime) -> float:
        """Tell how long each machine of it is paid for."""
        if self.kind is TUNING:
            return tuning.seconds(self.trials, now)
        return states.seconds(self.said, now)


class Finder:
    """Looks in one region for what carries all of these labels.

    Args:
        labels: as tags; with none nothing can be told to be ours.
    """

    def __init__(self, region: str, labels: Mapping[str, str]) -> None:
        self.region, self.labels = region, dict(labels)
        self._others: set[str] = set()  # ARNs of what is not ours

    def of_run(self, run_id: str) -> list[Found]:
        """Give the jobs of one run, newest first."""
        jobs: list[Found] = []
        for kind in (TRAINING, TUNING):
            begin = stem(run_id, kind.longest)
            named = re.compile(rf"{re.escape(begin)}-[0-9a-f]{{{TOKEN}}}")
            for summary in self._list(kind, NameContains=begin):
                if named.fullmatch(summary[kind.name]) and (ours := self._ours(kind, summary)):
                    jobs.append(ours)
        mine = [job for job in jobs if job.run_id == run_id]
        index = {}
        if any(job.kind is TUNING for job in mine):
            label = next(job.tags[RUN_LABEL] for job in mine if job.kind is TUNING)
            index = self._index(TRAINING, {RUN_LABEL: label})
        return _sorted(self._with_trials(job, index) for job in mine)

    def all(self) -> list[Found]:
        """Give all jobs of the project, newest first, trials of sweeps left out."""
        if not self.labels:
            return []
        jobs: list[Found] = []
        trainings: dict[str, dict[str, Any]] = {}
        for kind in (TRAINING, TUNING):
            index = self._index(kind)
            trainings = index if kind is TRAINING else trainings
            for name, said in index.items():
                if "TuningJobArn" in said:
                    continue
                tags = _tags(said.get("Tags") or [])
                if said[kind.status] in (*AT_WORK, "Deleting"):  # the index may be behind
                    try:
                        said = kind.described(self.region, name)
                    except MissingError:
                        continue
                jobs.append(Found(kind, said, tags))
            unknown = {}
            for conditions in (
                *({"StatusEquals": status} for status in AT_WORK),
                {"CreationTimeAfter": aws.now() - FRESH},
            ):
                unknown |= {each[kind.name]: each for each in self._list(kind, **conditions)}
            for name, summary in unknown.items():
                if name not in index and (ours := self._ours(kind, summary)):
                    jobs.append(ours)
        return _sorted(self._with_trials(job, trainings) for job in jobs)

    def named(self, kind: Kind, name: str) -> Found | None:
        """Give the job of this name, if there is one and it is ours."""
        try:
            said = kind.described(self.region, name)
        except MissingError:
            return None
        return self._ours(kind, said, said)

    def _list(self, kind: Kind, **conditions: Any) -> Iterator[dict[str, Any]]:
        yield from aws.pages(SERVICE, kind.list, kind.listed, self.region, **conditions)

    def _index(self, kind: Kind, more: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Give what Search knows of jobs with our labels, by their names."""
        filters = [
            {"Name": f"Tags.{key}", "Operator": "Equals", "Value": value}
            for key, value in {**self.labels, **(more or {})}.items()
        ]
        expression = {"Filters": filters}
        found = aws.pages(
            *(SERVICE, "search", "Results", self.region),
            Resource=kind.resource,
            SearchExpression=expression,
        )
        records = [each[kind.resource] for each in found if kind.resource in each]
        return {str(each[kind.name]): each for each in records}

    def _ours(
        self, kind: Kind, summary: Mapping[str, Any], said: dict[str, Any] | None = None
    ) -> Found | None:
        """Give a job that is in a list, if it carries our labels and is no trial.

        Args:
            said: what the service says of it, where that is known.
        """
        arn = str(summary[kind.arn])
        if arn in self._others or not self.labels:
            return None
        tags = _tags(aws.pages(SERVICE, "list_tags", "Tags", self.region, ResourceArn=arn))
        if RUN_LABEL in tags and self.labels.items() <= tags.items():
            said = said or kind.described(self.region, str(summary[kind.name]))
            if "TuningJobArn" not in said:
                return Found(kind, said, tags)
        self._others.add(arn)
        return None

    def _with_trials(self, job: Found, index: Mapping[str, dict[str, Any]]) -> Found:
        """Add to a tuning job what is known of its trials: all of them, with what is billed as far as the index has it."""
        if job.kind is not TUNING:
            return job
        arn = job.said[TUNING.arn]
        known = {name: each for name, each in index.items() if each.get("TuningJobArn") == arn}
        over = all(map(states.has_ended, known.values()))
        if not (job.has_ended and over and len(known) == tuning.count(job.said)):
            listed = aws.pages(
                *(SERVICE, "list_training_jobs_for_hyper_parameter_tuning_job"),
                *("TrainingJobSummaries", self.region),
                HyperParameterTuningJobName=job.name,
            )
            for each in listed:
                name = each["TrainingJobName"]
                if not states.has_ended(known.get(name, {})):
                    known[name] = each
        return Found(job.kind, job.said, job.tags, list(known.values()))


def _tags(given: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in given if not tag["Key"].startswith(OWN)}


def _sorted(jobs: Iterable[Found]) -> list[Found]:
    return sorted(jobs, key=lambda job: job.created, reverse=True)
