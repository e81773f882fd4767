"""The life of one tuning job: the trials that it starts as others end, and what it says of them.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeHyperParameterTuningJob.html and
automatic-model-tuning-ex-tuning-job.md of the developer guide.
"""

import copy
import itertools
import math
import random
from collections.abc import Iterator
from typing import Any

from stage.aws.training import TrainingJob
from stage.clock import Clock, Deadline

FAILURES = 5  # without any success: https://github.com/aws/amazon-sagemaker-examples/issues/2436
COUNTED = {
    "Completed": "Completed",
    "InProgress": "InProgress",
    "Stopping": "InProgress",
    "Stopped": "Stopped",
}


class TuningJob:
    """A submitted tuning job; see `TrainingJob` for what it has in common with one.

    Attributes:
        trials: its training jobs, oldest first.
    """

    def __init__(self, given: dict[str, Any], arn: str, region: str, clock: Clock) -> None:
        self.given, self.arn, self.region, self._clock = copy.deepcopy(given), arn, region, clock
        self.name: str = given["HyperParameterTuningJobName"]
        self.config, self.definition = (
            self.given["HyperParameterTuningJobConfig"],
            self.given["TrainingJobDefinition"],
        )
        self.tags = {tag["Key"]: tag["Value"] for tag in given.get("Tags", [])}
        self.created = self.modified = clock.now()
        self.ended: float | None = None
        self.state, self.failure = "InProgress", ""
        self.trials: list[TrainingJob] = []
        self.tuned: dict[str, dict[str, str]] = {}
        self._random = random.Random(self.config.get("RandomSeed", self.name))
        self._proposals = self._proposed()
        self._history: list[tuple[float, dict[str, Any]]] = []
        self.note()

    @property
    def metric(self) -> str:
        return self.config["HyperParameterTuningJobObjective"]["MetricName"]

    def touched(self) -> None:
        self.modified = self._clock.now()
        self.note()

    def note(self) -> None:
        """Keeps for Search's index what is said now, which the index will know later."""
        said = self.described() | {"Tags": self.tag_list()}
        if not self._history or self._history[-1][1] != said:
            self._history.append((self._clock.now(), said))

    def seen(self, moment: float) -> dict[str, Any] | None:
        """What an index knows that was made at a moment; None where it does not know the job."""
        known = [said for then, said in self._history if then <= moment]
        return known[-1] if known else None

    def tag_list(self) -> list[dict[str, str]]:
        return [{"Key": key, "Value": value} for key, value in self.tags.items()]

    # What happens to it

    def stop(self) -> None:
        """Begins to stop it and its trials."""
        self.state, self.modified = "Stopping", self._clock.now()
        for trial in self.trials:
            if trial.state == "InProgress":
                trial.stop()
        self.advance()

    def advance(self) -> list[TrainingJob]:
        """Starts the trials that there is room for, or ends it; gives the new ones."""
        if self.state in ("Completed", "Failed", "Stopped"):
            return []
        busy = [trial for trial in self.trials if not trial.over]
        if self.state == "Stopping":
            if not busy:
                self._end("Stopped")
            return []
        succeeded = [trial for trial in self.trials if trial.state == "Completed"]
        failed = [trial for trial in self.trials if trial.state == "Failed"]
        if len(failed) >= FAILURES and not succeeded:
            self.failure = (
                f"No training job succeeded after {FAILURES} attempts. Please take a look at the training job failures to"
                " get more details."
            )
            self._end("Failed")
            return []
        added = []
        while len(busy) + len(added) < self.config["ResourceLimits"]["MaxParallelTrainingJobs"]:
            values = next(self._proposals, None)
            if values is None:
                break
            added.append(self._trial(values))
        if not busy and not added:
            self._end("Completed")
        return added

    def deadlines(self) -> Iterator[Deadline]:
        if self.state == "InProgress" and "MaxRuntimeInSeconds" in self.config["ResourceLimits"]:
            # The whole tuning job's: API_ResourceLimits.html, and https://github.com/aws/sagemaker-python-sdk/issues/3983.
            end = self.created + self.config["ResourceLimits"]["MaxRuntimeInSeconds"]
            yield Deadline(end, self.stop)

    def _end(self, state: str) -> None:
        self.state, self.ended, self.modified = state, self._clock.now(), self._clock.now()

    def _trial(self, values: dict[str, str]) -> TrainingJob:
        # Its name begins with the tuning job's, which is why that is so short; the form is the console's.
        name = f"{self.name}-{len(self.trials) + 1:03}-{self._random.getrandbits(32):08x}"
        given = {key: one for key, one in self.definition.items() if key != "StaticHyperParameters"}
        given["AlgorithmSpecification"] = dict(self.definition["AlgorithmSpecification"])
        static = self.definition.get("StaticHyperParameters", {})
        # Added by the service, as in hyperparameters.json of every trial (the SDK's own toolkit skips it).
        hyper = static | values | {"_tuning_objective_metric": self.metric}
        # The tuning job's tags are its trials' too: Tags in API_CreateHyperParameterTuningJob.html.
        given |= {"TrainingJobName": name, "HyperParameters": hyper, "Tags": self.tag_list()}
        trial = TrainingJob(given, self.region, self._clock, self.arn)
        self.trials.append(trial)
        self.tuned[name] = values
        return trial

    def _proposed(self) -> Iterator[dict[str, str]]:
        """Values of each trial, as strings; how Bayesian search chooses is nobody's to know: by chance."""
        ranges = self.config["ParameterRanges"]
        categorical = {one["Name"]: one["Values"] for one in ranges.get("CategoricalParameterRanges", [])}
        if self.config["Strategy"] == "Grid":
            for values in itertools.product(*categorical.values()):
                yield dict(zip(categorical, values, strict=True))
            return
        for _ in range(self.config["ResourceLimits"]["MaxNumberOfTrainingJobs"]):
            values = {name: self._random.choice(given) for name, given in categorical.items()}
            for one in ranges.get("IntegerParameterRanges", []):
                values[one["Name"]] = str(round(self._within(one)))
            for one in ranges.get("ContinuousParameterRanges", []):
                values[one["Name"]] = str(self._within(one))
            yield values

    def _within(self, one: dict[str, str]) -> float:
        least, most = float(one["MinValue"]), float(one["MaxValue"])
        if one.get("ScalingType") == "Logarithmic":
            return math.exp(self._random.uniform(math.log(least), math.log(most)))
        return self._random.uniform(least, most)

    # What is said of it

    def described(self) -> dict[str, Any]:
        names = ("HyperParameterTuningJobConfig", "TrainingJobDefinition")
        said = self.summary() | {name: copy.deepcopy(self.given[name]) for name in names}
        for name in ("Strategy", "ResourceLimits"):
            said.pop(name)
        if self.failure:
            said["FailureReason"] = self.failure
        if best := self._best():
            said["BestTrainingJob"] = self.trial_summary(best)
        return said

    def summary(self) -> dict[str, Any]:
        jobs = {"Completed": 0, "InProgress": 0, "RetryableError": 0, "NonRetryableError": 0, "Stopped": 0}
        objectives = {"Succeeded": 0, "Pending": 0, "Failed": 0}
        for trial in self.trials:
            jobs[COUNTED.get(trial.state, "NonRetryableError")] += 1
            objectives[self._objective(trial)] += 1
        said = {"HyperParameterTuningJobName": self.name, "HyperParameterTuningJobArn": self.arn}
        said |= {"HyperParameterTuningJobStatus": self.state, "Strategy": self.config["Strategy"]}
        said |= {"CreationTime": self.created, "LastModifiedTime": self.modified}
        said |= {"TrainingJobStatusCounters": jobs, "ObjectiveStatusCounters": objectives}
        said |= {"ResourceLimits": self.config["ResourceLimits"]}
        return said | ({"HyperParameterTuningEndTime": self.ended} if self.ended is not None else {})

    def trial_summary(self, trial: TrainingJob) -> dict[str, Any]:
        whole = trial.described()
        names = ("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingStartTime", "TrainingEndTime")
        said = {name: whole[name] for name in (*names, "TrainingJobStatus", "FailureReason") if name in whole}
        said |= {
            "TunedHyperParameters": dict(self.tuned[trial.name]),
            "ObjectiveStatus": self._objective(trial),
        }
        if self.metric in trial.metrics:
            # Also while it runs? Not documented: only at its end.
            goal = self.config["HyperParameterTuningJobObjective"]["Type"]
            value = {"Type": goal, "MetricName": self.metric, "Value": trial.metrics[self.metric]}
            said |= {"FinalHyperParameterTuningJobObjectiveMetric": value} if trial.over else {}
        return said

    def _objective(self, trial: TrainingJob) -> str:
        if not trial.over:
            return "Pending"
        return "Succeeded" if self.metric in trial.metrics and trial.state != "Failed" else "Failed"

    def _best(self) -> TrainingJob | None:
        done = [trial for trial in self.trials if self._objective(trial) == "Succeeded"]
        sign = 1 if self.config["HyperParameterTuningJobObjective"]["Type"] == "Maximize" else -1
        return max(done, key=lambda one: sign * one.metrics[self.metric], default=None)
