"""What was deployed and has to end, and what answers without a note: whoever deploys says how long, and this keeps it.

Where nothing was ever deployed nobody is asked: most projects have neither the service nor the rights for it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from ..errors import UserError
from ..models import deploy, deployed
from ..models.deployed import Note
from ..providers import log_in, target
from ..providers.errors import RefusedError
from ..records.places import Place

Say = Callable[[str], None]


def tidy(places: list[Place], dry_run: bool, say: Say) -> list[str]:
    """End what is past its last day, and name what answers and was never noted.

    Args:
        places: of which one has to have a bucket, where the notes are, and its login.
        dry_run: only say what would be done.
        say: takes one line for each thing done.

    Returns:
        one line for each thing that could not be asked or done.
    """
    if not any(map(_may_ask, places)):
        return []
    try:
        notes, troubles = deployed.notes()
    except UserError as error:
        return [str(error)]
    for note in filter(_is_over, notes):
        try:
            _end(note, dry_run, say)
        except UserError as error:
            troubles.append(f"{note.place}: {note.model} was to end on {note.until}, but: {error}")
    for place in sorted({note.place for note in notes}):
        try:
            _look_round(place, notes, dry_run, say)
        except (
            RefusedError
        ) as error:  # a setup of before gave no rights for services: nothing is wrong
            say(f"{place}: whether anything else answers there is not known: {error}")
        except UserError as error:
            troubles.append(f"{place}: {error}")
    return troubles


def _may_ask(place: Place) -> bool:
    """Without its login a bucket would be tried for a minute; that there is none is said of the jobs already."""
    if place.cloud is None or not place.cloud.bucket:
        return False
    try:
        log_in(place.service)
    except UserError:
        return False
    return True


def _is_over(note: Note) -> bool:
    return _is_past(note.until)


def _is_past(day: str) -> bool:
    return bool(day) and day < f"{datetime.now(UTC):%Y-%m-%d}"


def _end(note: Note, dry_run: bool, say: Say) -> None:
    if deployed.of(note.place, note.model, note.where) != note:
        return  # somebody has deployed or removed it just now
    there = target(note.place).at(note.where)
    answering = [one for one in there.deployments() if one.model == note.model and one.percent]
    for one in answering:  # what is only tried may say another day
        if one.until is not None and not _is_past(one.until):
            raise UserError(
                f"the service itself says until={one.until or deploy.NEVER}; deploy it again with the right until=, or: "
                f"uv run models undeploy {note.model} to={note.place}"
            )
    if not dry_run and not deploy.end(note):
        raise UserError(
            f"it is not there any more{f' ({note.where})' if note.where else ''}; if that is right: "
            f"uv run models undeploy {note.model} to={note.place}"
        )
    done = "would remove" if dry_run else "removed"
    say(f"{note.place}: {done} {note.model}, deployed until {note.until} by {note.by}")


def _look_round(place: str, notes: list[Note], dry_run: bool, say: Say) -> None:
    """Name what answers without a note or is paid for without requests; end what is past the day that it says itself."""
    there = target(place)
    known = {
        note.model for note in notes if note.place == place and note.where in ("", there.where)
    }
    ended: set[str] = set()
    for one in there.deployments():
        if one.model in known:
            if not one.percent:
                say(f"{place}: {one} gets no requests{f': {one.state}' if one.state else ''}")
        elif one.until and _is_past(one.until):
            if one.model not in ended and not dry_run:
                there.remove(one.model)
            ended.add(one.model)
            done = "would remove" if dry_run else "removed"
            say(f"{place}: {done} {one}, deployed until {one.until}, which nobody has noted")
        else:
            say(
                f"{place}: {one} answers at {one.url}, and nobody has noted it; if it is not wanted: "
                f"uv run models undeploy {one.model} to={place}"
            )
