"""How long a bake takes, over what cookiecutter takes for a template of one file."""

import os
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from baking import clean_env, only_programs, template
from measure import Result, alternate, ratios, summary

CONFIG = "cookiecutters_dir: {0}/cookiecutters\nreplay_dir: {0}/replay\n"


def measure(cookiecutter: str, rounds: int) -> list[Result]:
    """Bakes by the command line, as a person would: starting Python is part of what they wait for.

    Args:
        cookiecutter: the program.
        rounds: each bakes three times.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.yaml").write_text(CONFIG.format(folder))  # nothing is left in the user's home
        empty = empty_template(folder / "empty")

        def bake(source: Path) -> float:
            with TemporaryDirectory(dir=folder) as output:
                command = [cookiecutter, str(source), "--no-input", "--output-dir", output]
                start = time.perf_counter()
                subprocess.run(
                    [*command, "--config-file", str(folder / "config.yaml")],
                    check=True,
                    env=clean_env(PATH=os.environ["PATH"]),
                    stdout=subprocess.DEVNULL,
                )
                return time.perf_counter() - start

        def without_uv() -> float:
            with only_programs("git"):
                return bake(template())

        members = {
            "empty": lambda: bake(empty),
            "without": without_uv,
            "with": lambda: bake(template()),
        }
        seconds = alternate(members, rounds)
    return [
        summary("bake", f"bake {what} / empty template", ratios(seconds[key], seconds["empty"]))
        for key, what in (("without", "without a lock"), ("with", "with `uv lock`"))
    ]


def empty_template(folder: Path) -> Path:
    """A template of one empty file and one question."""
    (folder / "{{cookiecutter.name}}").mkdir(parents=True)
    (folder / "{{cookiecutter.name}}" / "README.md").touch()
    (folder / "cookiecutter.json").write_text('{"name": "empty"}')
    return folder
