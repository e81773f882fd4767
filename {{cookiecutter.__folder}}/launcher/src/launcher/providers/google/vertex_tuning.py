"""Hyperparameter tuning jobs of Vertex AI, in the service's own JSON: what is asked for, and what their trials say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ...job import RUN_DIRECTION, RUN_KIND, Job, Kind, Parameter, Search
from ..choices import word

COLLECTION = "hyperparameterTuningJobs"
ALGORITHMS = {"random": "RANDOM_SEARCH", "grid": "GRID_SEARCH"}  # without one it is Bayesian
ENDED = ("SUCCEEDED", "INFEASIBLE")


def environment(search: Search) -> dict[str, str]:
    """Give what a trial is told beside the environment of every job."""
    return {RUN_DIRECTION: "maximize" if search.maximize else "minimize"}


def request(job: Job, search: Search, labels: Mapping[str, str], spec: Any) -> dict[str, Any]:
    """Give the body of a tuning job whose trials are custom jobs of this `spec`."""
    goal = "MAXIMIZE" if search.maximize else "MINIMIZE"
    study: dict[str, Any] = {
        "metrics": [{"metricId": search.objective, "goal": goal}],
        "parameters": [_parameter(each) for each in search.parameters],
        # As the sweep here, and as the results in the bucket say it.
        "measurementSelectionType": "LAST_MEASUREMENT",
    }
    if search.algorithm in ALGORITHMS:
        study["algorithm"] = ALGORITHMS[search.algorithm]
    return {
        "displayName": job.run_id,
        "labels": dict(labels),
        "studySpec": study,
        "maxTrialCount": search.trials,
        "parallelTrialCount": search.parallel,
        # When half of them fail, the others are not worth their price.
        "maxFailedTrialCount": math.ceil(search.trials / 2),
        "trialJobSpec": spec,
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    """Give one setting: numbers to choose from are ordered for the service, words are not."""
    name = {"parameterId": parameter.name}
    choices = parameter.choices
    if choices and all(
        isinstance(each, int | float) and not isinstance(each, bool) for each in choices
    ):
        return {**name, "discreteValueSpec": {"values": list(choices)}}
    if choices:
        return {**name, "categoricalValueSpec": {"values": [word(each) for each in choices]}}
    scale = {"scaleType": "UNIT_LOG_SCALE" if parameter.log else "UNIT_LINEAR_SCALE"}
    if parameter.integer:
        # int64, which is a string in the API's JSON
        ends = {"minValue": str(int(parameter.low)), "maxValue": str(int(parameter.high))}
        return {**name, "integerValueSpec": ends, **scale}
    return {
        **name,
        "doubleValueSpec": {"minValue": parameter.low, "maxValue": parameter.high},
        **scale,
    }


def is_trial(job: Mapping[str, Any]) -> bool:
    """Tell whether a custom job was made by the service for a tuning job, and so is no run by itself."""
    pools = (job.get("jobSpec") or {}).get("workerPoolSpecs") or [{}]
    variables = (pools[0].get("containerSpec") or {}).get("env") or []
    return any(
        each.get("name") == RUN_KIND and each.get("value") == Kind.sweep.value for each in variables
    )


def progress(job: Mapping[str, Any]) -> str:
    """Tell how many trials have ended."""
    ended = sum(trial.get("state") in ENDED for trial in job.get("trials", []))
    return f"{ended} of {job['maxTrialCount']} trials"


def numbers(job: Mapping[str, Any]) -> dict[str, str]:
    """Give the numbers of the custom jobs that its trials are, each with the trial's."""
    trials = [trial for trial in job.get("trials", []) if trial.get("customJob")]
    return {trial["customJob"].rpartition("/")[2]: trial["id"] for trial in trials}


def seconds(job: Mapping[str, Any], now: datetime) -> float:
    """Add up how long its trials have been running, each from its start to its end: never too little."""
    if not (started := job.get("startTime")):
        return 0.0
    last = _time(job.get("endTime")) or now
    trials = job.get("trials", [])
    if not trials:  # the service does not say; as many as there may be at a time
        return (
            max(0.0, (last - datetime.fromisoformat(started)).total_seconds())
            * job["parallelTrialCount"]
        )
    spans = [
        (_time(trial.get("endTime")) or last) - start
        for trial in trials
        if (start := _time(trial.get("startTime")))
    ]
    return sum(max(0.0, span.total_seconds()) for span in spans)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
