"""Letting a version answer somewhere: its image, the check that it passes first, and what answers where."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

from ..deployment import Check, Deployment, Order, Target
from ..errors import UserError
from ..providers import log_in, target, targets
from ..providers.registry import has_host
from ..records.places import places
from . import deployed, golden, image
from . import places as registries
from .versions import Version

log = logging.getLogger(__name__)
NEVER = "never"  # takes the last day of the version before away


def deploy(
    place: str,
    version: Version,
    settings: Mapping[str, str],
    predict: golden.Predict | None,
    image_pushed: str = "",
) -> Deployment:
    """Let a version answer at a place, in the place of the one that does so now.

    Args:
        settings: of the place.
        predict: what the version gives for an instance, computed here; None where it cannot be.
        image_pushed: that serves the version, by its digest, as `models image push=true` has printed it; empty to make it.

    Raises:
        UserError: it cannot be built, does not start or does not answer as it should; then all is as before.
    """
    there = target(place)
    check_settings(place, there, settings)
    check = partial(golden.check, version=str(version), predict=predict)
    if there.REMOTE:
        return _deploy_away(place, there, version, settings, check, image_pushed)
    if image_pushed:
        raise UserError(f"to={place} makes its image itself; leave image= out.")
    order = partial(Order, version.name, version.number, settings=settings, uri=version.uri)
    there.prepare(order(""))
    return there.deploy(order(image.build(version, image.default_tag(version))), check)


def _deploy_away(
    place: str,
    there: Target,
    version: Version,
    settings: Mapping[str, str],
    check: Check,
    image_pushed: str,
) -> Deployment:
    """Deploy where others have to know of it: each deployment is noted, as it is and not as it was to be."""
    earlier = deployed.of(place, version.name, there.where)
    settings = with_last_day(settings, earlier)
    order = partial(Order, version.name, version.number, settings=settings, uri=version.uri)
    usd = round(there.prepare(order(image_pushed or remote_tag(version))), 2)
    made = image_pushed or pushed(version)
    until = settings.get("until", "")
    noted = (place, version.name, version.number, until, there.where, usd)
    # Before it is there, so that nobody has to find it; and so that the janitor does not end what is given more time.
    if not earlier:
        deployed.note(*noted)
    elif _is_longer(settings, earlier):
        deployed.note(place, version.name, earlier.version, until, there.where, usd)
    try:
        answers = there.deploy(order(made), check)
    except UserError:
        if not earlier:
            _forget_if_gone(place, there, version.name)
        else:
            deployed.renote(earlier)
        raise
    except BaseException:  # Ctrl-C: of a first one the note stays, for it may be there
        if earlier:
            deployed.renote(earlier)
        raise
    deployed.note(*noted)
    return answers


def _is_longer(settings: Mapping[str, str], earlier: deployed.Note) -> bool:
    until = settings.get("until", "")
    return bool(earlier.until) and (not until or until > earlier.until)


def _forget_if_gone(place: str, there: Target, model: str) -> None:
    """Take the note of a first deployment away that has left nothing; in doubt it stays."""
    try:
        if all(one.model != model for one in there.deployments()):
            deployed.forget(place, model, there.where)
    except UserError as error:
        log.warning("%s: %s", place, error)


def with_last_day(settings: Mapping[str, str], earlier: deployed.Note | None) -> dict[str, str]:
    """Say in the settings when the janitor ends it: on the given day, else on that of the version before.

    Raises:
        UserError: it is given, and there is no bucket in which the janitor would read it.
    """
    found = dict(settings)
    if found.get("until") == NEVER:
        del found["until"]
    elif "until" not in found:
        if earlier and earlier.until:
            found["until"] = earlier.until
    elif not registries.bucket():
        raise UserError(
            "until= is kept in the bucket, and no file in configs/cloud/ names one; leave it out, and undeploy it yourself."
        )
    return found


def pushed(version: Version) -> str:
    """Build the image of a version and push it beside the one that trains; give it by its digest.

    Raises:
        UserError: there is no registry, or it cannot be built or pushed.
    """
    tag = remote_tag(version)
    image.build(version, tag)
    return image.push(tag)


def remote_tag(version: Version) -> str:
    """Give what the image of a version is called in the registry of the project.

    Raises:
        UserError: the project has none, or there is no login that says where it is.
    """
    for place in places():
        if repository := place.cloud.repository:
            if not has_host(repository):  # then the login says in whose registry it is
                log_in(place.service)
            return image.tag_beside(place.service.reference(), version)
    raise UserError(
        "No file in configs/cloud/ names a registry; leave push=true out, or set cloud.repository there."
    )


def check_settings(place: str, there: Target, settings: Mapping[str, str]) -> None:
    """Refuse what the place does not have.

    Raises:
        UserError: naming the first such setting, and those that there are.
    """
    for name in settings:
        if name not in there.SETTINGS:
            listed = ", ".join(f"{each}=..." for each in there.SETTINGS)
            raise UserError(f"{name}= is no setting of to={place}; it has {listed}.")


def undeploy(place: str, model: str) -> bool:
    """Remove all that was made of a model at a place, wherever it is noted; tell whether there was anything.

    Raises:
        UserError: it cannot be removed.
    """
    there = target(place)
    if not there.REMOTE:
        return there.remove(model)
    noted = [one.where for one in deployed.notes()[0] if (one.place, one.model) == (place, model)]
    found = False
    for where in dict.fromkeys([*noted, there.where]):
        found |= there.at(where).remove(model)
        deployed.forget(place, model, where)
    return found


def end(note: deployed.Note) -> bool:
    """Remove what a note is of, and then the note; tell whether there was anything to remove.

    What is not found is not forgotten: somebody has to say so.

    Raises:
        UserError: it cannot be removed.
    """
    found = target(note.place).at(note.where).remove(note.model)
    if found:
        deployed.forget(note.place, note.model, note.where)
    return found


def rollback(place: str, model: str) -> Deployment:
    """Let the version answer at a place that did so before.

    Raises:
        UserError: there is none.
    """
    return target(place).rollback(model)


def deployments() -> list[Deployment]:
    """Give what answers anywhere; a place that cannot be asked is said in one line."""
    found: list[Deployment] = []
    for place in targets():
        found += _asked(place, lambda place=place: target(place).deployments())
    return found


def _asked(place: str, question: Callable[[], list[Deployment]]) -> list[Deployment]:
    try:
        return question()
    except UserError as error:
        log.warning("%s: %s", place, error)
        return []
