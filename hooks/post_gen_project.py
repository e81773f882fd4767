"""Removes what the chosen cloud has no use for, locks the dependencies, makes a first commit, says what comes next.

None of it may spoil a bake: what does not work here (no uv, no network, no git) is said in one sentence
with the command that does it later.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

SLUG = "{{ cookiecutter.project_slug }}"  # plain letters, digits and dashes: the other hook saw to it
CLOUD = "{{ cookiecutter.cloud }}"
# What each cloud's backends are called in the launcher, and which of them the workflows launch on.
PROVIDERS = {"gcp": "google", "aws": "aws", "azure": "azure"}
PUSHES = {"gcp": "vertex", "aws": "sagemaker", "azure": "azureml"}
TIMEOUT = 300  # seconds; a lock takes about two, and a network that never answers must not hang a bake


def choose_cloud() -> None:
    """Lays clouds/<the chosen one>/ over the project, and removes what is of the others."""
    own = Path("clouds", CLOUD)
    for path in [path for path in own.rglob("*") if path.is_file()]:
        target = path.relative_to(own)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    shutil.rmtree("clouds")
    for cloud, folder in PROVIDERS.items():
        if cloud != CLOUD:
            shutil.rmtree(Path("launcher/src/launcher/providers", folder), ignore_errors=True)
    for name in ("train.yml", "predict.yml"):  # copied as they are, they name one backend
        workflow = Path(".github/workflows", name)
        text = workflow.read_text(encoding="utf-8")
        workflow.write_text(text.replace("vertex", PUSHES[CLOUD]), encoding="utf-8")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in the new project; a program that is missing or hangs is an exit status as any other."""
    # A bake that runs inside a git hook inherits the outer repository's GIT_DIR, and would commit there.
    env = {k: v for k, v in os.environ.items() if k not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")}
    try:
        return subprocess.run(
            command, check=False, env=env, capture_output=True, text=True, errors="replace", timeout=TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))


def lock() -> str:
    """Makes uv.lock; returns what to tell the user, if anything."""
    result = run("uv", "lock")
    if result.returncode == 0:
        return ""
    if result.returncode == 127:
        return (
            "No uv.lock was made: install uv (`pip install uv`), then run `uv lock` here and commit uv.lock."
        )
    why = result.stderr.strip()  # uv's own few lines
    return f"{why}\nNo uv.lock was made, as uv says above: run `uv lock` here once there is a network, and commit it."


def commit() -> str:
    """Makes the first commit; returns what to tell the user, if anything."""
    # In a folder that an outer repository tracks, a repository of our own would hide the files from it (git
    # records a nested repository as a bare pointer). A folder which the outer one ignores, such as build/, is free.
    # cruft bakes into a temporary folder and compares without .git ([tool.cruft] in pyproject.toml).
    nested = run("git", "rev-parse", "--is-inside-work-tree").stdout.strip() == "true"
    if nested and run("git", "check-ignore", "-q", ".").returncode != 0:
        return "This folder belongs to the git repository around it: commit it there."
    if run("git", "init", "-q", "-b", "main").returncode != 0 or run("git", "add", "-A").returncode != 0:
        return "No repository was made: install git, then run `git init && git add -A && git commit -m 'First commit'` here."
    message = ("commit", "-q", "-m", "First commit")
    if run("git", *message).returncode == 0:
        return ""
    # No name and address yet, as on a fresh machine or a CI runner, or a signing key that cannot be used here.
    identity = ("-c", f"user.name={SLUG}", "-c", f"user.email={SLUG}@localhost", "-c", "commit.gpgsign=false")
    if run("git", *identity, *message, "--no-verify").returncode == 0:
        return ""
    return "The files are in the repository but not committed: run `git commit -m 'First commit'` here."


def main() -> None:
    """Does all of it and prints five lines of what to do next."""
    choose_cloud()
    notes = "".join(f"{note}\n" for note in (lock(), commit()) if note)
    text = f"""{notes}
  cd {shlex.quote(str(Path.cwd()))}
  make setup                                     installs the locked dependencies
  make data train                                makes the data, trains, evaluates: under a minute
  git remote add origin URL && git push -u origin main
  README.md                                      your own data and model, resuming, sweeps
"""
    # As bytes: the path may hold what the terminal's encoding cannot, and that must not spoil the bake.
    sys.stdout.buffer.write(os.fsencode(text))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(
            f"Interrupted: {Path.cwd()} is not complete; remove it, if it was not there before, and bake again."
        )
