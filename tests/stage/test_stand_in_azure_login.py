"""A workflow's job logs in to Azure: the stand-ins of azure/login and of the Azure CLI, at the stage's Entra and registry."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from azure.identity import AzureCliCredential
from baking import ROOT
from launcher.providers.azure import login

from stage import azure
from stage.azure.az_program import EMPTY
from stage.azure.world import World
from stage.github.gh_program import GitHub as Repository
from stage.github.identities import Identities, identities

STAGE = Path(__file__).parent
LOGIN = ROOT / "{{cookiecutter.__folder}}/clouds/azure/.github/actions/cloud-login/action.yml"
NAME = "demo-launcher"
IMAGES = "demostoreimages"
REPOSITORY = Repository()
PLACE = "{}@{}/{}@{}".format(
    *(REPOSITORY.repository.partition("/")[0], REPOSITORY.owner_id),
    *(REPOSITORY.repository.partition("/")[2], REPOSITORY.repository_id),
)
CLAIMS = {"repository": REPOSITORY.repository, "ref": "refs/heads/main", "environment": "unattended"}


@dataclass
class Job:
    """A job of a workflow: its machine's programs, its home, and its means to ask GitHub who it is.

    Args:
        rights: what GitHub has given to the job, if anything.
    """

    world: World
    folder: Path
    rights: dict[str, str]

    def __post_init__(self) -> None:
        note = self.folder / "docker.txt"
        docker = f'[ "$1" = ps ] || echo "$@" > {note}'
        az = f'exec {sys.executable} {STAGE / "azure/az_program.py"} "$@"'
        (self.folder / "bin").mkdir()
        for name, script in {"az": az, "docker": docker}.items():
            (self.folder / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
            (self.folder / "bin" / name).chmod(0o755)
        if self.rights:
            (self.folder / "build.json").write_text(json.dumps(self.rights))
        self.env = self.world.at(None) | {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "AZURE_CONFIG_DIR": str(self.folder / "azure"),
            "STAGE_RIGHTS": str(self.folder),
            "GITHUB_JOB": "build",
            "GITHUB_ENV": str(self.folder / "github.env"),
        }

    @property
    def session(self) -> Path:
        return self.folder / "azure/stage.json"

    def log_in(self, **inputs: str) -> subprocess.CompletedProcess[str]:
        """The step azure/login."""
        given = {
            "client-id": self.world.people.named(NAME).client_id,
            "tenant-id": self.world.tenant,
            "subscription-id": self.world.subscription,
            "audience": "api://AzureADTokenExchange",
            "environment": "azurecloud",
            "enable-AzPSSession": "false",
        }
        given |= {name.replace("_", "-"): value for name, value in inputs.items()}
        action = STAGE / "actions/azure/login/main.py"
        return self.run(sys.executable, str(action), INPUTS=json.dumps(given))

    def az(self, *words: str) -> Any:
        """What the Azure CLI prints."""
        done = self.run("az", *words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout or "null")

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **self.env, **env}
        return subprocess.run(command, check=False, env=env, capture_output=True, text=True)


MakeJob = Callable[..., Job]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A registry, and GitHub's identity, which may push to it and is for jobs of the environment `unattended`."""
    with azure.serve(tmp_path / "world") as here:
        here.make.group()
        launcher = here.make.identity(NAME, ("AcrPush", here.make.registry(IMAGES)))
        here.make.federate(launcher, f"repo:{PLACE}:environment:unattended")
        yield here


@pytest.fixture
def github(world: World) -> Iterator[Identities]:
    with identities(world.github, REPOSITORY) as here:
        yield here


@pytest.fixture
def job(world: World, github: Identities, tmp_path: Path) -> MakeJob:
    def make(granted: bool = True, **claims: Any) -> Job:
        (tmp_path / "job").mkdir()
        return Job(world, tmp_path / "job", github(**CLAIMS | claims) if granted else {})

    return make


def test_a_job_is_logged_in_by_its_environment_and_keeps_no_word_in_its_log(job: MakeJob) -> None:
    here = job()
    done = here.log_in()
    assert done.returncode == 0, done.stdout
    assert f"subject claim - repo:{PLACE}:environment:unattended" in done.stdout
    shown = here.az("account", "show")
    assert (shown["id"], shown["tenantId"]) == (here.world.subscription, here.world.tenant)
    assert shown["user"]["type"] == "servicePrincipal"
    assert here.run("az", "account", "show", "--query", "id", "-o", "tsv").stdout.strip() == shown["id"]
    token = json.loads(here.session.read_text())["proof"]["client_assertion"]
    said = [line for line in done.stdout.splitlines() if token in line]
    assert said == [f"::add-mask::{token}"]


def test_azure_identity_takes_what_the_cli_prints(job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    here = job()
    assert here.log_in().returncode == 0
    for name, value in here.env.items():
        monkeypatch.setenv(name, value)
    for scope in ("https://management.azure.com/.default", "https://storage.azure.com/.default"):
        token = AzureCliCredential().get_token(scope).token
        headers = {"authorization": f"Bearer {token}"}
        who = here.world.people.require(headers, scope.removesuffix("/.default"))
        assert who.name == NAME
        assert AzureCliCredential().get_token(scope).token == token  # it is kept


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"environment": "other"}, "AADSTS700213: No matching federated identity record found"),
        ({"environment": ""}, "presented assertion subject"),
        ({"environment": "Unattended"}, "AADSTS7002138"),
        ({"repository_id": "9"}, "AADSTS700213"),
    ],
)
def test_another_jobs_word_is_refused_with_entras_own(claims: dict, says: str, job: MakeJob) -> None:
    here = job(**claims)
    done = here.log_in()
    assert done.returncode != 0
    assert says in done.stdout
    assert here.run("az", "account", "show").stderr == "ERROR: Please run 'az login' to setup account.\n"


def test_a_job_without_the_permission_is_told_so(job: MakeJob) -> None:
    done = job(granted=False).log_in()
    assert done.returncode != 0
    assert "give write permissions to id-token" in done.stdout


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"client_id": ""}, "Ensure 'client-id' and 'tenant-id' are supplied"),
        ({"subscription_id": ""}, "Ensure 'subscription-id' is supplied"),
        ({"subscription_id": "00000000-0000-0000-0000-000000000001"}, "doesn't exist in cloud 'AzureCloud'"),
        ({"audience": "api://other"}, "AADSTS700212"),
    ],
)
def test_wrong_inputs_are_refused_as_the_action_does(inputs: dict, says: str, job: MakeJob) -> None:
    done = job().log_in(**inputs)
    assert done.returncode != 0
    assert says in done.stdout


def test_an_input_that_the_stand_in_ignores_is_refused(job: MakeJob) -> None:
    done = job().log_in(creds="{}")
    assert done.returncode != 0
    assert "does nothing with creds" in done.stderr


def test_an_identity_without_a_role_sees_no_subscription(job: MakeJob) -> None:
    here = job()
    here.world.roles.assignments.clear()
    done = here.log_in()
    assert done.returncode != 0
    assert "No subscriptions found for" in done.stdout


def test_after_minutes_a_token_that_was_asked_for_is_kept_and_a_new_one_is_refused(job: MakeJob) -> None:
    here = job()
    assert here.log_in().returncode == 0
    kept = ("account", "get-access-token", "--resource", "https://ml.azure.com")
    token = here.az(*kept)["accessToken"]
    here.world.pass_time(301)
    assert here.az(*kept)["accessToken"] == token
    late = here.run("az", "account", "get-access-token", "--resource", "https://vault.azure.net")
    assert late.returncode == 1
    assert "AADSTS700024: Client assertion is not within its valid time range" in late.stderr


def own_step(registry: bool) -> str:
    """The shell lines that a project's own login has after azure/login."""
    wanted = f"inputs.registry {'==' if registry else '!='} 'true'"
    (step,) = [
        step for step in yaml.safe_load(LOGIN.read_text())["runs"]["steps"] if step.get("if") == wanted
    ]
    return step["run"]


def test_a_projects_own_login_asks_in_time_for_all_that_the_launcher_asks_for_later(job: MakeJob) -> None:
    here = job()
    assert here.log_in().returncode == 0
    done = here.run("bash", "-e", "-c", own_step(registry=False))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    here.world.pass_time(301)
    scopes = [value for name, value in vars(login).items() if name.endswith("_SCOPE")]
    assert len(scopes) >= 5
    for scope in scopes:
        here.az("account", "get-access-token", "--resource", scope.removesuffix("/.default"))


def test_a_projects_own_login_logs_docker_in(job: MakeJob) -> None:
    here = job()
    assert here.log_in().returncode == 0
    done = here.run("bash", "-e", "-c", own_step(registry=True), IMAGE=f"{IMAGES}.azurecr.io/demo/train")
    assert done.returncode == 0, done.stderr
    assert (here.folder / "docker.txt").read_text().split()[-1] == f"{IMAGES}.azurecr.io"


def test_docker_is_logged_in_to_the_registry_that_the_identity_may_use(job: MakeJob) -> None:
    here = job()
    assert here.log_in().returncode == 0
    assert here.run("az", "acr", "login", "--name", IMAGES).returncode == 0
    _, _, user, _, password, host = (here.folder / "docker.txt").read_text().split()
    assert (user, host) == (EMPTY, f"{IMAGES}.azurecr.io")
    shown = here.az("acr", "login", "--name", IMAGES, "--expose-token")
    assert shown["loginServer"] == host
    assert len(shown["accessToken"].split(".")) == len(password.split(".")) == 3


def test_a_registry_that_is_not_ones_own_lets_nobody_in(job: MakeJob) -> None:
    here = job()
    assert here.log_in().returncode == 0
    here.world.make.registry("otherimages")
    for name in ("otherimages", "noimages"):
        done = here.run("az", "acr", "login", "--name", name)
        assert done.returncode == 1
        assert f"{name}.azurecr.io" in done.stderr
    assert not (here.folder / "docker.txt").exists()


@pytest.mark.parametrize(
    "words", [["vm", "list"], ["account", "list"], ["account", "show", "--all"], ["acr", "login"]]
)
def test_what_the_program_does_not_know_is_no_success(words: list[str], job: MakeJob) -> None:
    done = job().run("az", *words)
    assert done.returncode == 2
    assert done.stdout == ""


def test_a_person_with_a_secret_logs_in_and_out(job: MakeJob) -> None:
    here = job(granted=False)
    owner = here.world.owner
    who = ("--username", owner.client_id, "--password", min(owner.passwords))
    (shown,) = here.az("login", "--service-principal", *who, "--tenant", here.world.tenant)
    assert shown["isDefault"]
    assert here.session.stat().st_mode & 0o077 == 0
    assert here.run("az", "account", "clear").returncode == 0
    assert not here.session.exists()
