"""The life of one job of AWS Batch: its attempts, and what ends or repeats them.

https://docs.aws.amazon.com/batch/latest/userguide/job_states.html, job_retries.html, job_timeouts.html;
https://aws.amazon.com/blogs/hpc/understanding-the-aws-batch-termination-process.
"""

import copy
import json
import secrets
import uuid
from collections.abc import Iterator
from typing import Any

from stage.aws.batch_retries import again
from stage.aws.batch_rules import resources
from stage.aws.people import ACCOUNT
from stage.clock import Clock, Deadline

GRACE = 30  # seconds between SIGTERM and SIGKILL: job_timeouts.html
SCHEDULING = 1  # from SUBMITTED to RUNNABLE; how long it takes is not documented
# Reported of a fake that copies the service (https://github.com/faiscadev/fakecloud/pull/1989); not met in a real answer.
OVER_TIME = "Job attempt duration exceeded timeout"
EXITED = "Essential container in task exited"
OVERRIDES = 8192  # characters, with JSON's own: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html
OVER = ("SUCCEEDED", "FAILED")


class BatchJob:
    """A submitted job. Tests read it; they change it through `Batch`'s hands.

    Attributes:
        given: the request.
        definition: the revision that it was submitted with.
        attempts: those that have ended, as Describe has them.
        lines: what its containers printed.
    """

    def __init__(
        self,
        given: dict[str, Any],
        definition: dict[str, Any],
        queue: str,
        clock: Clock,
        environment: str = "",
    ) -> None:
        self.given, self.definition, self._clock = copy.deepcopy(given), copy.deepcopy(definition), clock
        self.id, self.name, self.queue = str(uuid.uuid4()), given["jobName"], queue
        self.region = queue.split(":")[3]
        self.arn = f"arn:aws:batch:{self.region}:{ACCOUNT}:job/{self.id}"
        self.tags: dict[str, str] = dict(given.get("tags", {}))
        # The definition's tags go to the ECS task only: propagateTags in API_SubmitJob.html.
        self.created = self.since = clock.now()
        self.status, self.reason = "SUBMITTED", ""
        self.attempts: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self.cancelled = self.terminated = False
        self.started: float | None = None
        self.stopped: float | None = None
        self.environment, self.machine, self.instance = environment, "", ""
        self.exit_code: int | None = None
        self.container_reason = ""
        self.task = ""
        self._stops_at: float | None = None
        self._why = ""

    # What it is

    @property
    def over(self) -> bool:
        return self.status in OVER

    @property
    def attempt(self) -> int:
        """Number of the attempt that runs, or comes next; the first is 1."""
        return len(self.attempts) + 1

    @property
    def container(self) -> dict[str, Any]:
        """Its container's properties, with the overrides."""
        kept, more = (
            copy.deepcopy(self.definition["containerProperties"]),
            self.given.get("containerOverrides", {}),
        )
        variables = {one["name"]: one.get("value", "") for one in kept.get("environment", [])}
        variables |= {one["name"]: one.get("value", "") for one in more.get("environment", [])}
        kept["environment"] = [{"name": name, "value": value} for name, value in variables.items()]
        if more.get("command"):
            kept["command"] = more["command"]
        wanted = {kind: str(round(value)) for kind, value in self.needs.items()}
        kept["resourceRequirements"] = [{"type": kind, "value": value} for kind, value in wanted.items()]
        return kept

    @property
    def needs(self) -> dict[str, float]:
        """VCPU, MEMORY and GPU."""
        return resources(self.definition["containerProperties"], self.given.get("containerOverrides"))

    @property
    def timeout(self) -> int | None:
        """Seconds of one attempt."""
        given = self.given.get("timeout") or self.definition.get("timeout") or {}
        return given.get("attemptDurationSeconds")

    @property
    def retries(self) -> dict[str, Any]:
        """The submitted strategy, else the definition's, else one attempt."""
        return self.given.get("retryStrategy") or self.definition.get("retryStrategy") or {"attempts": 1}

    @property
    def too_long(self) -> bool:
        """Whether ECS will not start it: its overrides are longer than a task's may be.

        As seen, when the job was already accepted: https://github.com/Netflix/metaflow/issues/1482.
        """
        more = self.given.get("containerOverrides", {})
        own = [{"name": f"AWS_BATCH_{name}", "value": "x" * 36} for name in ("JOB_ID", "JQ_NAME", "CE_NAME")]
        own.append({"name": "AWS_BATCH_JOB_ATTEMPT", "value": "1"})
        variables = [*more.get("environment", []), *own]
        parts = {"name": "default", "command": more.get("command", []), "environment": variables}
        return len(json.dumps({"containerOverrides": [parts]}, separators=(",", ":"))) > OVERRIDES

    # What happens to it

    def to(self, status: str, reason: str = "") -> None:
        self.status, self.reason, self.since = status, reason, self._clock.now()
        if status in OVER:
            self.stopped = self._clock.now()

    def take(self, environment: str, machine: str) -> None:
        """A machine has it, and pulls its image: that time is paid for, and counts for no limit."""
        self.environment, self.machine = environment, machine
        self.instance, self.task = f"i-0{secrets.token_hex(8)}", secrets.token_hex(16)
        self.exit_code, self.container_reason = None, ""
        self.started = self.stopped = None
        self.to("STARTING")

    def run(self) -> None:
        """Its container runs; a timeout counts from here: startedAt in API_JobDetail.html."""
        self.started = self._clock.now()
        self.to("RUNNING")

    def end_attempt(
        self, code: int | None, status_reason: str, reason: str = "", retried: bool = True
    ) -> None:
        """An attempt has ended.

        Args:
            code: its container's exit code; None where nobody saw it, as on a lost machine.
            reason: the container's own, such as CannotPullContainerError.
            retried: whether another one may follow at all.
        """
        now = self._clock.now()
        self.exit_code, self.container_reason = code, reason
        attempt = {"container": self._where(), "statusReason": status_reason, "stoppedAt": _ms(now)}
        if self.started is not None:
            attempt["startedAt"] = _ms(self.started)
        self.attempts.append(attempt)
        self._stops_at = None
        if code == 0 and not self._why:
            return self.to("SUCCEEDED", status_reason)
        left = retried and len(self.attempts) < self.retries.get("attempts", 1)
        if left and again(self.retries, code, status_reason, reason):
            return self.to("RUNNABLE")  # by job_states.html
        return self.to("FAILED", self._why or status_reason)

    def terminate(self, reason: str) -> None:
        """Ends it, wherever it is; a container has the grace."""
        if self.over or self.terminated:
            return
        if self.status != "RUNNING":
            self.terminated = True
            self.to("FAILED", reason)
        else:
            self.terminated, self._why = True, reason
            self._stops_at = self._clock.now() + GRACE

    @property
    def stopping(self) -> bool:
        """Whether its container has been sent SIGTERM."""
        return self._stops_at is not None

    def cancel(self, reason: str) -> None:
        """Ends it where it has no machine yet: API_CancelJob.html."""
        if self.status in ("SUBMITTED", "PENDING", "RUNNABLE"):
            self.cancelled = True
            self.to("FAILED", reason)

    def _time_is_over(self) -> None:
        """SIGTERM at the timeout of the attempt; it is not retried."""
        self._why = OVER_TIME
        self._stops_at = self._clock.now() + GRACE

    def ended_while_stopping(self, code: int) -> None:
        """The container has ended in its grace, or was killed after it."""
        self.end_attempt(code, self._why, retried=False)

    def deadlines(self) -> Iterator[Deadline]:
        if self.status == "SUBMITTED":
            yield Deadline(self.since + SCHEDULING, lambda: self.to("RUNNABLE"))
        if self._stops_at is not None:
            yield Deadline(self._stops_at, lambda: self.ended_while_stopping(137))
        elif self.status == "RUNNING" and self.timeout is not None and self.started is not None:
            yield Deadline(self.started + self.timeout, self._time_is_over)

    # What is said of it

    def _where(self) -> dict[str, Any]:
        """The container of an attempt, as Describe has it; a lost one has neither code nor reason, as seen:
        https://github.com/saebyn/glowing-telegram/issues/564."""
        name = self.definition["jobDefinitionName"]
        said: dict[str, Any] = {"networkInterfaces": []}
        if self.task:
            cluster = f"AWSBatch-{self.environment.rpartition('/')[2]}"
            host = f"arn:aws:ecs:{self.region}:{ACCOUNT}"
            said["taskArn"] = f"{host}:task/{cluster}/{self.task}"
            said["containerInstanceArn"] = f"{host}:container-instance/{cluster}/{self.instance[2:]}"
            said["logStreamName"] = f"{name}/default/{self.task}"
        if self.exit_code is not None:
            said["exitCode"] = self.exit_code
        if self.container_reason:
            said["reason"] = self.container_reason
        return said

    def described(self) -> dict[str, Any]:
        said = {"jobArn": self.arn, "jobName": self.name, "jobId": self.id, "jobQueue": self.queue}
        said |= {
            "status": self.status,
            "attempts": copy.deepcopy(self.attempts),
            "createdAt": _ms(self.created),
        }
        said |= {"jobDefinition": self.definition["jobDefinitionArn"], "tags": dict(self.tags)}
        said |= {"retryStrategy": copy.deepcopy({"evaluateOnExit": []} | self.retries), "dependsOn": []}
        said |= {"parameters": self.given.get("parameters", {}), "container": self.container | self._where()}
        said |= {
            "propagateTags": self.given.get("propagateTags", self.definition.get("propagateTags", False))
        }
        said |= {
            "platformCapabilities": ["EC2"],
            "isCancelled": self.cancelled,
            "isTerminated": self.terminated,
        }
        if self.reason:
            said["statusReason"] = self.reason
        if self.timeout is not None:
            said["timeout"] = {"attemptDurationSeconds": self.timeout}
        return said | self._times()

    def summary(self) -> dict[str, Any]:
        said = {"jobArn": self.arn, "jobName": self.name, "jobId": self.id, "status": self.status}
        said |= {"createdAt": _ms(self.created), "jobDefinition": self.definition["jobDefinitionArn"]}
        if self.reason:
            said["statusReason"] = self.reason
        container = {key: one for key, one in self._where().items() if key in ("exitCode", "reason")}
        return said | ({"container": container} if container else {}) | self._times()

    def _times(self) -> dict[str, int]:
        """The model wants startedAt always; before a start there is none."""
        said = {"startedAt": self.started, "stoppedAt": self.stopped}
        return {name: _ms(moment) for name, moment in said.items() if moment is not None}


def _ms(moment: float) -> int:
    return round(moment * 1000)
