"""`make bench`: measures bakes and training against the alternatives and prints a table of ratios.

ARGS="--quick" takes some minutes; ARGS="--only training" measures one group.
"""

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))  # baking.py: one way to bake, for tests and benchmarks

import bakes
import data
import images
import imports
import launching
import preemption
import projects
import pytest
import serve
from measure import Result, load, save
from rich.console import Console
from rich.table import Table
from stage import containers

# A log has no width; in 80 columns the names would take four lines each.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)


class Bench:
    """The groups of the table. `quick` measures with few rounds: a look, not a figure to quote."""

    def __init__(self, quick: bool) -> None:
        self.quick = quick
        self._project: projects.BakedProject | None = None

    @property
    def project(self) -> projects.BakedProject:
        """The bake that is measured, made when the first group asks for it."""
        if self._project is None:
            console.print("baking, installing, making data ...")
            self._project = projects.baked_project()
        return self._project

    def bake(self) -> list[Result]:
        program = shutil.which("cookiecutter")
        assert program, "run it by `make bench`: cookiecutter is in .venv"
        return bakes.measure(program, rounds=2 if self.quick else 7)

    def start(self) -> list[Result]:
        return imports.measure(self.project, rounds=1 if self.quick else 7)

    def checkpoint(self) -> list[Result]:
        python, rounds = self.project.folder / ".venv/bin/python", "1" if self.quick else "5"
        rows = load(projects.run_inside(self.project, python, "checkpoints.py", "time", "--rounds", rounds))
        if not Path("/proc/self/clear_refs").exists():
            console.print("Peak memory of a save is not measured: it needs Linux.")
            return rows
        return rows + load(projects.run_inside(self.project, python, "checkpoints.py", "memory"))

    def training(self) -> list[Result]:
        try:
            # the bake's locked versions and Lightning, so that all four take turns in one process
            python, members = projects.lightning_python(self.project), "hand,ours,loader,lightning"
        except AssertionError as error:
            console.print(f"Lightning is not measured: its environment cannot be made.\n{error}")
            python, members = self.project.folder / ".venv/bin/python", "hand,ours,loader"

        def train(where: str, rounds: int, *words: str) -> list[Result]:
            console.print(f"{where}: {members.replace(',', ', ')} in turn ...")
            turns = (1, 1) if self.quick else (rounds, 4)
            taking_part = f"{members},resident" if "--busy" in words else members  # it differs on a GPU only
            options = f"--rounds={turns[0]} --makings={turns[1]} --members={taking_part}".split()
            words = (*options, "--where", where, *words)
            return load(projects.run_inside(self.project, python, "training.py", *words))

        rows = [
            *train("digits_cnn, CPU", 10, "experiment=digits_cnn", "trainer.device=cpu"),
            # a twentieth of the scenes, so that each turn takes seconds, and neighbours can be compared
            *train(
                "shapes_unet, CPU", 3, "experiment=shapes_unet", "data.fraction=0.05", "trainer.device=cpu"
            ),
        ]
        if not projects.has_gpu(self.project):
            console.print(
                "Training on a GPU (bf16, torch.compile) and how busy it is: not measured, no GPU here."
            )
            return rows
        gpu = ("--busy", "trainer.device=cuda", "trainer.precision=bf16", "trainer.compile=reduce-overhead")
        for name in ("digits_cnn", "shapes_unet"):
            rows += train(f"{name}, GPU", 5, f"experiment={name}", *gpu)
        return rows

    def launch(self) -> list[Result]:
        gcloud = shutil.which("gcloud")
        if gcloud is None:
            console.print("launch is not measured: there is no gcloud here to compare it with.")
            return []
        return launching.measure(self.project, gcloud, rounds=1 if self.quick else 7)

    def image(self) -> list[Result]:
        try:
            containers.require()
            project = projects.baked_project("Images", data=())  # its code is changed
            return images.measure(project, rounds=1 if self.quick else 2, say=console.print)
        except pytest.skip.Exception as reason:
            console.print(f"Images are not measured: {reason}")
            return []

    def data(self) -> list[Result]:
        return data.measure(self.project, rounds=1 if self.quick else 7)

    def month(self) -> list[Result]:
        python, months = self.project.folder / ".venv/bin/python", "1" if self.quick else "3"
        return load(projects.run_inside(self.project, python, "month.py", months))

    def preemption(self) -> list[Result]:
        return preemption.measure(self.project, quick=self.quick)

    def serve(self) -> list[Result]:
        if not Path("/proc/self/smaps_rollup").exists():
            console.print("serve is not measured: it needs Linux.")
            return []
        rounds, seconds = (1, 1) if self.quick else (7, 3)
        return serve.measure(self.project, rounds, seconds, say=console.print)


def table(results: list[Result]) -> Table:
    """All rows with their units; the range is of single rounds, and wide on a machine that is not idle."""
    shown = Table("what", "median", "range of the rounds", "rounds", "aim", title="make bench")
    for before, row in zip([None, *results], results, strict=False):
        if before and before.group != row.group:
            shown.add_section()
        mark = {True: "", False: " (missed)", None: ""}[row.reached]
        digits = 3 if row.unit == "x" else 2
        shown.add_row(
            row.name,
            f"{row.value:.{digits}f} {row.unit}",
            f"{row.least:.{digits}f} to {row.most:.{digits}f} {row.unit}",
            str(row.rounds),
            f"{row.aim} {row.unit}{mark}" if row.aim else "",
        )
    return shown


def main() -> None:
    """Measures what was asked for, prints the table and writes build/bench/results.json."""
    groups = (
        *("bake", "training", "checkpoint", "start", "launch", "image", "data", "preemption", "month"),
        "serve",
    )
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, rough numbers, no images")
    parser.add_argument("--only", choices=groups, action="append", help="one group; can be given again")
    args = parser.parse_args()
    bench, results = Bench(args.quick), []
    measures: dict[str, Callable[[], list[Result]]] = {name: getattr(bench, name) for name in groups}
    projects.WORK.mkdir(parents=True, exist_ok=True)
    # an image with torch takes minutes even once
    for name in args.only or [name for name in groups if not (args.quick and name == "image")]:
        console.print(f"measuring: {name}")
        results += measures[name]()
        save(projects.WORK / "results.json", results)
    console.print(table(results))
    console.print("x is a ratio: speed over speed, time over time or bytes over bytes. One thread computes.")


if __name__ == "__main__":
    main()
