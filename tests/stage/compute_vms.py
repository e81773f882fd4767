"""The life of one VM: its start, the script that it runs, how it is taken away or takes itself away."""

import json
import queue
import re
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from stage import containers
from stage.compute_logs import Line
from stage.compute_metadata import Metadata
from stage.compute_operations import Clock, Operation
from stage.google_identity import Identity
from stage.rest import serve

GUEST = Path(__file__).with_name("guest")
SYSTEM = "stage-runner:latest"  # `make engine` makes it
GONE = "GONE"  # the state of a VM that the API knows no more
CONTAINERS_GRACE = 15  # seconds that the engine gives containers when its machine goes down
LAST_WORDS = 2.0  # seconds that a startup script has left after its containers


@dataclass(frozen=True)
class Settings:
    """How the stand-in runs VMs; see `compute`.

    Args:
        script: environment of the startup script, where a real one has none.
        hosts: host of Google -> address of the stand-in that is asked instead.
        syslog: where containers' lines go.
    """

    platform: dict[str, str]
    seconds_per_hour: float
    boot_seconds: float
    notice_seconds: float
    script: dict[str, str]
    hosts: dict[str, str]
    syslog: str


class Machine:
    """A VM. It is read by tests; only `Compute` changes it.

    Attributes:
        resource: what the API shows.
        status: PROVISIONING, STAGING, RUNNING, STOPPING, TERMINATED; GONE when it is deleted.
        why: what has ended it: delete, stop, preempted, limit, poweroff or crash; "" before.
        started: monotonic time of its start; None before.
    """

    def __init__(
        self,
        resource: dict[str, Any],
        identity: Identity,
        settings: Settings,
        stage: str,
        clock: Clock,
        capacity: threading.Event,
        obstacle: Callable[["Machine"], tuple[dict[str, Any], int] | None],
        told: Callable[["Machine", str], None],
        left: Callable[["Machine"], None],
    ) -> None:
        self.resource, self.identity, self.settings, self.stage = resource, identity, settings, stage
        self.clock, self._capacity, self._obstacle = clock, capacity, obstacle
        self._told, self._left = told, left
        self.name, self.id = resource["name"], resource["id"]
        self.zone = resource["zone"].rpartition("/")[2]
        self.account = next((one["email"] for one in resource.get("serviceAccounts", [])), "")
        self.why = ""
        self.started: float | None = None
        self._ended: float | None = None
        self._preempted = False
        self._wanted: queue.Queue[tuple[str, float | None]] = queue.Queue()
        self._ending: list[Operation] = []
        self._console: list[str] = []
        self._lines: list[Line] = []
        self._lock = threading.RLock()
        self._container: containers.Container | None = None
        self._servers = ExitStack()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.inserting: Operation | None = None

    # What is known of it

    @property
    def status(self) -> str:
        return self.resource["status"]

    @property
    def machine_seconds(self) -> float:
        """Seconds that are paid for: from its start until it is off."""
        if self.started is None:
            return 0.0
        return (self._ended or time.monotonic()) - self.started

    @property
    def limit_seconds(self) -> float | None:
        """Its longest time of running on this machine's clock; None without a limit."""
        limit = self.resource.get("scheduling", {}).get("maxRunDuration")
        return int(limit["seconds"]) * self.settings.seconds_per_hour / 3600 if limit else None

    def json(self) -> dict[str, Any]:
        with self._lock:
            return json.loads(json.dumps(self.resource))

    def attribute(self, key: str) -> str | None:
        """The value of a metadata key."""
        items = self.resource.get("metadata", {}).get("items", [])
        return next((item.get("value", "") for item in items if item["key"] == key), None)

    def lines(self) -> list[str]:
        """What its containers have sent to Cloud Logging, oldest first."""
        return [line.message for line in list(self._lines)]

    def console(self) -> str:
        """What it has written to its serial port."""
        return "".join(f"{line}\n" for line in list(self._console))

    def entries(self) -> list[dict[str, Any]]:
        """Its containers' lines as Cloud Logging has them from Docker's gcplogs driver."""
        project = self.identity.project
        instance = {"name": self.name, "zone": self.zone, "id": self.id}
        labels = {"project_id": project, "instance_id": self.id, "zone": self.zone}
        return [
            {
                "insertId": f"{self.id}-{position:09}",
                "logName": f"projects/{project}/logs/gcplogs-docker-driver",
                "timestamp": line.time,
                "severity": "DEFAULT",
                "resource": {"type": "gce_instance", "labels": labels},
                "jsonPayload": {
                    "message": line.message,
                    "instance": instance,
                    "container": {
                        "name": f"/{line.container}",
                        "id": line.container_id,
                        "imageName": line.image,
                        **({"metadata": line.metadata} if line.metadata else {}),
                    },
                },
            }
            for position, line in enumerate(list(self._lines))
        ]

    # What happens to it from outside

    def start(self, inserting: Operation) -> None:
        self.inserting = inserting
        self._thread.start()

    def end(self, why: str, operation: Operation | None = None, seconds: float | None = 30) -> None:
        """Has it deleted, stopped, preempted or powered off; None seconds: without notice. The operation ends with it."""
        with self._lock:
            if operation:
                self._ending.append(operation)
            self._wanted.put((why, seconds))
            if self.status == GONE:
                self._finish_operations()

    def take(self, line: Line) -> None:
        """Keeps a line of one of its containers."""
        self._lines.append(line)

    def join(self, timeout: float | None = None) -> None:
        self._thread.join(timeout)

    # Its own life

    def _run(self) -> None:
        try:
            if self._boot():
                while self.status != GONE:
                    self._step()
        finally:
            self._kill()
            self._servers.close()
            self._leave()
            self._finish_operations()

    def _boot(self) -> bool:
        assert self.inserting is not None
        deadline = time.monotonic() + self.settings.boot_seconds
        while time.monotonic() < deadline or not self._capacity.is_set():
            if not self._wanted.empty():  # deleted before it was there
                self.why = self._wanted.get()[0]
                self.inserting.done()
                return False
            time.sleep(0.02)
        problem = self._obstacle(self)
        if problem:
            self.why = "refused"
            self._leave()
            self.inserting.done(*problem)
            return False
        self._start()
        self.inserting.done()
        return True

    def _start(self) -> None:
        limit = self.limit_seconds
        times: dict[str, Any] = {"lastStartTimestamp": self.clock.text()}
        if limit:
            times["resourceStatus"] = {"scheduling": {"terminationTimestamp": self.clock.text(limit)}}
        metadata = Metadata(
            self.identity, self.resource, self.account, lambda: self._preempted, lambda: self.end("poweroff")
        )
        host = self._servers.enter_context(serve(metadata.handle)).removeprefix("http://")
        name = f"{self.stage}-{self.id}"
        inside = self.settings.platform | {f"GCE_METADATA_{part}": host for part in ("HOST", "IP", "ROOT")}
        hosts = self.settings.hosts | dict.fromkeys(
            ("metadata.google.internal", "169.254.169.254"), f"http://{host}"
        )
        vm = {
            "id": self.id,
            "stage": self.stage,
            "label": containers.LABEL,
            "syslog": self.settings.syslog,
            "env": inside,
            "container": name,
        }
        env = self.settings.script | {
            "PATH": "/stage/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "STAGE_VM": json.dumps(vm),
            "STAGE_HOSTS": "\n".join(f"{name} {address}" for name, address in hosts.items()),
        }
        self._container = containers.Container(
            SYSTEM,
            self.stage,
            env,
            command=["/stage/boot"],
            name=name,
            options=[
                "--volume",
                "/var/run/docker.sock:/var/run/docker.sock",
                "--volume",
                f"{GUEST}:/stage:ro",
            ],
        )
        for stream in (self._container.process.stdout, self._container.process.stderr):
            threading.Thread(target=self._read, args=(stream,), daemon=True).start()
        self.started = time.monotonic()
        self._move("RUNNING", **times)

    def _step(self) -> None:
        """Waits a moment for what may end it, and lets that happen."""
        try:
            why, seconds = self._wanted.get(timeout=0.05)
        except queue.Empty:
            why, seconds = "", None
        if self.status == "TERMINATED":
            if why in ("delete", "abandoned"):
                self._leave()
            return
        if not why and self._over_limit():
            why, seconds = "limit", self.settings.notice_seconds
        if not why and self._container and self._container.process.poll() is not None:
            why = "crash"
        if why:
            self._end(why, seconds)

    def _over_limit(self) -> bool:
        limit = self.limit_seconds
        return limit is not None and self.started is not None and time.monotonic() > self.started + limit

    def _end(self, why: str, seconds: float | None) -> None:
        self.why = why
        self._preempted = why == "preempted" and seconds is not None
        self._move("STOPPING")
        if seconds is not None:
            self._go_down(min(seconds, self.settings.notice_seconds))
        self._kill()
        self._ended = time.monotonic()
        action = self.resource.get("scheduling", {}).get("instanceTerminationAction", "STOP")
        by_service = why in ("preempted", "limit")
        deleted = why in ("delete", "abandoned") or (by_service and action == "DELETE")
        event = {"preempted": "compute.instances.preempted", "poweroff": "compute.instances.guestTerminate"}
        if why in event:
            self._told(self, event[why])
        if deleted:
            self._leave()
        else:
            self._move("TERMINATED", lastStopTimestamp=self.clock.text())
            self._finish_operations()

    def _leave(self) -> None:
        """Is no more, and neither are the disks that go with it."""
        if self.status != GONE:
            self._left(self)
            self._move(GONE)

    def _go_down(self, seconds: float) -> None:
        """As a machine that is told to power off: the shutdown script, and at the same time SIGTERM to containers."""
        deadline = time.monotonic() + seconds
        tasks = []
        if self.attribute("shutdown-script") is not None and self._container:
            script = ["exec", self._container.name, "/stage/bin/run-script", "shutdown-script"]
            tasks.append(
                subprocess.Popen([containers.program(), *script], stdout=subprocess.PIPE, text=False)
            )
            threading.Thread(target=self._read, args=(tasks[0].stdout,), daemon=True).start()
        inside = self._inside()
        if inside:
            stop = [containers.program(), "stop", "--time", str(CONTAINERS_GRACE), *inside]
            tasks.append(subprocess.Popen(stop, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        for task in tasks:
            try:
                task.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                task.kill()
                task.wait()
        # The startup script is ended last, and may well go on after its containers have ended.
        deadline = min(deadline, time.monotonic() + LAST_WORDS)
        while time.monotonic() < deadline and not re.search("startup-script exit status", self.console()):
            time.sleep(0.05)

    def _inside(self) -> list[str]:
        """Ids of the containers that it has started."""
        return containers.docker(
            "ps", "--all", "--quiet", "--filter", f"label={containers.LABEL}-vm={self.id}"
        ).stdout.split()

    def _kill(self) -> None:
        """Ends all at once; a container that was just being started may come late."""
        container, self._container = self._container, None
        if container is None:
            return
        container.kill()
        while inside := self._inside():
            containers.docker("rm", "--force", "--volumes", *inside, check=False)
        container.remove()

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._console.append(line.decode(errors="replace").rstrip("\r\n"))

    def _move(self, status: str, **more: Any) -> None:
        with self._lock:
            self.resource.update({**more, "status": status})

    def _finish_operations(self) -> None:
        with self._lock:
            for operation in self._ending:
                operation.done()
            self._ending.clear()
