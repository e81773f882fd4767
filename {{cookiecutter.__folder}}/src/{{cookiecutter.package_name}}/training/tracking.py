"""Experiment tracking: the same numbers as in metrics.jsonl, where a team can see them."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from launcher import UserError
from omegaconf import DictConfig

if TYPE_CHECKING:
    from .run_folder import RunFolder

log = logging.getLogger(__name__)

# What wandb.Settings accepts, so that it can be refused without importing wandb, before torch.
ONLINE = ("online", "run", "shared")
MODES = ("online", "offline", "shared", "disabled", "dryrun", "run")


class Tracker(Protocol):
    """What a tracker can do; one of your own is a class with these methods and a YAML file."""

    def start(self, run_id: str, folder: Path, config: dict[str, Any]) -> bool:
        """Begin, or go on with, the tracker's run; tell whether it has what an earlier process gave it."""
        ...

    def log(self, step: int, values: dict[str, float]) -> None: ...

    def report(self, folder: RunFolder, metrics: dict[str, float]) -> None:
        """Take the report of the test split, its pictures and the weights."""
        ...

    def finish(self, exit_code: int) -> None: ...


def check_tracking(settings: DictConfig) -> None:
    """Refuse settings and variables of the environment that wandb would refuse when the model is built.

    Raises:
        UserError: naming the setting, and what would be right.
    """
    if not str(settings.get("_target_")).endswith(".tracking.Wandb"):
        return
    project = settings.project
    if not 0 < len(project) <= 128 or set(project) & set("/\\#?%:"):
        raise UserError(
            f"tracking.project={project} cannot name a project of wandb; give up to 128 characters, none of /\\#?%: "
            "(a team goes into tracking.entity)."
        )
    for tag in settings.tags:
        if not isinstance(tag, str) or not 0 < len(tag) <= 64:
            raise UserError(
                f"tracking.tags: {tag} is no tag; give words of up to 64 characters, such as \"tracking.tags=['1']\"."
            )
    mode = os.environ.get("WANDB_MODE")
    if mode and mode not in MODES:
        raise UserError(
            f"WANDB_MODE={mode} is no mode of wandb; set it to online, offline or disabled."
        )
    if mode in ONLINE and not _has_key():
        raise UserError(
            f"WANDB_MODE={mode}, but there is no wandb key; run `uv run wandb login`, set WANDB_API_KEY, or unset "
            "WANDB_MODE to track offline."
        )


class NoTracker:
    """Numbers stay in the run folder."""

    def start(self, run_id: str, folder: Path, config: dict[str, Any]) -> bool:
        return True

    def log(self, step: int, values: dict[str, float]) -> None:
        pass

    def report(self, folder: RunFolder, metrics: dict[str, float]) -> None:
        pass

    def finish(self, exit_code: int) -> None:
        pass


class Wandb:
    """Weights & Biases; offline, to be sent later, where there is no key.

    The tracker's run has the id of our run, so a restart continues it. It measures the machine by itself.

    Args:
        project: where runs are listed.
        entity: user or team; null for the owner of the key.
        tags: words to find the run by.
    """

    def __init__(self, project: str, entity: str | None, tags: list[str]) -> None:
        self.project, self.entity, self.tags = project, entity, list(tags)
        self._run: Any = None

    def start(self, run_id: str, folder: Path, config: dict[str, Any]) -> bool:
        import wandb  # takes a second, which a run without it need not wait

        mode = os.environ.get("WANDB_MODE") or _mode_for_key(folder)
        # Offline files of an attempt stay on its machine, and are lost with it.
        remembers = mode in ONLINE or bool(offline_files(folder))
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            tags=self.tags,
            id=run_id,
            name=run_id,
            resume="allow",
            mode=mode,  # type: ignore[arg-type]
            dir=folder,
            config=config,
            settings=wandb.Settings(silent=True, console="off"),
        )
        return remembers

    def log(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def report(self, folder: RunFolder, metrics: dict[str, float]) -> None:
        """Add the test's metrics; online also the pictures, and the weights as an artifact of type `model`."""
        import wandb

        self._run.summary.update(metrics)
        if self._run.offline:
            return
        pictures = {
            path.stem: wandb.Image(str(path)) for path in sorted(folder.plots.glob("*.png"))
        }
        self._run.log({f"report/{name}": picture for name, picture in pictures.items()})
        model = wandb.Artifact(f"model-{folder.id}", type="model", metadata=metrics)
        model.add_file(str(folder.weights))
        self._run.log_artifact(model)

    def finish(self, exit_code: int) -> None:
        if self._run:
            self._run.finish(exit_code=exit_code)


def offline_files(folder: Path) -> list[Path]:
    """Find what attempts of a run have tracked offline, oldest first; `wandb sync` sends it."""
    return sorted(folder.glob("wandb/offline-run-*"))


def _has_key() -> bool:
    import wandb

    return wandb.login(prompt=False)


def _mode_for_key(folder: Path) -> str:
    """Give online where there is a key that works, else offline: a run is worth more than its tracking."""
    import wandb

    try:
        if _has_key():
            return "online"
        reason = "there is no wandb key"
    except wandb.Error as error:
        reason = f"wandb cannot be used ({str(error).splitlines()[0]})"
    log.info(
        "Tracking offline: %s. `uv run wandb login` and `uv run wandb sync %s/wandb/offline-*` send it later.",
        reason,
        folder,
    )
    return "offline"
