"""A job of this machine in Apptainer, with the rights of whoever starts it and no more."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...job import RUN_CODE, Job, Problem
from ...project import project
from .. import inputs, shell
from ..apptainer import ENDING, PROGRAMS, binds, command, prepare
from .docker import FORWARDED, KEY_FILE

KEY = "/run/key.json"  # where a job finds the key file
LABEL = "org.opencontainers.image.revision"


def reference(image: str | None) -> str:
    """Name the image: the given file, else the one that `make image-sif` makes."""
    return image or f"{project().slug}{ENDING}"


def check(job: Job, given: str | None) -> list[Problem]:
    """Look for what would keep it from running, and for other code than this folder's.

    Args:
        given: the image that was named, if any.
    """
    problems = []
    if not _program():
        remedy = "install it, or give cloud.machine=process"
        problems.append(Problem("there is no program apptainer on this machine's PATH", remedy))
    if not _path(job.image).is_file():
        problems.append(Problem(f"there is no image {job.image}", "make it with `make image-sif`"))
    if problems:
        return problems
    worktree = RUN_CODE in job.env
    found = inputs.check_code(job.image, revision(job.image), worktree, not given)
    return [Problem(each.what, "make it anew with `make image-sif`", each.fatal) for each in found]


def revision(image: str) -> str | None:
    """Tell which commit an image was built from; None where it does not say."""
    if not (program := _program()):
        return None
    words = [program, "inspect", "--json", "--labels", str(_path(image))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    try:
        labels: dict[str, Any] = json.loads(done.stdout)["data"]["attributes"]["labels"]
    except (ValueError, KeyError, TypeError):
        return None
    return labels.get(LABEL) or None


def run(job: Job, name: str, folders: tuple[Path, Path] | None) -> list[str]:
    """Give the command that runs a job's container, prints what it prints, and ends as it does.

    Args:
        name: of the folder on this machine's disk that is the job's own.
        folders: data, to be read, and runs, to be written; None when both are in a bucket.
    """
    image = str(_path(job.image))
    options = ["--cleanenv", *binds(job.output)]
    if folders:
        options += ["--bind", f"{folders[0]}:/app/data:ro", "--bind", f"{folders[1]}:/app/runs"]
    if key := os.environ.get(KEY_FILE):
        options += ["--bind", f"{Path(key).resolve()}:{KEY}:ro"]
    script = f'work="${{TMPDIR:-/tmp}}/"{shlex.quote(name)}\n{prepare(image)}'
    return ["sh", "-c", script + shell.run(command(image, job.args, options))]


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """Give the variables of the job, and of this machine those that a job needs: none of them is an argument."""
    names = (*FORWARDED, "CUDA_VISIBLE_DEVICES")
    found = {name: os.environ[name] for name in names if name in os.environ}
    if KEY_FILE in os.environ:
        found[KEY_FILE] = KEY
    prefix = f"{Path(_program() or PROGRAMS[0]).name.upper()}ENV_"
    return {f"{prefix}{name}": value for name, value in {**found, **env}.items()}


def _program() -> str | None:
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


def _path(image: str) -> Path:
    return project().root / image
