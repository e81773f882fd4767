"""What a person sees while a run trains: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import logging
import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)


class ProgressBar:
    """A bar over all steps of the run, shown by the first process when stdout is a terminal."""

    def __init__(self, total: int, done: int, shown: bool) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(file=sys.stdout),
            disable=not (shown and sys.stdout.isatty()),
            transient=True,
        )
        self._task = self._bar.add_task("steps", total=total, completed=done)
        self._quiet = not shown

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def step(self) -> None:
        if not self._bar.disable:
            self._bar.advance(self._task)

    def line(self, text: str) -> None:
        """Say something above the bar."""
        if self._quiet:
            return
        if self._bar.disable:
            log.info("%s", text)
        else:
            self._bar.console.print(text, highlight=False, markup=False)
