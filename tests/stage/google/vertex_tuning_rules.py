"""What Vertex AI refuses in a hyperparameter tuning job, as its reference documents it."""

import itertools
import math
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from stage.google.vertex_rules import Violation, about_job, about_spec, refuse

MOST_VALUES = 1000  # of a discrete parameter
APART = 1e-10  # its values, at least
LOG_SCALES = (2, 3)  # UNIT_LOG_SCALE, UNIT_REVERSE_LOG_SCALE
GRID = 2
KINDS = {
    "double_value_spec": "DOUBLE",
    "integer_value_spec": "INTEGER",
    "categorical_value_spec": "CATEGORICAL",
    "discrete_value_spec": "DISCRETE",
}


def kind(parameter: Any) -> str:
    """The name that the reference has for the type of a parameter; "" where it has no values."""
    return KINDS.get(parameter.WhichOneof("parameter_value_spec") or "", "")


def check_tuning(job: Any, registries: Collection[str] = ()) -> None:
    """Refuses a parsed tuning job that breaks a documented rule, naming every field at fault."""
    refuse(
        [
            *about_job(job, ("trials",)),
            *_about_counts(job),
            *_about_study(job.study_spec),
            *about_spec(job.trial_job_spec, "trial_job_spec", registries),
        ]
    )


def _about_counts(job: Any) -> Iterator[Violation]:
    if job.max_trial_count < 1:
        yield "max_trial_count", "is required, and at least 1"
    if not 1 <= job.parallel_trial_count <= max(1, job.max_trial_count):
        yield "parallel_trial_count", "is required, from 1 to max_trial_count"
    if not 0 <= job.max_failed_trial_count <= job.max_trial_count:
        yield "max_failed_trial_count", "from 0 to max_trial_count"


def _about_study(study: Any) -> Iterator[Violation]:
    if not study.metrics:
        yield "study_spec.metrics", "is required"
    names = [metric.metric_id for metric in study.metrics]
    yield from _about_ids(names, "study_spec.metrics", "metric_id")
    if study.observation_noise:
        yield "study_spec.observation_noise", "is not supported by HyperparameterTuningJob"
    if not study.parameters:
        yield "study_spec.parameters", "is required"
    yield from _about_ids(
        [each.parameter_id for each in study.parameters], "study_spec.parameters", "parameter_id"
    )
    for number, parameter in enumerate(study.parameters):
        for name, text in _about_parameter(parameter):
            yield f"study_spec.parameters[{number}].{name}", text
        if study.algorithm == GRID and kind(parameter) == "DOUBLE":
            yield "study_spec.algorithm", f"GRID_SEARCH takes no DOUBLE, as {parameter.parameter_id} is"


def _about_ids(names: Sequence[str], where: str, field: str) -> Iterator[Violation]:
    for number, name in enumerate(names):
        if not name or re.search(r"\s", name):
            yield f"{where}[{number}].{field}", f"{name!r}: is required, without whitespace"
        elif names.count(name) > 1:
            yield f"{where}[{number}].{field}", f"{name} is there twice"


def _about_parameter(parameter: Any) -> Iterator[Violation]:
    what = kind(parameter)
    if not what:
        yield "parameter_value_spec", "one of the value specs is required"
        return
    field = parameter.WhichOneof("parameter_value_spec")
    spec = getattr(parameter, field)
    if spec.HasField("default_value"):
        yield f"{field}.default_value", "is not supported by HyperparameterTuningJob"
    if what in ("DOUBLE", "INTEGER"):
        lowest = spec.min_value
        if not spec.min_value < spec.max_value or not math.isfinite(spec.max_value - spec.min_value):
            yield f"{field}.max_value", "must be finite and greater than min_value"
    else:
        lowest = spec.values[0] if what == "DISCRETE" and spec.values else 0
        for text in _about_values(list(spec.values), what):
            yield f"{field}.values", text
    if parameter.scale_type and what == "CATEGORICAL":
        yield "scale_type", "is to be left unset for CATEGORICAL"
    elif parameter.scale_type in LOG_SCALES and lowest <= 0:
        yield "scale_type", "a logarithmic scale needs a feasible space that is strictly positive"


def _about_values(values: list[Any], what: str) -> Iterator[str]:
    if not values:
        yield "is required"
    if what == "CATEGORICAL":
        if len(set(values)) < len(values):
            yield "a category is there twice"
        return
    if len(values) > MOST_VALUES:
        yield f"not more than {MOST_VALUES}"
    if any(not after - before >= APART for before, after in itertools.pairwise(values)):
        yield f"must be increasing, at least {APART} apart"
