"""The registry of wandb: the artifact that a run has tracked online, linked to a collection of its registry `model`.

docs.wandb.ai/models/registry: a link copies nothing. The registry belongs to the organisation of the artifact's entity.
"""

from __future__ import annotations

import importlib
import logging
import re
from typing import Any

from ...errors import UserError
from ...mirror import Entry
from ...storage import read_text

REGISTRY = "wandb-registry-model"  # every organisation has it
WEIGHTS = "model.safetensors"
OWN = re.compile(r"v[0-9]+")
TYPE = "model"  # of the artifact; training.tracking names it model-<run id>


class WandbModels:
    """The registry that the key of this login reaches."""

    IMAGE = False

    def prepare(self) -> None:
        self._api()

    def put(self, entry: Entry) -> str:
        where = _tracked(entry)
        name = f"{where}/model-{entry.run}:latest"
        wandb, api = _wandb(), self._api()
        logging.getLogger("wandb").setLevel(logging.CRITICAL)
        try:
            artifact = api.artifact(name, type=TYPE)
            _same(artifact, entry)
            number = f"{entry.model}-v{entry.version}"  # v3 alone is a name that wandb gives itself
            linked = artifact.link(f"{REGISTRY}/{entry.model}", [number, *entry.aliases])
            kept = [one for one in linked.aliases if _stays(one, number, entry)]
            if len(kept) < len(linked.aliases):
                linked.aliases = kept
                linked.save()
        except (wandb.errors.Error, ValueError, TypeError) as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise UserError(
                f"wandb does not link {name} ({said}); the run has to be tracked online, and the key to be of its team."
            ) from error
        return f"{REGISTRY}/{entry.model} at wandb, {artifact.url}"

    def _api(self) -> Any:
        wandb = _wandb()
        try:
            if not wandb.login(prompt=False):
                raise UserError("There is no wandb key; run `uv run wandb login`.")
            return wandb.Api()
        except (wandb.errors.Error, ValueError) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"wandb cannot be used: {said}") from error


def connect() -> WandbModels:
    """Give the registry. Needs no network."""
    return WandbModels()


def _wandb() -> Any:
    try:
        return importlib.import_module(
            "wandb"
        )  # the project's own, and no package of the launcher's
    except ImportError as error:
        raise UserError(f"wandb is not installed ({error}); run `make setup`.") from error


def _same(artifact: Any, entry: Entry) -> None:
    """Refuse other weights than the version's: a run that was gone on with has tracked newer ones since.

    Raises:
        UserError: their sizes differ, or the artifact has none.
    """
    there = artifact.manifest.entries.get(WEIGHTS)
    here = entry.files.get(WEIGHTS, {}).get("bytes")
    if there is None or (here is not None and there.size != here):
        raise UserError(
            f"wandb's artifact of run {entry.run} does not hold the weights of {entry}; register the run again, and mirror that."
        )


def _stays(alias: str, number: str, entry: Entry) -> bool:
    """Tell whether an alias is the version's, or one that wandb gives itself: latest, v0, v1, ..."""
    return alias in {number, "latest", *entry.aliases} or bool(OWN.fullmatch(alias))


def _tracked(entry: Entry) -> str:
    """Give where a run was tracked, as `entity/project`, or `project` of who is logged in.

    Raises:
        UserError: its configuration does not say.
    """
    from omegaconf import OmegaConf

    config = OmegaConf.create(read_text(f"{entry.uri}/config.yaml") or "{}")
    project = OmegaConf.select(config, "tracking.project")
    if not project:
        raise UserError(
            f"{entry} is of run {entry.run}, which was not tracked by wandb (tracking=wandb), so there is nothing to link."
        )
    entity = OmegaConf.select(config, "tracking.entity")
    return f"{entity}/{project}" if entity else str(project)
