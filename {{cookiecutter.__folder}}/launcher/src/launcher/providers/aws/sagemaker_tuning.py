"""Tuning jobs of SageMaker: what is asked for, and what their trials say.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateHyperParameterTuningJob.html; its limits:
https://docs.aws.amazon.com/sagemaker/latest/dg/automatic-model-tuning-limits.html
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from ...errors import UserError
from ...job import ARGUMENTS, OBJECTIVE_LINE, RUN_DIRECTION, Job, Parameter, Problem, Search, State
from ..choices import word
from ..handed import Handed
from . import sagemaker_state as states
from .sagemaker_request import KEY, part

LONGEST_NAME = 32
MOST_VARIABLES, LONGEST_SETTING = 48, 2500
MOST_PARAMETERS, MOST_CHOICES = 30, 30
MOST_TRIALS, USUAL_PARALLEL, MOST_PARALLEL = 750, 10, 100
TOTAL = (120, 15_768_000)  # seconds of a tuning job, least and most
START = 900  # seconds for a trial's machine and image; counted in the whole job's time only
STRATEGIES = {"bayesian": "Bayesian", "random": "Random", "grid": "Grid"}
# The line that a trial prints; the last one counts.
REGEX = f"{OBJECTIVE_LINE}([-+.0-9eE]+) of "
STATES = {
    "InProgress": State.running,
    "Stopping": State.running,  # and paid for until its trials have ended
    "Completed": State.succeeded,
    "Failed": State.failed,
    "Stopped": State.stopped,
    "Deleting": State.stopped,
    "DeleteFailed": State.stopped,
}
ENDED = ("Completed", "NonRetryableError", "Stopped")


def hand(job: Job, search: Search, environment: Mapping[str, str]) -> Handed:
    """Part what a request can hold from what travels by the bucket; arguments are one setting of all trials."""
    direction = {RUN_DIRECTION: "maximize" if search.maximize else "minimize"}
    text = _arguments(job.args)
    args = job.args if len(text) <= LONGEST_SETTING and not KEY.search(text) else None
    return part(job, {**environment, **direction}, args, MOST_VARIABLES)


def _arguments(args: Iterable[str]) -> str:
    return json.dumps(list(args))


def request(
    job: Job,
    search: Search,
    training: Mapping[str, Any],
    handed: Handed,
    name: str,
    wait_hours: float,
) -> dict[str, Any]:
    """Give what `create_hyper_parameter_tuning_job` takes.

    Args:
        training: the request for one training.
        name: of the tuning job, and so the beginning of its trials' names.
        wait_hours: for a trial's machine.

    Raises:
        UserError: naming the setting of the sweep that the service cannot express.
    """
    algorithm = training["AlgorithmSpecification"]
    definition = {key: training[key] for key in training if key not in ("TrainingJobName", "Tags")}
    definition["AlgorithmSpecification"] = {
        "TrainingImage": algorithm["TrainingImage"],
        "TrainingInputMode": algorithm["TrainingInputMode"],
        "MetricDefinitions": [{"Name": search.objective, "Regex": REGEX}],
    }
    if handed.args:
        definition["StaticHyperParameters"] = {ARGUMENTS: _arguments(handed.args)}
    return {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": {
            "Strategy": STRATEGIES[search.algorithm],
            "HyperParameterTuningJobObjective": {
                "Type": "Maximize" if search.maximize else "Minimize",
                "MetricName": search.objective,
            },
            "ResourceLimits": {
                "MaxNumberOfTrainingJobs": _trials(search),
                "MaxParallelTrainingJobs": search.parallel,
                "MaxRuntimeInSeconds": _total(job, search, wait_hours),
            },
            "ParameterRanges": _ranges(search),
            "TrainingJobEarlyStoppingType": "Off",
        },
        "TrainingJobDefinition": definition,
        "Tags": training["Tags"],  # which its trials get too
    }


def _total(job: Job, search: Search, wait_hours: float) -> int:
    rounds = math.ceil(search.trials / search.parallel)
    least, most = TOTAL
    each = math.ceil((job.max_hours + wait_hours) * 3600) + START
    return min(most, max(least, rounds * each))


def _trials(search: Search) -> int:
    """Give how many trials there are; of a grid exactly as many as it has points.

    https://docs.aws.amazon.com/sagemaker/latest/dg/automatic-model-tuning-how-it-works.html
    """
    if search.algorithm == "grid":
        points = math.prod(len(_values(each)) for each in search.parameters)
        if search.trials < points:
            raise UserError(
                f"hydra.sweeper.n_trials={search.trials}: SageMaker tries all {points} points of a grid; write "
                f"n_trials={points}, fewer values, or hydra/sweeper/sampler=random."
            )
    return search.trials


def _ranges(search: Search) -> dict[str, Any]:
    if len(search.parameters) > MOST_PARAMETERS:
        last = search.parameters[MOST_PARAMETERS].name
        raise UserError(
            f"{last}: SageMaker looks for up to {MOST_PARAMETERS} settings at a time, and this is one more; leave it out."
        )
    kinds: dict[str, list[dict[str, Any]]] = {}
    for each in search.parameters:
        kind, range_ = _range(each, grid=search.algorithm == "grid")
        kinds.setdefault(f"{kind}ParameterRanges", []).append({"Name": each.name, **range_})
    return kinds


def _range(parameter: Parameter, grid: bool) -> tuple[str, dict[str, Any]]:
    """Give one setting's kind and range; of numbers to choose from the service knows no order."""
    if parameter.choices or grid:
        values = _values(parameter)
        if len(values) > MOST_CHOICES:
            other = (
                "write fewer"
                if grid or isinstance(values[0], str)
                else "write fewer, or interval()"
            )
            raise UserError(
                f"{parameter.name}: SageMaker takes up to {MOST_CHOICES} values to choose from, and these are "
                f"{len(values)}; {other}."
            )
        return "Categorical", {"Values": [word(value) for value in values]}
    number = int if parameter.integer else float
    low, high = (repr(number(end)) for end in (parameter.low, parameter.high))
    scaling = "Logarithmic" if parameter.log else "Linear"
    kind = "Integer" if parameter.integer else "Continuous"
    return kind, {"MinValue": low, "MaxValue": high, "ScalingType": scaling}


def _values(parameter: Parameter) -> tuple[Any, ...]:
    if parameter.choices:
        return parameter.choices
    return tuple(range(int(parameter.low), int(parameter.high) + 1))


def check(search: Search) -> list[Problem]:
    """Is the sweep within the service's limits?"""
    problems = []
    if search.trials > MOST_TRIALS:
        what = f"SageMaker tries {MOST_TRIALS} trials at most, and the sweep has {search.trials}"
        problems.append(Problem(what, f"give hydra.sweeper.n_trials={MOST_TRIALS} or less"))
    if search.parallel > MOST_PARALLEL:
        what = f"SageMaker runs {MOST_PARALLEL} trials at a time at most, not {search.parallel}"
        problems.append(Problem(what, f"give cloud.parallel={USUAL_PARALLEL} or less"))
    elif search.parallel > USUAL_PARALLEL:
        what = (
            f"SageMaker runs {USUAL_PARALLEL} trials at a time unless the account's quota is higher"
        )
        remedy = f"give cloud.parallel={USUAL_PARALLEL} or less if it is refused"
        problems.append(Problem(what, remedy, fatal=False))
    return problems


def trial_name(name: str) -> re.Pattern[str]:
    """Give how the jobs of a tuning job's trials are called: as in sweep-a1b2c3-007-4bd2fb28."""
    return re.compile(rf"{re.escape(name)}-(?P<number>\d{{3,}})-[0-9a-f]+")


# What has become of one


def state(found: Mapping[str, Any], trials: Iterable[Mapping[str, Any]]) -> State:
    """Give a tuning job's state; it is queued until its first trial has a machine."""
    ours = STATES.get(str(found["HyperParameterTuningJobStatus"]), State.running)
    begun = any(trial.get("TrainingStartTime") for trial in trials)
    waits = ours is State.running and found["HyperParameterTuningJobStatus"] == "InProgress"
    return State.queued if waits and not begun and not _ended(found) else ours


def _ended(found: Mapping[str, Any]) -> int:
    counters = found.get("TrainingJobStatusCounters") or {}
    return sum(counters.get(key, 0) for key in ENDED)


def count(found: Mapping[str, Any]) -> int:
    """Tell how many trials it has made."""
    return sum((found.get("TrainingJobStatusCounters") or {}).values())


def detail(found: Mapping[str, Any]) -> str:
    """Tell how many trials have ended, and what the service says."""
    limits = found["HyperParameterTuningJobConfig"]["ResourceLimits"]
    said = found.get("FailureReason") or found["HyperParameterTuningJobStatus"].lower()
    return f"{_ended(found)} of {limits.get('MaxNumberOfTrainingJobs', '?')} trials, {said}"


def seconds(trials: Iterable[Mapping[str, Any]], now: datetime) -> float:
    """Add up how long its trials have been paid for."""
    return sum(states.seconds(trial, now) for trial in trials)
