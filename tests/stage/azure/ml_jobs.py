"""The life of one command job.

States: JobStatus in the service's own description (azure-ai-ml's arm_ml_service.models); in which order they come: the
remarks of azure-ai-ml's `_run_history_constants.py`.
"""

import copy
from collections.abc import Iterator
from typing import Any

from stage.azure.ml_shapes import seconds
from stage.azure.ml_usages import Held, Size
from stage.clock import Clock, Deadline

# What comes before the machines do, a second each: in truth it is minutes, of which no test would learn anything.
BEFORE = ("NotStarted", "Provisioning", "Preparing", "Queued")
STEP = 1.0
CANCELING = 5.0  # seconds from CancelRequested to Canceled; not documented
OVER = ("Completed", "Failed", "Canceled")
# https://learn.microsoft.com/azure/machine-learning/how-to-manage-quotas: lifetime of a job, and on low priority.
LONGEST, LONGEST_LOW = 21 * 86400, 7 * 86400
# What `limits.timeout` is measured over, for the documentation says "max run duration" only: the running of each attempt
# anew (the worse for whoever pays), of all attempts, or all since the submission (the worse for whoever waits).
ATTEMPT, ATTEMPTS, SUBMITTED = "attempt", "attempts", "submitted"


class Job:
    """A submitted command job, or a trial of a sweep. Tests read it; they change it through `AzureML`'s hands.

    Attributes:
        given: its properties as they were submitted.
        status: as the service says it.
        attempts: how often its containers were started.
        lines: what they printed, over all attempts.
        low_priority: whether its machines may be taken away.
        logs: file of the run's log -> lines of the last attempt only, for each overwrites what the one before left
            (https://github.com/microsoft/hi-ml, docs/source/lowpriority.md).
        metrics: name -> (value, step, milliseconds) as they were logged.
        parent: name of the sweep that it is a trial of; "".
    """

    kind = "Command"

    def __init__(
        self,
        name: str,
        workspace: str,
        given: dict[str, Any],
        region: str,
        clock: Clock,
        *,
        size: Size,
        low_priority: bool = False,
        by: str = "",
        parent: str = "",
    ) -> None:
        self.name, self.workspace, self.region, self._clock = name, workspace, region, clock
        self.given, self.size, self.low_priority = copy.deepcopy(given), size, low_priority
        self.by, self.parent = by, parent
        self.created = self.modified = clock.now()
        self.status = BEFORE[0]
        self.attempts, self.lines, self.logs, self.metrics = 0, [], {}, {}  # type: ignore[var-annotated]
        self.started: float | None = None
        self.last_started: float | None = None
        self.ended: float | None = None
        self.error: dict[str, Any] | None = None
        self.doom = ""  # why it will fail as soon as it looks for machines
        self.measure = ATTEMPT
        self._since: float | None = None
        self._spent = 0.0
        self._moved = clock.now()
        self._ends_as = ""

    @property
    def id(self) -> str:
        return f"{self.workspace}/jobs/{self.name}"

    @property
    def tags(self) -> dict[str, str]:
        return self.given.setdefault("tags", {})

    @property
    def over(self) -> bool:
        return self.status in OVER

    @property
    def running(self) -> bool:
        """Whether its containers are there."""
        return self._since is not None

    @property
    def machines(self) -> int:
        return (self.given.get("resources") or {}).get("instanceCount", 1)

    @property
    def processes(self) -> int:
        """Of each machine."""
        return (self.given.get("distribution") or {}).get("processCountPerInstance") or 1

    @property
    def seconds(self) -> float:
        """How long its machines have worked, over all attempts."""
        return self._spent + (self._clock.now() - self._since if self._since is not None else 0.0)

    def held(self) -> Iterator[Held]:
        """The cores it has: a serverless job's are named so (how-to-use-serverless-compute, Quota)."""
        if self.running and "computeId" not in self.given:
            where = f"{self.workspace}/computes/Serverless"
            yield Held(where, self.region, self.size, self.machines, self.low_priority)

    # What happens to it

    def start(self) -> None:
        """Its machines come, and its containers with them."""
        if self.status not in BEFORE:
            raise AssertionError(f"{self.name} cannot start: it is {self.status}.")
        self.last_started = self._since = self._clock.now()
        self.started = self.started or self._since
        self.attempts += 1
        self.logs = {}
        self._to("Running")

    def interrupt(self, restarts: bool = True) -> None:
        """Its machines are taken away. It is queued again under the same id, or fails, which people tell of as well.

        how-to-create-attach-compute-cluster.md says "You have to restart a preempted job", and said before that it is
        restarted by itself; that end and its words: https://github.com/Azure/MachineLearningNotebooks/issues/1242.
        """
        if not self.low_priority or not self.running:
            raise AssertionError(f"{self.name} cannot lose its machines: it is {self.status}.")
        self._release()
        if self.status == "CancelRequested":
            self._end("Canceled")
        elif restarts:
            self._to("Queued")
        else:
            text = (
                "AzureMLCompute job failed. PreemptionError: Nodes of this job got pre-empted. Check if the run has failed or"
                " restarted. Reason: Received pre-emption warning signal"
            )
            self.fail(text)

    def not_responding(self) -> None:
        """Its heartbeat is missed. It runs on, and this is no end: it may become any state that it had before."""
        assert self.running
        self._to("NotResponding")

    def respond(self) -> None:
        """Its heartbeat is heard again."""
        assert self.status == "NotResponding"
        self._to("Running")

    def finish(self, exit_code: int) -> None:
        """Its containers have ended by themselves."""
        if not self.running:
            raise AssertionError(f"{self.name} does not run: it is {self.status}.")
        self._release()
        if self.status == "CancelRequested":
            return self._end("Canceled")
        if exit_code:
            self.error = self._failure(exit_code)
        self._ends_as = "Failed" if exit_code else "Completed"
        return self._to("Finalizing")

    def fail(self, message: str, code: str = "UserError") -> None:
        """The service could not run it, or not go on."""
        self._release()
        self.error = {"code": code, "message": message}
        self._end("Failed")

    def cancel(self) -> None:
        """Begins to stop it."""
        self._to("CancelRequested")

    def _failure(self, exit_code: int) -> dict[str, Any]:
        """The words as in https://github.com/Azure/azureml-examples/issues/2614; which process is meant differs."""
        file = next(iter(self.logs), "user_logs/std_log.txt")
        tail = "\n".join(self.logs.get(file, [])[-10:])
        text = (
            f"Execution failed. User process '/bin/bash' exited with status code {exit_code}."
            f" Please check log file '{file}' for error details."
        )
        return {"code": "UserError", "message": f"{text} Error: {tail}" if tail else text}

    def _release(self) -> None:
        if self._since is not None:
            self._spent += self._clock.now() - self._since
            self._since = None

    def _end(self, status: str) -> None:
        self._release()
        self.ended = self._clock.now()
        self._to(status)

    def _to(self, status: str) -> None:
        self.status = status
        self.modified = self._moved = self._clock.now()

    # What time does to it

    def deadlines(self) -> Iterator[Deadline]:
        if self.over:
            return
        if self.status == "CancelRequested":
            yield Deadline(self._moved + CANCELING, lambda: self._end("Canceled"))
            return
        if self.status == "Finalizing":
            yield Deadline(self._moved + STEP, lambda: self._end(self._ends_as))
            return
        if self.status in BEFORE[:-1]:
            yield Deadline(self._moved + STEP, self._advance)
        yield from self._limits()

    def _advance(self) -> None:
        after = BEFORE[BEFORE.index(self.status) + 1]
        if after == "Preparing" and self.doom:
            self.fail(self.doom)
        else:
            self._to(after)

    def _limits(self) -> Iterator[Deadline]:
        now, timeout = self._clock.now(), (self.given.get("limits") or {}).get("timeout")
        limit = seconds(timeout) if timeout else None
        if limit is not None and self.measure == SUBMITTED:
            yield Deadline(self.created + limit, self.cancel)
        elif limit is not None and self._since is not None:
            worked = now - self._since if self.measure == ATTEMPT else self.seconds
            yield Deadline(now + max(limit - worked, 0), self.cancel)
        if self._since is not None:
            longest = LONGEST_LOW if self.low_priority else LONGEST
            yield Deadline(now + max(longest - self.seconds, 0), self.cancel)
