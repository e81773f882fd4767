"""The life of one sweep: the trials that it starts as others end, and what it says of them."""

import copy
from collections.abc import Iterator
from typing import Any

from stage.azure.ml_jobs import CANCELING, OVER, STEP, Job
from stage.azure.ml_rules import expand
from stage.azure.ml_shapes import seconds
from stage.azure.ml_tuning_rules import TRIALS, proposed
from stage.azure.ml_usages import Held, Size
from stage.clock import Clock, Deadline

LONGEST = 5184000  # seconds of a whole sweep that says nothing: reference-yaml-job-sweep, `limits`
# Of a job that has its machine, a sweep knows nothing; of its own, the service says these.
FAILED = "User errors were found in at least one of the child runs."


class Sweep:
    """A submitted sweep; see `Job` for what it has in common with one.

    Attributes:
        trials: its jobs NAME_0, NAME_1, ..., oldest first.
        values: name of a trial -> what was drawn for it.
    """

    kind = "Sweep"
    parent = ""

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
    ) -> None:
        self.name, self.workspace, self.region, self._clock = name, workspace, region, clock
        self.given, self.size, self.low_priority, self.by = copy.deepcopy(given), size, low_priority, by
        self.created = self.modified = clock.now()
        self.started: float | None = None
        self.last_started: float | None = None
        self.ended: float | None = None
        self.status, self.error = "NotStarted", None
        self.doom, self.measure, self.attempts = "", "", 1
        self.lines: list[str] = []
        self.logs: dict[str, list[str]] = {}
        self.metrics: dict[str, list[tuple[float, int, int]]] = {}
        self.trials: list[Job] = []
        self.values: dict[str, dict[str, Any]] = {}
        self._moved = clock.now()
        self._ends_as = ""
        self._proposals = proposed(given, name)

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
        return False  # it has no machine of its own

    @property
    def metric(self) -> str:
        return self.given["objective"]["primaryMetric"]

    @property
    def seconds(self) -> float:
        """How long the machines of its trials have worked."""
        return sum(trial.seconds for trial in self.trials)

    def held(self) -> Iterator[Held]:
        yield from ()

    # What happens to it

    def cancel(self) -> None:
        """Begins to stop it and its trials."""
        self._to("CancelRequested")
        for trial in self.trials:
            if not trial.over and trial.status not in ("CancelRequested", "Finalizing"):
                trial.cancel()

    def advance(self) -> list[Job]:
        """Starts the trials that there is room for, or ends it; gives the new ones."""
        if self.status in ("CancelRequested", "Finalizing", *OVER):
            return []
        busy = [trial for trial in self.trials if not trial.over]
        added: list[Job] = []
        limits = self.given.get("limits") or {}
        most = limits.get("maxConcurrentTrials") or limits.get("maxTotalTrials") or TRIALS
        while len(busy) + len(added) < most:
            values = next(self._proposals, None)
            if values is None:
                break
            added.append(self._trial(values))
        if added and self.started is None:
            self.started = self.last_started = self._clock.now()
            self._to("Running")
        if not busy and not added:
            self._finish()
        return added

    def _finish(self) -> None:
        # That a trial which failed fails the whole is told of where all did: https://github.com/swatig007/automlForImages/issues/25.
        done = any(trial.status == "Completed" for trial in self.trials)
        self._ends_as = "Completed" if done else "Failed"
        if not done:
            self.error = {"code": "UserError", "message": FAILED}
        self._to("Finalizing")

    def deadlines(self) -> Iterator[Deadline]:
        if self.over:
            return
        if self.status == "CancelRequested":
            if all(trial.over for trial in self.trials):
                yield Deadline(self._moved + CANCELING, lambda: self._end("Canceled"))
            return
        if self.status == "Finalizing":
            yield Deadline(self._moved + STEP, lambda: self._end(self._ends_as))
            return
        if self.started is None:
            yield Deadline(
                self.created + STEP, lambda: None
            )  # after which it is advanced, as after all that happens
        timeout = (self.given.get("limits") or {}).get("timeout")
        # "Once this limit is reached the system cancels the sweep job, including all its trials."
        yield Deadline(self.created + (seconds(timeout) if timeout else LONGEST), self.cancel)

    def _end(self, status: str) -> None:
        self.ended = self._clock.now()
        self._to(status)

    def _to(self, status: str) -> None:
        self.status = status
        self.modified = self._moved = self._clock.now()

    def _trial(self, values: dict[str, Any]) -> Job:
        trial, limits = self.given["trial"], self.given.get("limits") or {}
        name = f"{self.name}_{len(self.trials)}"
        command = expand(trial["command"], self.given.get("inputs") or {}, values)
        # "Accessible as environment variables using the prefix AZUREML_SWEEP_": azure.ai.ml.sweep.SweepJob.
        variables = {f"AZUREML_SWEEP_{key}": str(value) for key, value in values.items()}
        given: dict[str, Any] = {**trial, "jobType": "Command", "displayName": name, "command": command}
        given["environmentVariables"] = (trial.get("environmentVariables") or {}) | variables
        given["tags"] = dict(self.tags)
        kept = ("experimentName", "identity", "queueSettings", "computeId")
        given |= {key: self.given[key] for key in kept if key in self.given}
        given["resources"] = self.given.get("resources") or {}
        if limits.get("trialTimeout"):
            given["limits"] = {"jobLimitsType": "Command", "timeout": limits["trialTimeout"]}
        place = (name, self.workspace, given, self.region, self._clock)
        job = Job(*place, size=self.size, low_priority=self.low_priority, by=self.by, parent=self.name)
        job.measure, job.doom = self.measure or job.measure, self.doom
        self.trials.append(job)
        self.values[name] = values
        return job

    # What is said of it

    def objective(self, trial: Job) -> float | None:
        """The best value that a trial has logged of the metric; None where it never did, whatever else it logged.

        Which of several counts: "whether the minimum or maximum of the primary metric is used", azuremlsdk's documentation
        of get_best_run_by_primary_metric.
        """
        found = [value for value, _, _ in trial.metrics.get(self.metric, [])]
        pick = max if self.given["objective"]["goal"] == "Maximize" else min
        return pick(found) if found else None

    def best(self) -> dict[str, str]:
        """What its properties say of its best trial: azure-ai-ml reads best_child_run_id, people read the score.

        A metric that was never logged fails nothing: the column is empty, and nothing is best
        (https://github.com/MicrosoftLearning/mslearn-azure-ml/pull/51).
        """
        sign = 1 if self.given["objective"]["goal"] == "Maximize" else -1
        scores = {trial.name: self.objective(trial) for trial in self.trials if trial.status == "Completed"}
        known = {name: score for name, score in scores.items() if score is not None}
        if not known:
            return {}
        name = max(known, key=lambda one: sign * known[one])
        said = {"best_child_run_id": name, "score": str(known[name]), "best_metric_status": "Succeeded"}
        return said | {"best_data_container_id": f"dcid.{name}"}
