"""What a run is called, and which code it runs: asked of git."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from datetime import UTC, datetime
from typing import Any

from .errors import UserError

RUN_ID = re.compile(r"(?!(?i:null)$)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def make_run_id() -> str:
    """Make an id from the time (UTC), the commit and four random characters."""
    commit = (git_state()["commit"] or "nogit")[:7]
    random = "".join(secrets.choice("abcdefghjkmnpqrstuvwxyz23456789") for _ in range(4))
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{commit}-{random}"


def git_state() -> dict[str, Any]:
    """Give the commit of the working directory and whether files differ from it; None without git."""
    status = git("status", "--porcelain")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def branch() -> str | None:
    """Give the branch that is checked out; in a workflow of GitHub, the one it runs for."""
    name = os.environ.get("GITHUB_REF_NAME") or git("rev-parse", "--abbrev-ref", "HEAD")
    return None if name == "HEAD" else name


def pull_request() -> int | None:
    """Give the number of the pull request that a workflow of GitHub runs for; None for none."""
    number = os.environ.get("PULL_REQUEST", "")
    return int(number) if number.isdigit() else None


def git(*words: str) -> str | None:
    """Give what git prints; None where there is no git, no repository or no answer."""
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def check_run_id(run_id: str) -> None:
    """Refuse an id that could not name a folder, an object in a bucket and a run of the tracker.

    Raises:
        UserError: saying what it may be made of.
    """
    if not RUN_ID.fullmatch(run_id):
        raise UserError(
            f"run.id={run_id} cannot name a run; use up to 64 letters, digits, dots, dashes or underscores."
        )
