"""All places where runs of this project can be: each file of `configs/cloud/`, with its backend and its records."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..config import CONFIGS, CloudConfig, check_run_id
from ..errors import UserError
from . import records
from .backends import Service, connect
from .job import Status
from .records import Record

log = logging.getLogger(__name__)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Place:
    """One file of `configs/cloud/`.

    Args:
        name: its file's name without the ending.
        service_name: its backend.
        home: where the runs are that were launched with it.
    """

    name: str
    service_name: str
    service: Service
    home: str


@dataclass(frozen=True)
class Run:
    """A run as its record and its provider know it; one of the two may know nothing."""

    run_id: str
    place: Place
    record: Record | None
    status: Status | None
    # Of what the worker noted, asked only where the provider has forgotten the job.
    noted_state: str = ""
    noted_seconds: float = 0.0

    @property
    def state(self) -> str:
        if self.status:
            return self.status.state.value
        if self.noted_state:
            return self.noted_state
        return "unknown" if self.record and self.record.job else "not started"

    @property
    def seconds(self) -> float:
        """How long it has been running and is paid for, over all its launches."""
        if not self.status:
            return self.noted_seconds
        return self.status.seconds + (self.record.earlier_seconds if self.record else 0.0)

    @property
    def cost(self) -> float | None:
        """USD so far, at the price of its newest launch; None where no record says a price."""
        if not self.record:
            return None
        return self.seconds / 3600 * self.record.hourly_usd * self.record.nodes

    @property
    def created(self) -> datetime:
        if self.status:
            return self.status.created
        launched = self.record.launched if self.record else "1970-01-01T00:00:00+00:00"
        return datetime.fromisoformat(launched)


def places() -> list[Place]:
    """Give the places that can be asked, and say in one line each which cannot."""
    found = []
    for path in sorted((CONFIGS / "cloud").glob("*.yaml")):
        try:
            cloud = OmegaConf.merge(OmegaConf.structured(CloudConfig), OmegaConf.load(path))
            found.append(
                Place(path.stem, str(cloud.backend), connect(cloud), records.home(cloud.bucket))
            )
        except (UserError, OmegaConfBaseException) as error:
            log.warning("%s: %s", path.stem, str(error).splitlines()[0])
    return found


def runs(places: list[Place]) -> Iterator[Run]:
    """Give all runs, those of one place after the other's, newest first."""
    for place in places:
        if not _has_login(place):
            continue
        jobs = ask(place, place.service.list, [])
        statuses = {status.run_id: status for status in reversed(jobs)}  # of one id, the newest
        known = {
            record.run_id: record
            for record in ask(place, lambda home=place.home: records.read_all(home), [])
            if record.backend == place.service_name
        }
        ids = dict.fromkeys([*statuses, *known])
        found = [_run(run_id, place, known.get(run_id), statuses.get(run_id)) for run_id in ids]
        yield from sorted(found, key=lambda run: run.created, reverse=True)


def find(run_id: str, places: list[Place]) -> Run:
    """Find one run.

    Raises:
        UserError: no place knows it; names the nearest id.
    """
    check_run_id(run_id)
    for place in places:
        if not _has_login(place):
            continue
        record = ask(place, lambda home=place.home: records.read(home, run_id), None)
        if record and record.backend != place.service_name:
            record = None
        status = ask(place, lambda place=place: place.service.status(run_id), None)
        if record or status:
            return _run(run_id, place, record, status)
    ids = [run.run_id for run in runs(places)]
    close = difflib.get_close_matches(run_id, ids, n=1, cutoff=0.3)
    hint = f"did you mean {close[0]}?" if close else "`uv run runs list` shows which there are."
    raise UserError(f"There is no run {run_id}; {hint}")


def ask(place: Place, question: Callable[[], Result], default: Result) -> Result:
    """Ask a place; one that cannot be asked gets one line, and the answer is `default`."""
    try:
        return question()
    except UserError as error:
        _warn(f"{place.name}: {error}")
        return default


@cache
def _warn(line: str) -> None:
    log.warning("%s", line)


def _has_login(place: Place) -> bool:
    """Tell whether a place that wants a login has one: without, everything asked of it would fail."""
    who = getattr(place.service, "who", None)
    return who is None or ask(place, who, None) is not None


def _run(run_id: str, place: Place, record: Record | None, status: Status | None) -> Run:
    if status or not record:
        return Run(run_id, place, record, status)
    outcome = ask(place, lambda: records.outcome(place.home, run_id), None)
    attempts = ask(place, lambda: records.attempts(place.home, run_id), [])
    noted = str((outcome or {}).get("state", ""))
    return Run(run_id, place, record, None, noted, records.seconds(attempts))
