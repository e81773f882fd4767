"""From a sweep's file in Hydra's own syntax to a `Search`, which a service of hyperparameter tuning understands.

The space is the one that the Optuna sweeper makes of the same words: a range includes its end, unless the sampler is a
grid, and what is typed wins over what the file says. What a service cannot express is refused by its name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
)
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from ..errors import UserError
from ..job import Parameter, Search
from ..project import project
from ..settings.examples import check_config

ALGORITHMS = {"TPESampler": "bayesian", "RandomSampler": "random", "GridSampler": "grid"}
SETTING = re.compile(r"[A-Za-z_]\w*([./][A-Za-z_]\w*)*")
MOST_CHOICES = 1000  # of numbers; the service's own limit


def for_launch(argv: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Make the words of a launch such that Hydra composes once instead of sweeping.

    Args:
        argv: what was typed after the program's name.

    Returns:
        the words for Hydra, and those that give a search space, which Hydra takes for sweeps only.
    """
    if not any(word.startswith("sweep=") and word not in ("sweep=", "sweep=null") for word in argv):
        return list(argv), ()
    spaces = tuple(word for word in argv if _is_space(word))
    return [*(word for word in argv if word not in spaces), "hydra.mode=RUN"], spaces


def search_of(
    hydra_config: Any, config: DictConfig, spaces: Sequence[str] = ()
) -> tuple[Search, tuple[str, ...]]:
    """Read what a sweep looks for.

    Args:
        hydra_config: `HydraConfig.get()` of the configuration composed with `sweep=NAME`.
        config: that configuration.
        spaces: what was typed as a search space, as `for_launch` gives it.

    Returns:
        the search, and the further overrides that each of its trainings needs.

    Raises:
        UserError: naming the key that a service of tuning cannot express, and what to write instead.
    """
    sweeper = hydra_config.sweeper
    algorithm = _algorithm(sweeper)
    typed = [_parse(word) for word in hydra_config.overrides.task]
    fixed = {override.key_or_group for override in typed}
    given = [_parse(f"{key}={value}") for key, value in (sweeper.get("params") or {}).items()]
    wanted = {each.key_or_group: each for each in given if each.key_or_group not in fixed}
    wanted |= {each.key_or_group: each for each in map(_parse, spaces)}
    searched = {key: each for key, each in wanted.items() if each.is_sweep_override()}
    parameters = tuple(_parameter(each, algorithm) for each in searched.values())
    if not parameters:
        raise UserError(
            "Nothing is left to look for: give hydra.sweeper.params a setting with choice(...), range(...) or "
            "interval(...)."
        )
    for parameter in parameters:
        _try(parameter, config, hydra_config.runtime.choices)
    constants = (
        f"{key}={each.get_value_element_as_str()}"
        for key, each in wanted.items()
        if key not in searched
    )
    trials = _trials(sweeper, parameters, algorithm)
    parallel = config.cloud.parallel if config.cloud.parallel > 1 else int(sweeper.get("n_jobs", 1))
    search = Search(
        parameters=parameters,
        objective=_objective(config),
        maximize=_maximize(sweeper),
        trials=trials,
        parallel=max(1, min(parallel, trials)),
        algorithm=algorithm,
    )
    name = hydra_config.runtime.choices["sweep"]
    return search, (f"sweep={name}", "hydra.mode=RUN", *constants)


def _is_space(word: str) -> bool:
    """Tell whether a word of the command line is a search space; what Hydra cannot read it will say so of."""
    try:
        return not word.startswith("-") and _parser().parse_override(word).is_sweep_override()
    except HydraException:
        return False


def _parser() -> OverridesParser:
    return OverridesParser.create()


def _parse(text: str) -> Override:
    key = text.partition("=")[0]
    try:
        return _parser().parse_override(text)
    except HydraException as error:
        reason = " ".join(str(error).split())
        raise UserError(f"hydra.sweeper.params: {key} cannot be read ({reason}).") from None


def _try(parameter: Parameter, config: DictConfig, choices: DictConfig) -> None:
    """Refuse an unknown setting now; what the training says of its values is asked before a launch."""
    name = parameter.name
    if name in choices:
        known = sorted(path.stem for path in (project().configs / name).glob("*.yaml"))
        if wrong := [str(value) for value in parameter.choices if value not in known]:
            raise UserError(f"There is no {name}={wrong[0]}; there are {', '.join(known)}.")
        return
    tried = config.copy()
    OmegaConf.set_readonly(tried, False)
    OmegaConf.set_struct(tried, True)
    ends = (parameter.low, parameter.high)
    for value in (parameter.choices[0], parameter.choices[-1]) if parameter.choices else ends:
        OmegaConf.update(tried, name, value)
        known = {str(group): choice for group, choice in choices.items()}
        check_config(tried, known, project().configs)


# What the sweep as a whole is like


def _algorithm(sweeper: DictConfig) -> str:
    if not str(sweeper.get("_target_", "")).endswith("OptunaSweeper"):
        raise UserError(
            "hydra/sweeper: only a sweep for Optuna can run as a tuning job; write `override /hydra/sweeper: optuna` "
            "into the defaults of the sweep's file."
        )
    for key, remedy in {
        "custom_search_space": "write the whole space as hydra.sweeper.params",
        "search_space": "write it as hydra.sweeper.params",
    }.items():
        if sweeper.get(key):
            raise UserError(f"hydra.sweeper.{key} cannot be given to a tuning job; {remedy}.")
    name = str(sweeper.sampler.get("_target_", "")).rpartition(".")[2]
    if name not in ALGORITHMS:
        raise UserError(
            f"hydra.sweeper.sampler: a tuning job has no {name}; choose hydra/sweeper/sampler=tpe, random or grid."
        )
    return ALGORITHMS[name]


def _maximize(sweeper: DictConfig) -> bool:
    direction = sweeper.get("direction")
    name = str(direction).rpartition(".")[2].lower()
    if OmegaConf.is_list(direction) or name not in ("maximize", "minimize"):
        raise UserError(
            f"hydra.sweeper.direction={direction}: a tuning job has one objective; write maximize or minimize."
        )
    return name == "maximize"


def _objective(config: DictConfig) -> str:
    name = config.objective
    if not isinstance(name, str) or not name or re.search(r"\s", name):
        raise UserError(f"objective={name} names no metric; write one such as val/accuracy.")
    return name


def _trials(sweeper: DictConfig, parameters: tuple[Parameter, ...], algorithm: str) -> int:
    trials = int(sweeper.get("n_trials") or 0)
    if trials < 1:
        raise UserError(f"hydra.sweeper.n_trials={trials} would try nothing; write 1 or more.")
    if algorithm == "grid":
        points = math.prod(
            len(each.choices) or round(each.high - each.low) + 1 for each in parameters
        )
        return min(trials, points)
    return trials


# One setting


def _parameter(override: Override, algorithm: str) -> Parameter:
    key, space = override.key_or_group, override.value()
    if not SETTING.fullmatch(override.get_key_element()):
        raise UserError(
            f"{override.get_key_element()} cannot be searched for; give the plain name of a setting that the "
            "configuration has, such as optimizer.lr."
        )
    if isinstance(space, IntervalSweep):
        return _interval(key, space, algorithm)
    if isinstance(space, RangeSweep):
        return _range(key, space, algorithm)
    if isinstance(space, ChoiceSweep):
        return _choice(key, space)
    raise UserError(f"{key}: a tuning job knows no glob(); write the names as choice(a, b, ...).")


def _interval(key: str, space: IntervalSweep, algorithm: str) -> Parameter:
    low, high = space.start, space.end
    if low is None or high is None or not low < high or not all(map(math.isfinite, (low, high))):
        raise UserError(
            f"{key}: interval({low}, {high}) is empty or without end; write a smaller and a larger number."
        )
    log = "log" in space.tags
    if log and low <= 0:
        raise UserError(
            f"{key}: a logarithmic scale has no {low}; write tag(log, interval(LOW, {high})) with LOW above 0."
        )
    integer = isinstance(low, int) and isinstance(high, int)
    if algorithm == "grid" and not integer:
        raise UserError(
            f"{key}: a grid needs single values; write choice(...), range(...) or int(interval(...))."
        )
    return Parameter(key, low=low, high=high, log=log, integer=integer)


def _range(key: str, space: RangeSweep, algorithm: str) -> Parameter:
    start, stop, step = space.start, space.stop, space.step
    if "log" in space.tags:
        raise UserError(
            f"{key}: a range has no logarithmic scale; write tag(log, interval(LOW, HIGH))."
        )
    if start is None or stop is None or step <= 0 or not math.isfinite(start + stop + step):
        raise UserError(f"{key}: the range has no end or goes down; write range(LOW, HIGH, STEP).")
    # As in the sweeper here: Optuna takes the end in, but for a grid it is left out.
    steps = (stop - start) / step
    count = math.ceil(steps - 1e-9) if algorithm == "grid" else math.floor(steps + 1e-9) + 1
    if count < 1:
        raise UserError(f"{key}: range({start}, {stop}) is empty; write the smaller number first.")
    if step == 1 and count > 1 and isinstance(start, int):
        return Parameter(key, low=start, high=start + count - 1, integer=True)
    if count > MOST_CHOICES:
        raise UserError(
            f"{key}: a range of {count} steps is too fine, {MOST_CHOICES} are possible; write a larger step or "
            f"interval({start}, {stop})."
        )
    values = (start + number * step for number in range(count))
    return Parameter(
        key, tuple(value if isinstance(value, int) else round(value, 12) for value in values)
    )


def _choice(key: str, space: ChoiceSweep) -> Parameter:
    values: list[Any] = [
        each.text if isinstance(each, QuotedString) else each for each in space.list
    ]
    numbers = [isinstance(each, int | float) and not isinstance(each, bool) for each in values]
    if any(numbers) and all(numbers):
        if not all(map(math.isfinite, values)):
            raise UserError(f"{key}: choice(...) may hold finite numbers only.")
        if len(values) > MOST_CHOICES:
            raise UserError(
                f"{key}: {len(values)} choices are too many; write up to {MOST_CHOICES}."
            )
        return Parameter(key, tuple(sorted(set(values))))
    kinds = {type(each) for each in values}
    if len(kinds) != 1 or not kinds <= {str, bool}:
        raise UserError(
            f"{key}: the choices of a tuning job are all numbers, all words, or true and false; write those, and "
            "lists or mixed ones as files of a group, as in model=choice(cnn, unet)."
        )
    return Parameter(key, tuple(dict.fromkeys(values)))
