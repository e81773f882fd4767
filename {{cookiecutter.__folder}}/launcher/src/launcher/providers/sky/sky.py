"""SkyPilot as a backend: one cluster of its for each run, which goes down when the run is over.

What runs there is the same worker as everywhere, so a job that was taken away goes on from the bucket: the janitor
submits it again. What SkyPilot itself would do for that, managed jobs, needs a controller that costs all the time.
"""

from __future__ import annotations

import logging
import math
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ... import records
from ...errors import UserError
from ...identity import git_state
from ...job import (
    EXIT_PREEMPTED,
    RUN_COMMIT,
    RUN_LABEL,
    Handle,
    Job,
    Leftover,
    NoMachineError,
    Problem,
    State,
    Status,
)
from ...project import project
from ...storage import StorageUnavailable
from ..errors import ServiceError
from ..managed import without_labels
from . import doctor, launch, program, slurm, state, task
from .price import infra_of, price

ABILITIES = ("NODES",)
REMEMBERED = timedelta(days=35)
LATE = timedelta(
    minutes=15
)  # after which a cluster whose job is over does not go down by itself any more
# The worker notes that it is at work with each upload, twice a minute: another machine's SkyPilot may have its cluster.
ALIVE = timedelta(minutes=3)
SAVING = 150.0  # seconds that a job may take to save after a notice
PREFIX = re.compile(
    r"^\([^()]*\bpid=\d+[^()]*\) ?"
)  # before each line of a job: its name and its process
NOBODY = "ResourcesUnavailableError"  # whatever the cause; what it says tells more

log = logging.getLogger(__name__)

__all__ = ["ABILITIES", "connect", "own_code", "price"]


def connect(cloud: Any) -> Sky:
    """Make the backend from the section `cloud` of the configuration."""
    return Sky(cloud)


def own_code(cloud: Any) -> bool:
    """Tell whether a job brings this folder's code along, instead of an image that has it."""
    return not cloud.image


class Sky:
    """Runs as clusters of SkyPilot, started in the project's folder.

    Args:
        cloud: the section `cloud` of the configuration.
    """

    def __init__(self, cloud: Any) -> None:
        self.cloud = cloud
        self.labels = {str(key): str(value) for key, value in (cloud.labels or {}).items()}
        self.home = records.home(cloud.bucket)
        self._listed: list[Status] = []

    # -- images ----------------------------------------------------------------------------------

    def reference(self) -> str:
        """Name the image that would run; none where the job makes its environment itself."""
        return self.cloud.image or ""

    def image(self) -> str:
        """Name it for good: it is given by its digest, or as a file."""
        return self.reference()

    def revision(self, image: str) -> str | None:
        """It does not say: an image may be in any registry, which only the cluster has to know."""
        return None

    # -- before a launch -------------------------------------------------------------------------

    def check_names(self) -> None:
        """Refuse a launch that says not where. Asks nobody."""
        infra_of(self.cloud)

    def check(self, job: Job) -> list[Problem]:
        """Look for what would make the job fail."""
        problems = without_labels(self.labels)
        problems += doctor.examine(job, self.cloud, self._infra(job))
        if missing := doctor.tools():
            remedy = f"install {' and '.join(missing)}, with which SkyPilot reaches its machines"
            problems.append(Problem(f"there is no {' and no '.join(missing)} here", remedy))
        return problems

    def request(self, job: Job) -> dict[str, Any]:
        """Give the task that `sky launch` gets."""
        infra = self._infra(job)
        most = self.cloud.attempt_hours or math.inf
        return task.body(
            job,
            name=self._name(job.run_id),
            infra=infra,
            root=project().root,
            hours=min(job.max_hours, most),
            whole=most <= job.max_hours,
            labels={**self.labels, **job.labels},
        )

    # -- a job -----------------------------------------------------------------------------------

    def submit(self, job: Job) -> Handle:
        """Start the cluster and the job; returns when SkyPilot has both, which is minutes where a queue is short.

        Raises:
            NoMachineError: there is no such machine now.
            UserError: SkyPilot refused it; then nothing of it goes on.
        """
        self._refuse_other_code(job)
        name = self._name(job.run_id)
        again = bool(records.attempts(self.home, job.run_id))
        # One of an earlier launch has an earlier end.
        if again and self._clusters(name):
            program.down(name)
        given = launch.values(job)
        with tempfile.TemporaryDirectory() as folder:
            words = launch.words(job, self.request(job), self.cloud, again, given, Path(folder))
            print(
                "SkyPilot looks for a machine and prepares it: minutes, or as long as a queue is.",
                flush=True,
            )
            self._launch(
                name, ("launch", "--yes", "--detach-run", "--cluster", name, *words), given
            )
        return Handle(name, f"sky logs {name}")

    def status(self, run_id: str) -> Status | None:
        """Tell how the newest job of a run is: by its cluster, else by what its worker has noted."""
        record = records.read(self.home, run_id)
        if not record or record.backend != self.cloud.backend:
            return None  # each question takes seconds, and starts SkyPilot's server
        if not program.there():
            noted = self._noted(run_id)  # whether its machine is gone is not to be told from here
            return noted if noted and noted.state is not State.preempted else None
        if found := self._clusters(self._name(run_id)):
            return self._status(found[0])
        return self._noted(run_id)

    def logs(self, run_id: str) -> Iterator[str]:
        """Give the lines that the job has printed so far; none once its cluster is gone, for the bucket has them."""
        if self._clusters(self._name(run_id)):
            for each in program.logs(self._name(run_id)).splitlines():
                if PREFIX.match(each):
                    yield PREFIX.sub("", each)

    def stop(self, run_id: str) -> None:
        """End the job, so that it saves; its cluster goes down by itself then, or now where no job is at work."""
        name = self._name(run_id)
        found = self._clusters(name)
        if not found:
            noted = self._noted(run_id)
            if noted is None or noted.state is State.running:
                raise UserError(
                    f"The SkyPilot of this machine knows no cluster of run {run_id}: stop it where it was launched, "
                    "or see `uv run runs list`."
                )
            return
        untold = False
        try:
            job = self._job(found[0])
        except ServiceError:
            job, untold = None, True  # whatever is at work there, its machines are known
        running = job if job and not state.STATES.get(job["status"], State.queued).over else None
        on_slurm = str(found[0].get("cloud", "")).lower() == task.SLURM
        if running and not on_slurm:
            program.call("cancel", "--yes", name, str(running["job_id"]))
        else:
            # SkyPilot cancels a job of Slurm without a word to it. Slurm itself knows whether there is one.
            if on_slurm and (running or untold):
                self._let_save(run_id, found[0])
            program.down(name)
        try:
            if records.outcome(self.home, run_id) is None:
                records.close(
                    self.home, run_id, State.stopped, EXIT_PREEMPTED, "stopped by a person"
                )
        except StorageUnavailable as error:
            raise UserError(
                f"The job of run {run_id} is ended, but that could not be noted, so that the janitor would start it again: "
                f"give `runs stop` again ({error})."
            ) from error

    # -- all of them -----------------------------------------------------------------------------

    def list(self) -> list[Status]:
        """Give the jobs of all clusters of this project, newest first; asks nobody where nothing was launched here."""
        if not self.labels or not self._used():
            return []
        found = [self._status(each) for each in self._clusters() if self._is_ours(each)]
        self._listed = found
        return sorted(found, key=lambda status: status.created, reverse=True)

    def leftovers(self) -> list[Leftover]:
        """Find clusters that should have gone down by themselves, of those that were listed last."""
        late = self.now() - LATE
        ended = [each for each in self._listed if each.state.over or each.state is State.preempted]
        return [
            Leftover(each.name, f"cluster {each.name}, whose job is over")
            for each in ended
            if each.created + timedelta(seconds=each.seconds) < late
        ]

    def remove(self, leftover: Leftover) -> None:
        """Take a cluster down."""
        program.down(leftover.name)

    def now(self) -> datetime:
        """Tell the time by this machine, where SkyPilot's own clock is."""
        return datetime.now(UTC)

    # -- SkyPilot --------------------------------------------------------------------------------

    def _used(self) -> bool:
        """Tell whether SkyPilot has to be asked for a list; where it is not installed, others look after its runs."""
        recent = (datetime.now(UTC) - REMEMBERED).isoformat()
        mine = [
            record
            for record in records.read_all(self.home)
            if record.backend == self.cloud.backend and record.launched > recent
        ]
        if mine and not program.there():
            if any(records.outcome(self.home, record.run_id) is None for record in mine):
                log.warning(
                    "Runs of SkyPilot are looked after where SkyPilot is: %s.", program.INSTALL
                )
            return False
        return bool(mine)

    def _clusters(self, name: str = "") -> list[dict[str, Any]]:
        """Give the clusters that there really are, or the one of a name."""
        words = [
            "status",
            "--refresh",
            "--no-show-managed-jobs",
            "--no-show-services",
            "--no-show-pools",
        ]
        found = program.ask(*words, *([name] if name else []))
        return [each for each in found if name in ("", each["name"])]

    def _job(self, cluster: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Give the newest job of a cluster; None while it comes up.

        Raises:
            ServiceError: the cluster does not tell, for it goes down just now, or is out of reach.
        """
        if cluster["status"] not in state.UP:
            return None
        return state.newest(program.ask("queue", cluster["name"]).get(cluster["name"], []))

    def _is_ours(self, cluster: Mapping[str, Any]) -> bool:
        labels = cluster.get("labels") or {}
        named = cluster["name"].startswith(f"{self._owner()}-")
        return named and RUN_LABEL in labels and self.labels.items() <= labels.items()

    def _status(self, cluster: Mapping[str, Any]) -> Status:
        labels = dict(cluster.get("labels") or {})
        run_id = cluster["name"].removeprefix(
            f"{self._owner()}-"
        )  # its label has but some of its letters
        created = state.when(cluster["launched_at"])
        outcome, attempts = (
            records.outcome(self.home, run_id),
            records.attempts(self.home, run_id),
        )
        ended = (outcome or {}).get("time")
        end = datetime.fromisoformat(str(ended)) if ended else self.now()
        try:
            job = self._job(cluster)
        except ServiceError:  # as long as there are machines, they are paid for
            job = {"status": "SUCCEEDED" if outcome else "RUNNING", "end_at": None}
        ours, detail = state.without_job(cluster, outcome), cluster.get("init_status_reason") or ""
        if job:
            ours, detail = state.state(job, outcome, attempts), str(job["status"]).lower()
            detail = str((outcome or {}).get("reason") or detail)
            end = state.when(job["end_at"]) if job.get("end_at") else end
        elif (
            ours is State.preempted
        ):  # since its worker was heard last, what is left of it is for nothing
            end = _heard(attempts) or created
        seconds = 0.0 if ours is State.queued else (end - created).total_seconds()
        where = f"sky logs {cluster['name']}"
        return Status(run_id, ours, created, seconds, where, detail, cluster["name"], labels)

    def _noted(self, run_id: str) -> Status | None:
        """Give what the worker has noted of a run whose cluster is gone; None where it never began."""
        attempts = records.attempts(self.home, run_id)
        if not attempts:
            return None
        record, outcome = records.read(self.home, run_id), records.outcome(self.home, run_id)
        created = datetime.fromisoformat(attempts[-1]["started"])
        if record and datetime.fromisoformat(record.launched) > created and not outcome:
            return None  # launched again, and that has not begun
        seconds = records.seconds(attempts) - (record.earlier_seconds if record else 0.0)
        detail = str((outcome or {}).get("reason") or "its cluster is gone")
        ours = state.state(None, outcome, attempts)
        unended = ours is State.preempted and attempts[-1].get("exit_code") is None
        if unended and (heard := _heard(attempts)) and self.now() - heard < ALIVE:
            ours, detail = State.running, "no cluster of this machine's SkyPilot"
        return Status(
            run_id,
            ours,
            created,
            max(0.0, seconds),
            detail=detail,
            name=self._name(run_id),
            labels=self.labels,
        )

    def _launch(self, name: str, command: tuple[str, ...], given: Mapping[str, str]) -> None:
        """Launch, and once more where machines are there that could not be prepared, as SkyPilot advises for such."""
        try:
            program.call(*command, secrets=given)
            return
        except ServiceError as error:
            if error.code == NOBODY:
                self._give_up(name)
                raise NoMachineError(str(error)) from error
            if not self._clusters(name):
                raise
        try:
            program.call(*command, secrets=given)
        except ServiceError:
            self._give_up(name)
            raise

    def _give_up(self, name: str) -> None:
        """Leave nothing of a launch that has failed: machines may be there already."""
        with suppress(ServiceError):
            program.down(name)

    def _let_save(self, run_id: str, cluster: Mapping[str, Any]) -> None:
        """Give a job of Slurm its notice, and the time that it needs to save."""
        if self._has_ended(run_id):
            return
        if not slurm.let_save(str(cluster.get("region") or ""), str(cluster["name"]), run_id):
            log.warning(
                "Run %s could not be told to save; it would go on from its last checkpoint.", run_id
            )
            return
        until = time.monotonic() + SAVING
        while not self._has_ended(run_id) and time.monotonic() < until:
            time.sleep(1)

    def _has_ended(self, run_id: str) -> bool:
        """Tell whether nothing of a worker is at work; a bucket in trouble, which cannot tell, is no reason to go on."""
        try:
            attempts = records.attempts(self.home, run_id)
        except UserError:
            return False
        return not attempts or attempts[-1].get("exit_code") is not None

    def _refuse_other_code(self, job: Job) -> None:
        """Refuse to go on with other code than the run began with, where it is this folder's that runs."""
        began = job.env.get(RUN_COMMIT, "")
        here = git_state()["commit"]
        if job.image or not began or not here or began.partition("-")[0] == here:
            return
        raise UserError(
            f"Run {job.run_id} began with commit {began[:12]}, and this folder is at {here[:12]}: go to that commit, "
            "and launch the same run.id again."
        )

    def _infra(self, job: Job) -> str:
        # Of a launch that is made again, what it was launched with counts.
        return job.machine.type.partition(" ")[0] or infra_of(self.cloud)

    def _owner(self) -> str:
        return self.labels.get("project", "project")

    def _name(self, run_id: str) -> str:
        return f"{self._owner()}-{run_id}"


def _heard(attempts: Sequence[Mapping[str, Any]]) -> datetime | None:
    """Give when the worker of the newest attempt noted last that it was at work; None where none has begun."""
    if not attempts:
        return None
    last = attempts[-1]
    return datetime.fromisoformat(last["started"]) + timedelta(
        seconds=float(last.get("seconds") or 0.0)
    )
