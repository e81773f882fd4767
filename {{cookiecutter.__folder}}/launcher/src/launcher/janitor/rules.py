"""What has to be done so that nothing keeps running and nothing is counted that does not: one function a rule.

The rules are pure: they take a view of what there is and give actions, so that all of them can be tested without a
cloud, and a dry run is all of them and nothing else. `chores.py` does what they say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from ..job import LEAST_SECONDS, RUN_MAX_ATTEMPTS, SECONDS_LABEL, Leftover, State, Status
from ..records import Record, seconds
from ..records.places import Place
from .survey import AGAIN, NOT_STARTED, REPORTED, SLACK, Found, Launch, View

GRACE = timedelta(minutes=15)  # between submitting a job and its record, at most
MARGIN = 600.0  # seconds past its limit in which a provider may end a job itself
BACKSTOP = 24 * 3600.0  # seconds past its limit at which a job ends, however long it has waited
PUSHED = timedelta(days=2)  # after which a commit that GitHub has not is not waited for


class Verb(Enum):
    """What is done: in words, when it was and when it would be."""

    stop = ("stopped", "would stop")
    adopt = ("adopted", "would adopt")
    close = ("closed", "would close")
    again = ("submitted again", "would submit again")
    settle = ("settled", "would settle")
    release = ("released what was reserved for", "would release what was reserved for")
    remove = ("removed", "would remove")
    report = ("reported", "would report")


@dataclass(frozen=True)
class Action:
    """One thing to do.

    Args:
        what: for people: the run, or what is left over.
        why: what was found.
        launch: that it is about.
        hours: of running, for which it is submitted again.
        usd: that it did cost.
        key: its entry in the ledger.
        mark: to be put on the launch.
        last: whether it is not tried another time.
    """

    verb: Verb
    place: Place
    what: str
    why: str
    launch: Launch | None = None
    status: Status | None = None
    hours: float = 0.0
    usd: float = 0.0
    key: str = ""
    mark: str = ""
    last: bool = False
    leftover: Leftover | None = None

    def text(self, dry_run: bool = False) -> str:
        """Say it in one line."""
        return f"{self.place.name}: {self.verb.value[dry_run]} {self.what}: {self.why}"


def decide(view: View) -> list[Action]:
    """Apply all rules; what costs comes first."""
    rules = (stop, remove, adopt, not_started, vanished, again, settle, release, report)
    return [action for rule in rules for action in rule(view)]


def stop(view: View) -> Iterator[Action]:
    """Stop jobs that nobody has a record of, that are past their deadline, or whose run is over."""
    for found in view.jobs:
        status = found.status
        if status.state not in (State.queued, State.running):
            continue
        launch = view.launch(found)
        why = (
            _orphaned(view, found, launch)
            or _overdue(view.now, status, launch)
            or _no_machine(view.now, status, launch)
            or _lingering(view.now, launch)
        )
        if why:
            what = f"run {status.run_id}"
            yield Action(Verb.stop, found.place, what, why, launch, status)


def _orphaned(view: View, found: Found, launch: Launch | None) -> str:
    status = found.status
    if view.known is None or view.now - status.created <= GRACE:
        return ""
    if status.run_id not in view.known:
        return "there is no record of it"
    if allowed_seconds(status, launch.record if launch else None) is None:
        return f"nothing says how long it may run (the label {SECONDS_LABEL} is missing)"
    return ""


def _overdue(now: datetime, status: Status, launch: Launch | None) -> str:
    allowed = allowed_seconds(status, launch.record if launch else None)
    if allowed is None:
        return ""
    newest = launch is not None and launch.status is status
    running = running_seconds(now, status, launch.attempts if launch and newest else [])
    if running > allowed + MARGIN:
        return (
            f"it has been running for {running / 3600:.2f} hours, and may for {allowed / 3600:.2f}"
        )
    age = (now - status.created).total_seconds()
    if age > allowed + BACKSTOP:
        return f"it was made {age / 3600:.1f} hours ago, and may run for {allowed / 3600:.2f}"
    return ""


def _no_machine(now: datetime, status: Status, launch: Launch | None) -> str:
    """A queue is no place to be forgotten in: once its owner no longer expects it, a machine would only cost."""
    if not launch or launch.status is not status or status.state is not State.queued:
        return ""
    return _waited(now, launch)


def _waited(now: datetime, launch: Launch) -> str:
    hours = (now - launch.waiting_since).total_seconds() / 3600
    most = launch.record.max_wait_hours
    return f"it has had no machine for {hours:.1f} hours, and may wait for {most:g}" * (
        hours > most
    )


def _lingering(now: datetime, launch: Launch | None) -> str:
    """A machine is still there although the worker has noted how the run ended."""
    if not launch or not launch.outcome:
        return ""
    try:
        ended = datetime.fromisoformat(str(launch.outcome.get("time")))
        over = now - ended > GRACE and ended >= launch.launched
    except (TypeError, ValueError):
        return ""
    return f"the run is over ({launch.outcome.get('state')}) and its machine is not" if over else ""


def allowed_seconds(status: Status, record: Record | None) -> float | None:
    """Give how long a job may run: as its label says, else its record; None where neither does."""
    text = status.labels.get(SECONDS_LABEL, "")
    if text.isascii() and text.isdigit():
        return float(text)
    return _longest(record) if record else None


def running_seconds(now: datetime, status: Status, attempts: list[dict]) -> float:
    """Give how long a job has been running and was paid for.

    A service that starts a preempted job again counts the time in which it waited for a machine; what the worker
    noted of each start tells how long it really ran.
    """
    if status.state is not State.running or not attempts:
        return status.seconds
    *earlier, last = attempts
    since = (now - datetime.fromisoformat(last["started"])).total_seconds()
    return min(status.seconds, seconds(earlier) + max(0.0, since))


def remove(view: View) -> Iterator[Action]:
    """Remove what still costs although no job needs it."""
    for place, leftover in view.leftovers:
        yield Action(Verb.remove, place, leftover.what, "no job needs it", leftover=leftover)


def adopt(view: View) -> Iterator[Action]:
    """Note the job of a launch that died between submitting it and recording it."""
    for launch in view.launches:
        if not launch.record.job and launch.status:
            why = f"its launch ended before it was recorded; it is {launch.status.name}"
            yield Action(Verb.adopt, launch.place, _run(launch), why, launch, launch.status)


def not_started(view: View) -> Iterator[Action]:
    """Close launches that died before they had submitted anything, and give back what was reserved for them."""
    for launch in view.launches:
        young = view.now - launch.launched <= GRACE
        if launch.record.job or launch.status or young or NOT_STARTED in launch.marks:
            continue
        why = "its launch ended before anything was started"
        yield Action(Verb.close, launch.place, _run(launch), why, launch, mark=NOT_STARTED)
        if (entry := view.entries.get(launch.record.key)) and entry.spent_usd is None:
            why = "nothing was started"
            key = launch.record.key
            yield Action(Verb.release, launch.place, _run(launch), why, launch, key=key)


def vanished(view: View) -> Iterator[Action]:
    """Close launches whose job the provider no longer knows, once it could not be at work any more."""
    for launch in view.launches:
        record = launch.record
        if not record.job or launch.status or launch.end:
            continue
        limit = timedelta(seconds=_longest(record) + BACKSTOP)
        if view.now - launch.launched > limit:
            why = "its provider no longer knows it, and it has not said how it ended"
            yield Action(Verb.close, launch.place, _run(launch), why, launch)


def again(view: View) -> Iterator[Action]:
    """Submit preempted runs again as long as time and attempts are left; close the others."""
    for launch in view.launches:
        status, record = launch.status, launch.record
        if not status or status.state is not State.preempted or launch.outcome or not record.job:
            continue
        left = record.max_hours * 3600 - max(status.seconds, launch.noted_seconds)
        resumed = sum(mark.startswith(AGAIN) for mark in launch.marks)
        starts = max(launch.starts, 1 + resumed)
        most = record.env.get(RUN_MAX_ATTEMPTS, "1")
        what = _run(launch)
        if left < LEAST_SECONDS:
            why = "preempted, and its time is used up"
            yield Action(Verb.close, launch.place, what, why, launch)
        elif starts >= (int(most) if most.isdigit() else 1):
            why = f"preempted, and all of its {starts} attempts are used up"
            yield Action(Verb.close, launch.place, what, why, launch)
        elif waited := _waited(view.now, launch):
            yield Action(Verb.close, launch.place, what, f"preempted, and {waited}", launch)
        else:
            why = f"preempted, with {left / 3600:.2f} of {record.max_hours:g} hours left"
            mark = f"{AGAIN}{resumed + 1}"
            hours = left / 3600
            yield Action(
                Verb.again, launch.place, what, why, launch, status, hours=hours, mark=mark
            )


def settle(view: View) -> Iterator[Action]:
    """Put what runs that are over did cost in place of what was reserved for them."""
    for launch in view.launches:
        entry = view.entries.get(launch.record.key)
        if not entry or entry.spent_usd is not None or not launch.end:
            continue
        if NOT_STARTED in launch.marks:  # the one time before, it could not be released
            why, key = "nothing was started", launch.record.key
            yield Action(Verb.release, launch.place, _run(launch), why, launch, key=key)
            continue
        usd = launch.record.cost(launch.seconds)
        if not launch.status and not launch.attempts:
            usd = entry.reserved_usd  # it cannot be told, so the most that it may have been
        why = f"it did cost {usd:.2f} of {entry.reserved_usd:.2f} USD"
        key = launch.record.key
        yield Action(Verb.settle, launch.place, _run(launch), why, launch, usd=usd, key=key)


def release(view: View) -> Iterator[Action]:
    """Give back what was reserved by launches that died before they had written a record."""
    if not view.complete or view.known is None:  # its job may be where nobody could look
        return
    for key, entry in view.entries.items():
        since = datetime.fromisoformat(entry.since)
        young = view.now - since <= GRACE
        if young or key in view.keys or entry.run_id in view.unreadable:
            continue
        jobs = [
            found.status
            for found in view.jobs
            if found.status.run_id == entry.run_id and found.status.created >= since - SLACK
        ]
        if entry.spent_usd is not None or any(not status.state.over for status in jobs):
            continue
        what, place = f"run {entry.run_id}", view.places[0]
        if jobs:  # what an hour of it costs, only its record could tell
            why = f"its record is gone, so its worst case of {entry.reserved_usd:.2f} USD counts"
            yield Action(Verb.settle, place, what, why, usd=entry.reserved_usd, key=key)
        else:
            why = f"its launch ended before anything was started ({entry.reserved_usd:.2f} USD)"
            yield Action(Verb.release, place, what, why, key=key)


def report(view: View) -> Iterator[Action]:
    """Tell GitHub of runs that are over."""
    for launch in view.launches:
        if launch.end and REPORTED not in launch.marks:
            why, last = f"it is over ({launch.end})", view.now - launch.launched > PUSHED
            yield Action(
                Verb.report, launch.place, _run(launch), why, launch, mark=REPORTED, last=last
            )


def _run(launch: Launch) -> str:
    return f"run {launch.record.run_id}"


def _longest(record: Record) -> float:
    """Seconds that a launch may be running at most, trials one after the other."""
    if record.hourly_usd:
        return max(record.max_hours * 3600, record.worst_case_usd / record.cost(1.0))
    return record.max_hours * 3600
