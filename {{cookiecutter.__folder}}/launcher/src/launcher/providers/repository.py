"""The repository on GitHub as a setup in Python prepares it, by GitHub's own program `gh`, which has the person's login."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from shutil import which
from typing import Any

from ..errors import UserError
from ..identity import git
from .errors import line
from .steps import Steps, option

ENVIRONMENT = "cloud"  # in .github/workflows/train.yml
# Those of jobs that log in. Of the others none is made here, for GitHub makes what a workflow names, without rules
# (docs.github.com/en/actions/how-tos/deploy/configure-and-manage-deployments/manage-environments).
ENVIRONMENTS = (ENVIRONMENT, "unattended")
LABEL = "train"  # of pull requests, there too
NAME = re.compile(r"[A-Za-z0-9_-]+/[A-Za-z0-9._-]+")
ABSENT = re.compile(r"HTTP 404|Not Found")


@dataclass(frozen=True)
class Repository:
    """A repository, by its name and the numbers that nobody else can ever have."""

    name: str
    number: str
    owner_number: str


class GitHubError(UserError):
    """A command of gh's failed; `said` is why."""

    def __init__(self, said: str):
        super().__init__(f"gh failed: {said}; once that is put right, run the same again.")
        self.said = said


def check_program() -> None:
    """Refuse a machine without gh, and one where nobody is logged in.

    Raises:
        UserError: saying how to get it, or how to log in.
    """
    if not which("gh"):
        raise UserError("gh is missing: install the GitHub CLI (https://cli.github.com).")
    if not _gh_works("variable", "--help"):
        raise UserError(
            "This gh is too old to know 'gh variable': install a newer GitHub CLI (https://cli.github.com)."
        )
    if not _gh_works("auth", "status"):
        raise UserError("You are not logged in to GitHub: run 'gh auth login' first.")


def find_name() -> str:
    """Give what GITHUB_REPO or `origin` says; empty where nothing does.

    Raises:
        UserError: it can be no repository's name.
    """
    name = option("GITHUB_REPO")
    if not name:
        url = (git("remote", "get-url", "origin") or "").rstrip("/").removesuffix(".git")
        found = re.search(r"github\.com[:/](.+)$", url)
        name = found[1] if found else ""
    if name and not NAME.fullmatch(name):
        raise UserError(f"'{name}' is no repository on GitHub: write GITHUB_REPO=owner/name.")
    return name


def look() -> Repository:
    """Ask GitHub for the repository's numbers, and whether this person may prepare it.

    Raises:
        UserError: there is none, or it is not theirs to prepare.
    """
    if not (name := find_name()):
        raise UserError(
            "This folder has no repository on GitHub: make one with 'gh repo create', or say which one with GITHUB_REPO=owner/name."
        )
    try:
        answer = _api(f"repos/{name}")
    except GitHubError as error:
        raise UserError(
            f"There is no repository '{name}' on GitHub that you may see: make it, or say which one with GITHUB_REPO=owner/name."
        ) from error
    number, owner = str(answer.get("id")), str((answer.get("owner") or {}).get("id"))
    if not (number.isdigit() and owner.isdigit()):
        raise UserError(
            f"GitHub gave no numbers for '{name}': see what 'gh api repos/{name}' prints."
        )
    if not (answer.get("permissions") or {}).get("admin"):
        raise UserError(
            f"You may not set variables of '{name}': ask one of its administrators to run this."
        )
    # As GitHub writes it: the login's subject is compared letter by letter.
    return Repository(str(answer.get("full_name") or name), number, owner)


def reviewer_number(login: str) -> str:
    """Give the number of a person.

    Raises:
        UserError: there is nobody of that name.
    """
    try:
        return str(_api(f"users/{login}")["id"])
    except GitHubError as error:
        raise UserError(f"There is nobody '{login}' on GitHub: write REVIEWER=login.") from error


def tell(repository: Repository, variables: Mapping[str, str], reviewer: str, steps: Steps) -> None:
    """Make the environment and the label, and set the variables, the last of which says that all is prepared.

    Args:
        reviewer: who has to agree before each training; empty for nobody.

    Raises:
        UserError: GitHub refuses it.
    """
    _make_environment(repository, reviewer, steps)
    place = f"repos/{repository.name}"
    if steps.dry or not _there(f"{place}/labels/{LABEL}"):
        text = ("--description", "Train this for a short while", "--color", "1d76db")
        _run(steps, "label", "create", LABEL, "--force", *text, "--repo", repository.name)
    known = {} if steps.dry else _api(f"{place}/actions/variables?per_page=30")
    values = {each["name"]: each["value"] for each in known.get("variables", ())}
    for name, value in variables.items():
        if values.get(name) != value:
            _run(steps, "variable", "set", name, "--body", value, "--repo", repository.name)
    steps.say("GitHub", f"variables and label '{LABEL}' of {repository.name}")


def forget(name: str, variables: tuple[str, ...], steps: Steps) -> None:
    """Remove what `tell` has made, and the workflow's runs. What is gone already is no error.

    Raises:
        UserError: GitHub refuses it.
    """
    for variable in variables:
        _remove(steps, f"variable {variable}", "variable", "delete", variable, "--repo", name)
    _remove(steps, f"label {LABEL}", "label", "delete", LABEL, "--yes", "--repo", name)
    for environment in ENVIRONMENTS:
        path = f"repos/{name}/environments/{environment}"
        _remove(steps, f"environment {environment}", "api", "--method", "DELETE", path, "--silent")


def exists(name: str) -> bool:
    """Tell whether there is such a repository."""
    return bool(name) and _gh_works("api", f"repos/{name}", "--silent")


def _make_environment(repository: Repository, reviewer: str, steps: Steps) -> None:
    """What a plan does not have (environments of private repositories, their reviewers) is said and is no failure."""
    path = f"repos/{repository.name}/environments/{ENVIRONMENT}"
    found = None if steps.dry else _there(path)
    if found is None and not _allowed(steps, "environment", ENVIRONMENT, path):
        return
    rules = (found or {}).get("protection_rules") or ()
    people = [each["reviewer"].get("login") for rule in rules for each in rule.get("reviewers", ())]
    if reviewer and reviewer not in people:
        number = "USER_ID" if steps.dry else reviewer_number(reviewer)
        fields = ("-F", "reviewers[][type]=User", "-F", f"reviewers[][id]={number}")
        if not _allowed(steps, "reviewer", reviewer, path, *fields):
            return
    steps.say("GitHub", f"environment '{ENVIRONMENT}' of {repository.name}")


def _allowed(steps: Steps, what: str, name: str, *words: str) -> bool:
    try:
        _run(steps, "api", "--method", "PUT", *words, "--silent")
    except GitHubError as error:
        if not re.search(r"HTTP (403|404|422)", error.said):
            raise
        steps.say(
            "GitHub",
            f"NO {what} '{name}', a push trains without asking anybody; private repositories need another plan: {error.said}",
        )
        return False
    return True


def _remove(steps: Steps, what: str, *words: str) -> None:
    try:
        _run(steps, *words)
    except GitHubError as error:
        if not ABSENT.search(error.said):
            raise
        steps.say("GitHub", f"{what}: was gone")
        return
    if not steps.dry:
        steps.say("GitHub", f"{what}: removed")


def _run(steps: Steps, *words: str) -> None:
    """Change something; in a dry run the command is printed."""
    if steps.dry:
        steps.show("gh", *words)
        return
    _gh(*words)
    steps.changes += 1


def _there(path: str) -> Any:
    """Give what there is; None for nothing."""
    try:
        return _api(path)
    except GitHubError as error:
        if not ABSENT.search(error.said):
            raise
        return None


def _api(path: str) -> Any:
    return json.loads(_gh("api", path))


def _gh_works(*words: str) -> bool:
    try:
        _gh(*words)
    except GitHubError:
        return False
    return True


def _gh(*words: str) -> str:
    try:
        done = subprocess.run(
            ["gh", *words],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "GH_PROMPT_DISABLED": "1"},
        )
    except OSError as error:
        raise GitHubError(line(error)) from error
    if done.returncode:
        raise GitHubError(line(done.stderr or done.stdout))
    return done.stdout
