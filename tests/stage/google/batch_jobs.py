"""The life of one job of Google Cloud Batch: its one task, the machine of each attempt, and what is told of them.

By https://docs.cloud.google.com/batch/docs/create-run-job#lifecycle and
https://docs.cloud.google.com/batch/docs/troubleshooting (the words of events, the reserved exit codes).
"""

import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format

from stage import containers
from stage.google.batch_rules import gpus
from stage.google.identity import Identity
from stage.google.vertex_hosts import options
from stage.google.vertex_log import now
from stage.google.vertex_rules import DOCKER_HUB

SUCCEEDED, FAILED, CANCELLED = "SUCCEEDED", "FAILED", "CANCELLED"
OVER = (SUCCEEDED, FAILED, CANCELLED)
PREEMPTED, OVER_TIME = 50001, 50005
PULL = "artifactregistry.repositories.downloadArtifacts"
# What comes with batch-cos, and the newest CUDA of a branch of drivers:
# https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/index.html#id5
USUAL_DRIVER = "580.173.02"  # https://github.com/DataBiosphere/leonardo/pull/4922
CUDA = {"535": "12.2", "550": "12.4", "570": "12.8", "580": "13.0"}


@dataclass(frozen=True)
class Settings:
    """How the stand-in runs jobs; see `batch`.

    Args:
        admit: job -> why it has to wait; "" where it need not.
    """

    identity: Identity
    platform: dict[str, str]
    hosts: Any
    seconds_per_hour: float
    queue_limit: float
    admit: Callable[["BatchJob"], str]


class BatchJob:
    """A submitted job. It is read by tests; only the service changes it.

    Attributes:
        name: the whole resource name; `id` its last part.
        message: what was submitted.
        state: QUEUED, ...
        codes: exit code of each attempt that is over.
        machines: the machine of each attempt, as Compute Engine describes it; the last one may be there still.
        machine_seconds: seconds of all machines together, which is what is paid for.
        signalled: whether cancelling sends SIGTERM; that it does is not documented, so it does not.
    """

    def __init__(self, name: str, message: Any, settings: Settings, stage: str) -> None:
        self.name, self.message, self.settings, self.stage = name, message, settings, stage
        self.id = name.rpartition("/")[2]
        self.uid = f"{self.id[:20]}-{secrets.token_hex(6)}"
        self.created = self.updated = now()
        self.state = "QUEUED"
        self.codes: list[int] = []
        self.machines: list[dict[str, Any]] = []
        self.machine_seconds = self.running_seconds = 0.0
        self.events: list[dict[str, Any]] = []
        self.task_events: list[dict[str, Any]] = []
        self.entries: list[dict[str, Any]] = []
        self._container: containers.Container | None = None
        self._taken: int | None = None  # the code of what has happened to the machine
        self._ends, self._abandoned = threading.Event(), threading.Event()
        self._lock = threading.RLock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def spec(self) -> Any:
        return self.message.task_groups[0].task_spec

    @property
    def instance(self) -> Any:
        return self.message.allocation_policy.instances[0]

    @property
    def account(self) -> str:
        given = self.message.allocation_policy.service_account.email
        return given or f"{self.settings.identity.number}-compute@developer.gserviceaccount.com"

    def json(self) -> dict[str, Any]:
        with self._lock:
            status: dict[str, Any] = {"state": self.state, "statusEvents": list(self.events)}
            if self.state in OVER:  # while it runs this may be behind, so it is not there at all
                status["runDuration"] = f"{self.running_seconds:.9f}s"
            times = {"createTime": self.created, "updateTime": self.updated}
            return {
                **json_format.MessageToDict(self.message),
                "name": self.name,
                "uid": self.uid,
                **times,
                "status": status,
            }

    def task(self) -> dict[str, Any]:
        """Its one task, as the service describes it."""
        status = {"state": self.state, "statusEvents": list(self.task_events)}
        return {"name": f"{self.name}/taskGroups/group0/tasks/0", "status": status}

    def lines(self) -> list[str]:
        """What its containers printed, whether or not it may be logged."""
        return [entry["textPayload"] for entry in self.entries]

    # What happens to it from outside

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def cancel(self) -> None:
        self._ends.set()

    def abandon(self) -> None:
        """Ends it because the stage is taken down."""
        self._abandoned.set()
        self._ends.set()

    def take_away(self, grace_seconds: float | None, code: int = PREEMPTED) -> None:
        """Takes its machine; returns when the container is gone."""
        with self._lock:
            container = self._container
            if container is None or container.process.poll() is not None:
                raise AssertionError(f"{self.id} does not run ({self.state}): nothing to take away")
            self._taken = code
        if grace_seconds is None:
            container.kill()
        else:
            container.stop(grace_seconds)
        container.wait(60)

    # Its own life

    def _run(self) -> None:
        try:
            if not self._waits():
                return self._move(CANCELLED if self._ends.is_set() else FAILED)
            self._move("SCHEDULED")
            if problem := self._machine_fails():
                return self._move(FAILED, problem)
            self._attempts()
        except Exception as error:
            self._move(FAILED, f"Internal error: {error!r}")
            raise

    def _waits(self) -> bool:
        """Queues for quota and for machines; False where it was cancelled, or has waited too long.

        How long: https://docs.cloud.google.com/batch/quotas.
        """
        until, told = time.monotonic() + self.settings.queue_limit, ""
        while why := self.settings.admit(self):
            if why != told:
                self._say(
                    f"Quota checking process decided to delay scheduling for the job {self.name}: {why}"
                )
                told = why
            if self._ends.wait(0.05) or time.monotonic() > until:
                return False
        return not self._ends.is_set()

    def _machine_fails(self) -> str:
        """Why its machine would never do anything."""
        account = self.settings.identity.accounts.get(self.account)
        if account is None or not account.allows("batch.states.report"):
            # https://docs.cloud.google.com/batch/docs/troubleshooting#vm-reporting-timeout: what is told of machines
            # whose account lacks roles/batch.agentReporter
            return "no VM has agent reporting correctly within the time window 1080 seconds"
        image = self.spec.runnables[0].container.image_uri
        # Its machines reach what its account may: https://docs.cloud.google.com/batch/docs/create-run-job-custom-service-account
        if not DOCKER_HUB.fullmatch(image) and not account.allows(PULL, image.split("/")[-2]):
            return f'Failed to pull the image: denied: Permission "{PULL}" denied on {image}'
        problem = containers.pull(image)
        return f"Failed to pull the image: {problem}" if problem else ""

    def _attempts(self) -> None:
        while True:
            code = self._attempt()
            self.codes.append(code)
            if self._ends.is_set():
                return self._move(CANCELLED)
            if code == 0:
                self._tell_task("SUCCEEDED", 0)
                return self._move(SUCCEEDED)
            if len(self.codes) > self.spec.max_retry_count or not self._again(code):
                where = self._tell_task("FAILED", code)
                return self._move(FAILED, f"Job failed due to task failure. {where}")
            self._tell_task("PENDING", code)

    def _again(self, code: int) -> bool:
        """Whether the task is tried again: https://docs.cloud.google.com/batch/docs/automate-task-retries."""
        for policy in self.spec.lifecycle_policies:
            listed = code in policy.action_condition.exit_codes
            return listed == (policy.action == 1)  # RETRY_TASK; what is not listed gets the opposite
        return True

    def _attempt(self) -> int:
        """One machine from its start to its end; gives the exit code of the task."""
        machine = self._new_machine()
        container = self._launch()
        started = time.monotonic()
        readers = [
            threading.Thread(target=self._read, args=(stream, severity), daemon=True)
            for stream, severity in ((container.process.stdout, "INFO"), (container.process.stderr, "ERROR"))
        ]
        for reader in readers:
            reader.start()
        with self._lock:
            self._container, self._taken = container, None
        if self.state != "RUNNING":
            self._move("RUNNING")
        code = self._watch(container, started)
        with self._lock:
            self._container = None
        container.remove()
        for reader in readers:
            reader.join(30)
        machine["status"] = "TERMINATED"
        self.machine_seconds += time.monotonic() - started
        self.running_seconds += time.monotonic() - started
        return code

    def _launch(self) -> containers.Container:
        wanted, group = self.spec.runnables[0].container, self.message.task_groups[0]
        gpu, count = gpus(self.instance)
        command = [wanted.entrypoint, *wanted.commands] if wanted.entrypoint else []
        if not command and gpu:
            # Containers there have come up without the entry point of their image:
            # https://github.com/nextflow-io/nextflow/issues/7315
            command = list(wanted.commands)
        variables = {**self.settings.platform, **self.settings.identity.metadata(self.account)}
        variables |= {"BATCH_TASK_INDEX": "0", "BATCH_TASK_COUNT": str(group.task_count)}
        host = ()
        if gpu and self.instance.install_gpu_drivers:
            asked = [one.driver_version for one in self.instance.policy.accelerators if one.driver_version]
            driver = asked[0] if asked else USUAL_DRIVER
            host = options(self.settings.hosts, gpu, count, (driver, CUDA.get(driver[:3], "13.0")))
        more = [word for word in wanted.options.split() if not word.startswith("--network")]
        return containers.Container(
            wanted.image_uri,
            self.stage,
            variables | dict(self.spec.environment.variables),
            [] if command else wanted.commands,
            command,
            options=(*more, *host),
        )

    def _watch(self, container: containers.Container, started: float) -> int:
        limit = self.spec.max_run_duration.seconds * self.settings.seconds_per_hour / 3600 or float("inf")
        while (status := container.process.poll()) is None:
            # Neither at the limit nor at the cancelling is a signal documented, nor any grace: both just end it.
            if self._ends.is_set():
                if not self._abandoned.is_set():
                    self._move("CANCELLATION_IN_PROGRESS")
                container.kill()
            elif time.monotonic() - started > limit:  # of each attempt anew
                self._taken = OVER_TIME
                container.kill()
            time.sleep(0.03)
        return self._taken or status

    def _new_machine(self) -> dict[str, Any]:
        place = self.message.allocation_policy.location.allowed_locations
        kind, _, name = place[0].partition("/") if place else ("regions", "", self.name.split("/")[3])
        zone = name if kind == "zones" else f"{name}-a"
        labels = {**self.message.allocation_policy.labels, "batch-job-uid": self.uid, "batch-job-id": self.id}
        machine = {
            "id": str(secrets.randbits(60)),
            "name": f"{self.uid}-group0-0-{secrets.token_hex(2)}",
            "zone": f"https://www.googleapis.com/compute/v1/projects/p/zones/{zone}",
            "status": "RUNNING",
            "labels": labels,
        }
        self.machines.append(machine)
        return machine

    def _read(self, stream: Any, severity: str) -> None:
        """Keeps each line, with the job's labels: https://docs.cloud.google.com/batch/docs/analyze-job-using-logs."""
        project = self.settings.identity.project
        for line in stream:
            task = f"task/{self.uid}-group0-0/0/0"
            entry = {
                "insertId": f"{len(self.entries):012}-{self.uid}",
                "logName": f"projects/{project}/logs/batch_task_logs",
                "timestamp": now(),
                "severity": severity,
                "textPayload": line.decode(errors="replace").rstrip("\r\n"),
                "resource": {"type": "batch.googleapis.com/Job", "labels": {"job_id": self.id}},
                "labels": {**self.message.labels, "job_uid": self.uid, "task_id": task},
            }
            with self._lock:
                self.entries.append(entry)

    def _tell_task(self, state: str, code: int) -> str:
        machine = self.machines[-1]
        where = f"zones/{machine['zone'].rpartition('/')[2]}/instances/{machine['id']}"
        text = f"Task state is updated from RUNNING to {state} on {where} with exit code {code}."
        event = {"type": "STATUS_CHANGED", "description": text, "eventTime": now(), "taskState": state}
        self.task_events.append({**event, "taskExecution": {"exitCode": code}})
        return text

    def _say(self, text: str, kind: str = "OPERATIONAL_INFO") -> None:
        with self._lock:
            self.events.append({"type": kind, "description": text, "eventTime": now()})
            self.updated = now()

    def _move(self, state: str, why: str = "") -> None:
        text = f"Job state is set from {self.state} to {state} for job {self.name}.{why}"
        with self._lock:
            self.state = state
            self._say(text, "STATUS_CHANGED")

    def error(self) -> str:
        """What a test shows of a job that is not where it should be."""
        return "\n".join([json.dumps(self.events[-3:]), *self.lines()[-40:]])
