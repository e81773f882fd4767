"""The program `sky`, as SkyPilot documents it: what it is asked, and what it answers.

It is installed apart, so that its hundred packages are none of the project's. Each command starts SkyPilot's API server
where none listens; that goes on until `sky api stop`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from threading import Event, Lock
from typing import Any

from ...errors import UserError
from ..errors import MissingError, ServiceError, line

PROGRAM = "sky"
INSTALL = (
    "install it apart from the project, as in uv tool install 'skypilot[slurm,kubernetes]' "
    "(each cloud has an extra of its name)"
)
OLDEST = (0, 12)  # which knows Slurm, its options in a task, and answers in JSON
# It tells its maker of each command, unless told otherwise: https://docs.skypilot.co/en/latest/reference/usage-collection.html
TELEMETRY = "SKYPILOT_DISABLE_USAGE_COLLECTION"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
ERROR = re.compile(r"^(?:sky\.\S*\.)?(\w*(?:Error|Exception|DoesNotExist|Unavailable\w*)): (.+)$")
MISSING = ("ClusterDoesNotExist",)
DOWN = ("...done", "Cluster(s) not found")  # in what `sky down` prints where nothing is left

# What a command says that has waited a minute for the server: on a busy machine that takes longer, and it goes on starting.
SLOW = "Failed to start SkyPilot API server"
TRIES = 5

# Of commands that begin while no API server listens each starts one, and all but one fail ("exited unexpectedly"): so the
# first goes alone.
_first, _gone = Lock(), Event()


class SkyError(ServiceError):
    """SkyPilot did not do what it was asked; `code` is the name of its own exception."""


class NoProgramError(SkyError):
    """SkyPilot is not installed here."""

    def __init__(self) -> None:
        super().__init__("SkyPilot's program sky is not on this machine's PATH", INSTALL)


def there() -> bool:
    """Tell whether SkyPilot is installed."""
    return shutil.which(PROGRAM) is not None


def call(*words: str, secrets: Mapping[str, str] | None = None) -> str:
    """Run a command of SkyPilot and give what it prints to stdout, without colours.

    Args:
        secrets: variables that it takes from its environment, so that no value is in an argument.

    Raises:
        NoProgramError: it is not installed.
        MissingError: there is no such cluster.
        SkyError: it failed; with its own reason.
    """
    done = _run(words, secrets or {})
    told, trouble = ANSI.sub("", done.stdout), ANSI.sub("", done.stderr)
    if done.returncode:
        found = _exception(trouble) or _exception(told)
        raise _error(words, *(found or ("", (trouble or told).strip().rpartition("\n")[2])))
    return told


def ask(*words: str) -> Any:
    """Give what a command prints as JSON.

    Raises:
        SkyError: it failed, or printed something else.
    """
    told = call(*words, "--output", "json")
    if found := _exception(
        told
    ):  # a queue that cannot be had is an empty one, and a line that says so
        raise _error(words, *found)
    match = re.search(r"^[\[{]", told, re.MULTILINE)  # a line for people may stand before it
    try:
        return json.loads(told[match.start() :]) if match else []
    except ValueError as error:
        what = f"sky {' '.join(words)} has printed no JSON ({line(told)})"
        raise SkyError(
            what, "look whether this SkyPilot is a newer one than is known here"
        ) from error


def down(name: str) -> None:
    """Take a cluster down; one that is not there is no fault.

    Raises:
        SkyError: it may go on, and be paid for. SkyPilot itself says so, and exits as if all were well.
    """
    told = call("down", "--yes", name)
    if any(each in told for each in DOWN):
        return
    reason = told.partition("Reason: ")[2] or told
    raise SkyError(
        f"SkyPilot has not taken cluster {name} down ({line(reason)})",
        f"look at `sky status`, and give `sky down {name}` until it is gone",
    )


def logs(name: str) -> str:
    """Give what the newest job of a cluster has printed so far; its exit status says how that ended, and no more.

    Raises:
        NoProgramError: SkyPilot is not installed.
    """
    return ANSI.sub("", _run(("logs", "--no-follow", "--tail", "0", name), {}).stdout)


def _run(words: tuple[str, ...], secrets: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command, after the first of this process has ended."""
    if not there():
        raise NoProgramError
    if not _gone.is_set():
        with _first:
            if not _gone.is_set():
                try:
                    done = _start(words, secrets)
                    for _ in range(TRIES - 1):
                        if SLOW not in done.stderr:
                            break
                        done = _start(words, secrets)
                    return done
                finally:
                    _gone.set()
    return _start(words, secrets)


def _start(words: tuple[str, ...], secrets: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *words],
        env={TELEMETRY: "1", **os.environ, **secrets},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def _exception(text: str) -> tuple[str, str] | None:
    """Find the last line that names an exception; give that name and what it says."""
    for each in reversed(text.splitlines()):
        if found := ERROR.match(each.strip()):
            return found[1], found[2]
    return None


def _error(words: tuple[str, ...], code: str, said: str) -> UserError:
    kind = MissingError if code in MISSING else SkyError
    what = f"SkyPilot says to `sky {words[0]}`: {line(said)}"
    return kind(what, "put that right, and try again", code)


def dumps(task: Mapping[str, Any]) -> str:
    """Write a task as SkyPilot reads it: its YAML takes JSON for what it is."""
    return json.dumps(task, indent=2)
