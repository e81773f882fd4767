"""What would make a job fail, as far as it can be told before: SkyPilot, its login, and what was asked of it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from typing import Any

from ...errors import UserError
from ...job import Job, Kind, Problem
from ..errors import ServiceError
from . import program, task

# Where the user's own queue decides, and nothing is sold.
WITHOUT_SPOT = ("slurm", "ssh")
VERSION = re.compile(r"client version: (\d+)\.(\d+)")
ENDPOINT = re.compile(r"https?://[^\s/]+(?:/\S*)?")


def examine(job: Job, cloud: Any, infra: str) -> list[Problem]:
    """Look at everything; what needs SkyPilot comes last, and only where it is there."""
    problems = [*_settings(job, cloud, infra), *_secrets(job)]
    if not program.there():
        return [
            *problems,
            Problem("SkyPilot's program sky is not on this machine's PATH", program.INSTALL),
        ]
    for question in (_server, lambda: _enabled(infra)):
        problems += _asked(question)
    return problems


def _settings(job: Job, cloud: Any, infra: str) -> list[Problem]:
    problems = []
    where = task.cloud_of(infra)
    try:
        what = task.kind(job)
        task.resources(job.machine.name, infra, job.spot)
    except UserError as error:
        return [Problem(str(error).rstrip("."), "see above")]
    if job.kind is not Kind.train:
        remedy = "give another cloud=..., or train"
        problems.append(
            Problem(f"SkyPilot's tasks here are trainings, not job={job.kind.value}", remedy)
        )
    if job.spot and where in WITHOUT_SPOT:
        problems.append(Problem(f"{where} knows no spot", "give cloud.spot=false"))
    if "://" not in (cloud.bucket or "") and where != task.SLURM:
        what_wrong = f"cloud.bucket={cloud.bucket} is a folder, which {infra} does not have"
        problems.append(Problem(what_wrong, "give the address of a bucket"))
    if what == task.ENVIRONMENT and not os.path.exists("uv.lock"):
        problems.append(Problem("there is no uv.lock to make the environment of", "run `uv lock`"))
    if where != task.SLURM:
        ends = f"on {where} nobody but the job itself and SkyPilot's autostop on its machine keep cloud.max_hours"
        remedy = "let the janitor run (`uv run janitor`), which ends what goes on"
        problems.append(Problem(ends, remedy, fatal=False))
    return problems


def _secrets(job: Job) -> list[Problem]:
    """A secret is a variable of this machine's environment."""
    missing = [name for name in job.secrets.values() if not os.environ.get(name)]
    if not missing:
        return []
    what = f"{', '.join(missing)} of cloud.secrets is no variable of this environment"
    return [Problem(what, "export it, or leave it out of cloud.secrets")]


def _asked(question: Callable[[], list[Problem]]) -> list[Problem]:
    try:
        return question()
    except ServiceError as error:
        return [Problem(error.what, error.remedy)]


def _version(told: str) -> list[Problem]:
    match = VERSION.search(told)
    found = tuple(map(int, match.groups())) if match else ()
    if found and found < program.OLDEST:
        have, least = (".".join(map(str, each)) for each in (found, program.OLDEST))
        return [
            Problem(
                f"SkyPilot {have} is too old", f"install {least} or newer: uv tool upgrade skypilot"
            )
        ]
    return []


def _enabled(infra: str) -> list[Problem]:
    """Is the cloud's login, or the cluster, known to SkyPilot?"""
    cloud = task.cloud_of(infra)
    enabled = program.ask("check", cloud)
    known = {name.lower() for workspace in dict(enabled).values() for name in workspace}
    if {cloud, "kubernetes" if cloud == "k8s" else cloud} & known:
        return []
    return [
        Problem(f"SkyPilot cannot use {cloud} here", f"`sky check {cloud}` says what is missing")
    ]


def _server() -> list[Problem]:
    """Which SkyPilot is it, what does it leave running, and who can reach that?"""
    told = program.call("api", "info")
    return [*_version(told), *_endpoint(told)]


def _endpoint(told: str) -> list[Problem]:
    found = ENDPOINT.search(told)
    where = found[0] if found else "an address that it does not tell"
    if not found or any(name in where for name in ("127.0.0.1", "localhost", "[::1]")):
        what = f"SkyPilot's API server goes on at {where}, on this machine only"
        return [Problem(what, "`sky api stop` ends it, once no run is at work", fatal=False)]
    what = f"SkyPilot's API server is {where}, for all who have its address"
    return [Problem(what, "it keeps what you launch; `sky api logout` leaves it", fatal=False)]


def tools() -> list[str]:
    """Give the programs that SkyPilot needs for a cluster, and that are not here."""
    return [name for name in ("rsync", "ssh") if not shutil.which(name)]
