"""`dvc pull` in a container: without git, verified, and tried again while the trouble may pass."""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .. import storage
from ..errors import UserError
from ..storage import StorageUnavailable

# In what DVC prints. The network comes first: its errors may hold words of the others.
NETWORK = re.compile(
    r"cannot connect|connection|timed? ?out|timeout|reset by peer|unavailable|resolve|disconnected"
    r"|temporar|too many requests|internal server error|bad gateway|\b(429|500|502|503|504)\b",
    re.IGNORECASE,
)
DAMAGED = re.compile(r"checkout failed", re.IGNORECASE)  # with `verify`, what differs is not taken
MISSING = re.compile(
    r"missing cache files|no file hash info|no such (file|key|bucket)|NoSuch|does not exist|not found|\b404\b"
    r"|transfer '[0-9a-f.dir]+' - b/\S+/o/",  # gcsfs says only the address of what is not there
    re.IGNORECASE,
)
REFUSED = re.compile(r"forbidden|denied|unauthorized|credentials|\b40[13]\b", re.IGNORECASE)
FIRST_DELAY, LONGEST_DELAY = 1.0, 30.0  # seconds


def pull(target: str, root: Path, run: Callable[[list[str]], tuple[int, str]]) -> None:
    """Fetch the data `target` into the project at `root`.

    Args:
        run: runs a command and gives its exit status and what it printed.

    Raises:
        UserError: the data is not in the bucket, damaged there, or not to be read.
        StorageUnavailable: the bucket does not answer.
    """
    if not (root / ".git").exists():
        settings = root / ".dvc" / "config.local"
        settings.parent.mkdir(exist_ok=True)
        settings.write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    delay, until = FIRST_DELAY, time.monotonic() + storage.PATIENCE
    while True:
        status, said = run([sys.executable, "-m", "dvc", "pull", target])
        if status == 0:
            return
        problem = explain(target, said)
        left = until - time.monotonic()
        if not isinstance(problem, StorageUnavailable) or left <= 0:
            raise problem
        time.sleep(min(delay, left) * random.uniform(0.5, 1.0))  # noqa: S311
        delay = min(2 * delay, LONGEST_DELAY)


def explain(target: str, said: str) -> UserError:
    """Make one sentence of what a failed `dvc pull` printed, and tell what may pass from what stays."""
    errors = [line for line in said.splitlines() if line.startswith("ERROR")] or said.splitlines()
    reason = " ".join(" ".join(errors).replace("ERROR: ", "").split())[:300] or "no reason given"
    if NETWORK.search(reason):
        return StorageUnavailable(f"The data {target} cannot be fetched now ({reason}).")
    if REFUSED.search(reason):
        return UserError(f"The job may not read the data {target} ({reason}).")
    if MISSING.search(said):
        return UserError(
            f"The data {target} is not in the bucket ({reason}); put it there with `uv run dvc push`."
        )
    if DAMAGED.search(said):
        return UserError(
            f"The data {target} is damaged in the bucket: some of it is not what dvc.lock says; "
            "make it anew with `uv run dvc repro --force` and `uv run dvc push`."
        )
    return StorageUnavailable(f"The data {target} cannot be fetched ({reason}).")
