"""A sweep somewhere else: what its trials were given and have reached, read from the results in the bucket."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import records
from ..errors import UserError
from ..storage import NothingThereError, list_files, read_text
from .table import Trial, ranked, report

if TYPE_CHECKING:
    from ..records.places import Place, Run


def show_sweep(place: Place, run: Run) -> None:
    """Print a sweep's trials, the best first, and keep table and plot in runs/sweeps/, while it runs and after it.

    Raises:
        UserError: the run is no sweep, none of its trials has begun, or the bucket cannot be read.
    """
    if run.record and run.record.kind != "sweep":
        raise UserError(
            f"Run {run.run_id} is no sweep; `uv run runs fetch {run.run_id}` fetches its results."
        )
    noted = _notes(place.home, run.run_id)
    if not noted:
        raise UserError(f"No trial of sweep {run.run_id} has begun yet ({run.state}).")
    with ThreadPoolExecutor(8) as pool:
        trials = list(pool.map(lambda note: _trial(place.home, note, run.over), noted))
    if run.status:
        print(f"sweep {run.run_id}: {run.state}, {run.status.detail}")
    maximize = noted[0]["direction"] == "maximize"
    report(trials, noted[0]["objective"], maximize, Path(records.LOCAL_HOME, "sweeps", run.run_id))
    best = ranked(trials, maximize)[0]
    if best.measured:
        print(f"best   uv run runs fetch {best.run_id}")


def _notes(home: str, run_id: str) -> list[dict[str, Any]]:
    """Read what each trial has noted at its start, in the order of their numbers."""
    folder = f"{home}/{run_id}/{records.TRIALS}"
    try:
        names = list_files(folder, patience=records.PATIENCE)
    except NothingThereError:
        return []
    numbered = sorted((name for name in names if name.endswith(".json")), key=_number)
    texts = (read_text(f"{folder}/{name}", patience=records.PATIENCE) for name in numbered)
    return [json.loads(text) for text in texts if text]


def _number(name: str) -> int:
    stem = name.removesuffix(".json")
    return int(stem) if stem.isdigit() else 0


def _trial(home: str, note: dict[str, Any], over: bool) -> Trial:
    """Find out what has become of one trial; one that is at work is shown with its newest validation."""
    run_id, objective = note["run_id"], note["objective"]
    outcome = records.outcome(home, run_id)
    if outcome:
        return Trial(run_id, _plain(note), outcome.get("objective"), str(outcome.get("state")))
    state = "stopped" if over else "running"
    newest = _newest(f"{home}/{run_id}/{records.CURVES}", objective)
    return Trial(run_id, _plain(note), newest, state)


def _plain(note: dict[str, Any]) -> dict[str, Any]:
    """Give the settings with numbers as numbers: they were arguments, which are text."""
    return {name: _value(text) for name, text in note["settings"].items()}


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _newest(uri: str, objective: str) -> float | None:
    """Read the last whole line of a log that holds the objective."""
    found = None
    for line in (read_text(uri, patience=records.PATIENCE) or "").splitlines():
        try:
            found = json.loads(line).get(objective, found)
        except ValueError:
            break
    return found
