"""The life of one custom job: its containers, their restarts and the job's time limit."""

import json
import threading
import time
from typing import Any

from stage import containers
from stage.google.vertex_endings import After, Counts
from stage.google.vertex_log import JobLog, now
from stage.google.vertex_nodes import Node, Settings, Trial
from stage.google.vertex_region import Region
from stage.google.vertex_replicas import Replicas

SUCCEEDED, FAILED, CANCELLED = "JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED"
OVER = (SUCCEEDED, FAILED, CANCELLED)
STOCKOUT = 8  # RESOURCE_EXHAUSTED; the text is documented, its code is not
USUAL_TIMEOUT = 7 * 24 * 3600.0


class TrainingJob(Replicas):
    """A submitted job. It is read by tests; only `Vertex` changes it.

    Attributes:
        id: its number; `name` is the whole resource name.
        resource: what was submitted, as JSON.
        state: JOB_STATE_...
        preemptions: how often a machine was taken away.
        running_seconds: seconds in which the job ran.
        counted_seconds: those since its last start, which are what its time limit counts.
        trial: of a tuning job, that this job is.

    For what there is of its containers see `Replicas`.
    """

    def __init__(
        self,
        number: str,
        parent: str,
        resource: dict[str, Any],
        spec: Any,
        settings: Settings,
        stage: str,
        region: Region,
        trial: Trial | None = None,
    ) -> None:
        log = JobLog(region.identity.project, number)
        super().__init__(number, spec, region.identity, settings, stage, log, trial)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.resource = dict(resource)
        self.resource["name"] = f"{parent}/customJobs/{number}"
        self.region, self.preemptions, self.running_seconds = region, 0, 0.0
        self._counts, self.counted_seconds = Counts(), 0.0
        self._cancelled, self._abandoned = threading.Event(), threading.Event()
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
                self.end(node, None)
            self.region.release(self.id)

    def _live(self) -> None:
        if not self._sleep(self.settings.queue_seconds) or not self._is_admitted():
            return self._finish(CANCELLED, 1, "CANCELED")
        self._move("JOB_STATE_PENDING")
        self.log.add("service", "INFO", "Job is preparing.")
        if self.region.finds_none():
            return self._finish(FAILED, STOCKOUT, self.region.stockout)
        for image in {node.pool.image_uri for node in self.nodes}:
            problem = containers.pull(self.source(image))
            if problem:
                return self._finish(FAILED, 5, f"Failed to pull the image {image}: {problem}")
        if not self._sleep(self.settings.queue_seconds):
            return self._finish(CANCELLED, 1, "CANCELED")
        self._move("JOB_STATE_RUNNING", startTime=now())
        self.start_all()
        return self._watch()

    def _is_admitted(self) -> bool:
        """Waits in the queue for capacity and quota; False when the job was cancelled there."""
        while not self.region.capacity.wait(0.05) or not self.region.admit(self.id, self.spec):
            if not self._sleep(0.05):
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
            passed, before = time.monotonic() - before, time.monotonic()
            if self.state == "JOB_STATE_RUNNING":
                self.running_seconds += passed
                self.counted_seconds += passed
            if self._abandoned.is_set():
                self.stop_all(None)
                return self._finish(CANCELLED, 1, "The stage was taken down.")
            if self._cancelled.is_set():
                self._move("JOB_STATE_CANCELLING")
                self.stop_all(self.settings.grace_seconds)
                return self._finish(CANCELLED, 1, "CANCELED")
            if self.counted_seconds > self.limit_seconds:
                self.stop_all(self.settings.grace_seconds)
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
        self.end(node, status)
        taken, node.taken = node.taken, False
        after = self._counts.after(node is self.nodes[0], status, taken, self.spec.scheduling)
        if after is After.NOTHING:
            return False
        if after is After.SUCCESS:
            self.stop_all(self.settings.grace_seconds)
            self._finish(SUCCEEDED)
            return True
        if taken:
            self.preemptions += 1
        what = "was preempted" if taken else f"exited with a non-zero status of {status}"
        what = f"The replica {node.task} {what}."
        if after is After.FAILURE:
            self._fail(node, taken, f"{what} Termination reason: Error.")
            return True
        self.log.add("service", "WARNING", f"{what} It is started anew.")
        return self._start_again(node, taken, after is After.ALL_AGAIN)

    def _fail(self, node: Node, taken: bool, text: str) -> None:
        """Shuts all down: a preemption that is not made good ends as a stock-out does, as documented."""
        if self.settings.hasty and not taken:
            printed = len(self.lines(node.task))
            self.start_one(node)
            self._linger(node, printed)
        self.stop_all(self.settings.grace_seconds)
        if taken:
            self._finish(FAILED, STOCKOUT, self.region.stockout)
        else:
            # Code and text: https://github.com/GoogleCloudPlatform/vertex-ai-samples/pull/1504
            self._finish(FAILED, 3, text)

    def _linger(self, node: Node, printed: int) -> None:
        """Waits until a replica has printed more than so many lines, or ended."""
        while node.container and node.container.process.poll() is None and self._sleep(0.05):
            if len(self.lines(node.task)) > printed:
                return

    def _start_again(self, node: Node, taken: bool, everything: bool) -> bool:
        """Starts one replica or all of them anew; whether the job is over instead."""
        if everything:
            self.stop_all(self.settings.grace_seconds)
        if taken and self.region.finds_none():
            self._fail(node, taken, "")
            return True
        if taken and (everything or len(self.nodes) == 1):
            self._move("JOB_STATE_PENDING")
            if not self._sleep(self.settings.queue_seconds):
                return False  # the next look finds why
            self._move("JOB_STATE_RUNNING")
        if everything or len(self.nodes) == 1:
            # Whether the time limit goes on counting over a restart of the job is not documented: it begins again.
            self.counted_seconds = 0.0
        if everything:
            self.start_all()
        else:
            self.start_one(node)
        return False

    def _finish(self, state: str, code: int = 0, message: str = "") -> None:
        for node in self.nodes:
            self.end(node, None)
        error = {"error": {"code": code, "message": message}} if message else {}
        self.log.add("service", "ERROR" if message else "INFO", message or "Job completed successfully.")
        late = error and self.settings.error_seconds and state == FAILED
        self._move(state, endTime=now(), **({} if late else error))
        self.region.release(self.id)
        if late:
            deadline = time.monotonic() + self.settings.error_seconds
            while time.monotonic() < deadline and not self._abandoned.is_set():
                time.sleep(0.02)
            self._move(state, **error)

    def _move(self, state: str, **more: Any) -> None:
        with self._lock:
            # The first start is the one that counts.
            if "startTime" in self.resource:
                more.pop("startTime", None)
            time = now()
            times = {name: time for name in more if name.endswith("Time")}
            self.resource.update({**more, **times, "state": state, "updateTime": time})
