"""What `sky launch` gets for a job: the task, the folder and the secrets that go along, and settings of SkyPilot's own."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...job import Job
from ...project import project
from . import program, task, workdir

QUEUE = timedelta(
    minutes=10
)  # that a job which is submitted again waits for its turn, before the next round
# SkyPilot takes the logins of all clouds along that this machine has; the one that reads the bucket is enough.
LOGINS = {"gcp": ("gs",), "aws": ("s3",), "azure": ("azure", "abfs", "abfss", "az")}


def values(job: Job) -> dict[str, str]:
    """Give the secrets of a job, from this machine's environment.

    Raises:
        UserError: one is not there, as where a timer starts the janitor.
    """
    if missing := [name for name in job.secrets.values() if not os.environ.get(name)]:
        what = f"{', '.join(missing)} of cloud.secrets is no variable of this environment"
        raise UserError(f"{what}: export it, and try again.")
    return {variable: os.environ[name] for variable, name in job.secrets.items()}


def words(
    job: Job,
    request: dict[str, Any],
    cloud: Any,
    again: bool,
    given: Mapping[str, str],
    folder: Path,
) -> list[str]:
    """Put what goes along into a folder, and give the end of the command.

    Args:
        request: the task.
        cloud: the section of the configuration.
        again: whether the run has begun before.
        given: the secrets.
        folder: that is removed after the launch.
    """
    if "workdir" in request:
        request["workdir"] = str(folder / "project")
        workdir.copy(project().root, folder / "project")
    if "file_mounts" in request:
        path = folder / request["file_mounts"][task.SECRETS]
        request["file_mounts"][task.SECRETS] = str(path)
        path.touch(mode=0o600)
        lines = [f"{variable}={shlex.quote(value)}\n" for variable, value in given.items()]
        path.write_text("".join(lines), encoding="utf-8")
    path = folder / "task.yaml"
    path.write_text(program.dumps(request), encoding="utf-8")
    secrets = [word for each in request.get("secrets", ()) for word in ("--secret", each)]
    infra = task.cloud_of(request["resources"]["infra"])
    settings = [word for each in _settings(cloud, infra, again) for word in ("--config", each)]
    return [*secrets, *settings, str(path)]


def _settings(cloud: Any, infra: str, again: bool) -> list[str]:
    """Say whose logins stay here, and how long a job waits in a queue, where SkyPilot would give up after two minutes."""
    scheme = (cloud.bucket or "").partition("://")[0]
    found = [
        f"{name}.remote_identity=NO_UPLOAD"
        for name, schemes in LOGINS.items()
        if scheme not in schemes and name != infra
    ]
    if infra == task.SLURM:
        wait = QUEUE if again else timedelta(hours=float(cloud.max_wait_hours))
        found.append(f"slurm.provision_timeout={int(wait.total_seconds())}")
    return found
