"""The life of one custom job: its containers, their restarts and the job's time limit."""

import json
import threading
import time
from typing import Any

from stage import containers
from stage.google.identity import Identity
from stage.google.vertex_log import JobLog, now
from stage.google.vertex_nodes import Node, Settings, Trial, environment

SUCCEEDED, FAILED, CANCELLED = "JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED"
OVER = (SUCCEEDED, FAILED, CANCELLED)
WORKER_RESTARTS = 5  # of each worker; then the whole job is tried again
JOB_RETRIES = 3
USUAL_TIMEOUT = 7 * 24 * 3600.0


class TrainingJob:
    """A submitted job. It is read by tests; only `Vertex` changes it.

    Attributes:
        id: its number; `name` is the whole resource name.
        resource: what was submitted, as JSON.
        state: JOB_STATE_...
        restarts: starts of a container after the first one of its node, for whatever reason.
        preemptions: how often a machine was taken away.
        started: (task, container's name, exit status or None) of every start.
        machine_seconds: seconds of all machines together, which is what is paid for.
        running_seconds: seconds in which the job ran, which is what its time limit counts.
        trial: of a tuning job, that this job is.
    """

    def __init__(
        self,
        number: str,
        parent: str,
        resource: dict[str, Any],
        spec: Any,
        settings: Settings,
        stage: str,
        identity: Identity,
        capacity: threading.Event,
        trial: Trial | None = None,
    ) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.id, self.settings, self.stage = number, settings, stage
        self.resource = dict(resource)
        self.resource["name"] = f"{parent}/customJobs/{number}"
        self.spec, self.identity, self.capacity, self.trial = spec, identity, capacity, trial
        self.restarts = self.preemptions = 0
        self.machine_seconds = self.running_seconds = 0.0
        self.started: list[list[Any]] = []
        self.nodes = [
            Node(pool, number, index)
            for number, pool in enumerate(self.spec.worker_pool_specs)
            for index in range(pool.replica_count)
        ]
        self._retries = 0
        self._cancelled, self._abandoned = threading.Event(), threading.Event()
        self.log = JobLog(identity.project, number)
        self._lock = threading.RLock()
        self._move("JOB_STATE_QUEUED", createTime=now())

    @property
    def name(self) -> str:
        return self.resource["name"]

    @property
    def state(self) -> str:
        return self.resource["state"]

    @property
    def error(self) -> dict[str, Any]:
        return self.resource.get("error", {})

    @property
    def limit_seconds(self) -> float:
        """The time limit on this machine's clock."""
        scheduling = self.spec.scheduling
        given = (
            scheduling.timeout.ToTimedelta().total_seconds()
            if scheduling.HasField("timeout")
            else USUAL_TIMEOUT
        )
        return given * self.settings.seconds_per_hour / 3600

    def json(self) -> dict[str, Any]:
        with self._lock:
            return json.loads(json.dumps(self.resource))

    def entries(self) -> list[dict[str, Any]]:
        """What it printed, as Cloud Logging has it."""
        return self.log.entries()

    def lines(self, task: str | None = None) -> list[str]:
        """What its containers printed, oldest first; of one task such as workerpool0-0, or of all."""
        return self.log.lines(task)

    # What happens to it from outside

    def cancel(self) -> None:
        self._cancelled.set()

    def abandon(self) -> None:
        """Ends it without grace, because the stage is taken down."""
        self._abandoned.set()

    def take_away(self, number: int, grace_seconds: float | None) -> None:
        """Takes the machine of a node: with notice if there is a grace, else at once."""
        node = self.nodes[number]
        with self._lock:
            container = node.container
            if self.state != "JOB_STATE_RUNNING" or container is None or container.process.poll() is not None:
                raise AssertionError(f"{node.task} does not run ({self.state}): nothing to take away")
            node.taken = True
        if grace_seconds is None:
            container.kill()
        else:
            container.stop(grace_seconds)
        container.wait(60)

    # Its own life

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        """Waits for the end of its life."""
        self._thread.join()

    def _run(self) -> None:
        try:
            self._live()
        except Exception as error:
            self._finish(FAILED, 13, f"Internal error: {error!r}")
            raise
        finally:
            for node in self.nodes:
                self._end(node, None)

    def _live(self) -> None:
        if not self._sleep(self.settings.queue_seconds) or not self._has_capacity():
            return self._finish(CANCELLED, 1, "CANCELED")
        self._move("JOB_STATE_PENDING")
        self.log.add("service", "INFO", "Job is preparing.")
        for image in {node.pool.image_uri for node in self.nodes}:
            problem = containers.pull(self._source(image))
            if problem:
                return self._finish(FAILED, 5, f"Failed to pull the image {image}: {problem}")
        if not self._sleep(self.settings.queue_seconds):
            return self._finish(CANCELLED, 1, "CANCELED")
        self._move("JOB_STATE_RUNNING", startTime=now())
        self._start_all()
        return self._watch()

    def _has_capacity(self) -> bool:
        while not self.capacity.wait(0.05):
            if self._cancelled.is_set() or self._abandoned.is_set():
                return False
        return True

    def _sleep(self, seconds: float) -> bool:
        """Waits; False when the job was cancelled meanwhile."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._cancelled.is_set() and not self._abandoned.is_set():
            time.sleep(0.02)
        return not self._cancelled.is_set() and not self._abandoned.is_set()

    def _watch(self) -> None:
        before = time.monotonic()
        while True:
            time.sleep(0.03)
            if self.state == "JOB_STATE_RUNNING":
                self.running_seconds += time.monotonic() - before
            before = time.monotonic()
            if self._abandoned.is_set():
                self._stop_all(None)
                return self._finish(CANCELLED, 1, "The stage was taken down.")
            if self._cancelled.is_set():
                self._move("JOB_STATE_CANCELLING")
                self._stop_all(self.settings.grace_seconds)
                return self._finish(CANCELLED, 1, "CANCELED")
            if self.running_seconds > self.limit_seconds:
                self._stop_all(self.settings.grace_seconds)
                limit = f"{self.spec.scheduling.timeout.ToTimedelta().total_seconds():g} seconds"
                return self._finish(
                    CANCELLED, 4, f"The job was cancelled: it ran longer than its timeout of {limit}."
                )
            for node in self.nodes:
                status = node.container.process.poll() if node.container else None
                if status is not None and self._ended(node, status):
                    return None

    def _ended(self, node: Node, status: int) -> bool:
        """Takes note that a container has ended; whether the job is over by that."""
        self._end(node, status)
        taken, node.taken = node.taken, False
        if status == 0:
            if node is self.nodes[0]:
                # The primary replica's success is the job's: whatever else runs is shut down.
                self._stop_all(self.settings.grace_seconds)
                self._finish(SUCCEEDED)
                return True
            return False
        scheduling = self.spec.scheduling
        what = "was preempted" if taken else f"exited with a non-zero status of {status}"
        if scheduling.disable_retries:
            self._stop_all(self.settings.grace_seconds)
            self._finish(FAILED, 14 if taken else 3, f"The replica {node.task} {what}.")
            return True
        everything = scheduling.restart_job_on_worker_restart
        if taken:
            self.preemptions += 1
        elif node.restarts < WORKER_RESTARTS:
            node.restarts += 1
        elif self._retries < JOB_RETRIES:
            self._retries += 1
            everything = True
            for one in self.nodes:
                one.restarts = 0
        else:
            self._stop_all(self.settings.grace_seconds)
            self._finish(FAILED, 3, f"The replica {node.task} {what}.")
            return True
        self.log.add("service", "WARNING", f"The replica {node.task} {what}; it is started anew.")
        if everything:
            self._stop_all(self.settings.grace_seconds)
        if taken and (everything or len(self.nodes) == 1):
            self._move("JOB_STATE_PENDING")
            if not self._sleep(self.settings.queue_seconds):
                return False  # the next look finds why
            self._move("JOB_STATE_RUNNING")
        if everything:
            self._start_all()
        else:
            self._start(node)
        return False

    def _source(self, image: str) -> str:
        """Where an image is really pulled from."""
        host, slash, rest = image.partition("/")
        return f"{self.settings.mirrors.get(host, host)}{slash}{rest}"

    def _start_all(self) -> None:
        for node in self.nodes:
            node.taken = False
            self._start(node)

    def _start(self, node: Node) -> None:
        """Starts a node's container from its image: nothing that an earlier one wrote is there."""
        if any(task == node.task for task, *_ in self.started):
            self.restarts += 1
        pool, trial = node.pool, self.trial
        container = containers.Container(
            self._source(pool.image_uri),
            self.stage,
            environment(self, node) | (trial.env if trial else {}),
            [*pool.args, *(trial.args if trial else ())],
            pool.command,
            options=trial.options if trial else (),
        )
        self.started.append([node.task, container.name, None])
        streams = ((container.process.stdout, "INFO"), (container.process.stderr, "ERROR"))
        node.readers = [
            threading.Thread(target=self.log.read, args=(node.task, stream, severity), daemon=True)
            for stream, severity in streams
        ]
        for reader in node.readers:
            reader.start()
        node.since = time.monotonic()
        with self._lock:
            node.container = container

    def _end(self, node: Node, status: int | None) -> None:
        """Removes a node's container, once all that it printed is read."""
        with self._lock:
            container, node.container = node.container, None
        if container is None:
            return
        container.remove()
        for reader in node.readers:
            reader.join(30)
        self.machine_seconds += time.monotonic() - node.since
        for start in self.started:
            if start[1] == container.name:
                start[2] = status if status is not None else container.process.poll()

    def _stop_all(self, grace_seconds: float | None) -> None:
        """Stops what runs, all at once: with SIGTERM and a grace, or without."""

        def stop(node: Node) -> None:
            container = node.container
            if container is not None:
                if grace_seconds is None:
                    container.kill()
                else:
                    container.stop(grace_seconds)
                self._end(node, container.wait(60))

        threads = [threading.Thread(target=stop, args=(node,)) for node in self.nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _finish(self, state: str, code: int = 0, message: str = "") -> None:
        for node in self.nodes:
            self._end(node, None)
        error = {"error": {"code": code, "message": message}} if message else {}
        self.log.add("service", "ERROR" if message else "INFO", message or "Job completed successfully.")
        self._move(state, endTime=now(), **error)

    def _move(self, state: str, **more: Any) -> None:
        with self._lock:
            # The first start is the one that counts.
            if "startTime" in self.resource:
                more.pop("startTime", None)
            time = now()
            times = {name: time for name in more if name.endswith("Time")}
            self.resource.update({**more, **times, "state": state, "updateTime": time})
