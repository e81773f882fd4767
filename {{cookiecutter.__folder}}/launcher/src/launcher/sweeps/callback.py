"""A sweep on this machine: the table of its trials, and what lets it go on where it was stopped.

The sampler starts anew each time and is told the same results again: a trial that has ended gives its result without
training, the one that was interrupted goes on from its checkpoint. So the sampler must ask the same questions each time.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from .table import Trial, report

logging.getLogger("alembic").setLevel(logging.WARNING)  # of Optuna; it says how it is set up


class TrialTable(Callback):
    """Collects what each trial was given and what it reached."""

    def __init__(self) -> None:
        self.trials: list[Trial] = []
        self.names: list[str] = []

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a sweep that is to go on later but could not: Hydra would only warn of an exception."""
        if config.run.id and OmegaConf.select(config, "hydra.sweeper.sampler.seed") is None:
            sys.exit(
                f"Without a seed the sweep {config.run.id} could not go on where it was stopped; give "
                "hydra.sweeper.sampler.seed=0 (with a + before it where the sampler has none by itself)."
            )

        typed = map(OverridesParser.create().parse_override, config.hydra.overrides.task)
        spaces = [each.key_or_group for each in typed if each.is_sweep_override()]
        self.names = list(dict.fromkeys([*(config.hydra.sweeper.params or {}), *spaces]))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        completed = job_return.status is JobStatus.COMPLETED
        value = job_return.return_value if completed else None
        groups = config.hydra.runtime.choices
        settings = {
            name: groups[name] if name in groups else OmegaConf.select(config, name)
            for name in self.names
        }
        # The trial's copy of the configuration has the id that it made.
        run_id = job_return.cfg.run.id if job_return.cfg else None
        state = "succeeded" if completed else "failed"
        self.trials.append(Trial(str(run_id), settings, value, state))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if not self.trials:
            return
        maximize = str(config.hydra.sweeper.direction).endswith("maximize")
        name = config.run.id or f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
        report(self.trials, config.objective, maximize, Path(config.run.root, "sweeps", name))
