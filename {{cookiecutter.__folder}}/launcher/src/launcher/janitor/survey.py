"""What there is now: the jobs of all places, the records of their launches, and what the ledger holds for them.

Only asks. What cannot be asked is one line of trouble, and whatever would have to be concluded from it is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from .. import records
from ..errors import UserError
from ..job import Leftover, State, Status
from ..money import ledger
from ..money.ledger import Entry
from ..providers import log_in
from ..records import Record
from ..records.places import REMEMBERED, Place, with_regions
from ..storage import NothingThereError, list_files

SLACK = timedelta(minutes=1)  # two services of one provider may tell the time a little differently
REPORTED, NOT_STARTED, AGAIN = "reported", "not-started", "again-"  # marks of a launch
Result = TypeVar("Result")


@dataclass(frozen=True)
class Found:
    """A job of this project, and the place that has it."""

    place: Place
    status: Status


@dataclass(frozen=True)
class Launch:
    """All that is known of one launch.

    Args:
        place: where its job is, or would be.
        status: of its newest job; None where the provider knows none.
        attempts: what the worker noted of each start since it was launched.
        starts: of the run's container, earlier launches included.
        outcome: how the run ended, where that is noted.
        marks: that the janitor has put on it.
    """

    record: Record
    place: Place
    status: Status | None = None
    attempts: list[dict[str, Any]] = field(default_factory=list)
    starts: int = 0
    outcome: dict[str, Any] | None = None
    marks: frozenset[str] = frozenset()

    @property
    def launched(self) -> datetime:
        return datetime.fromisoformat(self.record.launched)

    @property
    def at_work(self) -> bool:
        """Whether a machine is, or soon will be, paid for."""
        return self.status is not None and self.status.state in (State.queued, State.running)

    @property
    def end(self) -> str:
        """How it ended, as in `places.Run.state`; empty while it has not."""
        if self.status and self.status.state.over:
            return self.status.state.value
        if self.at_work:
            return ""
        if NOT_STARTED in self.marks:
            return "not started"
        return str((self.outcome or {}).get("state", ""))

    @property
    def reason(self) -> str:
        """Why it ended so, as far as somebody has said."""
        said = (self.outcome or {}).get("reason") or (self.status.detail if self.status else "")
        return str(said or "")

    @property
    def noted_seconds(self) -> float:
        return records.seconds(self.attempts)

    @property
    def waiting_since(self) -> datetime:
        """When it began to wait for the machine that it has not got yet, or got last."""
        if not self.attempts:
            return self.launched
        last = self.attempts[-1]
        # Taken away without a word, it may have run for all of its time.
        ran = timedelta(seconds=float(last.get("seconds") or self.record.max_hours * 3600))
        return max(self.launched, datetime.fromisoformat(last["started"]) + ran)

    @property
    def seconds(self) -> float:
        """How long it has been running and is paid for."""
        return self.status.seconds if self.status else self.noted_seconds


@dataclass(frozen=True)
class View:
    """All places that keep their runs in one home, at one moment.

    Args:
        now: by the provider's clock.
        jobs: that carry exactly the labels of their place.
        known: ids of all runs that there is a record of; None where that cannot be told.
        launches: of the places that could be asked, and that somebody may still have to do something about.
        complete: whether all places of the home could be asked.
        entries: of the ledger, this month's and the last's, by key; empty where it cannot be read.
        keys: of all records that can be read.
        unreadable: ids of runs whose record cannot.
        leftovers: what still costs although no job needs it.
    """

    home: str
    now: datetime
    places: list[Place]
    jobs: list[Found] = field(default_factory=list)
    known: frozenset[str] | None = None
    launches: list[Launch] = field(default_factory=list)
    complete: bool = False
    entries: dict[str, Entry] = field(default_factory=dict)
    keys: frozenset[str] = frozenset()
    unreadable: frozenset[str] = frozenset()
    leftovers: list[tuple[Place, Leftover]] = field(default_factory=list)

    def launch(self, found: Found) -> Launch | None:
        """Give the newest launch of the run that a job is of."""
        for launch in self.launches:
            record = launch.record
            same = record.run_id == found.status.run_id
            if same and found.place.holds(record):
                return launch
        return None


class Troubles:
    """What could not be asked or done; one line each, whichever places it was met at."""

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = {}

    def ask(self, name: str, question: Callable[[], Result], default: Result) -> Result:
        """Ask; trouble is noted under this name, and the answer then is `default`."""
        try:
            return question()
        except UserError as error:
            self.note(name, str(error))
        except Exception as error:  # noqa: BLE001 - one place's mistake must not keep the others' machines running
            self.note(name, f"{type(error).__name__}: {error}")
        return default

    def note(self, name: str, text: str) -> None:
        names = self._places.setdefault(text, [])
        if name not in names:
            names.append(name)

    def lines(self) -> list[str]:
        return [f"{', '.join(names)}: {text}" for text, names in self._places.items()]


def survey(places: Iterable[Place], troubles: Troubles) -> list[View]:
    """Look at all places; those that share a home are one view."""
    homes: dict[str, list[Place]] = {}
    for place in places:
        homes.setdefault(place.home, []).append(place)
    views = [_look(home, members, troubles) for home, members in homes.items()]
    return [view for view in views if view]


def carries(status: Status, place: Place) -> bool:
    """Tell whether a job is this project's, whatever a list of the provider's has given."""
    labels = place.labels
    return bool(labels) and all(status.labels.get(key) == labels[key] for key in labels)


def belongs(status: Status, record: Record) -> bool:
    """Tell whether a job of a run is of its newest launch, and not of an earlier one."""
    return status.created >= datetime.fromisoformat(record.launched) - SLACK


def _look(home: str, places: list[Place], troubles: Troubles) -> View | None:
    """Look at the places of one home; None where none of them answers."""
    if not any(troubles.ask(place.name, lambda p=place: _may_ask(p), False) for place in places):
        return None
    asked: dict[str, list[Found]] = {}
    places = with_regions(places, troubles.ask(places[0].name, lambda: records.read_all(home), []))
    for place in places:
        found = troubles.ask(place.name, lambda place=place: _jobs(place), None)
        if found is not None:
            asked[place.name] = found
    there = [place for place in places if place.name in asked]
    if not there:
        return None
    jobs = [one for found in asked.values() for one in found]
    now, name = there[0].service.now(), there[0].name
    leftovers: list[tuple[Place, Leftover]] = []
    for place in there:
        left = troubles.ask(place.name, place.service.leftovers, [])
        leftovers += [(place, one) for one in left]
    kept = troubles.ask(name, lambda: _kept(home), None)
    if kept is None:
        return View(home, now, there, jobs, leftovers=leftovers)
    files, found = kept
    entries = troubles.ask(name, lambda: _entries(home, now), {})
    ids = {file.removesuffix(".json") for file in files if "/" not in file}
    silent = [place for place in places if place not in there]
    launches = []
    for record in found:
        mine = [place for place in there if place.holds(record)]
        unknown = any(place.holds(record) for place in silent)
        if mine and not unknown and _matters(record, files, entries, now):
            launch = troubles.ask(
                name,
                lambda record=record, mine=mine: _launch(home, record, mine, jobs, files),
                None,
            )
            launches += [launch] if launch else []
    return View(
        home=home,
        now=now,
        places=there,
        jobs=jobs,
        known=frozenset(ids),
        launches=launches,
        complete=len(there) == len(places),
        entries=entries,
        keys=frozenset(record.key for record in found),
        unreadable=frozenset(ids - {record.run_id for record in found}),
        leftovers=leftovers,
    )


def _may_ask(place: Place) -> bool:
    log_in(place.service)
    return True


def _jobs(place: Place) -> list[Found]:
    log_in(place.service)
    return [Found(place, status) for status in place.service.list() if carries(status, place)]


def _kept(home: str) -> tuple[set[str], list[Record]]:
    """Give the names of records and marks, and the records."""
    try:
        files = set(list_files(f"{home}/{records.LAUNCHES}", patience=records.PATIENCE))
    except NothingThereError:
        return set(), []
    return files, records.read_all(home)


def _matters(record: Record, files: set[str], entries: dict[str, Entry], now: datetime) -> bool:
    """Tell whether there may be something to do about a launch: to the last, that is to report and to settle it."""
    if now - datetime.fromisoformat(record.launched) >= REMEMBERED:
        return False
    entry = entries.get(record.key)
    return REPORTED not in records.marks(files, record) or (
        entry is not None and entry.spent_usd is None
    )


def _launch(
    home: str, record: Record, mine: list[Place], jobs: list[Found], files: set[str]
) -> Launch:
    found = [
        one
        for one in jobs
        if one.status.run_id == record.run_id and one.place in mine and belongs(one.status, record)
    ]
    newest = max(found, key=lambda one: one.status.created, default=None)
    outcome = records.outcome(home, record.run_id)
    if not newest:  # perhaps no machine has it now, or its provider keeps no labels
        for place in mine:
            status = place.service.status(record.run_id)
            if status and belongs(status, record):
                newest = Found(place, status)
    attempts = records.attempts(home, record.run_id)
    return Launch(
        record=record,
        place=newest.place if newest else mine[0],
        status=newest.status if newest else None,
        attempts=[one for one in attempts if _since(one, record)],
        starts=len(attempts),
        outcome=outcome,
        marks=records.marks(files, record),
    )


def _since(attempt: dict[str, Any], record: Record) -> bool:
    try:
        started = datetime.fromisoformat(str(attempt.get("started")))
        return started >= datetime.fromisoformat(record.launched) - SLACK
    except (TypeError, ValueError):
        return False


def _entries(home: str, now: datetime) -> dict[str, Entry]:
    last = now.replace(day=1) - timedelta(days=1)
    months = (ledger.month(home, f"{time:%Y-%m}") for time in (last, now))
    return {key: entry for month in months for key, entry in month.entries.items()}
