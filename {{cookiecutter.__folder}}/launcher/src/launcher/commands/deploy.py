"""`uv run models image|mirror|deploy|undeploy|deployments`: versions that answer requests, here and elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import UserError

if TYPE_CHECKING:
    from ..models.versions import Version

DIGEST = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")
# Those of all places together; each refuses what is not its own.
SETTINGS = {
    "image": ("push",),
    "mirror": ("to", "image"),
    "deploy": (
        *("to", "image", "port", "traffic", "allow", "max", "cpu", "memory", "machine"),
        *("max_usd", "until"),
    ),
    "undeploy": ("to",),
    "deployments": (),
}
HELP = {
    "image": "NAME[@ALIAS|@vN] [push=true]: build the small image that serves it, and push it",
    "mirror": "NAME[@ALIAS|@vN] [to=PLACE] [image=DIGEST]: show it in the cloud's own registry of models too, with its aliases",
    "deploy": "NAME[@ALIAS|@vN] to=PLACE [image=DIGEST] [port=8080] [traffic=10] [allow=user:...] ...: let it answer, once it has passed a test",
    "undeploy": "NAME to=PLACE: remove all that deploy has made of it there",
    "deployments": "what answers where",
}


def image(model: str, settings: Mapping[str, str]) -> None:
    """Build the image that serves a version.

    Raises:
        UserError: it cannot be built or pushed.
    """
    from ..models import deploy, image, names, places

    push = settings.get("push", "false")
    if push not in ("true", "false"):
        raise UserError(f"push={push} is neither true nor false.")
    version = places.find(names.parse(_named(model, "image NAME")))
    if push == "true":
        print(deploy.pushed(version))
        return
    tag = image.default_tag(version)
    image.build(version, tag)
    print(f"{tag}: docker run --rm -p 127.0.0.1:8080:8080 {tag}")


def mirror(model: str, settings: Mapping[str, str]) -> None:
    """Put a version into the registry that the cloud has itself.

    Raises:
        UserError: there is none, or it does not take it.
    """
    from ..models import mirror, names, places

    pushed = _image(settings)
    version = places.find(names.parse(_named(model, "mirror NAME")))
    print(f"{version}: {mirror.mirror(version, settings.get('to', ''), pushed)}")


def deploy(model: str, settings: Mapping[str, str]) -> None:
    """Let a version answer at a place.

    Raises:
        UserError: it cannot, and what answered before does so still.
    """
    from ..models import deploy, names, places

    place, pushed = _place(settings, "deploy", model), _image(settings)
    version = places.find(names.parse(_named(model, "deploy NAME to=local")))
    given = {name: value for name, value in settings.items() if name not in ("to", "image")}
    made = deploy.deploy(place, version, given, _predictor(version), pushed)
    print(f"{made} answers at {made.url}{f', {made.state}' if made.state else ''}")


def rollback(model: str, settings: Mapping[str, str]) -> None:
    """Let the version answer at a place that did so before.

    Raises:
        UserError: there is none.
    """
    from ..models import deploy, names

    name = names.parse(_whole(_named(model, "rollback NAME to=PLACE"))).name
    made = deploy.rollback(settings["to"], name)
    print(f"{made} answers at {made.url} again")


def undeploy(model: str, settings: Mapping[str, str]) -> None:
    """Remove what was made of a model at a place.

    Raises:
        UserError: it cannot be removed.
    """
    from ..models import deploy, names

    place = _place(settings, "undeploy", model)
    name = names.parse(_whole(_named(model, "undeploy NAME to=local"))).name
    there = deploy.undeploy(place, name)
    print(f"{name} is removed from {place}." if there else f"There is no {name} at {place}.")


def deployments(model: str, settings: Mapping[str, str]) -> None:
    """Show what answers where."""
    from ..models import deploy

    found = [one for one in deploy.deployments() if model in ("", one.model)]
    for one in found:
        print(f"{one!s:<30} {one.place:<10} {one.percent:>3} %  {one.url} {one.state}".rstrip())
    if not found:
        print("Nothing is deployed; `uv run models deploy NAME to=local` lets a model answer.")


def _predictor(version: Version) -> Callable[[Any], Any] | None:
    """Give what computes the version's answers here; None where what serves is not installed.

    Raises:
        UserError: it cannot be loaded, so it would not answer anywhere else.
    """
    try:
        from ..serving.model import Model
    except ImportError:
        return None
    from ..models import versions

    folder = versions.cached(version)
    try:
        model = Model(folder)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{version} cannot be loaded ({type(error).__name__}); export its run and register it again."
        ) from error
    return lambda example: model.predict([example], plain=True)


def _image(settings: Mapping[str, str]) -> str:
    """Give the pushed image that is to be taken; empty for none. By a tag it could be another one tomorrow."""
    name = settings.get("image", "")
    if name and not DIGEST.fullmatch(name):
        raise UserError(
            f"image={name} is no image by its digest; give the line that `uv run models image NAME push=true` ends with."
        )
    return name


def _named(model: str, usage: str) -> str:
    if not model:
        raise UserError(f"Say which: uv run models {usage}; `uv run models list` shows them.")
    return model


def _whole(model: str) -> str:
    """Refuse a version where all of a model is meant."""
    name, at, _ = model.partition("@")
    if at:
        raise UserError(
            f"{model} is one version, and this is about all that answers of the model; give {name}."
        )
    return model


def _place(settings: Mapping[str, str], command: str, model: str) -> str:
    from ..providers import targets

    if "to" not in settings:
        places = " or ".join(f"to={each}" for each in targets())
        raise UserError(f"Say where: uv run models {command} {model or 'NAME'} {places}.")
    return settings["to"]


COMMANDS = {
    "image": image,
    "mirror": mirror,
    "deploy": deploy,
    "undeploy": undeploy,
    "deployments": deployments,
}
