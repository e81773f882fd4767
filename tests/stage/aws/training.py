"""The life of one training job.

States: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTrainingJob.html; of spot:
https://docs.aws.amazon.com/sagemaker/latest/dg/model-managed-spot-training-status.html.
"""

import copy
from collections.abc import Iterator
from typing import Any

from stage.aws.people import ACCOUNT
from stage.aws.training_rules import DAY
from stage.clock import Clock, Deadline

GRACE = 120  # seconds between SIGTERM and SIGKILL: API_StopTrainingJob.html
NOTICING = 60  # from a lost machine to the next start; how long it takes is not documented
LOST = 0.3  # billed share of spot's seconds; the discount is said to be "up to 90 %"
PENDING = 1  # second that a job without machines takes to stop; not documented
OVER = ("Completed", "Failed", "Stopped")
MESSAGES = {
    "Starting": "Preparing the instances for training",
    "Downloading": "Downloading the training image",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Interrupted": "Training job interrupted as the spot instances were reclaimed",
    "Stopping": "Stopping the training job",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
    "MaxWaitTimeExceeded": "Training job wait time exceeded MaxWaitTimeInSeconds provided",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
}
# What Describe gives back of a request as it was sent.
KEPT = (
    *(
        "TrainingJobName",
        "HyperParameters",
        "AlgorithmSpecification",
        "RoleArn",
        "InputDataConfig",
        "OutputDataConfig",
    ),
    *("ResourceConfig", "VpcConfig", "StoppingCondition", "CheckpointConfig", "Environment", "RetryStrategy"),
    *("ExperimentConfig", "ProfilerConfig", "RemoteDebugConfig", "InfraCheckConfig"),
)


class TrainingJob:
    """A submitted job. Tests read it; they change it through `SageMaker`'s hands.

    Attributes:
        given: the request.
        state, secondary: TrainingJobStatus and SecondaryStatus.
        attempts: how often its containers were started.
        lines: what they printed.
        metrics: name -> last value that a metric's expression found in the lines.
        tuning: of the tuning job that it is a trial of; "".
    """

    def __init__(self, given: dict[str, Any], region: str, clock: Clock, tuning: str = "") -> None:
        self.given, self.region, self._clock, self.tuning = copy.deepcopy(given), region, clock, tuning
        self.name: str = given["TrainingJobName"]
        self.arn = f"arn:aws:sagemaker:{region}:{ACCOUNT}:training-job/{self.name}"
        self.tags = {tag["Key"]: tag["Value"] for tag in given.get("Tags", [])}
        self.spot: bool = given.get("EnableManagedSpotTraining", False)
        self.created = self.modified = clock.now()
        self.state, self.secondary, self.failure = "", "", ""
        self.transitions: list[dict[str, Any]] = []
        self.attempts, self.lines, self.metrics = 0, [], {}  # type: ignore[var-annotated]
        self.first_start: float | None = None
        self.last_end: float | None = None
        self.ended: float | None = None
        self._since: float | None = None
        self._spent = 0.0
        self._ends_as = ""
        self._history: list[tuple[float, dict[str, Any]]] = []
        self._to("InProgress", "Starting")

    @property
    def over(self) -> bool:
        return self.state in OVER

    @property
    def running(self) -> bool:
        """Whether its containers are there."""
        return self._since is not None

    @property
    def machines(self) -> int:
        return self.given["ResourceConfig"]["InstanceCount"]

    @property
    def seconds(self) -> float:
        """How long its machines have worked, over all attempts."""
        return self._spent + (self._clock.now() - self._since if self._since is not None else 0.0)

    # What happens to it

    def start(self) -> None:
        """Its machines come, and its containers with them."""
        if self.secondary == "Interrupted":
            self._to("InProgress", "Starting")
        if self.secondary != "Starting":
            raise AssertionError(f"{self.name} cannot start: it is {self.state}/{self.secondary}.")
        # Paid from here on, the image's download included: TrainingStartTime in API_DescribeTrainingJob.html.
        self._since = self._clock.now()
        self.first_start = self.first_start or self._since
        self.attempts += 1
        self._to("InProgress", "Downloading")
        self._to("InProgress", "Training")

    def interrupt(self) -> None:
        """Its spot machines are taken away; it starts again by itself as long as MaxWaitTime lets it."""
        if not self.spot or not self.running or self.state == "Stopping":
            raise AssertionError(f"{self.name} cannot lose spot machines: {self.state}/{self.secondary}.")
        self._release()
        self._to("InProgress", "Interrupted")

    def finish(self, exit_code: int, failure: str = "") -> None:
        """Its containers have ended by themselves.

        Args:
            failure: what they left in /opt/ml/output/failure.
        """
        if not self.running:
            raise AssertionError(f"{self.name} does not run: {self.state}/{self.secondary}.")
        self._release()
        if self.state == "Stopping":
            return self._end("Stopped", self._ends_as)
        self.last_end = self._clock.now()
        if exit_code == 0:
            self._to("InProgress", "Uploading")
            return self._end("Completed", "Completed")
        # Any other code ends it for good; the text: your-algorithms-training-algo-dockerfile.md of the developer guide,
        # its form as in https://github.com/aws/amazon-sagemaker-examples/issues/1234.
        words = failure.encode()[:1024].decode(errors="ignore")
        self.failure = f"AlgorithmError: {words}, exit code: {exit_code}"[:1024]
        return self._end("Failed", "Failed")

    def fail(self, reason: str) -> None:
        """The service could not run it, such as "CapacityError: ..." or "InternalServerError: ..."."""
        self._release()
        self.failure = reason
        self._end("Failed", "Failed")

    def stop(self, ends_as: str = "Stopped") -> None:
        """Begins to stop it: SIGTERM now, and the end after the grace at the latest."""
        self._ends_as = ends_as
        self._to("Stopping", "Stopping")

    def _release(self) -> None:
        if self._since is not None:
            self._spent += self._clock.now() - self._since
            self._since = None

    def _end(self, state: str, secondary: str) -> None:
        self._release()
        self.ended = self.last_end = self._clock.now()
        self._to(state, secondary)

    def _to(self, state: str, secondary: str) -> None:
        now = self._clock.now()
        self.state, self.secondary, self.modified = state, secondary, now
        if self.transitions:
            self.transitions[-1]["EndTime"] = now
        message = self.failure or MESSAGES.get(secondary, secondary)
        self.transitions.append({"Status": secondary, "StartTime": now, "StatusMessage": message})
        if state in OVER:
            self.transitions[-1]["EndTime"] = now
        self._history.append((now, self.described() | {"Tags": self.tag_list()}))

    def touched(self) -> None:
        """Notes for the index of Search that its tags are other ones."""
        self._history.append((self._clock.now(), self.described() | {"Tags": self.tag_list()}))

    # What time does to it

    def deadlines(self) -> Iterator[Deadline]:
        if self.over:
            return
        times = self.given["StoppingCondition"]
        if self.state == "Stopping":
            begun = self.transitions[-1]["StartTime"]
            grace = GRACE if self.running else PENDING
            yield Deadline(begun + grace, lambda: self._end("Stopped", self._ends_as))
            return
        if self.running:
            # Over all attempts together: API_StoppingCondition.html; its "does not include waiting" is tried nowhere.
            left = times.get("MaxRuntimeInSeconds", DAY) - self.seconds
            yield Deadline(self._clock.now() + max(left, 0), lambda: self.stop("MaxRuntimeExceeded"))
        if "MaxWaitTimeInSeconds" in times:
            end = self.created + times["MaxWaitTimeInSeconds"]
            yield Deadline(end, lambda: self.stop("MaxWaitTimeExceeded"))
        if "MaxPendingTimeInSeconds" in times and not self.attempts:
            # How it ends then is not documented: as stopped.
            yield Deadline(self.created + times["MaxPendingTimeInSeconds"], self.stop)
        if self.secondary == "Interrupted":
            lost = self.transitions[-1]["StartTime"]
            yield Deadline(lost + NOTICING, lambda: self._to("InProgress", "Starting"))

    # What is said of it

    def described(self) -> dict[str, Any]:
        said = {name: copy.deepcopy(self.given[name]) for name in KEPT if name in self.given}
        said |= {
            "TrainingJobArn": self.arn,
            "TrainingJobStatus": self.state,
            "SecondaryStatus": self.secondary,
        }
        said |= {"CreationTime": self.created, "LastModifiedTime": self.modified}
        said |= {"EnableManagedSpotTraining": self.spot}
        said["EnableNetworkIsolation"] = self.given.get("EnableNetworkIsolation", False)
        said["EnableInterContainerTrafficEncryption"] = self.given.get(
            "EnableInterContainerTrafficEncryption", False
        )
        said["SecondaryStatusTransitions"] = copy.deepcopy(self.transitions)
        if self.tuning:
            said["TuningJobArn"] = self.tuning
        if self.failure:
            said["FailureReason"] = self.failure
        if self.first_start is not None:
            said["TrainingStartTime"] = self.first_start
        if self.last_end is not None and self.first_start is not None:
            said["TrainingEndTime"] = self.last_end
        if self.metrics:
            said["FinalMetricDataList"] = [
                {"MetricName": name, "Value": value, "Timestamp": self.modified}
                for name, value in self.metrics.items()
            ]
        if self.over and self.attempts:
            # Whether they are there before the end is not documented. Billing: model-managed-spot-training.md.
            said["TrainingTimeInSeconds"] = max(round(self.seconds), 1)
            said["BillableTimeInSeconds"] = max(round(self.seconds * (LOST if self.spot else 1)), 1)
        if self.state in ("Completed", "Stopped") and self.attempts:
            path = self.given["OutputDataConfig"]["S3OutputPath"].rstrip("/")
            said["ModelArtifacts"] = {"S3ModelArtifacts": f"{path}/{self.name}/output/model.tar.gz"}
        return said

    def summary(self) -> dict[str, Any]:
        names = ("TrainingJobName", "TrainingJobArn", "CreationTime", "LastModifiedTime", "TrainingJobStatus")
        said = self.described()
        return {name: said[name] for name in (*names, "SecondaryStatus", "TrainingEndTime") if name in said}

    def tag_list(self) -> list[dict[str, str]]:
        return [{"Key": key, "Value": value} for key, value in self.tags.items()]

    def seen(self, moment: float) -> dict[str, Any] | None:
        """What an index knows that was made at a moment; None where it does not know the job."""
        known = [said for then, said in self._history if then <= moment]
        return known[-1] if known else None
