"""Runs infra/setup and infra/destroy of a bake, and keeps what came of it."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baking import BakedProject, only_programs
from stage.gh_program import GitHub
from stage.google_project import ACCOUNT, PROJECT, Resource
from stage.google_setup import Setup

KEY = "wandb-key-that-nobody-may-see"


@dataclass(frozen=True)
class Step:
    """What one run of a script has printed, asked for, and left behind."""

    code: int
    output: str
    errors: str
    written: list[str]
    resources: dict[tuple[str, str], Resource]
    roles: dict[tuple[str, str], set[tuple[str, str]]]
    github: GitHub


def take(stage: Setup, project: BakedProject, script: str, **env: str) -> Step:
    """Runs a script; nobody answers its questions."""
    before = len(stage.written)
    environment: dict[str, Any] = stage.env | env
    result = project.run("bash", "-c", f"exec infra/{script} < /dev/null", check=False, **environment)
    state = stage.project
    roles = {where: state.roles(*where) for where in state.policies if state.roles(*where)}
    left = copy.deepcopy(state.resources), roles, stage.github
    return Step(result.returncode, result.stdout, result.stderr, stage.written[before:], *left)


def on_github(project: BakedProject, folder: Path) -> BakedProject:
    """A copy of a bake that has a repository on GitHub."""
    copied = project.copy(folder)
    copied.run("git", "remote", "add", "origin", "git@github.com:octo-org/leaves.git")
    return copied


def dry_run(project: BakedProject, script: str, **env: Any) -> list[str]:
    """The commands that are printed, with no program at hand that could talk to anybody."""
    env = {"PROJECT": PROJECT, "WANDB_API_KEY": KEY, "BILLING_ACCOUNT": ACCOUNT} | env
    with only_programs("bash", "cat", "dirname", "git", "grep", "mktemp", "rm", "tr"):
        result = project.run("bash", f"infra/{script}", DRY_RUN="1", **env)
    assert KEY not in result.stdout
    lines = result.stdout.splitlines()
    return [line for line in lines if not line.startswith("# ")]
