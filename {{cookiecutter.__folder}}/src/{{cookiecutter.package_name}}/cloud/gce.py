"""Virtual machines of Compute Engine, one a job, for those who have quota there and none for Vertex AI.

A machine starts from Google's deep-learning image, runs the project's image by `gce_startup.sh`, and deletes itself. Its
time limit is its own setting, so the service ends it whatever happens in it. A machine that was taken away is gone:
what it leaves is in the bucket, and tells whether the run is over or only preempted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ..errors import UserError
from . import doctor, gce_history, gce_logs, gce_machine, google, records
from .gce_api import Compute, NoRoomError
from .gce_checks import check_quotas, check_settings
from .gce_machine import ANY_ZONE, path_of, run_of, zone_of
from .gce_state import AT_WORK, OFF, STATES, allowed_seconds, ended
from .google_backend import GoogleBackend
from .google_errors import GoogleError
from .job import EXIT_PREEMPTED, RUN_LABEL, Handle, Job, Leftover, Problem, State, Status
from .records import Record

CONSOLE = "https://console.cloud.google.com/compute/instancesDetail"
NOTEBOOK = "lab/tree/notebooks/explore.ipynb"
PORT = 8888  # of Jupyter, on the machine's loopback
YOUNG = 600.0  # seconds; so new a disk may wait for its machine


def connect(cloud: Any) -> ComputeEngine:
    """Give the backend for a `cloud` section of the configuration. Needs no network."""
    return ComputeEngine(cloud)


class ComputeEngine(GoogleBackend):
    """Backend of `job.py`. Labels of the configuration tell this project's machines from others."""

    def __init__(self, cloud: Any):
        super().__init__(cloud)
        self.home = records.home(cloud.bucket)
        self.labels = {str(key): str(value) for key, value in (cloud.labels or {}).items()}

    # -- Backend ---------------------------------------------------------------------------------

    def check(self, job: Job) -> list[Problem]:
        try:
            self.who()
            api = self._api()
        except GoogleError as error:  # whatever else is asked would fail for the same reason
            return [Problem(error.what, error.remedy)]
        checks = (
            lambda: self._check_active(job),
            lambda: check_quotas(api, self.cloud.region, job),
        )
        found = doctor.examine(api.project, self.cloud, job, checks)
        return [*check_settings(self.cloud, job), *found]

    def _check_active(self, job: Job) -> list[Problem]:
        """Is no other machine at work in the same run folder?"""
        if not (machine := self._at_work(job.run_id)):
            return []
        what = f"Machine {machine['name']} is at work on run {job.run_id}, and would share its run folder"
        remedy = f"wait for it, end it by `uv run runs stop {job.run_id}`, or choose another run.id"
        return [Problem(what, remedy)]

    def request(self, job: Job) -> dict[str, Any]:
        zone = self.cloud.zones[0] if self.cloud.zones else ANY_ZONE
        return self._body(job, zone, 1)

    def submit(self, job: Job) -> Handle:
        if machine := self._at_work(job.run_id):  # whoever else has submitted it, once is enough
            return self._handle(path_of(machine))
        api, number = self._api(), self._number(job.run_id)
        tried = []
        for zone in self.cloud.zones or api.zones(self.cloud.region):
            body = self._body(job, zone, number)
            try:
                api.insert(zone, body)
            except NoRoomError as error:
                tried.append(f"{zone}: {error.what}")
                continue
            return self._handle(f"zones/{zone}/instances/{body['name']}")
        machine = f"{job.machine.type}{', spot' * job.spot}"
        raise NoRoomError(
            f"No zone of {self.cloud.region} has a machine {machine} ({'; '.join(tried) or 'it has no zone'})",
            "try again later, or another cloud.region, cloud.machine or cloud.spot",
        )

    def status(self, run_id: str) -> Status | None:
        machines = self._machines(run_id)
        record, operations = self._record(run_id, machines), self._operations(run_id)
        return self._status(run_id, machines, record, operations)

    def logs(self, run_id: str) -> Iterator[str]:
        machines = self._machines(run_id)
        record = self._record(run_id, machines)
        since = record.launched if record else None  # else the whole retention is searched
        line = None
        for line in gce_logs.lines(self.project, run_id, since):
            yield line
        if line is None and machines:
            yield from self._console(machines[0])

    def _console(self, machine: dict[str, Any]) -> Iterator[str]:
        """Give what the scripts of a machine have said, before any of it was in Cloud Logging."""
        for line in self._api().console(machine).splitlines():
            _, mark, text = line.partition("startup-script: ")
            if mark:
                yield text

    def stop(self, run_id: str) -> None:
        status = self.status(run_id)
        if not status:
            what = f"Compute Engine knows no machine of run {run_id}"
            raise UserError(f"{what}; see `uv run runs list`.")
        if status.state.over:
            return
        for machine in self._machines(run_id):
            if machine["status"] not in OFF:
                self._api().delete(path_of(machine))  # its shutdown script tells the worker
        # Else the run would count as preempted, and be started again.
        records.close(self.home, run_id, State.stopped, EXIT_PREEMPTED, "stopped by a person")

    def list(self) -> list[Status]:
        machines = self._machines()
        operations = self._operations() if machines else []
        found = []
        for run_id in dict.fromkeys(map(run_of, machines)):
            mine = [machine for machine in machines if run_of(machine) == run_id]
            stem = gce_machine.stem(self.labels, run_id)
            done = [one for one in operations if _is_of(one, stem)]
            status = self._status(run_id, mine, self._record(run_id, mine), done)
            found += [status] if status else []
        return sorted(found, key=lambda status: status.created, reverse=True)

    def leftovers(self) -> list[Leftover]:
        found = []
        for machine in self._machines():
            if machine["status"] in OFF:
                what = f"machine {machine['name']}, which is off, in {zone_of(machine)}"
                found.append(Leftover(path_of(machine), what))
        for disk in self._ours("disks"):
            age = (self.now() - gce_history.time(disk["creationTimestamp"])).total_seconds()
            if not disk.get("users") and age > YOUNG:
                what = f"disk {disk['name']} in {zone_of(disk)}"
                found.append(Leftover(f"zones/{zone_of(disk)}/disks/{disk['name']}", what))
        return found

    def remove(self, leftover: Leftover) -> None:
        self._api().delete(leftover.name)

    def now(self) -> datetime:
        return google.now()

    # -- for people ------------------------------------------------------------------------------

    def hint(self, run_id: str) -> str:
        """Say how to get at a notebook: by a tunnel, since nothing is let in from outside.

        Raises:
            UserError: the run has no machine at work.
        """
        if not (machine := self._at_work(run_id)):
            raise UserError(f"Run {run_id} has no machine now; see `uv run runs list`.")
        tunnel = (
            f"gcloud compute ssh {machine['name']} --zone={zone_of(machine)} --project={self.project} "
            f"--tunnel-through-iap -- -N -L {PORT}:localhost:{PORT}"
        )
        return f"tunnel    {tunnel}\nnotebook  http://localhost:{PORT}/{NOTEBOOK} (ready in about five minutes)"

    # -- the service -----------------------------------------------------------------------------

    def _api(self) -> Compute:
        return Compute(self.project)

    def _body(self, job: Job, zone: str, number: int) -> dict[str, Any]:
        return gce_machine.body(
            job,
            zone,
            number,
            image=self.cloud.vm_image,
            account=self._service_account(),
            labels={**self.labels, **job.labels},
            environment=self._environment(job),
        )

    def _machines(self, run_id: str | None = None) -> list[dict[str, Any]]:
        """Find this project's machines, or those of one run, newest first."""
        found = [one for one in self._ours("instances") if run_id in (None, run_of(one))]
        return sorted(found, key=lambda one: gce_history.of_machine(one).start, reverse=True)

    def _ours(self, kind: str) -> list[dict[str, Any]]:
        """List what was made for this project's jobs. Looked at twice: nothing of anybody else's may ever be in it."""
        if not self.labels:
            return []
        condition = " AND ".join(f'(labels.{key}="{value}")' for key, value in self.labels.items())
        found = self._api().everywhere(kind, condition)
        return [one for one in found if self._is_ours(one.get("labels") or {})]

    def _is_ours(self, labels: dict[str, str]) -> bool:
        return RUN_LABEL in labels and self.labels.items() <= labels.items()

    def _at_work(self, run_id: str) -> dict[str, Any] | None:
        machines = self._machines(run_id)
        return next((one for one in machines if one["status"] in AT_WORK), None)

    def _operations(self, run_id: str | None = None) -> list[dict[str, Any]]:
        """Find what was done to the machines of a run, or of all."""
        if run_id is None:
            name = f"{gce_machine.owner(self.labels)}-.*"
        else:
            name = f"{gce_machine.stem(self.labels, run_id)}-[0-9]+"
        return self._api().everywhere("operations", f'targetLink eq ".*/instances/{name}"')

    def _number(self, run_id: str) -> int:
        """Give the number of the run's next machine, which none has had before."""
        stays = gce_history.of_operations(self._operations(run_id))
        names = [stay.name for stay in stays] + [one["name"] for one in self._machines(run_id)]
        numbers = [name.rpartition("-")[2] for name in names]
        return 1 + max((int(number) for number in numbers if number.isdigit()), default=0)

    def _handle(self, path: str) -> Handle:
        page = f"{CONSOLE}/{path}?project={self.project}"
        return Handle(f"projects/{self.project}/{path}", page)

    def _record(self, run_id: str, machines: list[dict[str, Any]]) -> Record | None:
        """Read the record of a run. A bucket in trouble must not hide a machine that is at work."""
        try:
            record = records.read(self.home, run_id)
        except UserError:
            if all(machine["status"] in OFF for machine in machines):
                raise
            return None
        return record if record and record.backend == self.cloud.backend else None

    def _status(
        self,
        run_id: str,
        machines: list[dict[str, Any]],
        record: Record | None,
        operations: list[dict[str, Any]],
    ) -> Status | None:
        """Tell how a run is; None where it has never had a machine."""
        since = gce_history.time(record.launched) if record else None
        there = [gce_history.of_machine(machine) for machine in machines]
        stays = gce_history.together(gce_history.of_operations(operations), there, since)
        longest = allowed_seconds(record) if record else math.inf
        seconds = sum(stay.seconds(self.now(), longest) for stay in stays)
        machine = next((one for one in machines if one["status"] not in OFF), None)
        if machine:
            return self._of_machine(run_id, machine, seconds)
        if not stays and not (record and record.job):
            return None
        outcome, attempts = records.outcome(self.home, run_id), records.attempts(self.home, run_id)
        if record:  # operations are kept for some weeks only
            seconds = max(seconds, records.seconds(attempts) - record.earlier_seconds)
        state, why = ended(record, outcome, attempts, seconds)
        created = stays[-1].start if stays else since
        assert created
        name, url, labels = ("", "", machines[0]["labels"] if machines else {})
        if record:
            name, url, labels = record.job or "", record.url, record.labels
        return Status(run_id, state, created, seconds, url, why, name, labels)

    def _of_machine(self, run_id: str, machine: dict[str, Any], seconds: float) -> Status:
        status, handle = machine["status"], self._handle(path_of(machine))
        return Status(
            run_id=run_id,
            state=STATES.get(status, State.running),
            created=gce_history.of_machine(machine).start,
            seconds=seconds,
            url=handle.url,
            detail=f"{machine['name']} in {zone_of(machine)} is {status.lower()}",
            name=handle.name,
            labels=machine["labels"],
        )


def _is_of(operation: dict[str, Any], stem: str) -> bool:
    name, _, number = str(operation.get("targetLink", "")).rpartition("/")[2].rpartition("-")
    return name == stem and number.isdigit()
