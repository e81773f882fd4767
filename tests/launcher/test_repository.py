"""The repository on GitHub as a setup in Python prepares it, by GitHub's stand-in."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from launcher.errors import UserError
from launcher.providers import repository
from launcher.providers.repository import Repository
from launcher.providers.steps import Steps
from stage.github.gh_program import GitHub

GH = Path(__file__).parents[1] / "stage/github/gh_program.py"
LEAVES = Repository("octo-org/leaves", "4711", "815")
Hub = Callable[..., Path]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A repository that gh finds; gives the file of its state."""

    def make(**state: object) -> Path:
        path = tmp_path / "github.json"
        GitHub(**state).save(path)  # pyright: ignore[reportArgumentType]
        gh = tmp_path / "gh"
        gh.write_text(f'#!/bin/sh\nexec {sys.executable} {GH} {path} "$@"\n')
        gh.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        monkeypatch.setenv("GITHUB_REPO", "octo-org/leaves")
        return path

    return make


def test_it_is_told_once_and_forgotten(hub, capsys):
    path, steps = hub(), Steps(False)
    repository.check_program()
    assert repository.look() == LEAVES
    variables = {"AWS_REGION": "us-east-1", "CLOUD_IMAGE": "x/train"}
    repository.tell(LEAVES, variables, "octo-cat", steps)
    told = GitHub.load(path)
    assert (told.variables, told.environments) == (variables, {"cloud": ["octo-cat"]})
    done = steps.changes
    repository.tell(LEAVES, variables, "octo-cat", steps)
    assert steps.changes == done, "all of it was there"
    repository.forget("octo-org/leaves", tuple(variables), steps)
    assert (GitHub.load(path).variables, GitHub.load(path).environments) == ({}, {})
    repository.forget("octo-org/leaves", tuple(variables), steps)
    assert "variable AWS_REGION: was gone" in capsys.readouterr().out


def test_what_github_has_made_for_the_other_workflows_jobs_is_forgotten_too(hub):
    path = hub(environments={"cloud": [], "unattended": [], "production": []})
    repository.forget("octo-org/leaves", (), Steps(False))
    assert GitHub.load(path).environments == {"production": []}


@pytest.mark.parametrize(
    ("plan", "reviewer", "said"),
    [
        ("free", "", "NO environment 'cloud', a push trains without asking anybody"),
        ("team", "octo-cat", "NO reviewer 'octo-cat', a push trains without asking anybody"),
    ],
)
def test_what_a_plan_does_not_have_is_said_and_is_no_failure(hub, capsys, plan, reviewer, said):
    path = hub(private=True, plan=plan)
    repository.tell(LEAVES, {"CLOUD_IMAGE": "x/train"}, reviewer, Steps(False))
    assert said in capsys.readouterr().out
    assert GitHub.load(path).variables == {"CLOUD_IMAGE": "x/train"}


def test_what_github_refuses_is_one_sentence(hub):
    hub()
    with pytest.raises(UserError) as refused:
        repository.tell(LEAVES, {"GITHUB_X": "1"}, "", Steps(False))
    assert str(refused.value).startswith("gh failed: failed to set variable: HTTP 422")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("git@github.com:octo-org/leaves.git", "octo-org/leaves"),
        ("https://github.com/octo-org/leaves.io/", "octo-org/leaves.io"),
        ("https://example.org/octo-org/leaves", ""),
        ("", ""),
    ],
)
def test_the_repository_is_that_of_origin(tmp_path, monkeypatch, url, name):
    monkeypatch.delenv("GITHUB_REPO", raising=False)
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    if url:
        subprocess.run(["git", "remote", "add", "origin", url], check=True)
    assert repository.find_name() == name


def test_a_folder_without_a_repository_is_told_how_to_get_one(hub, monkeypatch, tmp_path):
    hub()
    monkeypatch.delenv("GITHUB_REPO")
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    with pytest.raises(UserError, match="gh repo create"):
        repository.look()


def test_a_machine_without_gh_is_told_where_it_is_had(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="gh is missing"):
        repository.check_program()
