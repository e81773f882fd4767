"""`cloud setup` and `cloud destroy` of an Azure project, on the stage of Azure and GitHub's stand-in; and what came of it."""

import contextlib
import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from launcher.commands import setup
from launcher.providers.azure import auth, login
from stage import azure
from stage.azure.server import Call
from stage.azure.world import World
from stage.github.gh_program import GitHub

KEY = "wandb-key-that-nobody-may-see"
GH = Path(__file__).parents[1] / "stage/github/gh_program.py"
SETTINGS = ("DRY_RUN", "BUDGET", "MAIL", "WANDB_API_KEY", "REVIEWER", "DATA", "YES")
LOOKS = ("GET", "HEAD")


@dataclass(frozen=True)
class Step:
    """What one run has printed, and asked Azure for."""

    error: str
    output: str
    asked: list[Call]

    @property
    def changes(self) -> list[str]:
        """The requests that are no looks, each as "METHOD path"."""
        return [
            f"{call.method} {call.path}"
            for call in self.asked
            if call.service in ("arm", "vault", "ml")
            and call.method not in LOOKS
            and not call.path.endswith("checkNameAvailability")
        ]


@dataclass
class Place:
    """The world, and one project in it.

    Args:
        env: of whoever runs the commands.
    """

    world: World
    root: Path
    folder: Path
    env: dict[str, str]

    @property
    def github(self) -> GitHub:
        return GitHub.load(self.folder / "github.json")

    @github.setter
    def github(self, github: GitHub) -> None:
        github.save(self.folder / "github.json")

    @property
    def group(self) -> str:
        return f"/subscriptions/{self.world.subscription}/resourceGroups/demo"

    def path(self, kind: str, name: str) -> str:
        """Where a resource of the project's is."""
        return f"{self.group}/providers/{kind}/{name}"

    def ask(self, method: str, path: str, body: Any = None, api: str = "2025-12-01", **more: Any) -> Any:
        """What a service, Azure ML by default, answers to its owner."""
        clear()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.env.items():
                patch.setenv(name, value)
            try:
                return auth.call(method, path, api=api, body=body, **more)
            finally:
                clear()

    def run(self, command: str, typed: str = "", **env: str) -> Step:
        """Runs a command, as one process of its own would; settings of this one do not count."""
        clear()
        before, said, error = len(self.world.asked), io.StringIO(), ""
        with pytest.MonkeyPatch.context() as patch:
            for name in SETTINGS:
                patch.delenv(name, raising=False)
            for name, value in {**self.env, **env}.items():
                patch.setenv(name, value)
            patch.setattr("launcher.project.find_root", lambda folder: self.root)
            patch.setattr(sys, "stdin", io.StringIO(typed))
            patch.chdir(self.root)
            with contextlib.redirect_stdout(said):
                try:
                    setup.run(command)
                except setup.UserError as refusal:
                    error = str(refusal)
        clear()
        return Step(error, said.getvalue(), list(self.world.asked[before:]))


def clear() -> None:
    """Forgets logins and connections, which a process keeps."""
    login._tokens.clear()
    login._credential.cache_clear()
    login._chosen.cache_clear()
    auth._sessions = threading.local()


@contextmanager
def place(folder: Path, root: Path) -> Iterator[Place]:
    """An empty subscription, an empty repository, and a project."""
    programs = folder / "programs"
    programs.mkdir(parents=True)
    gh = programs / "gh"
    gh.write_text(f'#!/bin/sh\nexec {sys.executable} {GH} {folder}/github.json "$@"\n')
    gh.chmod(0o755)
    with azure.serve(folder / "world", "eastus") as world:
        world.storage.made = world.storage.gone = lambda *names: None  # nothing here is about bytes
        env = world.environment | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "GITHUB_REPO": "octo-org/leaves",
            "WAIT": "0",
        }
        made = Place(world, root, folder, env)
        made.github = GitHub()
        yield made
