"""Docker's command line: an image built here, and a container that runs it as a cloud would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from ...errors import UserError
from ...job import Job

# What a container needs to know of the machine: by name only, so that no value is in an argument.
FORWARDED = ("WANDB_API_KEY", "WANDB_MODE", "STORAGE_EMULATOR_HOST", "GCE_METADATA_HOST")
KEY_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
TIMEOUT = 10  # seconds, for what an engine that works answers at once


def engine() -> bool:
    """Tell whether a Docker engine answers."""
    return bool(call("version", check=False, timeout=TIMEOUT))


def has_gpu() -> bool:
    """Tell whether containers here can have a GPU."""
    if not shutil.which("nvidia-smi"):
        return False
    about = call("info", check=False, timeout=TIMEOUT)  # its runtimes are listed there
    return "nvidia" in about or bool(shutil.which("nvidia-container-cli"))


def build(root: Path, tag: str, commit: str) -> None:
    """Build the project's image. What Docker says goes to stderr.

    Raises:
        UserError: it cannot be built.
    """
    print("Building the image (minutes the first time, seconds after that) ...", flush=True)
    command = ["docker", "build", "--tag", tag, "--build-arg", f"REVISION={commit}", str(root)]
    env = {**os.environ, "DOCKER_BUILDKIT": "1"}
    if subprocess.run(command, env=env, stdout=sys.stderr, check=False).returncode:
        raise UserError(
            "The image cannot be built (Docker says above why); put that right, or give "
            "cloud.machine=process to train without a container."
        )


def run(
    job: Job,
    name: str,
    labels: Mapping[str, str],
    env: Mapping[str, str],
    folders: tuple[Path, Path] | None,
) -> list[str]:
    """Give the command that runs a job's container, prints what it prints, and ends as it does.

    Args:
        folders: data, to be read, and runs, to be written; None when both are in a bucket.
    """
    command = ["docker", "run", "--rm", "--name", name, "--shm-size", "2g"]
    for label, value in labels.items():
        command += ["--label", f"{label}={value}"]
    if has_gpu():
        command += ["--gpus", "all"]
    if folders:
        # The caller's own files: read and written as the caller, who has no home in the image.
        command += ["--user", f"{os.getuid()}:{os.getgid()}", "--env", "HOME=/tmp"]
        command += ["--env", "USER=caller"]
        command += ["--volume", f"{folders[0]}:/app/data:ro", "--volume", f"{folders[1]}:/app/runs"]
    if key := os.environ.get(KEY_FILE):
        command += ["--volume", f"{Path(key).resolve()}:/tmp/key.json:ro"]
        command += ["--env", f"{KEY_FILE}=/tmp/key.json"]
    forwarded = [variable for variable in FORWARDED if variable in os.environ]
    if any(_is_here(os.environ[variable]) for variable in forwarded):
        command += ["--network", "host"]
    for variable in forwarded:
        command += ["--env", variable]
    for variable, value in env.items():
        command += ["--env", f"{variable}={value}"]
    return [*command, job.image, *job.args]


def call(
    *words: str,
    check: bool = True,
    timeout: float | None = None,
    hint: str = "give cloud.machine=process",
) -> str:
    """Run a command of Docker and give what it prints; with `check=False` nothing where it fails.

    Args:
        hint: what to do where it does not answer.

    Raises:
        UserError: it failed; with Docker's own reason.
    """
    try:
        done = subprocess.run(
            ["docker", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        if check:
            raise UserError(f"Docker does not answer ({error}); {hint}.") from error
        return ""
    if done.returncode and check:
        reason = " ".join((done.stderr or done.stdout).split())[-300:]
        raise UserError(f"docker {words[0]} failed: {reason}")
    return "" if done.returncode else done.stdout.strip()


def logs(name: str, lines: int) -> str:
    """Give the last lines that a container has written; empty where there is none."""
    try:
        done = subprocess.run(
            ["docker", "logs", "--tail", str(lines), name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError:
        return ""
    return "" if done.returncode else done.stdout


def _is_here(url: str) -> bool:
    return any(name in url for name in ("127.0.0.1", "localhost"))
