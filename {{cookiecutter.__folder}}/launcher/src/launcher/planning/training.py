"""The training's own word on its settings, before anything is paid for: `python -m <package>.train --check`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ..errors import UserError
from ..project import project


def check_training(*settings: Sequence[str]) -> None:
    """Refuse settings that the job's training would refuse after minutes. Takes a second: torch is not imported.

    Args:
        settings: one list of words, as typed after `uv run train`, for each training; a sweep has several.

    Raises:
        UserError: the training's own sentence.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for said in pool.map(_check, settings):
            if said:
                raise UserError(said)


def _check(words: Sequence[str]) -> str:
    """Ask the training of one list; give what it says of them, nothing where they are good."""
    here = project()
    path = [str(here.root / "src"), os.environ.get("PYTHONPATH", "")]
    # The job has an environment of its own: how this machine tracks says nothing of it.
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    done = subprocess.run(
        [sys.executable, "-m", f"{here.package}.train", "--check", *words],
        cwd=here.root,
        env={**env, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        return ""
    return done.stderr.strip() or f"{here.package}.train --check ended with {done.returncode}."
