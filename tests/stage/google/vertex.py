"""A strict stand-in for Vertex AI's custom and tuning jobs that really runs their images, and for their log."""

import itertools
import json
import re
import secrets
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from google.protobuf import json_format

from stage import containers
from stage.google.cloud_logging import list_entries, page
from stage.google.identity import Identity
from stage.patience import deadline
from stage.rest import Answer, Request, RequestError, serve
from stage.google.vertex_checks import check_account, check_machines, check_place
from stage.google.vertex_filter import LogFilter, job_filter
from stage.google.vertex_jobs import CANCELLED, FAILED, OVER, SUCCEEDED, TrainingJob
from stage.google.vertex_nodes import Settings, Trial
from stage.google.vertex_rules import check, parse, prepare
from stage.google.vertex_tuning import TuningJob, TuningTrial
from stage.google.vertex_tuning_rules import check_tuning

__all__ = ["CANCELLED", "FAILED", "OVER", "SUCCEEDED", "TrainingJob", "TuningJob", "Vertex", "vertex"]

PATH = re.compile(
    r"/v1/projects/([^/]+)/locations/([^/]+)/(customJobs|hyperparameterTuningJobs)(?:/([^/:]+))?(:cancel)?"
)


class Vertex:
    """The service of one region, as a test handles it.

    Attributes:
        url: address of both services.
        env: leads clients of Vertex AI and of Cloud Logging here.
        requests: everything that was asked, in order.
        unsupported: machine types and accelerators that this region does not have.
        capacity: while it is cleared, jobs stay queued.
    """

    def __init__(
        self, identity: Identity, region: str, registries: Collection[str], settings: Settings
    ) -> None:
        self.identity, self.region, self.registries, self.settings = (
            identity,
            region,
            set(registries),
            settings,
        )
        self.stage = f"stage-{secrets.token_hex(4)}"
        self.url = ""
        self.requests: list[Request] = []
        self.unsupported: set[str] = set()
        self.capacity = threading.Event()
        self.capacity.set()
        self._jobs: dict[str, TrainingJob] = {}  # those of trials too
        self._sweeps: dict[str, TuningJob] = {}
        self._ids = itertools.count(int(secrets.token_hex(6), 16) + 10**15)
        self._lock = threading.Lock()

    @property
    def env(self) -> dict[str, str]:
        return {
            f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{name}": f"{self.url}/" for name in ("AIPLATFORM", "LOGGING")
        }

    # What a test asks and does

    def jobs(self) -> list[TrainingJob]:
        """All custom jobs that were submitted, oldest first; not those that are trials."""
        return [job for job in list(self._jobs.values()) if not job.trial]

    def sweeps(self) -> list[TuningJob]:
        """All tuning jobs, oldest first."""
        return list(self._sweeps.values())

    def sweep(self, name: str) -> TuningJob:
        """The newest tuning job with this display name."""
        return next(job for job in reversed(self.sweeps()) if job.resource["displayName"] == name)

    def job(self, name: str) -> TrainingJob:
        """The newest job with this display name, or with this id or resource name."""
        for job in reversed(self.jobs()):
            if name in (job.id, job.name, job.resource["displayName"]):
                return job
        raise KeyError(name)

    def wait_for_sweep(self, name: str, timeout: float = 300) -> TuningJob:
        """Waits until a tuning job is over.

        Raises:
            AssertionError: it is not in time; with what its trials printed last.
        """
        sweep, until = self.sweep(name), deadline(timeout)
        while sweep.state not in OVER:
            if time.monotonic() > until:
                tail = "\n".join(sweep.lines()[-60:])
                raise AssertionError(f"{sweep.state}: {json.dumps(sweep.json()['trials'])}\n{tail}")
            time.sleep(0.05)
        return sweep

    def wait(self, job: TrainingJob | str, states: Iterable[str] = OVER, timeout: float = 120) -> TrainingJob:
        """Waits until a job is in one of the states (JOB_STATE_ may be left out).

        Raises:
            AssertionError: it is not in time, or it is over in another state; with what it printed last.
        """
        job = self.job(job) if isinstance(job, str) else job
        wanted = {state if state.startswith("JOB_STATE_") else f"JOB_STATE_{state}" for state in states}
        until = deadline(timeout)
        while job.state not in wanted:
            if time.monotonic() > until or job.state in OVER:
                tail = "\n".join(job.lines()[-40:])
                raise AssertionError(
                    f"{job.state} rather than {sorted(wanted)}: {job.resource.get('error')}\n{tail}"
                )
            time.sleep(0.05)
        return job

    def wait_for_line(
        self, job: TrainingJob | str, pattern: str, timeout: float = 120, count: int = 1
    ) -> str:
        """Waits until a job has printed `count` lines that a regular expression is found in; gives the last of them."""
        job = self.job(job) if isinstance(job, str) else job
        until = deadline(timeout)
        while True:
            over = job.state in OVER
            found = [line for line in job.lines() if re.search(pattern, line)]
            if len(found) >= count:
                return found[count - 1]
            if over or time.monotonic() > until:
                tail = "\n".join(job.lines()[-40:])
                raise AssertionError(
                    f"{len(found)} lines rather than {count} with {pattern!r} ({job.state}):\n{tail}"
                )
            time.sleep(0.05)

    def preempt(self, job: TrainingJob, grace_seconds: float = 30, node: int = 0) -> None:
        """Takes a node's machine away: SIGTERM, SIGKILL after the grace; then a new machine starts the container anew.

        Returns when the container is gone.
        """
        job.take_away(node, grace_seconds)

    def kill(self, job: TrainingJob, node: int = 0) -> None:
        """Takes a node's machine away without notice (SIGKILL); returns when the container is gone."""
        job.take_away(node, None)

    def containers(self, running_only: bool = True) -> list[str]:
        """Ids of the containers that are there now; `job.started` names all that ever were."""
        return containers.ids(self.stage, running_only)

    def close(self) -> None:
        """Ends all jobs and removes their containers."""
        for sweep in self.sweeps():
            sweep.abandon()
        for sweep in self.sweeps():
            sweep.join()
        for job in self._jobs.values():
            job.abandon()
        for job in self._jobs.values():
            job.join()
        containers.cleanup(self.stage)

    # The services

    def handle(self, request: Request) -> Answer:
        self.requests.append(request)
        if request.path == "/v2/entries:list" and request.method == "POST":
            return self._entries(request)
        found = PATH.fullmatch(request.path)
        if not found:
            raise RequestError(404, f"The requested URL {request.path} was not found on this server.")
        project, location, kind, number, cancel = found.groups()
        create = self._create if kind == "customJobs" else self._create_sweep
        verbs = {
            ("POST", False, False): ("create", create),
            ("GET", False, False): ("list", self._list),
            ("GET", True, False): ("get", self._get),
            ("POST", True, True): ("cancel", self._cancel),
        }
        verb, service = verbs.get((request.method, bool(number), bool(cancel)), ("", None))
        if service is None:
            raise RequestError(501, f"{request.method} {request.path} is not part of the stand-in.")
        self.identity.require(request, f"aiplatform.{kind}.{verb}", "")
        check_place(self.identity, self.region, project, location)
        return service(request, number or kind)

    def _create(self, request: Request, _: str) -> Answer:
        request.only()
        message = parse(request.body)
        check(message, self.registries)
        check_account(self.identity, request, message.job_spec.service_account)
        self._check_machines(message.job_spec)
        return Answer(self._start(json_format.MessageToDict(message), message.job_spec).json())

    def _start(self, resource: dict[str, Any], spec: Any, trial: Trial | None = None) -> TrainingJob:
        job = TrainingJob(
            number=str(next(self._ids)),
            parent=self._parent,
            resource=resource,
            spec=spec,
            settings=self.settings,
            stage=self.stage,
            identity=self.identity,
            capacity=self.capacity,
            trial=trial,
        )
        with self._lock:
            self._jobs[job.id] = job
        job.start()
        return job

    @property
    def _parent(self) -> str:
        return f"projects/{self.identity.number}/locations/{self.region}"

    def _create_sweep(self, request: Request, _: str) -> Answer:
        request.only()
        message = parse(request.body, tuning=True)
        check_tuning(message, self.registries)
        check_account(self.identity, request, message.trial_job_spec.service_account)
        self._check_machines(message.trial_job_spec, message.parallel_trial_count)
        resource = json_format.MessageToDict(message)

        def start(trial: TuningTrial) -> TrainingJob:
            # Which name and labels they have is not documented; with these a careless list counts them as runs.
            copied = {name: resource[name] for name in ("displayName", "labels") if name in resource}
            job = {**copied, "jobSpec": resource["trialJobSpec"]}
            return self._start(job, message.trial_job_spec, trial.given())

        number, project = str(next(self._ids)), self.identity.project
        sweep = TuningJob(number, self._parent, resource, message, project, start)
        with self._lock:
            self._sweeps[sweep.id] = sweep
        sweep.start()
        return Answer(sweep.json())

    def _check_machines(self, spec: Any, times: int = 1) -> None:
        check_machines(self.identity, self.region, self.unsupported, spec, times)

    def _get(self, request: Request, number: str) -> Answer:
        request.only()
        return Answer(self._known(number).json())

    def _known(self, number: str) -> TrainingJob | TuningJob:
        found = self._jobs.get(number) or self._sweeps.get(number)
        if found is None:
            raise RequestError(404, f"The job does not exist: {number}")
        return found

    def _cancel(self, request: Request, number: str) -> Answer:
        request.only()
        if request.json():
            raise RequestError(400, "Invalid JSON payload received. The body must be empty.")
        job = self._known(number)
        # Success is not promised, and an ended job stays what it is.
        job.cancel()
        return Answer({})

    def _list(self, request: Request, kind: str) -> Answer:
        query = request.only("filter", "pageSize", "pageToken", "readMask")
        matches = job_filter(query.get("filter", ""))
        known = self._jobs if kind == "customJobs" else self._sweeps
        found = [job.json() for job in reversed(list(known.values()))]
        shown, more = page(
            [job for job in found if matches(job)], query.get("pageSize"), query.get("pageToken"), 100
        )
        return Answer(({kind: shown} if shown else {}) | more)

    def _entries(self, request: Request) -> Answer:
        return list_entries(
            self.identity,
            request,
            lambda: (
                entry for job in (*self._jobs.values(), *self._sweeps.values()) for entry in job.log.entries()
            ),
            LogFilter,
        )


@contextmanager
def vertex(
    identity: Identity,
    *,
    region: str = "us-central1",
    registries: Collection[str] = (),
    platform: Mapping[str, str] | None = None,
    mirrors: Mapping[str, str] | None = None,
    seconds_per_hour: float = 3600,
    grace_seconds: float = 10,
    queue_seconds: float = 0.1,
    port: int = 0,
) -> Iterator[Vertex]:
    """Runs the service while the block lasts; no container is left behind.

    Args:
        registries: hosts (127.0.0.1:5000) of which images are taken beside Artifact Registry and Docker Hub.
        platform: environment of every container beside the job's own; such as where the emulators are.
        mirrors: host of an image -> host that it is really pulled from.
        seconds_per_hour: of this clock; a job's time limit of an hour lasts so long here.
        grace_seconds: between SIGTERM and SIGKILL when a job is cancelled or past its limit.
        queue_seconds: each of the states queued and pending lasts at least so long.
    """
    containers.require()
    prepare()
    settings = Settings(
        dict(platform or {}), dict(mirrors or {}), seconds_per_hour, grace_seconds, queue_seconds
    )
    here = Vertex(identity, region, registries, settings)
    with serve(here.handle, port) as here.url:
        try:
            yield here
        finally:
            here.close()
