"""Custom jobs of Vertex AI, in the service's own JSON: what a dry run prints is what its reference describes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from ..errors import UserError
from . import doctor, google, registry
from .google_errors import GoogleError, UnreachableError
from .job import RUN_MAX_ATTEMPTS, RUN_SECRETS, Handle, Job, Leftover, Problem, State, Status

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


def connect(cloud: Any) -> Vertex:
    """Give the backend for a `cloud` section of the configuration. Needs no network."""
    return Vertex(cloud)


class Vertex:
    """Backend of `job.py`. Labels of the configuration tell this project's jobs from others."""

    def __init__(self, cloud: Any):
        self.cloud = cloud

    @property
    def project(self) -> str:
        """The configured project, else that of the login."""
        return self.cloud.project or google.project()

    def who(self) -> str:
        """Tell whose login is used. Raises UserError where there is none or it has expired."""
        return google.who()

    # -- images ----------------------------------------------------------------------------------

    def reference(self, cloud: Any = None) -> str:
        """Name the configured image, or else the newest that was built from main. Needs no network."""
        cloud = cloud or self.cloud
        image = cloud.image or f"{cloud.repository}:main"
        if registry.has_host(image):
            return image
        return f"{cloud.region}-docker.pkg.dev/{self._project_if_known()}/{image}"

    def image(self, cloud: Any = None) -> str:
        """Give the image by its digest, which names exactly one for ever.

        Raises:
            UserError: there is none yet, or the registry cannot be asked.
        """
        reference = self.reference(cloud)
        return reference if "@sha256:" in reference else registry.resolve(reference)

    def revision(self, image: str) -> str | None:
        """Give the commit that an image was built from; None where it does not say."""
        return registry.revision(image)

    # -- Backend ---------------------------------------------------------------------------------

    def check(self, job: Job) -> list[Problem]:
        try:
            self.who()
            project = self.project
        except GoogleError as error:  # whatever else is asked would fail for the same reason
            return [Problem(error.what, error.remedy)]
        return doctor.examine(project, self.cloud, job, (lambda: self._check_active(job),))

    def _check_active(self, job: Job) -> list[Problem]:
        """Is the service there, and no other job at work in the same run folder?"""
        found = self._newest(job.run_id)
        if not found or _state(found).over:
            return []
        what = f"A job of run {job.run_id} is {_state(found).name}, and would share its run folder"
        remedy = f"wait for it, end it by `uv run runs stop {job.run_id}`, or choose another run.id"
        return [Problem(what, remedy)]

    def request(self, job: Job) -> dict[str, Any]:
        pool = {
            "machineSpec": _machine(job),
            "replicaCount": "1",  # an int64, which is a string in the API's JSON
            "diskSpec": {"bootDiskType": "pd-ssd", "bootDiskSizeGb": BOOT_DISK_GB},
            # No `command`: the image's own entry point is the worker.
            "containerSpec": {
                "imageUri": job.image,
                "args": list(job.args),
                "env": [{"name": k, "value": v} for k, v in self._environment(job).items()],
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
        return {
            "displayName": job.run_id,
            "labels": {**(self.cloud.labels or {}), **job.labels},
            "jobSpec": spec,
        }

    def submit(self, job: Job) -> Handle:
        body = self.request(job)
        before = {found["name"] for found in self._jobs(display_name=job.run_id)}
        delays = list(SUBMIT_DELAYS)
        while True:
            try:
                return self._handle(google.call("POST", self._url(), body, retry=False))
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
        number = found["name"].rpartition("/")[2]
        body = {
            "resourceNames": [f"projects/{self.project}"],
            "filter": f'resource.type="ml_job" AND resource.labels.job_id="{number}"'
            f' AND timestamp>="{found["createTime"]}"',  # else the whole retention is searched
            "orderBy": "timestamp asc",
            "pageSize": 1000,
        }
        url = f"{google.endpoint('logging')}/v2/entries:list"
        while True:
            answer = google.call("POST", url, body, retry=True)  # it only reads
            yield from map(_log_line, answer.get("entries", []))
            if not (page := answer.get("nextPageToken")):
                return
            body = {**body, "pageToken": page}

    def stop(self, run_id: str) -> None:
        found = self._newest(run_id)
        if not found:
            raise UserError(f"Vertex AI knows no job of run {run_id}; see `uv run runs list`.")
        if _state(found).over:
            return
        try:
            google.call("POST", f"{self._api()}/{found['name']}:cancel", {}, retry=True)
        except GoogleError:
            now = self._newest(run_id)  # it may have ended just before
            if not now or not _state(now).over:
                raise

    def list(self) -> list[Status]:
        return [self._status(found) for found in self._jobs()]

    def leftovers(self) -> list[Leftover]:
        """Give nothing: the machines are the service's own, and end with their job."""
        return []

    def remove(self, leftover: Leftover) -> None:
        raise UserError(f"Vertex AI knows no {leftover.what}.")

    def now(self) -> datetime:
        return google.now()

    # -- the service -----------------------------------------------------------------------------

    def _api(self) -> str:
        return f"{google.endpoint('aiplatform', self.cloud.region)}/v1"

    def _url(self) -> str:
        return f"{self._api()}/projects/{self.project}/locations/{self.cloud.region}/customJobs"

    def _jobs(self, display_name: str | None = None) -> list[dict[str, Any]]:
        """Find this project's jobs, newest first; the service's own order is not documented."""
        conditions = [f'labels.{key}="{value}"' for key, value in (self.cloud.labels or {}).items()]
        if display_name:
            conditions.insert(0, f'display_name="{display_name}"')
        query = {"filter": " AND ".join(conditions), "pageSize": "100"}
        found: list[dict[str, Any]] = []
        while True:
            answer = google.call("GET", self._url(), params=query)
            found += answer.get("customJobs", [])
            if not (page := answer.get("nextPageToken")):
                return sorted(found, key=_created, reverse=True)
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
        return Status(
            run_id=found["displayName"],
            state=state,
            created=_created(found),
            seconds=_seconds(found, state),
            url=self._page(found),
            detail=detail,
        )

    def _environment(self, job: Job) -> dict[str, str]:
        environment = dict(job.env)
        if job.secrets:
            where = f"projects/{self._project_if_known()}/secrets"
            environment[RUN_SECRETS] = ",".join(
                f"{variable}={where}/{name}/versions/latest"
                for variable, name in job.secrets.items()
            )
        return environment

    def _service_account(self) -> str:
        account = self.cloud.service_account
        if "@" in account:
            return account
        return f"{account}@{self._project_if_known()}.iam.gserviceaccount.com"

    def _project_if_known(self) -> str:
        try:
            return self.project
        except UserError:  # a dry run needs no login; whatever is sent does, and says so first
            return "PROJECT"


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
    if state is State.failed and (found.get("error") or {}).get("code") == DEADLINE_EXCEEDED:
        return State.stopped
    return state


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _created(found: dict[str, Any]) -> datetime:
    return _time(found["createTime"])


def _seconds(found: dict[str, Any], state: State) -> float:
    """Time from the first start to the end, waiting after a preemption included: never too little."""
    if not (start := found.get("startTime")):
        return 0.0
    end = found.get("endTime") or (found.get("updateTime") if state.over else None)
    last = _time(end) if end else datetime.now(UTC)
    return max(0.0, (last - _time(start)).total_seconds())


def _log_line(entry: dict[str, Any]) -> str:
    content = entry.get("jsonPayload") or {}
    text = str(entry.get("textPayload") or content.get("message") or content).rstrip("\n")
    task = (entry.get("resource") or {}).get("labels", {}).get("task_name", "")
    # With several nodes each line says whose it is, but for the one that most jobs have only.
    return text if task in ("", "service", "workerpool0-0") else f"[{task}] {text}"
