"""`cloud setup` and `cloud destroy` of an AWS project, on the stage of AWS and GitHub's stand-in; and what came of it."""

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import botocore.client
import pytest
from launcher.commands import setup
from launcher.providers.aws import auth
from stage.aws.cloudformation import as_documented
from stage.aws.world import World, serve
from stage.github.gh_program import GitHub

KEY = "wandb-key-that-nobody-may-see"
PROVIDER = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
GH = Path(__file__).parents[1] / "stage/github/gh_program.py"
LOOKS = ("Describe", "Get", "List", "Head", "Search")
SETTINGS = ("DRY_RUN", "MACHINES", "MAX_HOURS", "BUDGET", "MAIL", "WANDB_API_KEY", "REVIEWER", "DATA", "YES")


@dataclass(frozen=True)
class Step:
    """What one run has printed, and asked AWS for: service, operation, parameters."""

    error: str
    output: str
    asked: list[tuple[str, str, dict[str, Any]]]

    @property
    def changes(self) -> list[str]:
        """The operations that are no looks."""
        return [name for _, name, _ in self.asked if not name.startswith(LOOKS)]

    def given(self, operation: str) -> list[dict[str, Any]]:
        """The parameters of each call of an operation."""
        return [given for _, name, given in self.asked if name == operation]


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
    asked: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    @property
    def github(self) -> GitHub:
        return GitHub.load(self.folder / "github.json")

    @github.setter
    def github(self, github: GitHub) -> None:
        github.save(self.folder / "github.json")

    def client(self, service: str, region: str = "us-east-1", keys: dict[str, str] | None = None) -> Any:
        """A client of the world's administrator, or of whoever has these keys."""
        keys = keys or self.world.people.admin.environment
        return boto3.client(
            service,
            region,
            endpoint_url=self.world.url,
            aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=keys.get("AWS_SESSION_TOKEN"),
        )

    def stack(self) -> str:
        """The status of the project's stack; empty where there is none."""
        found = self.client("cloudformation").describe_stacks()["Stacks"]
        return next((each["StackStatus"] for each in found if each["StackName"] == "demo"), "")

    def queues(self) -> list[str]:
        return sorted(
            each["jobQueueName"] for each in self.client("batch").describe_job_queues()["jobQueues"]
        )

    def run(self, command: str, typed: str = "", **env: str) -> Step:
        """Runs a command, as one process of its own would; settings of this one do not count."""
        clear()
        self.asked.clear()
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            for name in SETTINGS:
                patch.delenv(name, raising=False)
            for name, value in {**self.env, **env}.items():
                patch.setenv(name, value)
            patch.setattr("launcher.project.find_root", lambda folder: self.root)
            patch.setattr(sys, "stdin", io.StringIO(typed))
            patch.chdir(self.root)
            error = ""
            with contextlib.redirect_stdout(said):
                try:
                    setup.run(command)
                except setup.UserError as refusal:
                    error = str(refusal)
        clear()
        return Step(error, said.getvalue(), list(self.asked))


def clear() -> None:
    """Forgets clients and logins, which a process keeps."""
    for each in (auth._session, auth._client, auth._identity):
        each.cache_clear()


@contextmanager
def place(folder: Path, root: Path) -> Iterator[Place]:
    """An empty account, an empty repository, and a project."""
    programs = folder / "programs"
    programs.mkdir(parents=True)
    gh = programs / "gh"
    gh.write_text(f'#!/bin/sh\nexec {sys.executable} {GH} {folder}/github.json "$@"\n')
    gh.chmod(0o755)
    with serve(folder / "world") as world, as_documented(), pytest.MonkeyPatch.context() as patch:
        env = world.environment | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "GITHUB_REPO": "octo-org/leaves",
            "WAIT": "0",
        }
        made = Place(world, root, folder, env)
        made.github = GitHub()
        sent = botocore.client.BaseClient._make_api_call  # pyright: ignore[reportAttributeAccessIssue]

        def record(client: Any, operation: str, given: dict[str, Any]) -> Any:
            made.asked.append((client.meta.service_model.service_name, operation, given))
            return sent(client, operation, given)

        patch.setattr(botocore.client.BaseClient, "_make_api_call", record)
        yield made


def policies(there: Place, role: str) -> list[dict[str, Any]]:
    """The policies of a role, as IAM has them."""
    iam = there.client("iam")
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    return [iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names]


def text(value: Any) -> str:
    """All that a request holds, to look for something in it."""
    return json.dumps(value, default=str)
