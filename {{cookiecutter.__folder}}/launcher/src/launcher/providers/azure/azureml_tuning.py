"""Sweep jobs of Azure ML: what is asked for, in the service's words.

https://learn.microsoft.com/azure/machine-learning/how-to-tune-hyperparameters. What is looked for by its magnitude is
given as the range of its logarithm, which the worker undoes: Bayesian sampling knows choice, uniform and quniform only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ...errors import UserError
from ...job import EXP, EXP_INTEGER, RUN_DIRECTION, Job, Parameter, Problem, Search
from ..choices import word
from ..handed import Handed
from . import azureml_request as requests

SAMPLING = {"bayesian": "Bayesian", "random": "Random", "grid": "Grid"}
MOST_TRIALS = MOST_PARALLEL = 1000  # how-to-tune-hyperparameters, "Set limits for your sweep job"
START = 900  # seconds for a trial's machine and image; counted in the whole job's time only
LONGEST = 21 * 24 * 3600  # seconds of a job: how-to-manage-quotas, "Job lifetime"
# A value goes through bash, between double quotes: as it is, or by the variable AZUREML_SWEEP_NAME that the service puts
# in its place.
UNSAFE = re.compile(r'["$`\\\x00-\x1f]')


def hand(job: Job, search: Search, environment: Mapping[str, str]) -> Handed:
    """Part what a request can hold from what travels by the bucket."""
    direction = {RUN_DIRECTION: "maximize" if search.maximize else "minimize"}
    return requests.hand(job, {**environment, **direction})


def request(
    job: Job, search: Search, training: Mapping[str, Any], handed: Handed, wait_hours: float
) -> dict[str, Any]:
    """Give a sweep job.

    Args:
        training: the command job of one training.
        wait_hours: for a trial's machine.

    Raises:
        UserError: naming the setting of the sweep that the service cannot express.
    """
    one = training["properties"]
    named = _named(search)
    words = [f"--{_marked(each)}=${{{{search_space.{name}}}}}" for name, each in named.items()]
    shared = ("displayName", "experimentName", "identity", "tags", "computeId", "queueSettings")
    trial = ("environmentId", "environmentVariables", "resources", "distribution")
    return {
        "properties": {
            "jobType": "Sweep",
            # Also the sweep's own, as azure-ai-ml 1.35.2 sends it (entities/_job/sweep/sweep_job.py), although the API's
            # description has it of the trial alone: of a machine that it is not told the service chooses one without a GPU.
            "resources": one["resources"],
            **{key: one[key] for key in shared if key in one},
            "objective": {
                "goal": "Maximize" if search.maximize else "Minimize",
                "primaryMetric": search.objective,
            },
            "samplingAlgorithm": {"samplingAlgorithmType": SAMPLING[search.algorithm]},
            "searchSpace": {name: _space(each, search.algorithm) for name, each in named.items()},
            "limits": {
                "jobLimitsType": "Sweep",
                "maxTotalTrials": search.trials,
                "maxConcurrentTrials": search.parallel,
                "trialTimeout": one["limits"]["timeout"],
                "timeout": requests.duration(_total(job, search, wait_hours)),
            },
            "trial": {
                "command": requests.command(handed.args or (), words),
                **{key: one[key] for key in trial if key in one},
            },
        }
    }


def check(search: Search) -> list[Problem]:
    """Is the sweep within the service's limits?"""
    problems = []
    if search.trials > MOST_TRIALS:
        what = f"Azure ML tries {MOST_TRIALS} trials at most, and the sweep has {search.trials}"
        problems.append(Problem(what, f"give hydra.sweeper.n_trials={MOST_TRIALS} or less"))
    if search.parallel > MOST_PARALLEL:
        what = f"Azure ML runs {MOST_PARALLEL} trials at a time at most, not {search.parallel}"
        problems.append(Problem(what, f"give cloud.parallel={MOST_PARALLEL} or less"))
    return problems


def _total(job: Job, search: Search, wait_hours: float) -> float:
    rounds = math.ceil(search.trials / search.parallel)
    each = math.ceil((job.max_hours + wait_hours) * 3600) + START
    return min(LONGEST, rounds * each)


def _named(search: Search) -> dict[str, Parameter]:
    """Give each setting a name that is one of a variable too."""
    named: dict[str, Parameter] = {}
    for each in search.parameters:
        name = ("ln_" if each.log else "") + re.sub(r"\W", "_", each.name)
        while name in named:
            name += "_"
        named[name] = each
    return named


def _marked(parameter: Parameter) -> str:
    """Give a setting's name as the worker reads it."""
    if not parameter.log:
        return parameter.name
    return f"{EXP_INTEGER if parameter.integer else EXP}{parameter.name}"


def _space(parameter: Parameter, algorithm: str) -> list[Any]:
    """Give what a setting may be: a distribution's name, and its numbers."""
    low, high = parameter.low, parameter.high
    if parameter.choices:
        return ["choice", [[_choice(parameter.name, value) for value in parameter.choices]]]
    if algorithm == "grid":  # which is told all values
        return ["choice", [list(range(int(low), int(high) + 1))]]
    if parameter.log:
        return ["uniform", [math.log(low), math.log(high)]]
    if parameter.integer:  # rounded, so that both ends come half as often as what is between them
        return ["quniform", [int(low), int(high), 1]]
    return ["uniform", [low, high]]


def _choice(name: str, value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    text = word(value)
    if UNSAFE.search(text):
        raise UserError(
            f"{name}: the choice {value!r} cannot be handed to a trial of Azure ML; leave quotes, $ and backslashes out, "
            "or name it by a file of a group."
        )
    return text
