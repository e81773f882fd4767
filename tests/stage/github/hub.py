"""GitHub, as far as a repository's workflows go: which of them an event starts, and then act to run them.

The workflows are taken unmodified from what was committed, but for one key that act does not know. Every action from
outside is a stand-in in `actions/`, which has the same inputs and outputs as the real one.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from baking import clean_env

from stage import containers
from stage.github.api import Api, github_api
from stage.github.runs import WorkflowRun, read_run, run_act
from stage.github.workflows import (
    ACTIONS,
    RefusedWorkflowError,
    check_inputs,
    check_uses,
    identity_jobs,
    starts,
    token_permissions,
    triggers,
    used_actions,
    without_deployment,
)

__all__ = ["GitHub", "WorkflowRun", "github"]

RUNNER = "stage-runner:latest"  # `make engine` makes it
NAME = "octo-org/octo-repo"
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"  # the same place on every Debian
# How this machine reaches the package registries, if it needs to be told.
NETWORK = (
    *("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "no_proxy"),
)
# Gives a job's means to ask for an identity token: ACTIONS_ID_TOKEN_REQUEST_URL and _TOKEN.
IdToken = Callable[..., Mapping[str, str]]


class GitHub:
    """A repository on GitHub that a project is pushed to.

    Args:
        api: its REST API, which every job's token is for.
        project: the project's folder, with its own git repository; what is not committed stays there.
        folder: where this keeps its copy of the repository and what it needs; made if missing.
        variables: the repository's variables (`vars`); may be changed between events.
        env: added to the environment of every step: where the stage's servers are.
        id_token: `stage.google_identity.Identity.github`, or None where nobody issues identity tokens.
        name: owner/name of the repository.
        runner: the image that `ubuntu-latest` stands for.
        mounts: file here -> where each job has it.
    """

    def __init__(
        self,
        api: Api,
        project: Path,
        folder: Path,
        *,
        variables: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        id_token: IdToken | None = None,
        name: str = NAME,
        runner: str = RUNNER,
        label: str = f"github-{os.getpid()}",
        mounts: Mapping[str, str] | None = None,
    ) -> None:
        self.api = api
        self.project, self.folder, self.name, self.runner, self.label = project, folder, name, runner, label
        self.variables, self.env, self.id_token = dict(variables or {}), dict(env or {}), id_token
        self.mounts = dict(mounts or {})
        self.checkout = folder / "checkout"
        self._pushed: dict[str, str] = {}  # branch -> the commit that GitHub has
        self._runs = 0
        (folder / "rights").mkdir(parents=True, exist_ok=True)
        self._git("init", "--quiet", str(self.checkout), folder=folder)
        self._git("remote", "add", "origin", f"https://github.com/{name}.git")

    # Events

    def push(self, branch: str = "main", only: Iterable[str] | None = None) -> list[WorkflowRun]:
        """Pushes a branch; runs every workflow that GitHub would start, one after the other.

        Args:
            only: names of workflow files to run of those that start; None for all.
        """
        before = self._pushed.get(branch)
        after = self._fetch(branch)
        paths = self._changed(before or EMPTY_TREE, after)
        message = self._git("log", "-1", "--format=%B", after).strip()
        event = {
            "ref": f"refs/heads/{branch}",
            "before": before or "0" * 40,
            "after": after,
            "head_commit": {"id": after, "message": message},
        }
        started = [
            name for name, flow in self._workflows().items() if starts(flow, "push", branch, paths, message)
        ]
        return [self._run("push", name, event) for name in started if only is None or name in only]

    def pull_request(
        self,
        branch: str,
        base: str = "main",
        *,
        fork: bool = False,
        number: int = 1,
        action: str = "opened",
        label: str = "",
        only: Iterable[str] | None = None,
    ) -> list[WorkflowRun]:
        """Opens a pull request of a branch, or does what `action` says; runs every workflow that GitHub would start.

        Args:
            fork: whether it comes from one: its jobs get no identity and no write permission.
            action: opened, synchronize, labeled, edited ...
            label: that was put on it.
            only: as in `push`.
        """
        before = self._pushed[base]
        after = self._fetch(branch, keep=False)
        self.api.open_pull_request(number)
        paths = self._changed(self._git("merge-base", before, after).strip(), after)
        owner = "fork-owner" if fork else self.name.partition("/")[0]
        head = {
            "ref": branch,
            "sha": after,
            "repo": {"full_name": f"{owner}/{self.name.partition('/')[2]}", "fork": fork},
        }
        event: dict[str, Any] = {
            "action": action,
            "number": number,
            "ref": f"refs/pull/{number}/merge",
            "pull_request": {"number": number, "head": head, "base": {"ref": base, "sha": before}},
        }
        if label:
            event["label"] = {"name": label}
        started = [
            name
            for name, flow in self._workflows().items()
            if starts(flow, "pull_request", base, paths, action=action)
        ]
        return [
            self._run("pull_request", name, event, trusted=not fork)
            for name in started
            if only is None or name in only
        ]

    def schedule(self, only: Iterable[str] | None = None) -> list[WorkflowRun]:
        """Lets the time come that workflows wait for: each that has a schedule runs, at what main is now."""
        self._git("checkout", "--quiet", "--force", "-B", "main", self._pushed["main"])
        started = [name for name, flow in self._workflows().items() if "schedule" in triggers(flow)]
        return [
            self._run("schedule", name, {"ref": "refs/heads/main"})
            for name in started
            if only is None or name in only
        ]

    def dispatch(
        self, workflow: str = "train.yml", branch: str = "main", inputs: Mapping[str, str] | None = None
    ) -> WorkflowRun:
        """Starts a workflow by hand, at what was pushed last.

        Raises:
            RefusedWorkflowError: it cannot be started so, or has no such inputs.
        """
        self._git("checkout", "--quiet", "--force", self._pushed[branch])
        events = triggers(self._workflows()[workflow])
        if "workflow_dispatch" not in events:
            raise RefusedWorkflowError(f"{workflow} has no workflow_dispatch")
        given = check_inputs(events["workflow_dispatch"].get("inputs") or {}, inputs or {})
        return self._run("workflow_dispatch", workflow, {"ref": f"refs/heads/{branch}", "inputs": given})

    @contextmanager
    def claiming(self, **claims: str) -> Iterator[None]:
        """Has identity tokens say something else while the block lasts, as those of another repository do."""
        own = self.id_token
        assert own is not None
        self.id_token = lambda **usual: own(**usual | claims)
        try:
            yield
        finally:
            self.id_token = own

    # How they run

    def _run(
        self, event: str, workflow: str, payload: Mapping[str, Any], *, trusted: bool = True
    ) -> WorkflowRun:
        self._runs += 1
        check_uses(self.checkout)
        self._give_rights(event, workflow, payload, trusted)
        owner, _, short = self.name.partition("/")
        repository = {
            "id": 1001,
            "name": short,
            "full_name": self.name,
            "default_branch": "main",
            "owner": {"id": 2002, "login": owner},
        }
        path = self.folder / f"event-{self._runs}.json"
        path.write_text(json.dumps({**payload, "repository": repository}))
        for file in self._files():
            file.write_text(without_deployment(file.read_text()))
        log = self.folder / f"act-{self._runs}.jsonl"
        permissions = token_permissions(self._workflows(), workflow)
        if not trusted:
            permissions = dict.fromkeys(permissions, "read")
        with self.api.token(permissions) as token, log.open("wb") as output:
            command = [*self._command(event, workflow, path), f"--secret=GITHUB_TOKEN={token}"]
            status = run_act(command, self.checkout, output)
        jobs = self._workflows()[workflow]["jobs"]
        return read_run(workflow, jobs, log.read_text(errors="replace"), status)

    def _command(self, event: str, workflow: str, payload: Path) -> list[str]:
        tools = {
            shutil.which("uv"): "/opt/stage/uv:ro",
            str(self.folder / "rights"): "/opt/stage/rights:ro",
            str(self.checkout): "/opt/stage/repository:ro",
            **{here: f"{there}:ro" for here, there in self.mounts.items()},
        }
        cache = subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=True)
        tools[cache.stdout.strip()] = "/opt/stage/uv-cache"
        options = [f"--volume={here}:{there}" for here, there in tools.items()]
        # In memory: act waits only so long until Docker has removed tens of thousands of links.
        options.append(f"--tmpfs={self.checkout}/.venv:exec")
        env = {
            "STAGE_TOOLS": "/opt/stage",
            "STAGE_RIGHTS": "/opt/stage/rights",
            "STAGE_REPOSITORY": "/opt/stage/repository",
            "GITHUB_API_URL": self.api.url,
            # What this machine has downloaded before; links, because the cache lies on another file system.
            "UV_CACHE_DIR": "/opt/stage/uv-cache",
            "UV_LINK_MODE": "symlink",
            "UV_PYTHON_DOWNLOADS": "never",
            **{name: os.environ[name] for name in NETWORK if name in os.environ},
            **{name: value for name, value in os.environ.items() if value == CERTIFICATES},
            **self.env,
        }
        command = [
            *(str(Path(sys.executable).with_name("act")), event, "--json", "--pull=false", "--rm"),
            *("--workflows", f".github/workflows/{workflow}", "--eventpath", str(payload)),
            *("--platform", f"ubuntu-latest={self.runner}", "--no-cache-server"),
            *("--action-cache-path", str(self.folder / "action-cache")),
            *("--container-options", shlex.join([*options, f"--label={containers.LABEL}={self.label}"])),
        ]
        command += [f"--env={name}={value}" for name, value in env.items()]
        command += [f"--var={name}={value}" for name, value in self.variables.items()]
        for action in sorted({uses for uses, _ in used_actions(self.checkout)}):
            command.append(f"--local-repository={action}={ACTIONS / action.partition('@')[0]}")
        return command

    def _give_rights(self, event: str, workflow: str, payload: Mapping[str, Any], trusted: bool) -> None:
        """Leaves for each job that has `id-token: write` its means to ask for an identity token."""
        for path in (self.folder / "rights").iterdir():
            path.unlink()
        if self.id_token is None or not trusted:
            return
        for job, environment in identity_jobs(self._workflows(), workflow).items():
            rights = self.id_token(
                repository=self.name,
                repository_owner=self.name.partition("/")[0],
                ref=payload["ref"],
                event_name=event,
                workflow=workflow,
                environment=environment,
            )
            (self.folder / "rights" / f"{job}.json").write_text(json.dumps(dict(rights)))

    # The repository

    def has_commit(self, commit: str) -> bool:
        """Whether this commit was ever pushed, of a pull request too."""
        command = ["git", "cat-file", "-e", f"{commit}^{{commit}}"]
        done = subprocess.run(command, check=False, cwd=self.checkout, env=clean_env(), capture_output=True)
        return done.returncode == 0

    def _workflows(self) -> dict[str, Mapping[Any, Any]]:
        return {path.name: yaml.safe_load(path.read_text()) for path in self._files()}

    def _files(self) -> list[Path]:
        return sorted((self.checkout / ".github/workflows").glob("*.y*ml"))

    def _fetch(self, branch: str, keep: bool = True) -> str:
        """Takes over a branch of the project and checks it out; gives its newest commit."""
        self._git("fetch", "--quiet", "--force", str(self.project), f"refs/heads/{branch}")
        commit = self._git("rev-parse", "FETCH_HEAD").strip()
        self._git("checkout", "--quiet", "--force", "-B", branch, commit)
        if keep:
            self._pushed[branch] = commit
        return commit

    def _changed(self, before: str, after: str) -> list[str]:
        return [path for path in self._git("diff", "--name-only", "-z", before, after).split("\0") if path]

    def _git(self, *arguments: str, folder: Path | None = None) -> str:
        command = ["git", *arguments]
        folder = folder or self.checkout
        result = subprocess.run(
            command, cwd=folder, env=clean_env(), check=True, capture_output=True, text=True
        )
        return result.stdout


@contextmanager
def github(project: Path, folder: Path, **settings: Any) -> Iterator[GitHub]:
    """A `GitHub`; whatever its workflows have left running ends with the block."""
    containers.require()
    runner = settings.get("runner", RUNNER)
    if containers.docker("image", "inspect", runner, check=False).returncode:
        pytest.skip(f"there is no image {runner}; `make engine` makes it")
    name = settings.get("name", NAME)
    with github_api(name, lambda commit: here.has_commit(commit)) as api:
        here = GitHub(api, project, folder, **settings)
        try:
            yield here
        finally:
            containers.cleanup(here.label)
