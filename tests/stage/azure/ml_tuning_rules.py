"""What Azure ML refuses of a sweep, and how it draws the values of its trials.

https://learn.microsoft.com/azure/machine-learning/how-to-tune-hyperparameters and reference-yaml-job-sweep; the form of a
search space in requests: azure-ai-ml's entities/_job/sweep/search_space.py.
"""

import itertools
import math
import random
from collections.abc import Iterator
from typing import Any

from stage.azure.ml_rules import (
    Surroundings,
    absent,
    check_common,
    check_place,
    check_time,
    check_trial,
    invalid,
)

TRIALS = 1000  # most of all, and at a time
# Distribution -> how many numbers it takes.
NUMBERS = {"randint": 1, "uniform": 2, "loguniform": 2, "normal": 2, "lognormal": 2}
NUMBERS |= {"quniform": 3, "qloguniform": 3, "qnormal": 3, "qlognormal": 3}
BAYESIAN = ("choice", "uniform", "quniform")


def check_sweep(given: dict[str, Any], around: Surroundings) -> None:
    """Refuses a sweep that cannot be made.

    Args:
        given: its properties.
    """
    check_common(given)
    if given.get("earlyTermination"):
        raise absent("early termination")
    if not given["objective"]["primaryMetric"]:
        raise invalid("The primary metric of the objective must not be empty.")
    space, how = given["searchSpace"], given["samplingAlgorithm"]["samplingAlgorithmType"]
    if not isinstance(space, dict) or not space:
        raise invalid("The search space must have at least one parameter.")
    for name, expression in space.items():
        kind = _check_expression(name, expression)
        if how == "Grid" and kind != "choice":
            raise invalid(
                f"Grid sampling can only be used with choice hyperparameters, and {name} is {kind}."
            )
        if how == "Bayesian" and kind not in BAYESIAN:
            raise invalid(
                f"Bayesian sampling supports choice, uniform and quniform only, and {name} is {kind}."
            )
    trial = given["trial"]
    check_trial(trial, around, given.get("inputs") or {}, space)
    check_place(given, given.get("resources") or {}, around)
    _check_limits(given.get("limits") or {})


def _check_limits(limits: dict[str, Any]) -> None:
    most = limits.get("maxTotalTrials")
    for name, value in (("maxTotalTrials", most), ("maxConcurrentTrials", limits.get("maxConcurrentTrials"))):
        if value is not None and not 1 <= value <= TRIALS:
            raise invalid(f"{name} must be an integer between 1 and {TRIALS}.")
    if limits.get("maxConcurrentTrials", 1) > (most or TRIALS):
        raise invalid("maxConcurrentTrials must not be more than maxTotalTrials.")
    for name in ("timeout", "trialTimeout"):
        check_time(limits.get(name), name)


def _check_expression(name: str, expression: Any) -> str:
    """Refuses what is no expression of a parameter; gives its kind."""
    fits = isinstance(expression, list) and len(expression) == 2 and isinstance(expression[1], list)
    kind = expression[0] if fits else ""
    if kind == "choice":
        values = expression[1][0] if len(expression[1]) == 1 else None
        if not isinstance(values, list) or not values:
            raise invalid(f'The choice of {name} is written as ["choice", [[value, ...]]] and has a value.')
        if any(isinstance(one, dict | list) for one in values):
            raise absent("choices that are no plain values")
        return kind
    if kind not in NUMBERS:
        raise invalid(f"Unknown parameter expression of {name}: {expression!r}.")
    numbers = expression[1]
    right = all(isinstance(one, int | float) and not isinstance(one, bool) for one in numbers)
    if len(numbers) != NUMBERS[kind] or not right or not all(math.isfinite(one) for one in numbers):
        raise invalid(f"{kind} of {name} takes {NUMBERS[kind]} numbers, not {numbers!r}.")
    if kind.endswith("uniform") and not numbers[0] < numbers[1]:
        raise invalid(f"The minimum of {name} must be less than its maximum.")
    if kind == "randint" and (numbers[0] < 1 or not isinstance(numbers[0], int)):
        raise invalid(f"The upper bound of {name} must be a positive integer.")
    return kind


def proposed(given: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """The values of each trial. How Bayesian sampling chooses is nobody's to know: by chance."""
    space, how = given["searchSpace"], given["samplingAlgorithm"]
    most = (given.get("limits") or {}).get("maxTotalTrials") or TRIALS
    if how["samplingAlgorithmType"] == "Grid":
        choices = [expression[1][0] for expression in space.values()]
        for values in itertools.islice(itertools.product(*choices), most):
            yield dict(zip(space, values, strict=True))
        return
    chance = random.Random(how.get("seed") or name)
    for _ in range(most):
        yield {key: _drawn(chance, kind, numbers) for key, (kind, numbers) in space.items()}


def _drawn(chance: random.Random, kind: str, numbers: list[Any]) -> Any:
    if kind == "choice":
        return chance.choice(numbers[0])
    if kind == "randint":
        return chance.randrange(numbers[0])
    plain = kind.removeprefix("q")
    low, high = numbers[:2]
    value = chance.gauss(low, high) if plain.endswith("normal") else chance.uniform(low, high)
    value = math.exp(value) if plain.startswith("log") else value
    return round(value / numbers[2]) * numbers[2] if kind.startswith("q") else value
