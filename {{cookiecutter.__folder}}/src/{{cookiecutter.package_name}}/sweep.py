"""The table of a sweep's trials: printed at its end, and kept in runs/sweeps/."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table


class TrialTable(Callback):
    """Collects what each trial was given and what it reached."""

    def __init__(self) -> None:
        self.trials: list[dict[str, Any]] = []

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        searched = config.hydra.sweeper.params
        value = job_return.return_value if job_return.status is JobStatus.COMPLETED else None
        settings = {key: OmegaConf.select(config, key) for key in searched}
        run_id = (
            job_return.cfg.run.id if job_return.cfg else None
        )  # the trial's copy has the id it made
        self.trials.append({"run": run_id, **settings, config.objective: value})

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if not self.trials:
            return
        best_last = str(config.hydra.sweeper.direction).endswith("maximize")
        done = [trial for trial in self.trials if trial[config.objective] is not None]
        done.sort(key=lambda trial: trial[config.objective], reverse=best_last)
        table = Table(*self.trials[0], title="trials, best first")
        for trial in done:
            table.add_row(
                *(
                    f"{value:.4g}" if isinstance(value, float) else str(value)
                    for value in trial.values()
                )
            )
        Console().print(table)
        path = Path(config.run.root, "sweeps", f"{datetime.now(UTC):%Y%m%d-%H%M%S}.csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(self.trials[0]))
            writer.writeheader()
            writer.writerows(done)
        print(f"table  {path}")
