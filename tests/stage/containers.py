"""Containers of the stage, by Docker's own client; each carries a label, so that none can be left behind."""

import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from stage.patience import deadline

LABEL = "cookiecutter-stage"
_numbers = itertools.count(1)


def program() -> str:
    """Debian's client, which speaks to Debian's engine; another one on PATH may be too new for it."""
    return next(
        (path for path in ("/usr/bin/docker", shutil.which("docker")) if path and os.access(path, os.X_OK)),
        "docker",
    )


def docker(*arguments: str, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Runs one command of the client and gives what it printed; raises AssertionError with its words if it fails."""
    result = subprocess.run(
        [program(), *arguments], check=False, capture_output=True, text=True, timeout=timeout
    )
    if check and result.returncode:
        raise AssertionError(f"docker {' '.join(arguments[:3])} failed: {result.stderr.strip()}")
    return result


def require() -> None:
    """Skips the test, with a reason, where no Docker engine answers."""
    try:
        answer = docker("version", "--format", "{{.Server.Version}}", check=False, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"Docker does not run ({error}); `make engine` prepares it")
    if answer.returncode:
        pytest.skip(f"no Docker engine answers ({answer.stderr.strip()}); `make engine` prepares one")


def path() -> str:
    """A PATH on which Debian's own client of Docker goes first: another one may be too new for its engine."""
    return os.pathsep.join([str(Path(program()).parent), os.environ["PATH"]])


def pull(image: str) -> str | None:
    """Fetches an image; gives the engine's words if it cannot."""
    result = docker("pull", "--quiet", image, check=False)
    return result.stderr.strip() if result.returncode else None


class Container:
    """One container in the foreground of a client process, which ends with the container's own status.

    Args:
        image: what to run.
        stage: value of the label that clean-up finds it by.
        env: the whole environment beside the image's own.
        command: replaces the image's entry point when it is not empty.
        args: what the entry point is given.
        name: of the container; "" makes one up.
        options: more for `docker run`.
        network: that it is in; this machine's own where nothing else is said.
    """

    def __init__(
        self,
        image: str,
        stage: str,
        env: Mapping[str, str],
        args: Iterable[str] = (),
        command: Iterable[str] = (),
        name: str = "",
        options: Iterable[str] = (),
        network: str = "host",
    ) -> None:
        self.name = name or f"{stage}-{next(_numbers)}"
        command = list(command)
        start = [program(), "run", "--name", self.name, "--network", network, "--label", f"{LABEL}={stage}"]
        start += ["--sig-proxy=false", "--pull", "never", "--shm-size", "1g", *options]
        start += [word for name, value in env.items() for word in ("--env", f"{name}={value}")]
        start += ["--entrypoint", command[0]] if command else []
        self.process = subprocess.Popen(
            [*start, image, *command[1:], *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def stop(self, grace_seconds: float) -> None:
        """SIGTERM, and SIGKILL to what is still there after the grace."""
        self._until_ended("stop", "--time", str(round(grace_seconds)))

    def kill(self) -> None:
        """SIGKILL without notice."""
        self._until_ended("kill")

    def wait(self, timeout: float | None = None) -> int:
        return self.process.wait(timeout)

    def remove(self) -> None:
        """Removes the container, running or not; returns after the client's end."""
        self._until_ended("rm", "--force", "--volumes")
        docker("rm", "--force", "--volumes", self.name, check=False)

    def _until_ended(self, *command: str) -> None:
        """Repeats a command until the client has ended: a container that just starts may not be known yet."""
        until = deadline(120)
        while self.process.poll() is None:
            if time.monotonic() > until:
                raise AssertionError(f"{self.name} does not end")
            docker(*command, self.name, check=False)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.3)


def inspect(name: str) -> dict[str, Any]:
    """All that the engine says of a container."""
    return json.loads(docker("inspect", name).stdout)[0]


def ids(stage: str | None = None, running_only: bool = False) -> list[str]:
    """Ids of the containers of one stage (None: of any)."""
    label = f"label={LABEL}={stage}" if stage else f"label={LABEL}"
    return docker("ps", "--quiet", *([] if running_only else ["--all"]), "--filter", label).stdout.split()


def cleanup(stage: str) -> None:
    """Removes every container of a stage."""
    found = ids(stage)
    if found:
        docker("rm", "--force", "--volumes", *found, check=False)
