"""Google Cloud Batch, one machine a job, for those who have quota for Compute Engine and none for Vertex AI.

Machine, driver, container, another attempt after a preemption, deletion: all is the service's. Its time limit counts for
each attempt anew, so a job may cost as many times as it may be started; the worker keeps count over all of them.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from typing import Any

from ...errors import UserError
from ...job import RUN_LABEL, Handle, Job, Machine, Problem, State, Status
from ..errors import MissingError, ServiceError, UnreachableError
from ..managed import at_work, without_labels
from . import auth as google
from . import batch_notebook, batch_quotas, batch_request, batch_state, doctor, entries
from .backend import GoogleBackend

CONSOLE = "https://console.cloud.google.com/batch/jobsDetail"
GROUP = "group0"  # what the service calls the one group of a job's tasks
PAGE = 100  # jobs in one answer

# Hours; https://docs.cloud.google.com/batch/quotas
LONGEST_RUN, LONGEST_WAIT = 14 * 24, 2 * 24
ABILITIES = ("NOTEBOOKS",)
RETRY_STATUS = batch_request.RETRY_STATUS
LIMIT_PER_ATTEMPT = True


def connect(cloud: Any) -> Batch:
    """Give the backend for a `cloud` section of the configuration. Needs no network."""
    return Batch(cloud)


class Batch(GoogleBackend):
    """Backend of `job.py`. Labels of the configuration tell this project's jobs from others."""

    SERVICE = "Batch"

    def __init__(self, cloud: Any):
        super().__init__(cloud)
        self.labels = {str(key): str(value) for key, value in (cloud.labels or {}).items()}
        self._codes: dict[str, int | None] = {}  # of the tasks of jobs that have failed
        self._submitted: dict[str, dict[str, Any]] = {}  # by run; a list may not have them yet

    # -- Backend ---------------------------------------------------------------------------------

    def check(self, job: Job) -> list[Problem]:
        try:
            self.who()
            project = self.project
        except ServiceError as error:  # whatever else is asked would fail for the same reason
            return [Problem(error.what, error.remedy)]
        checks = (
            lambda: self._check_active(job),
            lambda: batch_quotas.check(project, self.cloud.region, job),
        )
        return [*self._check_settings(), *doctor.examine(project, self.cloud, job, checks)]

    def _check_settings(self) -> list[Problem]:
        """Is it something that the service can do? Asks nobody."""
        problems = []
        outside = [zone for zone in self._zones if zone.rpartition("-")[0] != self.cloud.region]
        if outside:
            what = f"{', '.join(outside)} in cloud.zones is not in {self.cloud.region}"
            problems.append(Problem(what, "correct cloud.zones or cloud.region"))
        problems += without_labels(self.labels)
        if self.cloud.max_attempts > (most := 1 + batch_request.MOST_RETRIES):
            what = f"Batch starts a job {most} times at most, not {self.cloud.max_attempts}"
            problems.append(Problem(what, f"give cloud.max_attempts={most}", fatal=False))
        for key, most, does in (
            ("max_hours", LONGEST_RUN, "runs"),
            ("max_wait_hours", LONGEST_WAIT, "waits"),
        ):
            if self.cloud[key] > most:
                what = f"Batch ends a job that {does} for {most} hours, before cloud.{key}={self.cloud[key]:g}"
                problems.append(Problem(what, f"give cloud.{key}={most} or less", fatal=False))
        return problems

    def _check_active(self, job: Job) -> list[Problem]:
        """Is the service there, and no other job at work in the same run folder?"""
        active = (found for found in self._jobs(job.run_id) if not self._state(found).over)
        if not (found := next(active, None)):
            return []
        return [at_work(job.run_id, self._state(found))]

    def allowance(self, machine: Machine, spot: bool) -> int | None:
        """Tell how many such machines the account's quotas allow now; None where that cannot be told."""
        return batch_quotas.allowance(self.project, self.cloud.region, machine, spot)

    def request(self, job: Job) -> dict[str, Any]:
        return batch_request.body(
            job,
            region=self.cloud.region,
            zones=self._zones,
            account=self._service_account(),
            labels={**self.labels, **job.labels},
            environment=self._environment(job),
            attempts=self.cloud.max_attempts,
            driver=self.cloud.driver,
        )

    def submit(self, job: Job) -> Handle:
        body, name = self.request(job), self._new_name(job.run_id)
        # The same name and number each time: of a request that comes twice, one job is made.
        query = {"jobId": name, "requestId": str(uuid.uuid4())}
        try:
            found = google.call("POST", self._url(), body, params=query, retry=True)
        except ServiceError:
            # Perhaps only its answer was lost, or the service says that the name is taken: by this very job.
            found = None
            with suppress(ServiceError):
                found = self._get(name)
            if not found or not self._is_ours(found):
                raise
        self._submitted[job.run_id] = found
        return self._handle(found)

    def _new_name(self, run_id: str) -> str:
        return batch_request.job_id(self.labels, run_id, secrets.token_hex(3))

    def status(self, run_id: str) -> Status | None:
        found = self._newest(run_id)
        return self._status(found) if found else None

    def logs(self, run_id: str) -> Iterator[str]:
        if not (found := self._newest(run_id)):
            return
        condition = (
            f'log_id("batch_task_logs") AND labels.job_uid="{found["uid"]}"'
            f' AND timestamp>="{found["createTime"]}"'  # else the whole retention is searched
        )
        yield from map(entries.text, entries.entries(self.project, condition))

    def stop(self, run_id: str) -> None:
        found = self._jobs(run_id)
        if not found:
            raise UserError(f"Batch knows no job of run {run_id}; see `uv run runs list`.")
        # There is one, unless two launches of one id were made at the same moment.
        for job in found:
            if batch_state.goes_on(job):
                self._end(job)

    def _end(self, job: dict[str, Any]) -> None:
        """Cancel a job; delete it where that is refused: its machine must go."""
        url = f"{self._api()}/{job['name']}"
        try:
            google.call("POST", f"{url}:cancel", {}, retry=True)
        except ServiceError:
            now = self._get(job["name"].rpartition("/")[2])
            if now and batch_state.goes_on(now):  # it may have ended just before
                with suppress(MissingError):
                    google.call("DELETE", url)

    def list(self) -> list[Status]:
        return [self._status(found) for found in self._jobs()]

    # -- for people ------------------------------------------------------------------------------

    def hint(self, run_id: str) -> str:
        """Say how to get at a notebook: by a tunnel, since nothing is let in from outside.

        Raises:
            UserError: the run has no job at work.
        """
        found = self._newest(run_id) or self._submitted.get(run_id)
        if not found or self._state(found).over:
            raise UserError(f"Run {run_id} is not at work; see `uv run runs list`.")
        return batch_notebook.hint(self.project, found)

    # -- the service -----------------------------------------------------------------------------

    @cached_property
    def _zones(self) -> list[str]:
        return [str(zone) for zone in self.cloud.zones or []]

    def _api(self) -> str:
        return f"{google.endpoint('batch')}/v1"

    def _url(self) -> str:
        return f"{self._api()}/projects/{self.project}/locations/{self.cloud.region}/jobs"

    def _get(self, name: str) -> dict[str, Any] | None:
        """Give the job of this name; None where there is none."""
        try:
            return google.call("GET", f"{self._url()}/{name}")
        except MissingError:
            return None

    def _jobs(self, run_id: str | None = None) -> list[dict[str, Any]]:
        """Find this project's jobs, or those of one run, newest first.

        What the filter of a list takes for equal is not documented, so labels are compared here again, whole: of
        two projects, `leaf` and `leaf-two`, neither may ever end the other's jobs.
        """
        if not self.labels:
            return []
        jobs = [each for each in self._all() if self._is_ours(each)]
        if run_id is not None:
            jobs = [each for each in jobs if batch_request.run_of(each) == run_id]
        return sorted(jobs, key=batch_state.created, reverse=True)

    def _is_ours(self, found: dict[str, Any]) -> bool:
        labels = found.get("labels") or {}
        return RUN_LABEL in labels and self.labels.items() <= labels.items()

    def _all(self) -> list[dict[str, Any]]:
        conditions = [f'labels.{key}="{value}"' for key, value in self.labels.items()]
        query = {"filter": " AND ".join(conditions), "pageSize": str(PAGE)}
        found: list[dict[str, Any]] = []
        while True:
            answer = google.call("GET", self._url(), params=query)
            if away := answer.get(
                "unreachable"
            ):  # a list with holes must not pass for all there is
                what = f"Batch cannot reach {', '.join(away)}"
                raise UnreachableError(what, "try again in a minute")
            found += answer.get("jobs", [])
            if not (page := answer.get("nextPageToken")):
                return found
            query = {**query, "pageToken": page}

    def _newest(self, run_id: str) -> dict[str, Any] | None:
        return next(iter(self._jobs(run_id)), None)

    def _handle(self, found: dict[str, Any]) -> Handle:
        return Handle(found["name"], self._page(found))

    def _page(self, found: dict[str, Any]) -> str:
        name = found["name"].rpartition("/")[2]
        where = f"regions/{self.cloud.region}/jobs/{name}"
        return f"{CONSOLE}/{where}/details?project={self.project}"

    def _state(self, found: dict[str, Any]) -> State:
        """Tell the state of a job; of one that failed, whether it was by its time limit."""
        state = batch_state.state(found)
        if state is not State.failed or batch_state.exit_code(batch_state.last(found)):
            return state
        return batch_state.state(found, self._task_code(found))

    def _task_code(self, found: dict[str, Any]) -> int | None:
        """Give the exit code that the job's one task ended with, where its own events do not tell."""
        name = found["name"]
        if name not in self._codes:
            url = f"{self._api()}/{name}/taskGroups/{GROUP}/tasks/0"
            try:
                task = google.call("GET", url)
            except ServiceError:
                return None  # then it has failed, and nothing says why
            self._codes[name] = batch_state.exit_code(batch_state.events(task))
        return self._codes[name]

    def _status(self, found: dict[str, Any]) -> Status:
        return Status(
            run_id=batch_request.run_of(found),
            state=self._state(found),
            created=batch_state.created(found),
            seconds=batch_state.seconds(found, google.now()),
            url=self._page(found),
            detail=batch_state.detail(found),
            name=found["name"],
            labels=found.get("labels", {}),
        )
