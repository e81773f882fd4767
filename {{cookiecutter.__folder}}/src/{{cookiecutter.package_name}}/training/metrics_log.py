"""metrics.jsonl: one line a measurement, each step once, however often the run was killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .run_folder import RunFolder
from .tracking import Tracker


class MetricsLog:
    """Lines of a run, passed on to its tracker.

    Args:
        folder: whose `metrics_log` is written.
        tracker: takes each line once.
        lines: how many lines the checkpoint knows; what a killed process wrote after it comes again.
        remembers: whether the tracker has seen the lines that are in the file; else it is given them now.
    """

    def __init__(
        self, folder: RunFolder, tracker: Tracker, lines: int, remembers: bool = True
    ) -> None:
        written = read_metrics(folder.metrics_log)
        self._folder, self._tracker = folder, tracker
        self._tracked = len(written) if remembers else 0
        self.lines = min(lines, len(written))
        for line in [] if remembers else written[: self.lines]:
            tracker.log(line["step"], {key: line[key] for key in line if key != "step"})
        folder.write(
            folder.metrics_log, "".join(json.dumps(line) + "\n" for line in written[: self.lines])
        )

    def add(self, step: int, epoch: int, **values: float) -> None:
        """Write one line and hand it to the tracker, unless the tracker has it from before a kill."""
        record = {"step": step, "epoch": epoch, **values}
        if self.lines >= self._tracked:
            self._tracker.log(step, {"epoch": epoch, **values})
        with self._folder.writing(), self._folder.metrics_log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self.lines += 1


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the whole lines of a metrics.jsonl; the last one may be torn. Empty where there is no file."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records
