"""All places where runs of this project can be: each file of `configs/cloud/`, with its backend and its records."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .. import records
from ..errors import UserError
from ..identity import check_run_id
from ..job import Kind, Status
from ..project import project
from ..providers import Service, connect
from ..settings.schema import CloudConfig, register_resolver
from . import Record

log = logging.getLogger(__name__)
Result = TypeVar("Result")
_said: dict[str, str] = {}  # each line of trouble -> the place that it was met at
REMEMBERED = timedelta(days=35)  # launches that are older than this are not looked at any more


@dataclass(frozen=True)
class Place:
    """One file of `configs/cloud/`.

    Args:
        name: its file's name without the ending.
        service_name: its backend.
        home: where the runs are that were launched with it.
        labels: what everything has that was made for it.
        cap: USD that its launches of one month may cost together.
        region: that is asked; None where there are none.
        cloud: the section `cloud` of the file.
    """

    name: str
    service_name: str
    service: Service
    home: str
    labels: dict[str, str]
    cap: float
    region: str | None = None
    cloud: Any = None

    def holds(self, record: Record) -> bool:
        """Tell whether the job of a launch is, or was, here."""
        regions = {self.region, record.region} - {None}
        return record.backend == self.service_name and len(regions) < 2

    def at(self, record: Record) -> Place:
        """Give the same place in the region of a launch with a region of its own (cloud.region=...)."""
        if self.holds(record) or record.backend != self.service_name:
            return self
        moved = OmegaConf.merge(self.cloud, {"region": record.region})
        return _place(f"{self.name} ({record.region})", moved)


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
        return self.record.cost(self.seconds) if self.record else None

    @property
    def over(self) -> bool:
        """Whether it costs nothing any more, as far as is known."""
        return self.state not in ("queued", "running", "preempted", "unknown")

    @property
    def remaining(self) -> float:
        """USD that it may still cost, at most."""
        if self.over or not self.record:
            return 0.0
        return max(0.0, self.record.worst_case_usd - self.record.cost(self.launch_seconds))

    @property
    def launch_seconds(self) -> float:
        """How long its newest launch has been running."""
        if self.status:
            return self.status.seconds
        return self.noted_seconds - (self.record.earlier_seconds if self.record else 0.0)

    @property
    def created(self) -> datetime:
        if self.status:
            return self.status.created
        launched = self.record.launched if self.record else "1970-01-01T00:00:00+00:00"
        return datetime.fromisoformat(launched)


def places(backend: str | None = None) -> list[Place]:
    """Give the places that can be asked, and say in one line each which cannot.

    Args:
        backend: of these only; None for all.
    """
    register_resolver()
    found = []
    for path in sorted((project().configs / "cloud").glob("*.yaml")):
        try:
            cloud = OmegaConf.merge(OmegaConf.structured(CloudConfig), OmegaConf.load(path))
            if backend in (None, cloud.backend):
                found.append(_place(path.stem, cloud))
        except (UserError, OmegaConfBaseException) as error:
            _warn(path.stem, str(error).splitlines()[0])
    return found


def _place(name: str, cloud: Any) -> Place:
    return Place(
        name=name,
        service_name=str(cloud.backend),
        service=connect(cloud),
        home=records.home(cloud.bucket),
        labels={str(key): str(value) for key, value in cloud.labels.items()},
        cap=cloud.max_month_usd,
        region=cloud.region,
        cloud=cloud,
    )


def with_regions(places: list[Place], found: list[Record]) -> list[Place]:
    """Add the regions that launches of the last weeks have named: a list of jobs tells of one region only.

    Of two that would list the same jobs the first is left.
    """
    recent = (datetime.now(UTC) - REMEMBERED).isoformat()
    named = [record for record in found if record.launched > recent]
    more = [place.at(record) for place in places for record in named]
    unique: dict[Any, Place] = {}
    for place in (*places, *more):
        key = (place.service_name, place.region, tuple(sorted(place.labels.items())))
        unique.setdefault(key, place)
    return list(unique.values())


def runs(places: list[Place]) -> Iterator[Run]:
    """Give all runs, those of one place after the other's, newest first."""
    there = [place for place in places if has_login(place)]
    homes: dict[str, list[Record]] = {}
    for place in there:
        if place.home not in homes:  # several places may share one
            homes[place.home] = ask(place, lambda home=place.home: records.read_all(home), [])
    there = [
        each
        for home, found in homes.items()
        for each in with_regions([place for place in there if place.home == home], found)
    ]
    for place in there:
        jobs = ask(place, place.service.list, [])
        statuses = {status.run_id: status for status in reversed(jobs)}  # of one id, the newest
        mine = [record for record in homes[place.home] if _first(there, record) is place]
        known = {record.run_id: record for record in mine}
        ids = dict.fromkeys([*statuses, *known])
        found = [_run(run_id, place, known.get(run_id), statuses.get(run_id)) for run_id in ids]
        yield from sorted(found, key=lambda run: run.created, reverse=True)


def _first(places: list[Place], record: Record) -> Place | None:
    """Give the place that a record is shown with: where its job is, else one of its backend."""
    same = [place for place in places if place.service_name == record.backend]
    return next((place for place in same if place.holds(record)), same[0] if same else None)


def find(run_id: str, places: list[Place]) -> Run:
    """Find one run.

    Raises:
        UserError: no place knows it; names the nearest id.
    """
    check_run_id(run_id)
    for place in places:
        if not has_login(place):
            continue
        record = ask(place, lambda home=place.home: records.read(home, run_id), None)
        if record and record.backend != place.service_name:
            record = None
        here = place.at(record) if record else place
        status = ask(here, lambda here=here: here.service.status(run_id), None)
        if record or status:
            return _run(run_id, here, record, status)
    if trial := _find_trial(run_id, places):
        return trial
    ids = [run.run_id for run in runs(places)]
    close = difflib.get_close_matches(run_id, ids, n=1, cutoff=0.3)
    hint = f"did you mean {close[0]}?" if close else "`uv run runs list` shows which there are."
    asked = (
        f" where it could be asked for (not {', '.join(missing)})" if (missing := silent()) else ""
    )
    raise UserError(f"There is no run {run_id}{asked}; {hint}")


def _find_trial(run_id: str, places: list[Place]) -> Run | None:
    """Find a trial of a sweep, which has a run folder of its own, but no record: that is the sweep's."""
    sweep, _, number = run_id.rpartition("-")
    if not number.isdigit() or not sweep:
        return None
    for place in places:
        record = ask(place, lambda home=place.home: records.read(home, sweep), None)
        if record and record.kind == Kind.sweep.value and record.backend == place.service_name:
            trial = replace(record, run_id=run_id, earlier_seconds=0.0)
            return _run(run_id, place.at(record), trial, None)
    return None


def ask(place: Place, question: Callable[[], Result], default: Result) -> Result:
    """Ask a place; one that cannot be asked gets one line, and the answer is `default`."""
    try:
        return question()
    except UserError as error:
        _warn(place.name, str(error))
        return default


def silent() -> list[str]:
    """Give the names of the places that could not be asked, or not for all that was to be known."""
    return list(dict.fromkeys(_said.values()))


def _warn(name: str, text: str) -> None:
    """Say once what trouble there was at a place, and remember it."""
    line = f"{name}: {text}"
    if line not in _said:
        _said[line] = name
        log.warning("%s", line)


def has_login(place: Place) -> bool:
    """Tell whether a place that wants a login has one: without, everything asked of it would fail."""
    who = getattr(place.service, "who", None)
    return who is None or ask(place, who, None) is not None


def _run(run_id: str, place: Place, record: Record | None, status: Status | None) -> Run:
    if status or not record:
        return Run(run_id, place, record, status)
    outcome = ask(place, lambda: records.outcome(place.home, run_id), None)
    if record.job and not outcome:  # perhaps no machine has it now, and it is not over
        status = ask(place, lambda: place.service.status(run_id), None)
        if status:
            return Run(run_id, place, record, status)
    attempts = ask(place, lambda: records.attempts(place.home, run_id), [])
    noted = str((outcome or {}).get("state", ""))
    return Run(run_id, place, record, None, noted, records.seconds(attempts))
