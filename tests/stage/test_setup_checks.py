"""`cloud setup` and `cloud destroy` before they do anything: what they refuse, what a dry run prints, how they are written."""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from baking import ROOT, BakedProject, only_programs
from launcher.project import Project

from stage.github.gh_program import parse
from stage.google.project import PROJECT
from stage.google.setup import Setup, google_setup
from stage.setup_runs import OLD_ROLE, ROLES, SCRIPTS, cloud, dry_run, on_github, take

BUCKET = "cloud-training-bucket"
SLUG = "cloud-training"
SOURCE = ROOT / "{{cookiecutter.__folder}}" / SCRIPTS
NAMES = {"SLUG": SLUG, "REGION": "us-central1", "BUCKET": BUCKET, "ACCOUNT": SLUG}  # as `cloud` gives them


@pytest.fixture(scope="module")
def project(bake: Callable[..., BakedProject], tmp_path_factory: pytest.TempPathFactory) -> BakedProject:
    return on_github(bake(), tmp_path_factory.mktemp("setup") / "cloud-training")


REFUSALS: dict[str, tuple[Callable[[Setup], dict[str, str]], str]] = {
    "no login to Google": (
        lambda stage: {"CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": ""},
        "You are not logged in to Google Cloud: run 'gcloud auth login' first.",
    ),
    "no login to GitHub": (
        lambda stage: change_github(stage, logged_in=False),
        "You are not logged in to GitHub: run 'gh auth login' first.",
    ),
    "no project": (
        lambda stage: {"PROJECT": ""},
        "No Google Cloud project is chosen: choose one with PROJECT=id",
    ),
    "unknown project": (lambda stage: {"PROJECT": "other"}, "There is no project 'other' that you may use:"),
    "no billing": (
        lambda stage: change(stage, billing=False),
        f"The project '{PROJECT}' has no billing account:",
    ),
    "unknown repository": (
        lambda stage: {"GITHUB_REPO": "octo-org/other"},
        "There is no repository 'octo-org/other' on GitHub that you may see:",
    ),
    "not an administrator": (
        lambda stage: change_github(stage, admin=False),
        "You may not set variables of 'octo-org/leaves':",
    ),
    "bucket elsewhere": (
        lambda stage: change(stage, resources={("bucket", BUCKET): {"name": BUCKET, "location": "EU"}}),
        "The bucket gs://cloud-training-bucket is not in us-central1,",
    ),
    "somebody else's bucket": (
        lambda stage: stage.faults.append(("GET .*/storage/v1/b/", 403)) or {},
        "The bucket gs://cloud-training-bucket belongs to somebody else:",
    ),
    "unknown reviewer": (lambda stage: {"REVIEWER": "nobody"}, "There is nobody 'nobody' on GitHub:"),
    "odd budget": (lambda stage: {"BUDGET": "50 USD"}, "'50 USD' is no budget:"),
    "odd repository": (lambda stage: {"GITHUB_REPO": "https://example.org/x"}, "is no repository on GitHub:"),
}


def change(stage: Setup, **settings: object) -> dict[str, str]:
    for name, value in settings.items():
        setattr(stage.project, name, value)
    return {}


def change_github(stage: Setup, **settings: Any) -> dict[str, str]:
    github = stage.github
    for name, value in settings.items():
        setattr(github, name, value)
    github.save(stage.folder / "github.json")
    return {}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_missing_is_one_sentence_and_nothing_is_made(
    name: str, project: BakedProject, tmp_path: Path
) -> None:
    prepare, sentence = REFUSALS[name]
    with google_setup(tmp_path / "stage") as stage:
        step = take(stage, project, "setup", **({"PROJECT": PROJECT} | prepare(stage)))
        assert step.code == 1
        assert sentence in step.errors
        assert step.errors.count("\n") == 1
        assert step.output == ""
        assert step.written == []
        assert stage.github.variables == {}


@pytest.mark.parametrize("missing", ["gcloud", "gh"])
def test_a_missing_program_is_one_sentence(missing: str, project: BakedProject) -> None:
    needed = ["bash", "cat", "dirname", "git", "grep", "mktemp", "rm", "tr", *({"gcloud"} - {missing})]
    with only_programs(*needed):
        result = cloud(project, "setup", PROJECT=PROJECT)
    assert result.returncode == 1
    assert re.fullmatch(rf"{missing} is missing: install .*\n", result.stderr)


def test_destroy_without_an_answer_removes_nothing(project: BakedProject, tmp_path: Path) -> None:
    with google_setup(tmp_path / "stage") as stage:
        step = take(stage, project, "destroy", PROJECT=PROJECT)
    assert step.code == 1
    assert "Type cloud-training to go on:" in step.output
    [note, last] = step.errors.splitlines()
    assert note.startswith("Only jobs in us-central1 are looked for: There is no login to Google Cloud here")
    assert last == "Nothing was removed."
    assert step.written == []


def part(stage: Setup, project: BakedProject, call: str) -> subprocess.CompletedProcess[str]:
    """Runs one function of the scripts."""
    sourced = "".join(f". {SCRIPTS}/{name}.sh; " for name in ("common", "checks", "machines", "github"))
    script = f"{sourced}{call} < /dev/null"
    environment: dict[str, Any] = stage.env | NAMES | {"PROJECT": PROJECT}
    return project.run("bash", "-c", script, check=False, **environment)


def test_the_name_of_a_deleted_role_stays_taken_and_that_is_said(
    project: BakedProject, tmp_path: Path
) -> None:
    with google_setup(tmp_path / "stage") as stage:
        gone = {"name": f"projects/{PROJECT}/roles/old_role", "deleted": True, "purged": True}
        stage.resources["role", "old_role"] = gone
        result = part(stage, project, "make_role launcher.yaml old_role")
    assert result.returncode == 1
    assert f"choose another one in {SCRIPTS}/names.sh" in result.stderr


def test_a_project_without_the_network_is_no_failure(project: BakedProject, tmp_path: Path) -> None:
    """Many organisations make projects without it; jobs of Vertex AI do not need it."""
    with google_setup(tmp_path / "stage") as stage:
        stage.project.services.add("compute.googleapis.com")
        stage.project.networks.clear()
        result = part(stage, project, "make_firewall")
    assert result.returncode == 0, result.stderr
    assert "NOT SET, there is no network 'default'" in result.stdout
    assert stage.written == []


@pytest.fixture(scope="module")
def dry_runs(project: BakedProject) -> dict[str, list[str]]:
    return {
        "setup": dry_run(project, "setup"),
        "destroy": dry_run(project, "destroy"),
        "destroy data": dry_run(project, "destroy", DATA="delete"),
    }


def test_a_dry_run_prints_what_gcloud_and_gh_understand(
    dry_runs: dict[str, list[str]], tmp_path: Path
) -> None:
    lines = [line for each in dry_runs.values() for line in each]
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program in ("gcloud", "gh")
        if program == "gh":
            parse(arguments)
    verdicts = check_with_gcloud(
        [*(line for line in lines if line.startswith("gcloud ")), "gcloud projects list --bogus"], tmp_path
    )
    wrong = [verdict["command_string"] for verdict in verdicts if not verdict["success"]]
    assert wrong == ["gcloud projects list --bogus"], [verdict["error_message"] for verdict in verdicts]


def check_with_gcloud(commands: list[str], folder: Path) -> list[dict]:
    """What gcloud's own parser says of each command."""
    program = shutil.which("gcloud")
    if program is None:
        pytest.skip("gcloud is not installed: its parser is needed to try what a dry run prints")
    (folder / "commands.json").write_text(json.dumps([{"command_string": command} for command in commands]))
    env = {
        **os.environ,
        "CLOUDSDK_CONFIG": str(folder / "gcloud"),
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
    }
    command = [program, "meta", "lint-gcloud-commands", f"--commands-file={folder}/commands.json"]
    return json.loads(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)


def test_data_goes_only_when_it_is_asked_for(dry_runs: dict[str, list[str]]) -> None:
    removal = [line for line in dry_runs["destroy data"] if line.startswith("gcloud storage rm ")]
    assert len(removal) == 1
    assert not any("storage rm" in line or "buckets delete" in line for line in dry_runs["destroy"])


Binding = tuple[tuple[str, ...], str, str]  # what it is on, the role, and who has it


def bindings(lines: list[str], command: str) -> set[Binding]:
    """What lines give, or take away, in the policies of resources."""
    found = set()
    for words in map(shlex.split, lines):
        if command in words:
            at = words.index(command)
            flags = dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
            found.add((tuple(words[1 : at + 2]), flags["--role"], flags["--member"]))
    return {((*on[:-2], on[-1]), role, member) for on, role, member in found}


def deleted(lines: list[str]) -> set[tuple[str, ...]]:
    """Resources whose policies go with them."""
    found = set()
    for words in map(shlex.split, lines):
        if "delete" in words:
            at = words.index("delete")
            found.add((*words[1:at], words[at + 1]))
        if words[1:3] == ["storage", "rm"]:
            found.add(("storage", "buckets", words[3]))
    return found


@pytest.mark.parametrize("destroy", ["destroy", "destroy data"])
def test_whatever_setup_grants_destroy_takes_away(dry_runs: dict[str, list[str]], destroy: str) -> None:
    """By itself, or with what it is granted on; and beside that only what an earlier setup has granted."""
    granted = bindings(dry_runs["setup"], "add-iam-policy-binding")
    taken = bindings(dry_runs[destroy], "remove-iam-policy-binding")
    gone = deleted(dry_runs[destroy])
    assert len(granted) == sum(map(len, ROLES.values()))
    assert {each for each in granted - taken if each[0] not in gone} == set()
    older = bindings(dry_runs["setup"], "remove-iam-policy-binding")
    assert {role for _, role, _ in taken - granted - older} <= {OLD_ROLE}


@pytest.mark.parametrize("slug", ["a", "gcp-leaves", "leaf-" * 12 + "abc"])
def test_names_are_such_as_google_takes(slug: str) -> None:
    project = Project(Path(), "leaves", slug, "gcp", "us-central1", "leaf-store")
    names = {"SLUG": slug, "REGION": "us-central1", "BUCKET": "leaf-store", "ACCOUNT": project.account}
    script = f'. {SOURCE}/names.sh; echo "$POOL $LAUNCHER $TRAINER $SLUG $FIREWALL $LAUNCHER_ROLE $OLD_ROLE"'
    command = ["bash", "-c", script]
    listed = subprocess.run(
        command, env=os.environ | names, capture_output=True, text=True, check=True
    ).stdout
    pool, launcher, trainer, repository, firewall, *roles = listed.split()
    assert re.fullmatch(r"(?!gcp-)[a-z0-9-]{4,32}", pool)
    for account in (launcher, trainer):
        assert re.fullmatch(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", account)
    for name in (repository, f"{firewall}-iap", f"{firewall}-closed"):
        assert re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", name)
    for role in roles:
        assert re.fullmatch(r"[A-Za-z0-9_.]{3,64}", role)


def test_shellcheck_has_nothing_to_say() -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    files = sorted(path.name for path in SOURCE.iterdir() if path.suffix in ("", ".sh"))
    assert len(files) == 7
    result = subprocess.run(
        [shellcheck, "-x", *files], cwd=SOURCE, capture_output=True, text=True, check=False
    )
    assert result.stdout == ""


def test_make_runs_it_in_a_bake(demo_project: BakedProject) -> None:
    """From the project's folder, with paths that a person there can read."""
    printed = demo_project.run("make", "cloud-setup", DRY_RUN="1", PROJECT=PROJECT).stdout
    assert f"--file={SCRIPTS}/launcher.yaml" in printed


PLANS: dict[str, tuple[dict[str, Any], str, dict[str, list[str]]]] = {
    "private, free": ({"private": True}, "NO environment 'octo-cat'", {}),
    "private, team": ({"private": True, "plan": "team"}, "NO reviewer 'octo-cat'", {"cloud": []}),
    "private, enterprise": (
        {"private": True, "plan": "enterprise"},
        "environment 'cloud' of",
        {"cloud": ["octo-cat"]},
    ),
    "public": ({}, "environment 'cloud' of", {"cloud": ["octo-cat"]}),
}


@pytest.mark.parametrize("name", PLANS)
def test_what_a_plan_does_not_have_is_said_and_is_no_failure(
    name: str, project: BakedProject, tmp_path: Path
) -> None:
    settings, sentence, environments = PLANS[name]
    with google_setup(tmp_path / "stage") as stage:
        change_github(stage, **settings)
        call = "REVIEWER=octo-cat repository=octo-org/leaves; check_reviewer; make_environment"
        result = part(stage, project, call)
        assert result.returncode == 0, result.stderr
        assert sentence in result.stdout
        assert stage.github.environments == environments


def test_nothing_depends_on_the_branch_or_on_the_form_of_the_subject() -> None:
    """Of the claims of a token only numbers are used: the subject has two forms, and the branch's name in one of them."""
    text = (SOURCE / "setup").read_text(encoding="utf-8")
    assert set(re.findall(r"assertion\.(\w+)", text)) == {"repository_id", "repository_owner_id", "run_id"}
