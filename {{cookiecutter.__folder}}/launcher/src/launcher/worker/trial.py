"""One trial of a sweep: a run of its own, with settings that the service has chosen and a result that it is told.

A service starts the same container for each trial; what it says to it, and how, is in `tuning.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import UserError
from ..identity import check_run_id
from ..job import RUN_DIRECTION, RUN_ID, RUN_KIND, RUN_OBJECTIVE, RUN_OUTPUT, Kind
from ..records import CURVES, RUN, TRIALS
from ..storage import read_text, write_text
from .settings import Settings
from .tuning import Channel, given


@dataclass(frozen=True)
class Trial:
    """Which trial this is.

    Args:
        sweep: run id of the sweep.
        number: of the trial, from 1.
        home: URI of the sweep's own run folder; None keeps results on the machine.
        objective: the metric to report.
        direction: maximize or minimize.
        settings: what the service has chosen, by name.
        channel: where the service looks for the objective.
    """

    sweep: str
    number: int
    home: str | None
    objective: str
    direction: str
    settings: dict[str, str]
    channel: Channel

    @property
    def run_id(self) -> str:
        return f"{self.sweep}-{self.number}"

    def narrow(self, settings: Settings) -> Settings:
        """Give the settings of this trial's run, from those of the sweep."""
        check_run_id(self.run_id)
        output = f"{settings.output}-{self.number}" if settings.output else None
        return replace(settings, run_id=self.run_id, output=output)

    def note(self) -> None:
        """Keep in the sweep's folder what the trial was given.

        Raises:
            UserError: the run folder is that of another sweep's trial, or the bucket refuses it.
            StorageUnavailable: it does not answer.
        """
        if not self.home:
            return
        uri = f"{self.home}/{TRIALS}/{self.number}.json"
        values = {"run_id": self.run_id, "objective": self.objective, "direction": self.direction}
        text = json.dumps({**values, "settings": self.settings}, indent=2) + "\n"
        earlier = read_text(uri)
        if earlier is None:
            write_text(uri, text)
        elif earlier != text:
            raise UserError(
                f"{uri} is of an earlier sweep with other settings; launch this one with another run.id."
            )

    def report(self, folder: Path, last: bool = False) -> tuple[int, float] | None:
        """Tell the service all that was measured so far; give the last step and value, None where there is none.

        The service takes the last for the result; once the training has ended, that is of the weights that it keeps.

        Args:
            last: whether it has ended.
        """
        measured = self._measurements(folder / CURVES)
        kept = self._kept(folder / RUN)
        if measured and kept is not None and kept != measured[-1][1]:
            measured.append((measured[-1][0] + 1, kept))
        if not measured:
            return None
        self.channel.tell(self.number, self.objective, measured, last)
        return measured[-1]

    def result(self, folder: Path) -> float:
        """Tell the service what the ended training has reached, and give it.

        Raises:
            UserError: it was not measured, or is no number.
        """
        last = self.report(folder, last=True)
        if last is None:
            raise UserError(
                f"The training measured no {self.objective}, which the sweep optimizes; give objective= one of "
                f"the metrics in {CURVES}."
            )
        return last[1]

    def _kept(self, path: Path) -> float | None:
        """Read what the training says of the weights that it keeps; None before its end."""
        try:
            values = json.loads(path.read_text(encoding="utf-8")).get("kept", {})
        except (OSError, ValueError):
            return None
        return values.get(self.objective)

    def _measurements(self, path: Path) -> list[tuple[int, float]]:
        """Read step and value of each validation; a value that is no number ends a trial without a result."""
        found = []
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        for line in lines:
            try:
                values = json.loads(line)
            except ValueError:  # torn: it is being written
                break
            value = values.get(self.objective)
            if value is not None and not math.isfinite(value):
                raise UserError(
                    f"The training's {self.objective} is {value} at step {values['step']}; it has diverged."
                )
            if value is not None:
                found.append((int(values["step"]), float(value)))
        return found


def read_trial(env: Mapping[str, str], args: Sequence[str]) -> tuple[Trial | None, list[str]]:
    """Find out whether this is a trial of a sweep.

    Returns:
        the trial, None for any other job, and the training's overrides with what the service has chosen.

    Raises:
        UserError: the service does not say which trial it is, or gives something else than plain settings.
    """
    if env.get(RUN_KIND) != Kind.sweep.value:
        return None, list(args)
    said, objective = given(env, args), env.get(RUN_OBJECTIVE, "")
    if not said.trial.isdigit() or not objective:
        raise UserError(
            f"A trial of a sweep needs {said.source} and {RUN_OBJECTIVE}; there are {said.trial!r} and {objective!r}."
        )
    trial = Trial(
        sweep=env.get(RUN_ID, ""),
        number=int(said.trial),
        home=(env.get(RUN_OUTPUT) or "").rstrip("/") or None,
        objective=objective,
        direction=env.get(RUN_DIRECTION, "maximize"),
        settings=said.settings,
        channel=said.channel,
    )
    return trial, [*said.overrides, *(f"{name}={value}" for name, value in said.settings.items())]
