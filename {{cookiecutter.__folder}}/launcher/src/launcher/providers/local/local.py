"""This machine as a backend: the rehearsal of a launch, in a container where Docker works, else as a process.

Without a bucket, data comes from `data/` and results stay in `runs/<id>/`. With one, the worker pulls the data and
stores the results as it would in the cloud. A job goes on when the program that submitted it ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from ... import records
from ...errors import UserError
from ...job import (
    EXIT_PREEMPTED,
    RUN_CODE,
    RUN_COMMIT,
    RUN_DATA,
    Handle,
    Job,
    Kind,
    Leftover,
    Problem,
    State,
    Status,
)
from ...project import project
from ...settings.schema import machines
from . import apptainer, docker

MACHINES = ("here", "container", "apptainer", "process")
JOB, LOCK, OUTPUT = ".job.json", ".job.lock", ".job.output"  # in the run's folder
GRACE = 30.0  # seconds between SIGTERM and SIGKILL, as long as a spot machine has
POLL = 0.2  # seconds


def connect(cloud: Any) -> Local:
    """Make the backend from the section `cloud` of the configuration."""
    return Local(cloud)


def own_code(cloud: Any) -> bool:
    """Tell whether a job runs this folder's code: what is built here holds it, too, unless that was done before."""
    return not cloud.image and "apptainer" not in machines(cloud)


class Local:
    """Jobs on this machine, started in the current folder, which must be the project's.

    Args:
        cloud: the section `cloud` of the configuration.
    """

    def __init__(self, cloud: Any) -> None:
        names = machines(cloud)
        if wrong := [name for name in names if name not in MACHINES]:
            raise UserError(
                f"cloud.machine={wrong[0]} is none of this machine; choose {', '.join(MACHINES)}, "
                "or the cloud that has it with cloud=..."
            )
        self.cloud = cloud
        self.machine = names[0]
        self.bucket = cloud.bucket
        self.project = cloud.labels.get("project", "project")
        self.home = records.home(cloud.bucket)
        self.runs = Path(records.LOCAL_HOME).resolve()

    def reference(self) -> str:
        """Name the image that would run; a process has none."""
        if self.machine == "apptainer":
            return apptainer.reference(self.cloud.image)
        return self.cloud.image or (self._tag() if self._containers else "")

    def image(self) -> str:
        """Name the image; one that is built here has no digest before."""
        return self.reference()

    def revision(self, image: str) -> str | None:
        """Tell it of an image in a file; what is built here is of the working tree."""
        return apptainer.revision(image) if self.machine == "apptainer" else None

    def check(self, job: Job) -> list[Problem]:
        """Look for what would make the job fail here."""
        problems = []
        data = job.env.get(RUN_DATA)
        if data and not job.output and not Path(data).is_dir():
            remedy = "make it with `make data`, or fetch it with `uv run dvc pull`"
            problems.append(Problem(f"{data} is not here", remedy))
        if job.kind is Kind.notebook:
            remedy = "run `make notebook` here, or give cloud=batch"
            problems.append(Problem("a notebook on this machine is no job", remedy))
        if job.nodes > 1:
            problems.append(Problem("this machine is one node", "leave cloud.nodes=1"))
        if self.machine == "apptainer":
            problems += apptainer.check(job, self.cloud.image)
        if not self._containers:
            return problems
        if not docker.engine():
            remedy = "start Docker, or give cloud.machine=process"
            problems.append(Problem("no Docker engine answers", remedy))
        if self.bucket and "://" not in self.bucket:
            remedy = "give cloud.machine=process"
            problems.append(Problem("a folder as bucket cannot be seen in a container", remedy))
        return problems

    def request(self, job: Job) -> dict[str, Any]:
        """Give the command that `submit` starts, and the variables it adds to the environment."""
        env = dict(job.env)
        if not job.output:
            env.pop(RUN_DATA, None)  # it is here
        if self._containers:
            name, labels = self._name(job.run_id), {"project": self.project, "run": job.run_id}
            folders = None if job.output else (Path("data").resolve(), self.runs)
            return {"command": docker.run(job, name, labels, env, folders), "env": {}}
        if self.machine == "apptainer":
            folders = None if job.output else (Path("data").resolve(), self.runs)
            command = apptainer.run(job, self._name(job.run_id), folders)
            return {"command": command, "env": apptainer.environment(env)}
        env.pop(RUN_CODE, None)  # the working tree is the code; it must not be laid over itself
        worker = "launcher.worker"
        return {"command": [sys.executable, "-m", worker, *job.args], "env": env}

    def submit(self, job: Job) -> Handle:
        """Start the job; it goes on when this program ends.

        Raises:
            UserError: the image cannot be built, or the container not be started.
        """
        request = self.request(job)
        if self._containers and not self.cloud.image:
            docker.build(project().root, self._tag(), job.env.get(RUN_COMMIT, ""))
        folder = self.runs / job.run_id
        folder.mkdir(parents=True, exist_ok=True)
        what: dict[str, Any] = {"pid": _start(request["command"], request["env"], folder)}
        if self._containers:
            what["container"] = self._name(job.run_id)
        started = datetime.now(UTC).isoformat(timespec="seconds")
        text = json.dumps({**what, "started": started})
        (folder / JOB).write_text(text, encoding="utf-8")
        return Handle(_called(what), str(Path(records.LOCAL_HOME, job.run_id)))

    def status(self, run_id: str) -> Status | None:
        """Tell how the newest job of a run is; None when there was none here."""
        job = self._job(run_id)
        if not job:
            return None
        created, name = datetime.fromisoformat(job["started"]), _called(job)
        if self._running(run_id, job):
            seconds = (datetime.now(UTC) - created).total_seconds()
            return Status(run_id, State.running, created, seconds, name=name)
        outcome = records.outcome(self.home, run_id)
        last = (records.attempts(self.home, run_id) or [{}])[-1]
        # Who ends a launch with Ctrl-C twice does not wait until it is noted.
        told = last.get("exit_code") == EXIT_PREEMPTED
        state = State(outcome["state"]) if outcome else State.stopped if told else State.failed
        without = "it was told to end, and saved" if told else "it ended without saying why"
        detail = outcome.get("reason", "") if outcome else without
        seconds = float(last.get("seconds") or 0.0)
        return Status(run_id, state, created, seconds, detail=str(detail), name=name)

    def logs(self, run_id: str) -> Iterator[str]:
        """Give the lines that the job has printed so far."""
        log = self.runs / run_id / records.LOG
        output = self.runs / run_id / OUTPUT
        if path := next((path for path in (log, output) if path.is_file()), None):
            yield from path.read_text(encoding="utf-8", errors="replace").splitlines()

    def stop(self, run_id: str) -> None:
        """End the job: SIGTERM, so that it saves, and after `GRACE` seconds SIGKILL."""
        job = self._job(run_id)
        if not job or not self._running(run_id, job):
            return
        if "container" in job:
            docker.call("stop", "--time", str(int(GRACE)), job["container"], check=False)
        else:
            self._end(run_id, job)
        if records.outcome(self.home, run_id) is None:
            records.close(self.home, run_id, State.stopped, EXIT_PREEMPTED, "stopped by a person")

    def list(self) -> list[Status]:
        """Give all jobs of this folder, newest first."""
        found = [self.status(path.parent.name) for path in self.runs.glob(f"*/{JOB}")]
        known = [status for status in found if status]
        return sorted(known, key=lambda status: status.created, reverse=True)

    def leftovers(self) -> list[Leftover]:
        """Give nothing: what was started here ends with its job."""
        return []

    def remove(self, leftover: Leftover) -> None:
        """Do nothing: there are no leftovers here."""

    def now(self) -> datetime:
        """Tell the time; the clock of this provider is this machine's."""
        return datetime.now(UTC)

    def follow(self, run_id: str) -> int:
        """Print what the job prints until it ends, and give its exit status; Ctrl-C stops the job."""
        job = self._job(run_id)
        try:
            self._tail(run_id, job)
        except KeyboardInterrupt:
            print(f"\nStopping run {run_id}; a second Ctrl-C leaves it running.", flush=True)
            self.stop(run_id)
            return 128 + signal.SIGINT
        outcome = records.outcome(self.home, run_id)
        if outcome:
            return int(outcome.get("exit_code") or 0) if outcome["state"] != "succeeded" else 0
        last = (records.attempts(self.home, run_id) or [{}])[-1]
        return int(last.get("exit_code") or 1)

    @cached_property
    def _containers(self) -> bool:
        if self.machine != "here":
            return self.machine == "container"
        return (
            bool(self.cloud.image or (project().root / "Dockerfile").is_file()) and docker.engine()
        )

    def _name(self, run_id: str) -> str:
        return f"{self.project}-{run_id}"

    def _tag(self) -> str:
        return f"{self.project}:local"

    def _job(self, run_id: str) -> dict[str, Any]:
        try:
            return json.loads((self.runs / run_id / JOB).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def _running(self, run_id: str, job: dict[str, Any]) -> bool:
        if _locked(self.runs / run_id / LOCK):
            return True
        if "container" not in job:
            return False
        # Its client may have been killed, and the container goes on.
        name = f"name=^/?{job['container']}$"
        return bool(docker.call("ps", "--quiet", "--filter", name, check=False))

    def _end(self, run_id: str, job: dict[str, Any]) -> None:
        with suppress(ProcessLookupError):  # it has ended just now
            os.kill(job["pid"], signal.SIGTERM)
        until = time.monotonic() + GRACE
        while self._running(run_id, job) and time.monotonic() < until:
            time.sleep(POLL)
        if self._running(run_id, job):
            with suppress(ProcessLookupError):
                os.killpg(job["pid"], signal.SIGKILL)

    def _tail(self, run_id: str, job: dict[str, Any]) -> None:
        with (self.runs / run_id / OUTPUT).open(encoding="utf-8", errors="replace") as file:
            running = True
            while running:
                running = self._running(
                    run_id, job
                )  # before reading: what it wrote last is read too
                shutil.copyfileobj(file, sys.stdout)
                sys.stdout.flush()
                time.sleep(POLL if running else 0)


def _called(job: dict[str, Any]) -> str:
    return str(job.get("container") or f"process {job['pid']}")


def _start(command: list[str], env: dict[str, str], folder: Path) -> int:
    """Start a process of its own session, which holds a lock for as long as it lives; give its id.

    A lock tells whether it lives, even when its number belongs to another process by now.
    """
    with (folder / LOCK).open("w") as lock, (folder / OUTPUT).open("w") as output:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"Run {folder.name} is running here already.") from None
        process = subprocess.Popen(
            command,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock.fileno(),),
        )
    return process.pid


def _locked(path: Path) -> bool:
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
