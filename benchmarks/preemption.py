"""Work that a preemption costs: steps that are trained twice, counted in the training's own log. Not timed.

A worker trains in a folder of its own, a machine, and its bucket is a plain folder. It is taken away once after a
quarter and once after three quarters of the way between two checkpoints, and another machine goes on.
"""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from baking import BakedProject, clean_env
from measure import Result, summary

MOMENTS = (0.25, 0.75)
EVERY = 100  # steps
EPOCHS = 60
MINUTE = 60  # seconds; as many of them are an hour
PATIENCE = 600  # seconds that anything may take on a machine that also does something else
SETTINGS = ("tracking=none", "trainer.device=cpu", "trainer.log_every=1", "evaluate=false")


class Machine:
    """A worker that runs in a fresh folder, and all that it has started."""

    def __init__(self, project: BakedProject, folder: Path, bucket: Path, settings: tuple[str, ...]) -> None:
        folder.mkdir(parents=True)
        self.run, self._output = folder / "runs/bench", folder / "output"
        for name in ("pyproject.toml", "configs", "src"):  # by which the launcher knows the project
            (folder / name).symlink_to(project.folder / name)
        python = project.folder / ".venv/bin/python"
        data = f"data.folder={project.folder}/data/digits"
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                [python, "-m", "launcher.worker", *SETTINGS, *settings, data],
                cwd=folder,
                env=clean_env(OMP_NUM_THREADS="1", RUN_ID="bench", RUN_OUTPUT=str(bucket)),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def take_away(self, notice: signal.Signals) -> None:
        """SIGTERM to the worker as the service sends it, or SIGKILL to everything."""
        if notice is signal.SIGTERM:
            self.process.terminate()
        else:
            os.killpg(self.process.pid, notice)
        self.process.wait(PATIENCE)

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait(self, what: Callable[[], int | None]) -> int:
        """Waits until something has a value."""
        deadline = time.monotonic() + PATIENCE
        while (value := what()) is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the worker did not get there:\n{self.printed()[-4000:]}")
            time.sleep(0.02)
        return value

    def printed(self) -> str:
        return self._output.read_text(errors="replace")

    def restored(self) -> int | None:
        """The step that it goes on from, once it says so."""
        found = re.search(r"nothing to restore|restored step (\d+)", self.printed())
        return int(found[1] or 0) if found else None

    def trained(self) -> int:
        """The last step in the log; 0 while there is none."""
        with suppress(FileNotFoundError):
            lines = (self.run / "metrics.jsonl").read_text().splitlines(keepends=True)
            return max((json.loads(line)["step"] for line in lines if line.endswith("\n")), default=0)
        return 0

    def saved(self, after: int) -> int | None:
        """The oldest checkpoint that it has made itself."""
        names = [path.name for path in self.run.glob("checkpoints/step-*.pt")]
        return min((step for step in (int(name[5:13]) for name in names) if step > after), default=None)


def measure(project: BakedProject, quick: bool) -> list[Result]:
    """Takes machines away with notice and without, at the default settings and with a checkpoint every few steps.

    Args:
        quick: leave out the default settings, for which minutes must pass.
    """
    rows: list[Result] = []

    def row(name: str, values: list[float], unit: str = "x") -> None:
        rows.append(summary("preemption", name, values, unit))

    for notice in (signal.SIGTERM, signal.SIGKILL):
        if not quick:
            what = f"{notice.name}, a checkpoint a minute: steps trained twice"
            shares, _ = preempted(project, notice, None)
            row(f"{what} / steps of a minute", shares)
            hours = [100 * share / MINUTE for share in shares]
            row(f"{what} / steps of an hour, preempted once", hours, "%")
        what = f"{notice.name}, a checkpoint every {EVERY} steps: steps trained twice"
        shares, steps = preempted(project, notice, EVERY)
        row(f"{what} / {EVERY}", shares)
        row(f"{what} / all {steps}, preempted twice", [100 * EVERY * sum(shares) / steps], "%")
    return rows


def preempted(project: BakedProject, notice: signal.Signals, every: int | None) -> tuple[list[float], int]:
    """Preempts one run at each of the moments.

    Args:
        every: steps between two checkpoints; None for the default, and then the run is not trained to its end.

    Returns:
        the steps that each preemption made be trained twice, over those between two checkpoints; and the last step.
    """
    shares, settings = [], ("trainer.max_epochs=10000",)
    if every:
        settings = (f"checkpoint.steps={every}", f"trainer.max_epochs={EPOCHS}")
    with TemporaryDirectory(dir=project.folder.parent, prefix=".bench-") as name, ExitStack() as opened:

        def start(number: int) -> Machine:
            machine = Machine(project, Path(name, f"machine-{number}"), Path(name, "bucket"), settings)
            opened.callback(machine.close)
            return machine

        machine = start(0)
        first = machine.wait(machine.restored)
        for number, moment in enumerate(MOMENTS, start=1):
            step = machine.wait(lambda m=machine, after=first: m.saved(after))
            interval = every or step - first
            if every:
                machine.wait(lambda m=machine, until=step + moment * every: m.trained() >= until or None)
            else:
                time.sleep(moment * MINUTE)
            machine.take_away(notice)
            last = machine.trained()
            machine = start(number)
            first = machine.wait(machine.restored)
            shares.append((last - first) / interval)
        if every and machine.process.wait(PATIENCE):
            raise RuntimeError(machine.printed())
        return shares, machine.trained()
