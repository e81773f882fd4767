"""A strict stand-in for Compute Engine whose VMs really run their startup script, and for the log of their containers."""

import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import format_datetime
from typing import Any

from stage import containers
from stage.cloud_logging import list_entries
from stage.compute_catalog import ZONES, gpus
from stage.compute_filter import MachineLogFilter, partial
from stage.compute_logs import Line, log_server
from stage.compute_operations import Clock, Operation
from stage.compute_reads import Reads
from stage.compute_rules import ComputeError, prepare
from stage.compute_vms import GONE, Machine, Settings
from stage.compute_writes import Writes, gpu_metric
from stage.google_identity import Identity
from stage.patience import deadline
from stage.rest import Answer, Handle, LostAnswerError, Request, RequestError, serve

__all__ = ["GONE", "Compute", "Fault", "Machine", "compute"]

LISTS = ("filter", "maxResults", "orderBy", "pageToken", "returnPartialSuccess", "includeAllScopes")
REASONS = {401: "authError", 403: "forbidden", 404: "notFound", 429: "rateLimitExceeded", 503: "backendError"}


@dataclass
class Fault:
    """What goes wrong with requests.

    Args:
        method, path: regular expressions of those that are meant.
        times: how many of them; None for all.
        status: what is answered instead.
        lost: whether the request is carried out all the same, and its answer is lost.
    """

    method: str
    path: str
    times: int | None
    status: int
    lost: bool
    hits: int = 0

    def meets(self, request: Request) -> bool:
        met = re.fullmatch(self.method, request.method) and re.search(self.path, request.path)
        if not met or self.times == self.hits:
            return False
        self.hits += 1
        return True


class Compute:
    """The service of one project, as a test handles it.

    Attributes:
        url: its address.
        env: leads clients of Compute Engine and of Cloud Logging here.
        requests: everything that was asked, in order.
        clock: the service's clock, by which every time of an answer goes; `date_ahead` is for the header Date only.
        exhausted: zones, or (zone, machine type) pairs, without capacity: a new VM's operation fails there.
        unreachable: zones that a list leaves out, with a warning.
        quotas: metric -> region -> limit; GPUS_ALL_REGIONS is that of the region "global".
        capacity: while it is cleared, new VMs stay in PROVISIONING.
        disks: (zone, name) -> disk.
    """

    def __init__(
        self, identity: Identity, settings: Callable[["Compute"], Settings], logs: Handle | None
    ) -> None:
        self.identity = identity
        self.stage = f"stage-{secrets.token_hex(4)}"
        self.url = ""
        self.requests: list[Request] = []
        self.clock, self.date_ahead = Clock(), 0.0
        self.exhausted: set[str | tuple[str, str]] = set()
        self.unreachable: set[str] = set()
        self.quotas: dict[str, dict[str, int]] = {}
        self.capacity = threading.Event()
        self.capacity.set()
        self.disks: dict[tuple[str, str], dict[str, Any]] = {}
        self.operations: dict[str, Operation] = {}
        self.settings, self._logs = settings, logs
        self._machines: list[Machine] = []
        self._faults: list[Fault] = []
        self.reads, self._writes = Reads(self), Writes(self)

    @property
    def env(self) -> dict[str, str]:
        # gcloud's own setting for Compute Engine has the version in it, that for other services has not.
        override = "CLOUDSDK_API_ENDPOINT_OVERRIDES_"
        return {f"{override}COMPUTE": f"{self.url}/compute/v1/", f"{override}LOGGING": f"{self.url}/"}

    # What a test asks and does

    def machines(self, there_only: bool = False) -> list[Machine]:
        """All VMs that ever were, oldest first; or only those that the API still knows."""
        return [one for one in list(self._machines) if not there_only or one.status != GONE]

    def machine(self, name: str) -> Machine:
        """The newest VM with this name, id, or label `run`."""
        for one in reversed(self._machines):
            if name in (one.name, one.id, one.resource.get("labels", {}).get("run")):
                return one
        raise KeyError(name)

    def wait(self, machine: Machine, states: Iterable[str] = (GONE,), timeout: float = 120) -> Machine:
        """Waits until a VM is in one of the states; raises AssertionError with its console if it is not in time."""
        until, states = deadline(timeout), set(states)
        while machine.status not in states:
            if time.monotonic() > until or machine.status == GONE:
                tail = "\n".join((machine.console() + "\n".join(machine.lines())).splitlines()[-60:])
                raise AssertionError(
                    f"{machine.name} is {machine.status} rather than {sorted(states)}:\n{tail}"
                )
            time.sleep(0.05)
        return machine

    def wait_for_line(self, machine: Machine, pattern: str, timeout: float = 120, count: int = 1) -> str:
        """Waits until a VM's containers, or its console, have printed `count` lines with a regular expression."""
        until = deadline(timeout)
        while True:
            over = machine.status in (GONE, "TERMINATED")
            found = [
                line
                for line in (*machine.lines(), *machine.console().splitlines())
                if re.search(pattern, line)
            ]
            if len(found) >= count:
                return found[count - 1]
            if over or time.monotonic() > until:
                tail = "\n".join((machine.console() + "\n".join(machine.lines())).splitlines()[-60:])
                raise AssertionError(
                    f"{len(found)} lines rather than {count} with {pattern!r} ({machine.status}):\n{tail}"
                )
            time.sleep(0.05)

    def preempt(self, machine: Machine, notice: bool = True) -> None:
        """Takes a VM away, with the usual notice or with none; returns when it is off."""
        assert machine.status == "RUNNING", (
            f"{machine.name} is {machine.status}: there is nothing to take away"
        )
        machine.end("preempted", seconds=30 if notice else None)
        self.wait(machine, (GONE, "TERMINATED"), 60)

    def fail(
        self, method: str = ".*", path: str = "", times: int | None = 1, status: int = 503, lost: bool = False
    ) -> Fault:
        """Has the next requests fail; see `Fault`."""
        self._faults.append(Fault(method, path, times, status, lost))
        return self._faults[-1]

    def heal(self) -> None:
        self._faults.clear()

    def containers(self, running_only: bool = True) -> list[str]:
        """Ids of the containers that are there now: VMs, and what runs in them."""
        return containers.ids(self.stage, running_only)

    def close(self) -> None:
        """Ends all VMs without grace and removes their containers."""
        for one in self.machines(there_only=True):
            one.end("abandoned", seconds=None)
        for one in self._machines:
            one.join(60)
        containers.cleanup(self.stage)

    # The service

    def handle(self, request: Request) -> Answer:
        self.requests.append(request)
        fault = next((one for one in self._faults if one.meets(request)), None)
        try:
            if fault and not fault.lost:
                raise ComputeError(
                    fault.status,
                    "The service is currently unavailable.",
                    REASONS.get(fault.status, "backendError"),
                )
            answer = self._answer(request)
        except RequestError as error:
            if (
                not isinstance(error, ComputeError)
                and error.code in REASONS
                and not request.path.startswith("/v2/")
            ):
                error = ComputeError(error.code, error.message, REASONS[error.code])
            answer = Answer(error.json(), error.code)
        if fault and fault.lost:
            raise LostAnswerError
        date = Clock(self.clock.ahead + self.date_ahead).now()
        return Answer(
            answer.content, answer.code, {**answer.headers, "Date": format_datetime(date, usegmt=True)}
        )

    def take(self, line: Line) -> None:
        """Keeps what a container has printed with the VM that it runs on."""
        for one in self._machines:
            if one.id == line.vm:
                one.take(line)

    def _answer(self, request: Request) -> Answer:
        if request.path == "/v2/entries:list" and request.method == "POST":
            if self._logs and not MachineLogFilter.ASKED.search(str(request.json().get("filter"))):
                return self._logs(request)
            entries = lambda: (entry for one in self._machines for entry in one.entries())
            return list_entries(self.identity, request, entries, MachineLogFilter)
        found = re.fullmatch(r"/compute/v1/projects/([^/]+)(?:/(.+))?", request.path)
        if not found:
            raise ComputeError(
                404, f"The requested URL {request.path} was not found on this server.", "notFound"
            )
        self.identity.caller(request)
        if not found[2] or not found[2].startswith("global/images"):
            self._check_project(found[1])
        if request.method != "GET":
            return self._writes.answer(request, found[2] or "")
        query = request.only(*LISTS, "start", "port")
        answer = self.reads.answer(request, found[1], found[2] or "", query)
        return Answer(partial(answer, query["fields"]) if "fields" in query else answer)

    def _check_project(self, project: str) -> None:
        if not self.identity.is_project(project):
            raise ComputeError(404, f"The resource 'projects/{project}' was not found", "notFound")
        if "compute.googleapis.com" in self.identity.disabled_services:
            text = f"Compute Engine API has not been used in project {project} before or it is disabled."
            raise ComputeError(403, text, "accessNotConfigured")

    def check_zone(self, zone: str) -> None:
        if zone not in ZONES:
            raise ComputeError(400, f"Invalid value for field 'zone': '{zone}'. Unknown zone.", "invalid")

    def require(self, request: Request, permission: str, resource: str) -> str:
        """E-mail of the caller, who has to have a permission in the project or on the resource."""
        caller = self.identity.caller(request)
        if not caller.allows(permission, resource):
            text = f"Required '{permission}' permission for 'projects/{self.identity.project}/{resource}'"
            raise ComputeError(403, text, "forbidden")
        return caller.email

    def add(self, machine: Machine) -> None:
        self._machines.append(machine)

    def known(self, zone: str, name: str) -> Machine:
        for one in reversed(self._machines):
            if one.zone == zone and name in (one.name, one.id) and one.status != GONE:
                return one
        raise self.not_found(f"zones/{zone}/instances/{name}")

    def not_found(self, resource: str) -> ComputeError:
        text = f"The resource 'projects/{self.identity.project}/{resource}' was not found"
        return ComputeError(404, text, "notFound")

    def operation(self, kind: str, zone: str, target: str, target_id: str, user: str) -> Operation:
        path = f"projects/{self.identity.project}/zones/{zone}/{target}"
        made = Operation(self.identity, self.clock, kind, zone, path, target_id, user)
        self.operations[made.name] = made
        return made

    def usage(self, metric: str, region: str) -> int:
        """GPUs of a metric that VMs have now, new ones included."""
        here = [one for one in self.machines(there_only=True) if one.status != "TERMINATED"]
        if metric != "GPUS_ALL_REGIONS":
            here = [one for one in here if one.zone.startswith(region) and gpu_metric(one.resource) == metric]
        return sum(gpus(one.resource)[1] for one in here)

    def tell(self, machine: Machine, event: str) -> None:
        """Lists what the service itself has done with a VM."""
        self.operation(event, machine.zone, f"instances/{machine.name}", machine.id, "system").done()

    def clear_disk(self, machine: Machine) -> None:
        """The disk of a deleted VM goes with it, or stays without a user."""
        disk = machine.resource["disks"][0]
        key = machine.zone, disk["source"].rpartition("/")[2]
        if disk["autoDelete"] or machine.why == "refused":
            self.disks.pop(key, None)
        elif key in self.disks:
            del self.disks[key]["users"]


@contextmanager
def compute(
    identity: Identity,
    *,
    platform: Mapping[str, str] | None = None,
    script: Mapping[str, str] | None = None,
    hosts: Mapping[str, str] | None = None,
    logs: Handle | None = None,
    seconds_per_hour: float = 3600,
    boot_seconds: float = 0.1,
    notice_seconds: float = 30,
    port: int = 0,
) -> Iterator[Compute]:
    """Runs the service while the block lasts; no container is left behind.

    Args:
        platform: environment of every container that a VM starts, beside what its script gives: where the emulators are.
        script: environment of startup scripts, where real ones have none: for patience that a test can wait for.
        hosts: host of Google -> address that a VM's `curl` asks instead, beside Compute Engine's own.
        logs: who answers entries:list for what is not of VMs.
        seconds_per_hour: of this clock; a VM's time limit of an hour lasts so long here.
        boot_seconds: from the order of a VM to its start.
        notice_seconds: the longest that a VM takes to go down.
    """
    containers.require()
    prepare()
    with log_server(lambda line: here.take(line)) as syslog:

        def settings(service: Compute) -> Settings:
            known = {"compute.googleapis.com": service.url, **(hosts or {})}
            times = (seconds_per_hour, boot_seconds, notice_seconds)
            return Settings(dict(platform or {}), *times, dict(script or {}), known, syslog)

        here = Compute(identity, settings, logs)
        with serve(here.handle, port) as here.url:
            try:
                yield here
            finally:
                here.close()
