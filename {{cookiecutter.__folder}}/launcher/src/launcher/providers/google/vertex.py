"""Custom and tuning jobs of Vertex AI, in the service's own JSON: a dry run prints what its reference describes."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from ...errors import UserError
from ...job import (
    EXIT_STOPPED,
    RUN_MAX_ATTEMPTS,
    Handle,
    Job,
    Kind,
    Machine,
    Problem,
    State,
    Status,
)
from ..errors import ServiceError, UnreachableError
from ..inputs import locked
from ..managed import at_work
from . import auth as google
from . import doctor, entries, vertex_quotas, vertex_tuning
from .backend import GoogleBackend

CUSTOM = "customJobs"
CONSOLE = "https://console.cloud.google.com/vertex-ai/locations"
BOOT_DISK_GB = 100  # the least there is; a CUDA image takes 6, the rest is for data and checkpoints
SUBMIT_DELAYS = (
    2.0,
    4.0,
    8.0,
)  # seconds; time for a job whose answer was lost to appear in the list
STATES = {
    "JOB_STATE_QUEUED": State.queued,
    "JOB_STATE_PENDING": State.queued,
    "JOB_STATE_PAUSED": State.queued,
    "JOB_STATE_RUNNING": State.running,
    "JOB_STATE_UPDATING": State.running,
    "JOB_STATE_CANCELLING": State.running,  # and paid for until it has ended
    "JOB_STATE_SUCCEEDED": State.succeeded,
    "JOB_STATE_PARTIALLY_SUCCEEDED": State.failed,
    "JOB_STATE_FAILED": State.failed,
    "JOB_STATE_CANCELLED": State.stopped,
    "JOB_STATE_EXPIRED": State.stopped,
}
DEADLINE_EXCEEDED = 4  # google.rpc.Code: the job ran into its own time limit

ABILITIES = ("SWEEPS", "NODES")
# GPUs whose machines had a driver for CUDA 12 in mid-2026, and torch's first release that PyPI has for CUDA 13 only.
OLD_DRIVER = ("NVIDIA_TESLA_T4", "NVIDIA_TESLA_A100", "NVIDIA_A100_80GB")
TORCH_FOR_13 = (2, 11)
# Of a container's exit statuses only these make the service start the job again, three times at most:
# https://cloud.google.com/vertex-ai/docs/training/understanding-training-service#restarts
RETRY_STATUS = 134
ENDED_BY_WORKER = re.compile(
    rf"exited with a non-zero status of {EXIT_STOPPED}\b"
)  # in the service's words
STOCK_OUT = "Resources are insufficient"  # so ends a job for which the region has, or has no longer, a machine


def connect(cloud: Any) -> Vertex:
    """Give the backend for a `cloud` section of the configuration. Needs no network."""
    return Vertex(cloud)


class Vertex(GoogleBackend):
    """Backend of `job.py`. Labels of the configuration tell this project's jobs from others."""

    SERVICE = "Vertex AI"

    # -- Backend ---------------------------------------------------------------------------------

    def check(self, job: Job) -> list[Problem]:
        try:
            self.who()
            project = self.project
        except ServiceError as error:  # whatever else is asked would fail for the same reason
            return [Problem(error.what, error.remedy)]
        if job.kind is Kind.notebook:
            what = "A job of Vertex AI cannot be reached by a tunnel, as a notebook must"
            return [Problem(what, "use cloud=batch")]
        at_once = job if not job.search else replace(job, nodes=job.nodes * job.search.parallel)
        checks = (
            lambda: self._check_active(job),
            lambda: _check_driver(job),
            lambda: vertex_quotas.check_gpu_quota(project, self.cloud.region, at_once),
            lambda: vertex_quotas.check_cpu_quota(project, self.cloud.region, at_once),
        )
        return doctor.examine(project, self.cloud, job, checks)

    def _check_active(self, job: Job) -> list[Problem]:
        """Is the service there, and no other job at work in the same run folder?"""
        found = self._newest(job.run_id)
        if not found:
            return []
        if job.search and _is_sweep(found):
            what = f"There was a sweep {job.run_id}, whose trials have the folders of these"
            return [Problem(what, "choose another run.id")]
        if _has_ended(found):
            return []
        return [at_work(job.run_id, _state(found))]

    def allowance(self, machine: Machine, spot: bool) -> int | None:
        """Tell how many such machines the account's quota allows; None where that cannot be told."""
        return vertex_quotas.allowance(self.project, self.cloud.region, machine, spot)

    def request(self, job: Job) -> dict[str, Any]:
        environment = self._environment(job)
        if job.search:
            environment |= vertex_tuning.environment(job.search)
        pool = {
            "machineSpec": _machine(job),
            "replicaCount": "1",  # an int64, which is a string in the API's JSON
            "diskSpec": {"bootDiskType": "pd-ssd", "bootDiskSizeGb": BOOT_DISK_GB},
            # No `command`: the image's own entry point is the worker.
            "containerSpec": {
                "imageUri": job.image,
                "args": list(job.args),
                "env": [{"name": k, "value": v} for k, v in environment.items()],
            },
        }
        # Pool 0 is the one primary replica that the others find by CLUSTER_SPEC, pool 1 all others.
        pools = [pool] if job.nodes == 1 else [pool, {**pool, "replicaCount": str(job.nodes - 1)}]
        spec = {
            "workerPoolSpecs": pools,
            "scheduling": _scheduling(job),
            "serviceAccount": self._service_account(),
        }
        if job.output:
            spec["baseOutputDirectory"] = {"outputUriPrefix": job.output}
        labels = {**(self.cloud.labels or {}), **job.labels}
        if job.search:
            return vertex_tuning.request(job, job.search, labels, spec)
        return {"displayName": job.run_id, "labels": labels, "jobSpec": spec}

    def submit(self, job: Job) -> Handle:
        body = self.request(job)
        collection = vertex_tuning.COLLECTION if job.search else CUSTOM
        before = {found["name"] for found in self._jobs(display_name=job.run_id)}
        delays = list(SUBMIT_DELAYS)
        while True:
            try:
                return self._handle(google.call("POST", self._url(collection), body, retry=False))
            except UnreachableError:
                # The answer was lost, but perhaps not the job: a second one would cost as much again.
                if not delays:
                    raise
                time.sleep(delays.pop(0))
            for found in self._jobs(display_name=job.run_id):
                if found["name"] not in before:
                    return self._handle(found)

    def status(self, run_id: str) -> Status | None:
        found = self._newest(run_id)
        return self._status(found) if found else None

    def logs(self, run_id: str) -> Iterator[str]:
        found = self._newest(run_id)
        if not found:
            return
        trials = vertex_tuning.numbers(found)
        numbers = [found["name"].rpartition("/")[2], *trials]
        jobs = " OR ".join(f'resource.labels.job_id="{number}"' for number in numbers)
        condition = (
            f'resource.type="ml_job" AND ({jobs})'
            f' AND timestamp>="{found["createTime"]}"'  # else the whole retention is searched
        )
        for entry in entries.entries(self.project, condition):
            yield _log_line(entry, trials)

    def stop(self, run_id: str) -> None:
        found = self._jobs(display_name=run_id)
        if not found:
            raise UserError(f"Vertex AI knows no job of run {run_id}; see `uv run runs list`.")
        # There is one, unless two launches of one id were made at the same moment.
        for job in found:
            if not _has_ended(job):
                self._cancel(run_id, job["name"])

    def _cancel(self, run_id: str, name: str) -> None:
        try:
            google.call("POST", f"{self._api()}/{name}:cancel", {}, retry=True)
        except ServiceError:
            now = [job for job in self._jobs(display_name=run_id) if job["name"] == name]
            if not now or not _has_ended(now[0]):  # it may have ended just before
                raise

    def list(self) -> list[Status]:
        return [self._status(found) for found in self._jobs()]

    # -- the service -----------------------------------------------------------------------------

    def _api(self) -> str:
        return f"{google.endpoint('aiplatform', self.cloud.region)}/v1"

    def _url(self, collection: str) -> str:
        return f"{self._api()}/projects/{self.project}/locations/{self.cloud.region}/{collection}"

    def _jobs(self, display_name: str | None = None) -> list[dict[str, Any]]:
        """Find this project's jobs, newest first, without those that are trials of another."""
        found = [
            *self._all(CUSTOM, display_name),
            *self._all(vertex_tuning.COLLECTION, display_name),
        ]
        jobs = [each for each in found if not vertex_tuning.is_trial(each)]
        return sorted(jobs, key=_created, reverse=True)

    def _all(self, collection: str, display_name: str | None) -> list[dict[str, Any]]:
        conditions = [f'labels.{key}="{value}"' for key, value in (self.cloud.labels or {}).items()]
        if display_name:
            conditions.insert(0, f'display_name="{display_name}"')
        query = {"filter": " AND ".join(conditions), "pageSize": "100"}
        found: list[dict[str, Any]] = []
        while True:
            answer = google.call("GET", self._url(collection), params=query)
            found += answer.get(collection, [])
            if not (page := answer.get("nextPageToken")):
                return found
            query = {**query, "pageToken": page}

    def _newest(self, run_id: str) -> dict[str, Any] | None:
        return next(iter(self._jobs(display_name=run_id)), None)

    def _handle(self, found: dict[str, Any]) -> Handle:
        return Handle(found["name"], self._page(found))

    def _page(self, found: dict[str, Any]) -> str:
        number = found["name"].rpartition("/")[2]
        return f"{CONSOLE}/{self.cloud.region}/training/{number}?project={self.project}"

    def _status(self, found: dict[str, Any]) -> Status:
        error, state = found.get("error") or {}, _state(found)
        detail = error.get("message", "") or found["state"].removeprefix("JOB_STATE_").lower()
        seconds = _seconds(found, state)
        if _is_sweep(found):
            detail = f"{vertex_tuning.progress(found)}, {detail}"
            seconds = vertex_tuning.seconds(found, google.now())
        return Status(
            run_id=found["displayName"],
            state=state,
            created=_created(found),
            seconds=seconds,
            url=self._page(found),
            detail=detail,
            name=found["name"],
            labels=found.get("labels", {}),
        )


def _machine(job: Job) -> dict[str, Any]:
    machine: dict[str, Any] = {"machineType": job.machine.type}
    if job.machine.gpu:
        machine |= {"acceleratorType": job.machine.gpu, "acceleratorCount": job.machine.gpus}
    return machine


def _scheduling(job: Job) -> dict[str, Any]:
    """How long, on what, and how often.

    `timeout` is the longest time of running, seven days unless given; whether a restart sets it back is not
    documented, so the worker keeps count over all attempts itself (RUN_MAX_SECONDS) and this is the second
    guard. `maxWaitDuration` is for FLEX_START only. `disableRetries` overrides
    `restartJobOnWorkerRestart`, which ends the others where one node is replaced: torchrun needs all.
    """
    retries = job.spot or int(job.env.get(RUN_MAX_ATTEMPTS, 1)) > 1
    scheduling: dict[str, Any] = {
        "timeout": f"{math.ceil(job.max_hours * 3600)}s",
        "strategy": "SPOT" if job.spot else "STANDARD",
        "disableRetries": not retries,
    }
    if job.nodes > 1 and retries:
        scheduling["restartJobOnWorkerRestart"] = True
    return scheduling


def _state(found: dict[str, Any]) -> State:
    state = STATES.get(found.get("state", ""), State.queued)
    error = found.get("error") or {}
    said = str(error.get("message"))
    if state is State.failed and STOCK_OUT in said:
        return State.preempted
    by_limit = error.get("code") == DEADLINE_EXCEEDED or ENDED_BY_WORKER.search(said)
    return State.stopped if state is State.failed and by_limit else state


def _has_ended(found: dict[str, Any]) -> bool:
    """Tell whether the service does nothing more about a job; one without a machine can be submitted again."""
    return _state(found).over or _state(found) is State.preempted


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _is_sweep(found: Mapping[str, Any]) -> bool:
    return f"/{vertex_tuning.COLLECTION}/" in found["name"]


def _created(found: dict[str, Any]) -> datetime:
    return _time(found["createTime"])


def _seconds(found: dict[str, Any], state: State) -> float:
    """Time from the first start to the end, waiting after a preemption included: never too little."""
    if not (start := found.get("startTime")):
        return 0.0
    end = found.get("endTime") or (found.get("updateTime") if state.over else None)
    last = _time(end) if end else google.now()
    return max(0.0, (last - _time(start)).total_seconds())


def _log_line(entry: dict[str, Any], trials: Mapping[str, str]) -> str:
    text = entries.text(entry)
    labels = (entry.get("resource") or {}).get("labels", {})
    task, trial = labels.get("task_name", ""), trials.get(labels.get("job_id", ""))
    # With several nodes each line says whose it is, but for the one that most jobs have only.
    text = text if task in ("", "service", "workerpool0-0") else f"[{task}] {text}"
    return f"[trial {trial}] {text}" if trial else text


def _check_driver(job: Job) -> list[Problem]:
    """Would torch find the GPU? Only a note: the machines may have a newer driver by now."""
    version = locked("torch")
    release = re.match(r"(\d+)\.(\d+)", version)
    if job.machine.gpu not in OLD_DRIVER or not release or "+cu12" in version:
        return []
    if (int(release[1]), int(release[2])) < TORCH_FOR_13:
        return []
    what = (
        f"Vertex AI's machines with {job.machine.gpu} had a driver for CUDA 12 in mid-2026, and torch {version} "
        "is built for CUDA 13: a training that finds no GPU ends at once"
    )
    remedy = 'take "torch>=2.10,<2.11" (docs/cloud.md shows the lines), or another cloud.machine'
    return [Problem(what, remedy, fatal=False)]
