"""How services that tune a training say which trial a container is and what it was given, and where they look for its result."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..errors import UserError
from ..job import ARGUMENTS, OBJECTIVE_LINE
from . import aml, opt_ml

# Vertex AI sets the first, appends the settings to the arguments as --name=value, and reads the objective from a file,
# one JSON object a line, as its library `cloudml-hypertune` writes it.
TRIAL_ID, METRIC_FILE = "CLOUD_ML_TRIAL_ID", "CLOUD_ML_HP_METRIC_FILE"
USUAL_METRIC_FILE = "/tmp/hypertune/output.metrics"  # noqa: S108 - the service looks for it there
MOST_MEASUREMENTS = 100  # the newest; the library keeps no more either
SETTING = re.compile(r"--(?P<name>[A-Za-z_]\w*(?:[./][A-Za-z_]\w*)*)(?:=(?P<value>.*))?", re.DOTALL)
WHOLE = re.compile(r"(-?\d+)\.0+")

# SageMaker writes all settings to a file, each value as a text, and reads the objective from the log. A trial's job has
# the name of the tuning job, its own number and something to tell it from others, as in sweep-a1b2c3-007-4bd2fb28.
SETTINGS = "hyperparameters.json"
NUMBERED = re.compile(r".+-(?P<number>\d{3,})-[0-9a-f]+")
OWN = "_"  # begins the settings that are the service's, such as _tuning_objective_metric


class Channel(Protocol):
    """Where a service looks for what a trial has measured."""

    def tell(
        self, number: int, objective: str, measured: Sequence[tuple[int, float]], last: bool = False
    ) -> None:
        """Tell it all that was measured so far: step and value, the last of which is the result.

        Args:
            last: whether the training has ended.
        """
        ...


@dataclass(frozen=True)
class Given:
    """What a service says to a container.

    Args:
        trial: its number, as text; empty where that is not said.
        source: what says it.
        settings: what the service has chosen, by name.
        overrides: what was given besides.
        channel: to the service.
    """

    trial: str
    source: str
    settings: dict[str, str]
    overrides: list[str]
    channel: Channel


@dataclass(frozen=True)
class FileChannel:
    """A file that is read at the trial's end, or now and then."""

    path: Path

    def tell(
        self, number: int, objective: str, measured: Sequence[tuple[int, float]], last: bool = False
    ) -> None:
        now = time.time()
        lines = [
            {
                "global_step": str(step),
                objective: str(value),
                "timestamp": now,
                "trial": str(number),
            }
            for step, value in measured[-MOST_MEASUREMENTS:]
        ]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # In place: who has the file open already would not see one that took its name.
        text = "".join(json.dumps(line) + "\n" for line in lines)
        self.path.write_text(text, encoding="utf-8")


@dataclass
class LogChannel:
    """Lines of the log, in which the service searches for the last value: each is printed once."""

    told: int = field(default=-1)

    def tell(
        self, number: int, objective: str, measured: Sequence[tuple[int, float]], last: bool = False
    ) -> None:
        for step, value in measured:
            if step > self.told:
                sys.stdout.write(f"{OBJECTIVE_LINE}{value!r} of {objective} at step {step}\n")
                self.told = step
        sys.stdout.flush()


def given(env: Mapping[str, str], args: Sequence[str]) -> Given:
    """Read what the service says to this trial.

    Raises:
        UserError: it gives something else than plain settings.
    """
    if aml.JOB in env:
        settings, overrides = _split([aml.plain(word) for word in args])
        channel = aml.RunChannel(env)
        return Given(aml.number(env), aml.JOB, settings, overrides, channel)
    return _by_file(env, args) if opt_ml.JOB in env else _by_arguments(env, args)


def _by_arguments(env: Mapping[str, str], args: Sequence[str]) -> Given:
    settings, overrides = _split(args)
    path = Path(env.get(METRIC_FILE) or USUAL_METRIC_FILE)
    return Given(env.get(TRIAL_ID, ""), TRIAL_ID, settings, overrides, FileChannel(path))


def _by_file(env: Mapping[str, str], args: Sequence[str]) -> Given:
    found = NUMBERED.fullmatch(env[opt_ml.JOB])
    number = str(int(found["number"])) if found else ""
    values = {str(key): str(value) for key, value in (opt_ml.config(SETTINGS) or {}).items()}
    try:
        overrides = [str(each) for each in json.loads(values.pop(ARGUMENTS, "null")) or args]
    except (ValueError, TypeError) as error:
        raise UserError(f"{ARGUMENTS} in {SETTINGS} is no list of arguments ({error}).") from error
    settings = {name: value for name, value in values.items() if not name.startswith(OWN)}
    return Given(number, opt_ml.JOB, settings, overrides, LogChannel())


def _split(args: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Part what the service has appended, as --name=value or --name value, from the training's overrides."""
    settings: dict[str, str] = {}
    overrides: list[str] = []
    left = list(args)
    while left:
        word = left.pop(0)
        if not word.startswith("--"):
            overrides.append(word)
            continue
        found = SETTING.fullmatch(word)
        value = found["value"] if found else None
        if found and value is None and left:
            value = left.pop(0)
        if not found or not value:
            raise UserError(f"The service gave {word}, which is no setting with a value.")
        whole = WHOLE.fullmatch(value)  # settings that take whole numbers take no 16.0
        settings[found["name"]] = whole[1] if whole else value
    return settings, overrides
