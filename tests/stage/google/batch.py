"""A strict stand-in for Google Cloud Batch that really runs a job's image, and for the log of its task."""

import re
import secrets
import tempfile
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stage import containers
from stage.faults import Faults
from stage.google.batch_compute import Compute
from stage.google.batch_jobs import CANCELLED, FAILED, OVER, SUCCEEDED, BatchJob, Settings
from stage.google.batch_rules import check, check_names, parse
from stage.google.cloud_logging import list_entries, page
from stage.google.identity import Identity
from stage.google.vertex_checks import check_account
from stage.google.vertex_filter import BatchLogFilter, batch_filter
from stage.google.vertex_log import now
from stage.patience import deadline
from stage.rest import Answer, Handle, Request, RequestError, serve

__all__ = ["CANCELLED", "FAILED", "OVER", "SUCCEEDED", "Batch", "BatchJob", "batch"]

JOBS = re.compile(
    r"/v1/projects/([^/]+)/locations/([^/]+)/jobs(?:/([^/:]+))?(:cancel|/taskGroups/group0/tasks/0)?"
)


class Batch:
    """The service of one region, as a test handles it.

    Attributes:
        url: address of it, of Compute Engine and of Cloud Logging.
        requests: everything that was asked, in order.
        compute: quotas and machines.
        faults: what goes wrong with requests.
        capacity: while it is cleared, no job finds a machine, and waits; nothing tells when there will be one.
        unreachable: places that a list leaves out.
    """

    def __init__(self, identity: Identity, region: str, registries: Collection[str], logs: Handle | None):
        self.identity, self.region, self.registries, self._logs = identity, region, set(registries), logs
        self.stage = f"stage-{secrets.token_hex(4)}"
        self.url, self.requests, self.faults = "", list[Request](), Faults()
        self.capacity = threading.Event()
        self.capacity.set()
        self.unreachable: list[str] = []
        self.settings: Settings
        self._all: dict[str, BatchJob] = {}
        self._gone: set[str] = set()
        self._asked: set[str] = set()  # ids of requests
        self._lock = threading.Lock()
        self.compute = Compute(identity, region, self._all)

    @property
    def env(self) -> dict[str, str]:
        """Leads clients of the three services here."""
        override = "CLOUDSDK_API_ENDPOINT_OVERRIDES_"
        # gcloud's own setting for Compute Engine has the version in it, that for other services has not.
        return {
            f"{override}COMPUTE": f"{self.url}/compute/v1/",
            **{f"{override}{name}": f"{self.url}/" for name in ("BATCH", "LOGGING")},
        }

    # What a test asks and does

    def jobs(self) -> list[BatchJob]:
        """All jobs that were ever taken, oldest first."""
        return list(self._all.values())

    def job(self, name: str) -> BatchJob:
        """The newest job with this id, or of this run."""
        for job in reversed(self.jobs()):
            if name in (job.id, job.name, job.spec.environment.variables.get("RUN_ID")):
                return job
        raise KeyError(name)

    def wait(self, job: BatchJob, states: Iterable[str] = OVER, timeout: float = 120) -> BatchJob:
        """Waits until a job is in one of the states; raises AssertionError where it never will be, or is not in time."""
        until, states = deadline(timeout), set(states)
        while job.state not in states:
            if time.monotonic() > until or job.state in OVER:
                raise AssertionError(f"{job.id} is {job.state}, not {sorted(states)}:\n{job.error()}")
            time.sleep(0.05)
        job.join() if job.state in OVER else None
        return job

    def wait_for_line(self, job: BatchJob, pattern: str, timeout: float = 120, count: int = 1) -> str:
        """Waits until a job has printed `count` lines with a regular expression; gives the last of them."""
        until = deadline(timeout)
        while True:
            over = job.state in OVER
            found = [line for line in job.lines() if re.search(pattern, line)]
            if len(found) >= count:
                return found[count - 1]
            if over or time.monotonic() > until:
                raise AssertionError(f"{len(found)} lines with {pattern!r} ({job.state}):\n{job.error()}")
            time.sleep(0.05)

    def preempt(self, job: BatchJob, grace_seconds: float | None = 30) -> None:
        """Takes a job's machine: SIGTERM, SIGKILL after the grace; with None at once, for no signal is documented."""
        job.take_away(grace_seconds)

    def containers(self, running_only: bool = True) -> list[str]:
        """Ids of the containers that are there now."""
        return containers.ids(self.stage, running_only)

    def close(self) -> None:
        for job in self.jobs():
            job.abandon()
        for job in self.jobs():
            job.join()
        containers.cleanup(self.stage)

    # The service

    def admit(self, job: BatchJob) -> str:
        """Why a job has to wait: no quota, or no machine."""
        with self._lock:
            if lacking := self.compute.lacks(job):
                return lacking
            if not self.capacity.is_set():
                # https://docs.cloud.google.com/batch/docs/troubleshooting#resource-availability
                return f"CODE_GCE_ZONE_RESOURCE_POOL_EXHAUSTED: {self.region} has not enough resources."
            job.state = "SCHEDULED"  # from here on its machine counts
            return ""

    def handle(self, request: Request) -> Answer:
        self.requests.append(request)
        return self.faults.around(request, self._answer)

    def _answer(self, request: Request) -> Answer:
        if request.path == "/v2/entries:list" and request.method == "POST":
            if self._logs and "batch_task_logs" not in str(request.json().get("filter")):
                return self._logs(request)
            return list_entries(self.identity, request, self._entries, BatchLogFilter)
        if answer := self.compute.answer(request):
            return answer
        found = JOBS.fullmatch(request.path)
        if not found:
            raise RequestError(404, f"The requested URL {request.path} was not found on this server.")
        project, location, name, more = found.groups()
        return self._serve(request, project, location, name, more)

    def _serve(
        self, request: Request, project: str, location: str, name: str | None, more: str | None
    ) -> Answer:
        verbs = {
            ("POST", False, None): ("jobs.create", self._create),
            ("GET", False, None): ("jobs.list", self._list),
            ("GET", True, None): ("jobs.get", self._get),
            ("DELETE", True, None): ("jobs.delete", self._delete),
            # Which permission this needs is told nowhere; no role that is offered for jobs has another one.
            ("POST", True, ":cancel"): ("jobs.delete", self._cancel),
            ("GET", True, "/taskGroups/group0/tasks/0"): ("tasks.get", self._task),
        }
        permission, service = verbs.get((request.method, bool(name), more), ("", None))
        if service is None:
            raise RequestError(501, f"{request.method} {request.path} is not part of the stand-in.")
        self.identity.require(request, f"batch.{permission}")
        if not self.identity.is_project(project) or location != self.region:
            raise RequestError(403, f"Permission denied on location {location} of project {project}.")
        if "batch.googleapis.com" in self.identity.disabled_services:
            raise RequestError(
                403, f"Batch API has not been used in project {project} before or it is disabled."
            )
        return service(request, name or "")

    def _create(self, request: Request, _: str) -> Answer:
        query = request.only("jobId", "requestId")
        name, asked = query.get("jobId") or f"j-{secrets.token_hex(8)}", query.get("requestId", "")
        check_names(name, asked)
        message = parse(request.body)
        check(message, self.region, self.registries)
        check_account(self.identity, request, message.allocation_policy.service_account.email)
        with self._lock:
            # A request that came before is not carried out again; what is answered then is not documented.
            if name in self._all or (asked and asked in self._asked):
                raise RequestError(409, f"Resource 'projects/{self.identity.project}/{name}' already exists")
            self._asked.add(asked)
            where = f"projects/{self.identity.project}/locations/{self.region}/jobs/{name}"
            job = self._all[name] = BatchJob(where, message, self.settings, self.stage)
        answer = Answer(job.json())
        job.start()
        return answer

    def _known(self, name: str) -> BatchJob:
        if name not in self._all or name in self._gone:
            raise RequestError(404, f"Resource 'projects/{self.identity.project}/jobs/{name}' was not found")
        return self._all[name]

    def _get(self, request: Request, name: str) -> Answer:
        request.only()
        return Answer(self._known(name).json())

    def _task(self, request: Request, name: str) -> Answer:
        request.only()
        job = self._known(name)
        if not job.machines:
            raise RequestError(404, f"Resource '{job.name}/taskGroups/group0/tasks/0' was not found")
        return Answer(job.task())

    def _list(self, request: Request, _: str) -> Answer:
        query = request.only("filter", "pageSize", "pageToken", "orderBy")
        matches = batch_filter(query.get("filter", ""))
        known = [job.json() for name, job in sorted(self._all.items()) if name not in self._gone]
        found = [job for job in known if matches(job)]
        shown, more = page(found, query.get("pageSize"), query.get("pageToken"), 100, 1000)
        away = {"unreachable": self.unreachable} if self.unreachable else {}
        return Answer(({"jobs": shown} if shown else {}) | more | away)

    def _cancel(self, request: Request, name: str) -> Answer:
        job = self._known(name)
        if job.state in OVER:
            text = f"The job is {job.state} and cannot be cancelled."
            raise RequestError(400, text, status="FAILED_PRECONDITION")
        job.cancel()
        return self._operation()

    def _delete(self, request: Request, name: str) -> Answer:
        request.only("requestId", "reason")
        job = self._known(name)
        job.cancel()
        job.join()
        self._gone.add(name)
        return self._operation()

    def _operation(self) -> Answer:
        where = f"projects/{self.identity.project}/locations/{self.region}/operations"
        return Answer(
            {"name": f"{where}/operation-{secrets.token_hex(8)}", "metadata": {"createTime": now()}}
        )

    def _entries(self) -> Iterator[dict[str, Any]]:
        """What was logged: with a destination, and by an account that may write.

        https://docs.cloud.google.com/batch/docs/analyze-job-using-logs
        """
        for job in self.jobs():
            account = self.identity.accounts.get(job.account)
            kept = job.message.logs_policy.destination == 1  # CLOUD_LOGGING
            if kept and account and account.allows("logging.logEntries.create"):
                yield from list(job.entries)


@contextmanager
def batch(
    identity: Identity,
    *,
    region: str = "us-central1",
    registries: Collection[str] = (),
    platform: Mapping[str, str] | None = None,
    logs: Handle | None = None,
    seconds_per_hour: float = 3600,
    queue_limit: float = 2 * 24 * 3600,
    port: int = 0,
) -> Iterator[Batch]:
    """Runs the service while the block lasts; no container is left behind.

    Args:
        registries: hosts (127.0.0.1:5000) of which images are taken beside Artifact Registry and Docker Hub.
        platform: environment of every container beside the job's own; such as where the emulators are.
        logs: who answers entries:list for what is not of Batch.
        seconds_per_hour: of this clock; a time limit of an hour lasts so long here.
        queue_limit: seconds after which a job that waits has failed.
    """
    containers.require()
    here = Batch(identity, region, registries, logs)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        here.settings = Settings(
            identity, dict(platform or {}), Path(folder), seconds_per_hour, queue_limit, here.admit
        )
        with serve(here.handle, port) as here.url:
            try:
                yield here
            finally:
                here.close()
