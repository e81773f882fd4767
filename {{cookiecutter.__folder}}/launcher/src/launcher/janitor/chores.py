"""What the janitor has decided, done: each action alone, so that one that fails keeps no other from being done."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from .. import records
from ..errors import UserError
from ..identity import check_run_id
from ..job import EXIT_FINAL, EXIT_PREEMPTED, NoMachineError, State
from ..money import ledger
from . import reports
from .github import CommitMissingError
from .rules import Action, Verb, decide
from .survey import AGAIN, Troubles, survey

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..records.places import Place
    from .github import GitHub


def tidy(
    places: list[Place], github: GitHub | None, dry_run: bool, say: Callable[[str], None]
) -> list[str]:
    """Look at all places and do what has to be done.

    Args:
        github: where runs that are over are reported; None leaves them for whoever can.
        dry_run: only say what would be done.
        say: takes one line for each thing done.

    Returns:
        one line for each thing that could not be asked or done.
    """
    troubles = Troubles()
    for view in survey(places, troubles):
        for action in troubles.ask(view.places[0].name, lambda view=view: decide(view), []):
            if action.verb is Verb.report and not github:
                continue
            if dry_run:
                say(action.text(dry_run=True))
                continue
            done = troubles.ask(
                action.place.name, lambda action=action: carry_out(action, github), ""
            )
            if done:
                say(done)
    return troubles.lines()


def carry_out(action: Action, github: GitHub | None) -> str:
    """Do one action; give the line that says so, empty where somebody else was faster.

    Raises:
        UserError: it cannot be done now; naming what.
    """
    try:
        return DO[action.verb](action, github)
    except UserError as error:
        raise UserError(f"{action.verb.value[True]} {action.what}, but: {error}") from error


def _stop(action: Action, github: GitHub | None) -> str:
    """Note that the run is over, so that nobody starts it again, and stop its job; next time too, if that fails."""
    assert action.status
    run_id, home = action.status.run_id, action.place.home
    with suppress(
        UserError
    ):  # a name that is no run's has no folder; a bucket in trouble is no reason to go on
        check_run_id(run_id)
        reason = f"stopped by the janitor: {action.why}"
        records.close(home, run_id, State.stopped, EXIT_PREEMPTED, reason)
    action.place.service.stop(run_id)
    return action.text()


def _adopt(action: Action, github: GitHub | None) -> str:
    assert action.launch
    assert action.status
    found = replace(action.launch.record, job=action.status.name, url=action.status.url)
    records.write(action.place.home, found)
    return action.text()


def _close(action: Action, github: GitHub | None) -> str:
    assert action.launch
    record, home = action.launch.record, action.place.home
    if action.mark and not records.mark(home, record, action.mark):
        return ""
    state = State.stopped if record.job else State.failed
    records.close(home, record.run_id, state, EXIT_FINAL, action.why)
    return action.text()


def _again(action: Action, github: GitHub | None) -> str:
    """Submit a preempted run again; of several janitors at the same moment one does, by the mark."""
    assert action.launch
    record, home = action.launch.record, action.place.home
    if not records.mark(home, record, action.mark):
        return ""
    job = replace(records.job(record), max_hours=action.hours)
    try:
        handle = action.place.service.submit(job)
    except NoMachineError as error:  # which is no fault: the next hour may have one
        records.unmark(home, record, action.mark)
        return f"{action.place.name}: {action.what} waits for a machine: {error}"
    except UserError:
        records.unmark(home, record, action.mark)
        raise
    records.write(home, replace(record, job=handle.name, url=handle.url))
    return f"{action.text()}, for the {action.mark.removeprefix(AGAIN)}. time"


def _settle(action: Action, github: GitHub | None) -> str:
    ledger.settle(action.place.home, action.key, action.usd)
    return action.text()


def _release(action: Action, github: GitHub | None) -> str:
    ledger.release(action.place.home, action.key)
    return action.text()


def _remove(action: Action, github: GitHub | None) -> str:
    assert action.leftover
    action.place.service.remove(action.leftover)
    return action.text()


def _report(action: Action, github: GitHub | None) -> str:
    """Report a run that is over; once, by the mark, which is taken away again where it did not work."""
    assert action.launch
    assert github
    home, record = action.place.home, action.launch.record
    if not records.mark(home, record, action.mark):
        return ""
    try:
        said = reports.publish(home, action.launch, github)
    except CommitMissingError as error:  # it may not have been pushed yet, which is no fault
        if not action.last:
            records.unmark(home, record, action.mark)
        return f"{action.place.name}: {action.what} is not reported at its commit: {error}"
    except BaseException:
        records.unmark(home, record, action.mark)
        raise
    return f"{action.text()}{said}"


DO = {
    Verb.stop: _stop,
    Verb.adopt: _adopt,
    Verb.close: _close,
    Verb.again: _again,
    Verb.settle: _settle,
    Verb.release: _release,
    Verb.remove: _remove,
    Verb.report: _report,
}
