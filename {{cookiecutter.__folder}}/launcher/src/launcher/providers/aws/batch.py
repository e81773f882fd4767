"""AWS Batch on EC2, one machine a job: managed compute environments, one for each machine of the price table and tier.

Machine, container, another attempt after spot's end, the machine's end: all is the service's. Its time limit counts for
each attempt anew, so a job may cost as many times as it may be started; the worker keeps count over all of them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from ...errors import UserError
from ...job import RUN_LABEL, Handle, Job, Machine, Problem, Status
from ...project import project
from ..errors import ServiceError
from ..managed import at_work, without_labels
from . import auth as aws
from . import (
    batch_notebook,
    batch_queues,
    batch_request,
    batch_state,
    batch_submit,
    doctor,
    logs,
    quotas,
)
from .backend import AwsBackend

NAME = "batch"
STOPPED = "stopped by `runs stop` or the janitor"
ABILITIES = ("NOTEBOOKS",)
RETRY_STATUS = batch_request.RETRY_STATUS
LIMIT_PER_ATTEMPT = True


def connect(cloud: Any) -> Batch:
    """Give the backend for a `cloud` section of the configuration. Needs no network."""
    return Batch(cloud)


class Batch(AwsBackend):
    """Backend of `job.py`. Labels of the configuration, as tags, tell this project's jobs from others."""

    SERVICE = "Batch"

    def __init__(self, cloud: Any):
        super().__init__(cloud)
        self._token = secrets.token_hex(3)  # of the next launch's name
        self._submitted: dict[str, str] = {}  # job of each run; a list may not have it yet

    # -- Backend ---------------------------------------------------------------------------------

    def check(self, job: Job) -> list[Problem]:
        try:
            self.who()
        except ServiceError as error:  # whatever else is asked would fail for the same reason
            return [Problem(error.what, error.remedy)]
        checks = (
            lambda: self._check_active(job),
            lambda: batch_queues.check(self.region, self._queue(job.machine, job.spot)),
            lambda: quotas.check(NAME, self.region, job),
        )
        return [*self._check_settings(job), *doctor.examine(self.cloud, self._role(), job, checks)]

    def _check_settings(self, job: Job) -> list[Problem]:
        """Is it something that the service can do? Asks nobody."""
        problems = []
        if job.nodes > 1:
            what = "Batch trains on one machine: several would need a NAT gateway, and could not be on spot"
            problems.append(Problem(what, "use cloud=sagemaker"))
        problems += without_labels(self.labels)
        if self.cloud.max_attempts > (most := batch_request.MOST_ATTEMPTS):
            what = f"Batch starts a job {most} times at most, not {self.cloud.max_attempts}"
            problems.append(Problem(what, f"give cloud.max_attempts={most}", fatal=False))
        for key in ("zones", "driver"):
            if self.cloud.get(key):
                what = f"cloud.{key} has no effect: the queue's compute environment says it"
                problems.append(Problem(what, f"leave cloud.{key} out", fatal=False))
        return problems

    def _check_active(self, job: Job) -> list[Problem]:
        """Is the service there, and no other job at work in the same run folder?"""
        states = (batch_state.state(found) for found in self._jobs(job.run_id))
        if not (state := next((state for state in states if not state.over), None)):
            return []
        return [at_work(job.run_id, state)]

    def allowance(self, machine: Machine, spot: bool) -> int | None:
        """Tell how many such machines the account's quotas allow; None where that cannot be told."""
        return quotas.allowance(NAME, self.region, machine, spot)

    def request(self, job: Job) -> dict[str, Any]:
        return batch_request.requests(
            job,
            account=project().account,
            role=self._role(),
            labels={**self.labels, **job.labels},
            environment=self._environment(job),
            attempts=self.cloud.max_attempts,
            token=self._token,
        )

    def submit(self, job: Job) -> Handle:
        requests = self.request(job)
        self._token = secrets.token_hex(3)
        found = batch_submit.submit(self.region, requests)
        self._submitted[job.run_id] = str(found["jobId"])
        with suppress(ServiceError):
            name = requests["RegisterJobDefinition"]["jobDefinitionName"]
            batch_submit.retire(self.region, name, self._jobs)
        return Handle(found["jobId"], self._page(found["jobId"]))

    def status(self, run_id: str) -> Status | None:
        found = self._newest(run_id)
        return self._status(found) if found else None

    def logs(self, run_id: str) -> Iterator[str]:
        if not (found := self._newest(run_id)):
            return
        group, since = batch_request.LOG_GROUP, batch_state.created(found)
        for stream in batch_state.streams(found):  # one of each attempt
            for event in logs.events(self.region, group, stream, since):
                if event.get("logStreamName") == stream:  # and not one that only begins so
                    yield str(event.get("message", "")).rstrip("\n")

    def stop(self, run_id: str) -> None:
        found = self._jobs(run_id)
        if not found:
            raise UserError(f"Batch knows no job of run {run_id}; see `uv run runs list`.")
        # There is one, unless two launches of one id were made at the same moment.
        for job in found:
            if not batch_state.state(job).over:
                self._end(job["jobId"])

    def _end(self, job_id: str) -> None:
        """End a job, in whatever state; it may just have ended by itself."""
        try:
            aws.call(NAME, "terminate_job", self.region, jobId=job_id, reason=STOPPED)
        except ServiceError:
            now = batch_queues.describe(self.region, [job_id])
            if now and not batch_state.state(now[0]).over:
                raise

    def list(self) -> list[Status]:
        return [self._status(found) for found in self._jobs()]

    # -- for people ------------------------------------------------------------------------------

    def hint(self, run_id: str) -> str:
        """Say how to get at a notebook: by a tunnel, since nothing is let in from outside.

        Raises:
            UserError: the run has no job at work.
        """
        found = self._newest(run_id)
        if not found or batch_state.state(found).over:
            raise UserError(f"Run {run_id} is not at work; see `uv run runs list`.")
        return batch_notebook.hint(self.region, found)

    # -- the service -----------------------------------------------------------------------------

    def _queue(self, machine: Machine, spot: bool) -> str:
        return batch_request.queue_name(project().account, machine, spot)

    def _jobs(self, run_id: str = "") -> list[dict[str, Any]]:
        """Find this project's jobs, or those of one run, newest first.

        They are found by the beginning of their name, which other projects and runs may share, so tags are compared
        here, whole: of two projects, `leaf` and `leaf-two`, neither may ever end the other's jobs.
        """
        if not self.labels:
            return []
        account = project().account
        queues = batch_queues.queues(self.region, account)
        start = batch_request.name_start(account, run_id)
        ids = batch_queues.job_ids(self.region, queues, start)
        ids += [job for run, job in self._submitted.items() if run_id in ("", run)]
        found = [job for job in batch_queues.describe(self.region, ids) if self._is_ours(job)]
        if run_id:
            found = [job for job in found if batch_request.run_of(job) == run_id]
        return sorted(found, key=batch_state.created, reverse=True)

    def _is_ours(self, found: dict[str, Any]) -> bool:
        tags = found.get("tags") or {}
        return RUN_LABEL in tags and self.labels.items() <= tags.items()

    def _newest(self, run_id: str) -> dict[str, Any] | None:
        return next(iter(self._jobs(run_id)), None)

    def _page(self, job_id: str) -> str:
        where = f"https://{self.region}.console.aws.amazon.com/batch/home?region={self.region}"
        return f"{where}#jobs/detail/{job_id}"

    def _status(self, found: dict[str, Any]) -> Status:
        return Status(
            run_id=batch_request.run_of(found),
            state=batch_state.state(found),
            created=batch_state.created(found),
            seconds=batch_state.seconds(found, aws.now()),
            url=self._page(found["jobId"]),
            detail=batch_state.detail(found),
            name=found["jobId"],
            labels=dict(found.get("tags") or {}),
        )
