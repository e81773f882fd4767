"""Experiment tracking: the same numbers as in metrics.jsonl, where a team can see them."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, Protocol

log = logging.getLogger(__name__)


class Tracker(Protocol):
    """What a tracker can do; one of your own is a class with these three methods and a YAML file."""

    def start(self, run_id: str, folder: Path, config: dict[str, Any]) -> None: ...

    def log(self, step: int, values: dict[str, float]) -> None: ...

    def finish(self, exit_code: int) -> None: ...


class NoTracker:
    """Numbers stay in the run folder."""

    def start(self, run_id: str, folder: Path, config: dict[str, Any]) -> None:
        pass

    def log(self, step: int, values: dict[str, float]) -> None:
        pass

    def finish(self, exit_code: int) -> None:
        pass


class Wandb:
    """Weights & Biases; offline, to be sent later, where there is no key.

    The tracker's run has the id of our run, so a restart continues it.

    Args:
        project: where runs are listed.
        entity: user or team; null for the owner of the key.
        tags: words to find the run by.
    """

    def __init__(self, project: str, entity: str | None, tags: list[str]) -> None:
        self.project, self.entity, self.tags = project, entity, list(tags)
        self._run: Any = None

    def start(self, run_id: str, folder: Path, config: dict[str, Any]) -> None:
        import wandb  # takes a second, which a run without it need not wait

        mode = os.environ.get("WANDB_MODE") or _mode_for_key(folder)
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

    def log(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def finish(self, exit_code: int) -> None:
        if self._run:
            self._run.finish(exit_code=exit_code)


def _mode_for_key(folder: Path) -> str:
    """Give online where there is a key that works, else offline: a run is worth more than its tracking."""
    import wandb

    try:
        if wandb.login(prompt=False):
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
