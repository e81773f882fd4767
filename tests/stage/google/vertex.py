"""A strict stand-in for Vertex AI's custom and tuning jobs that really runs their images, and for their log."""

import itertools
import re
import secrets
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from stage import containers
from stage.google.cloud_logging import list_entries, page
from stage.google.identity import Identity
from stage.google.vertex_checks import Agents, check_account, check_agent, check_machines, check_place
from stage.google.vertex_filter import LogFilter, job_filter
from stage.google.vertex_handle import Handle
from stage.google.vertex_hosts import DRIVERS, OLD, options
from stage.google.vertex_jobs import CANCELLED, FAILED, OVER, SUCCEEDED, TrainingJob
from stage.google.vertex_nodes import Settings, Trial
from stage.google.vertex_quotas import check_quotas, give
from stage.google.vertex_region import Region
from stage.google.vertex_rules import accelerator, check, parse, prepare
from stage.google.vertex_tuning import TuningJob, TuningTrial
from stage.google.vertex_tuning_rules import check_tuning
from stage.rest import Answer, Request, RequestError, serve

__all__ = ["CANCELLED", "FAILED", "OVER", "SUCCEEDED", "TrainingJob", "TuningJob", "Vertex", "vertex"]

PATH = re.compile(
    r"/v1/projects/([^/]+)/locations/([^/]+)/(customJobs|hyperparameterTuningJobs)(?:/([^/:]+))?(:cancel)?"
)


class Vertex(Handle):
    """The service of one region, as a test handles it.

    Attributes:
        url: address of both services.
        env: leads clients of Vertex AI and of Cloud Logging here.
        requests: everything that was asked, in order.
        unsupported: machine types and accelerators that this region does not have, beside those that it never has.
        capacity: while it is cleared, jobs stay queued.
        drivers: accelerator -> version of the driver on its hosts, and of the newest CUDA that it can.
        agents: e-mail -> roles of the service's own accounts that are there; None where jobs have run before.
    """

    def __init__(
        self,
        identity: Identity,
        region: str,
        registries: Collection[str],
        settings: Settings,
        agents: Agents | None = None,
    ) -> None:
        super().__init__(Region(identity, region), f"stage-{secrets.token_hex(4)}")
        self.identity, self.region, self.registries = identity, region, set(registries)
        self._hosts = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        Path(self._hosts.name).chmod(0o755)
        self.settings = replace(settings, host=self._host)
        self.url = ""
        self.requests: list[Request] = []
        self.unsupported: set[str] = set()
        self.capacity = self.here.capacity
        self.drivers = dict(DRIVERS)
        self.agents = agents
        self._ids = itertools.count(int(secrets.token_hex(6), 16) + 10**15)
        self._lock = threading.Lock()

    @property
    def env(self) -> dict[str, str]:
        return {
            f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{name}": f"{self.url}/" for name in ("AIPLATFORM", "LOGGING")
        }

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
        self._hosts.cleanup()

    def _host(self, machine: Any) -> tuple[str, ...]:
        """What a container sees of a machine, as options for `docker run`."""
        gpu = accelerator(machine)
        driver = self.drivers.get(gpu, OLD)
        return options(Path(self._hosts.name), gpu, machine.accelerator_count, driver)

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
        check_agent(self.identity, self.region, self.agents, message.job_spec)
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
            region=self.here,
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
        check_agent(self.identity, self.region, self.agents, message.trial_job_spec)
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
        check_machines(self.region, self.unsupported, spec)
        check_quotas(self.identity, self.region, spec, times)

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
    error_seconds: float = 0,
    hasty: bool = False,
    agents: Agents | None = None,
    account: Mapping[str, Mapping[str, int]] | None = None,
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
        error_seconds: a failed job has no `error` for so long; the real one has it after about a minute, by
            https://docs.cloud.google.com/vertex-ai/docs/training/understanding-training-service.
        hasty: a container that has failed for good starts once more before the job is shut down, which "may" happen by
            the same page.
        agents: e-mail -> roles of the service's own accounts that are there; it is changed as the service makes them.
            None: they are there with their roles, as where jobs have run before.
        account: quotas, as NEW_ACCOUNT is, which is the usual one. What a test has set in `identity.quotas` stays.
    """
    containers.require()
    prepare()
    give(identity, account)
    settings = Settings(
        platform=dict(platform or {}),
        mirrors=dict(mirrors or {}),
        seconds_per_hour=seconds_per_hour,
        grace_seconds=grace_seconds,
        queue_seconds=queue_seconds,
        error_seconds=error_seconds,
        hasty=hasty,
    )
    here = Vertex(identity, region, registries, settings, agents)
    with serve(here.handle, port) as here.url:
        try:
            yield here
        finally:
            here.close()
