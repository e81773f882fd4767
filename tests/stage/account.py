"""A project and its account in a cloud, as its own `cloud setup` makes it: what the stages of AWS and Azure do alike."""

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baking import BakedProject

from stage import images, slow
from stage.github.gh_program import GitHub as Repository
from stage.github.hub import GitHub, WorkflowRun
from stage.results import QUICK, Results, read_all

GH = Path(__file__).with_name("github") / "gh_program.py"


@dataclass(frozen=True)
class Built:
    """A project whose image is in the registry.

    Args:
        registry: host of the one on this machine that stands for the cloud's.
        commit: that the image was built from.
    """

    project: BakedProject
    registry: str
    commit: str


def project_of(baked: BakedProject, folder: Path, registry: str, backend: str, machines: str) -> Built:
    """Makes a bake ready: its environment, its data, its image by its own Dockerfile, pushed as main.

    Args:
        backend: that a push trains on.
        machines: names of the price table, joined by commas: the first is one that a new account has no quota for.
    """
    project = baked.copy(folder / baked.folder.name)
    project.sync()
    project.run("git", "remote", "add", "origin", f"https://github.com/{Repository().repository}.git")
    project.run("uv", "run", "--no-sync", "dvc", "repro")
    makefile = project.folder / "Makefile"
    makefile.write_text(re.sub(r"(?m)^(check|test):.*\n(\t.*\n)+", "", makefile.read_text()) + QUICK)
    slow.digits(project)
    section = project.folder / f"configs/cloud/{backend}.yaml"
    # Training is real here, and this machine has no GPU.
    section.write_text(re.sub(r"(?m)^machine: \[.*?\]", f"machine: [{machines}]", section.read_text()))
    project.run("git", "add", "-A")
    project.run("git", "commit", "-q", "-m", "Which data")
    commit = project.run("git", "rev-parse", "HEAD").stdout.strip()
    tag = f"stage-{backend}-{secrets.token_hex(4)}:main"
    images.build(project.folder, tag, "--label", f"org.opencontainers.image.revision={commit}")
    images.push(tag, f"{registry}/{baked.folder.name}/train:main")
    images.remove(tag)
    return Built(project, registry, commit)


class Owner:
    """A person whom the account belongs to, and the repository on GitHub.

    Args:
        environment: by which programs find the account, as its administrator.
        folder: for the repository's state, and the `gh` that knows it.
    """

    def __init__(self, project: BakedProject, environment: Mapping[str, str], folder: Path) -> None:
        folder.mkdir(parents=True)
        self._project, self._state, program = project, folder / "github.json", folder / "gh"
        Repository().save(self._state)
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {GH} {self._state} "$@"\n')
        program.chmod(0o755)
        self._env = {**environment, "PATH": f"{folder}:{os.environ['PATH']}", "WAIT": "0"}

    @property
    def repository(self) -> Repository:
        """As it is now."""
        return Repository.load(self._state)

    def make(self, target: str, *answers: str, **env: str) -> str:
        """Runs a command of the project's Makefile, and types what it asks for; gives what it printed."""
        words = ("bash", "-c", 'target=$1; shift; printf "%s\n" "$@" | make "$target"', "-", target, *answers)
        return self._project.run(*words, check=True, timeout=1800, **self._env | env).stdout


@dataclass
class Account(Results):
    """The project, its repository on GitHub, and a person who works on it.

    Args:
        laptop: environment of a person who is logged in as the launcher, and may do no more than that.
    """

    project: BakedProject
    owner: Owner
    github: GitHub
    laptop: dict[str, str]

    @property
    def slug(self) -> str:
        return self.project.folder.name

    def jobs(self, run_id: str) -> list[str]:
        """Names or ids of a run's jobs, oldest first."""
        raise NotImplementedError

    def objects(self, prefix: str = "") -> list[str]:
        """Names in the bucket."""
        raise NotImplementedError

    def read(self, name: str) -> bytes:
        """What the bucket holds under a name."""
        raise NotImplementedError

    def run(self, *command: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs one of the project's programs as a person who is logged in on a laptop would."""
        words = ("uv", "run", "--no-sync", *command)
        return self.project.run(*words, check=check, timeout=1800, **self.laptop | env)

    def launch(
        self, backend: str, run_id: str, *overrides: str, check: bool = True, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Launches a run without a GPU, for training is real here."""
        settings = (f"cloud={backend}", "cloud.machine=cpu", f"run.id={run_id}", *overrides)
        return self.run("launch", *settings, check=check, **env)

    def start(self, backend: str, run_id: str, *overrides: str, **env: str) -> str:
        """Launches a run under this id; gives the name or id of its job."""
        self.launch(backend, run_id, *overrides, check=True, **env)
        return self.jobs(run_id)[-1]

    def listed(self, run_id: str, state: str) -> None:
        """Fails unless `runs list` says that a run is in a state."""
        shown = self.run("runs", "list").stdout
        assert re.search(rf"{run_id}\b.*\b{state}", shown), shown

    def ended(self, run_id: str, state: str) -> None:
        """Fails unless a run has ended so by its own word, which `runs list` agrees with."""
        assert self.outcome(run_id)["state"] == state, self.outcome(run_id)
        self.listed(run_id, state)

    def stealing(self) -> list[WorkflowRun]:
        """Opens a pull request from a fork that looks for credentials: it can change what is run for it."""
        self.project.run("git", "switch", "-q", "-c", "fork")
        try:
            makefile = self.project.folder / "Makefile"
            makefile.write_text("check test:\n\tenv | grep -c ID_TOKEN || true\n")
            self.project.run("git", "commit", "-q", "-a", "-m", "Steal")
            return self.github.pull_request("fork", fork=True)
        finally:
            self.project.run("git", "switch", "-q", "main")

    def results(self, run_id: str) -> dict[str, bytes]:
        """What the bucket holds of a run: path in its folder -> content."""
        prefix = f"runs/{run_id}/"
        found = read_all(lambda: self.objects(prefix), self.read)
        return {name.removeprefix(prefix): content for name, content in found.items()}

    def entry(self, run_id: str) -> dict[str, Any]:
        """What the ledger holds for a run."""
        (found,) = self.entries(run_id)
        return found

    def entries(self, run_id: str) -> list[dict[str, Any]]:
        """All that the ledger holds for a run."""
        months = [json.loads(self.read(name)) for name in self.objects("runs/.ledger/")]
        return [one for month in months for one in month.values() if one["run_id"] == run_id]
