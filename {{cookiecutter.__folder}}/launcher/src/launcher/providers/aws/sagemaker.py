"""Training and tuning jobs of SageMaker: machines, driver, container, another start after a lost spot machine are its own.

Its time limit is of all starts together. What it does not start again is a container that has ended by itself: with the
status of network trouble that counts as preempted here, and the janitor submits the run again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ...errors import UserError
from ...job import (
    Handle,
    Job,
    Kind,
    Machine,
    Problem,
    Status,
)
from ...storage import write_text
from ..errors import QuotaError, ServiceError, UnreachableError
from ..handed import MORE, Handed
from ..managed import at_work, chain, without_labels
from . import auth as aws
from . import doctor, logs, quotas, registry, sagemaker_tuning
from . import sagemaker_request as requests
from . import sagemaker_state as states
from .backend import AwsBackend
from .sagemaker_find import TRAINING, TUNING, Finder, Found
from .sagemaker_find import Kind as Jobs

ABILITIES = ("SWEEPS", "NODES")
LOGS = "/aws/sagemaker/TrainingJobs"
SUBMIT_DELAYS = (2.0, 4.0, 8.0)  # seconds
TAKEN = "ResourceInUse"  # a name of another job, now or ever before
PAGES = {TRAINING.resource: "jobs", TUNING.resource: "hyper-tuning-jobs"}  # of the console


def connect(cloud: Any) -> SageMaker:
    """Give the backend for a `cloud` section of the configuration. Needs no network."""
    return SageMaker(cloud)


class SageMaker(AwsBackend):
    """Backend of `job.py`. Labels of the configuration, as tags, tell this project's jobs from others."""

    SERVICE = "SageMaker"

    def __init__(self, cloud: Any):
        super().__init__(cloud)
        self._finder = Finder(self.region, self.labels)

    # -- Backend ---------------------------------------------------------------------------------

    def check(self, job: Job) -> list[Problem]:
        try:
            self.who()
            role = self._role()
        except ServiceError as error:  # whatever else is asked would fail for the same reason
            return [Problem(error.what, error.remedy)]
        if job.kind is Kind.notebook:
            what = "A job of SageMaker cannot be reached by a tunnel, as a notebook must"
            return [Problem(what, "use cloud=batch")]
        checks = (
            lambda: self._check_active(job),
            lambda: quotas.check("sagemaker", self.region, job),
        )
        return [*self._check_settings(job), *doctor.examine(self.cloud, role, job, checks)]

    def _check_settings(self, job: Job) -> list[Problem]:
        """Is it something that the service can do? Asks nobody."""
        problems = sagemaker_tuning.check(job.search) if job.search else []
        problems += without_labels(self.labels)
        if job.max_hours * 3600 > requests.LONGEST_RUN:
            most = requests.LONGEST_RUN // 3600
            what = f"SageMaker runs a job for {most} hours at most, and cloud.max_hours={job.max_hours:g}"
            problems.append(Problem(what, f"give cloud.max_hours={most} or less"))
        longest = requests.PENDING[1] // 3600
        if not job.spot and self.cloud.max_wait_hours > longest:
            what = f"SageMaker lets a job wait for {longest} hours, before cloud.max_wait_hours={self.cloud.max_wait_hours:g}"
            problems.append(
                Problem(what, f"give cloud.max_wait_hours={longest} or less", fatal=False)
            )
        if registry.region_of(job.image) != self.region:
            what = f"SageMaker runs images of ECR in {self.region} only, and not {job.image}"
            problems.append(Problem(what, "leave out cloud.image, or push it there"))
        return problems

    def _check_active(self, job: Job) -> list[Problem]:
        """Is the service there, and no other job at work in the same run folder?"""
        for found in self._finder.of_run(job.run_id):
            if job.search and found.kind is TUNING:
                what = f"There was a sweep {job.run_id}, whose trials have the folders of these"
                return [Problem(what, "choose another run.id")]
            if not found.has_ended:
                return [at_work(job.run_id, found.state)]
        return []

    def allowance(self, machine: Machine, spot: bool) -> int | None:
        """Tell how many such machines the account's quotas allow; None where that cannot be told."""
        return quotas.allowance("sagemaker", self.region, machine, spot)

    def request(self, job: Job) -> dict[str, Any]:
        return self._request(job, self._hand(job))

    def _hand(self, job: Job) -> Handed:
        environment = self._environment(job)
        if job.search:
            return sagemaker_tuning.hand(job, job.search, environment)
        return requests.hand(job, environment)

    def _request(self, job: Job, handed: Handed) -> dict[str, Any]:
        wait = float(self.cloud.max_wait_hours)
        training = requests.body(
            job,
            handed,
            role=self._role(),
            tags={**self.labels, **job.labels},
            wait_hours=wait,
            attempts=int(self.cloud.max_attempts),
            output=job.output or f"{str(self.cloud.bucket).rstrip('/')}/runs/{job.run_id}",
        )
        if not job.search:
            return training
        name = requests.name(job.run_id, requests.token(job), TUNING.longest)
        return sagemaker_tuning.request(job, job.search, training, handed, name, wait)

    def submit(self, job: Job) -> Handle:
        handed, kind = self._hand(job), TUNING if job.search else TRAINING
        body = self._request(job, handed)
        if handed.more and job.output:
            write_text(f"{job.output}/{MORE}", handed.more)
        delays, lost = list(SUBMIT_DELAYS), False
        name = self._new_name(job, kind)
        while True:
            try:
                aws.call("sagemaker", kind.create, self.region, **{**body, kind.name: name})
                return self._handle(kind, name)
            except ServiceError as error:
                if error.code == TAKEN:
                    # For ever, by the try whose answer was lost, or else by somebody else's job.
                    if lost and self._is_of(kind, name, job.run_id):
                        return self._handle(kind, name)
                    name, lost = self._new_name(job, kind), False
                elif isinstance(error, UnreachableError):
                    lost = True  # perhaps only its answer: under the same name there is one job
                elif not (isinstance(error, QuotaError) and "Throttl" in error.code):
                    raise
                if not delays:
                    raise
            time.sleep(delays.pop(0))

    def _is_of(self, kind: Jobs, name: str, run_id: str) -> bool:
        """Tell whether a job is of this run. Not by its tags, which may be seen later than the job itself."""
        return Found(kind, kind.described(self.region, name), {}).run_id == run_id

    def _new_name(self, job: Job, kind: Jobs) -> str:
        return requests.name(job.run_id, secrets.token_hex(requests.TOKEN // 2), kind.longest)

    def status(self, run_id: str) -> Status | None:
        found = self._finder.of_run(run_id)
        return self._status(found[0], found) if found else None

    def logs(self, run_id: str) -> Iterator[str]:
        if not (found := self._finder.of_run(run_id)):
            return
        job = found[0]
        # Names of trials begin with that of the tuning job; a job's streams are one for each node.
        sweep = job.kind is TUNING
        trial = sagemaker_tuning.trial_name(job.name) if sweep else None
        prefix = f"{job.name}-" if sweep else f"{job.name}/"
        for event in logs.events(self.region, LOGS, prefix, job.created):
            if (line := states.log_line(event, job.name, trial)) is not None:
                yield line

    def stop(self, run_id: str) -> None:
        found = self._finder.of_run(run_id)
        if not found:
            raise UserError(f"SageMaker knows no job of run {run_id}; see `uv run runs list`.")
        # There is one, unless two launches of one id were made at the same moment.
        for job in found:
            if not job.has_ended and not job.ending:
                self._stop(job)

    def _stop(self, job: Found) -> None:
        try:
            aws.call("sagemaker", job.kind.stop, self.region, **{job.kind.name: job.name})
        except ServiceError:
            now = self._finder.named(job.kind, job.name)
            if now and not now.has_ended and not now.ending:  # it may have ended just before
                raise

    def list(self) -> list[Status]:
        found = self._finder.all()
        return [self._status(job, found) for job in found]

    # -- answers ---------------------------------------------------------------------------------

    def _handle(self, kind: Jobs, name: str) -> Handle:
        return Handle(name, self._page(kind, name))

    def _page(self, kind: Jobs, name: str) -> str:
        where = f"{self.region}.console.aws.amazon.com/sagemaker/home?region={self.region}"
        return f"https://{where}#/{PAGES[kind.resource]}/{name}"

    def _status(self, found: Found, known: Sequence[Found]) -> Status:
        now = aws.now()
        return Status(
            run_id=found.run_id,
            state=found.state,
            created=found.created,
            seconds=sum(job.seconds(now) for job in chain(found, known)),
            url=self._page(found.kind, found.name),
            detail=found.detail,
            name=found.name,
            labels=dict(found.tags),
        )
