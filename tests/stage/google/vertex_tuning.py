"""The life of one hyperparameter tuning job: it chooses settings, runs each trial as a custom job, and reads its metric."""

import itertools
import json
import math
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from stage.google.vertex_jobs import CANCELLED, FAILED, OVER, SUCCEEDED, TrainingJob
from stage.google.vertex_log import JobLog, now
from stage.google.vertex_nodes import Trial
from stage.google.vertex_tuning_rules import GRID, LOG_SCALES, kind

FOLDER = "/tmp/hypertune"  # where the service reads the metric in each trial's container
FILE = "output.metrics"
SEED = 4  # of what is chosen: a test sees the same each time

Start = Callable[["TuningTrial"], TrainingJob]


@dataclass
class TuningTrial:
    """One trial.

    Args:
        number: from 1.
        parameters: what was chosen, by name.
        folder: what its container sees as FOLDER.
        metrics: its metric file, as the service has it open.
        job: the custom job that runs it.
        resource: as the API shows it.
    """

    number: int
    parameters: dict[str, Any]
    folder: Path
    metrics: IO[str]
    job: TrainingJob | None = None
    resource: dict[str, Any] = field(default_factory=dict)

    def given(self) -> Trial:
        """What its custom job gets."""
        return Trial(
            env={"CLOUD_ML_TRIAL_ID": str(self.number)},
            args=tuple(f"--{name}={argument(value)}" for name, value in self.parameters.items()),
            options=("--volume", f"{self.folder}:{FOLDER}"),
        )


def argument(value: Any) -> str:
    """A value as it is written into the arguments."""
    return repr(value) if isinstance(value, float) else str(value)


class TuningJob:
    """A submitted tuning job. It is read by tests; only `Vertex` changes it.

    Attributes:
        id: its number; `name` is the whole resource name.
        resource: what was submitted, as JSON.
        state: JOB_STATE_...
        trials: in the order in which they began.
        most_at_once: how many trials there ever were at the same time.
    """

    def __init__(
        self, number: str, parent: str, resource: dict[str, Any], message: Any, project: str, start: Start
    ):
        self.id, self.resource, self.message, self._start_trial = number, resource, message, start
        self.resource["name"] = f"{parent}/hyperparameterTuningJobs/{number}"
        self.trials: list[TuningTrial] = []
        self.most_at_once = 0
        self.log = JobLog(project, number)
        self._random = random.Random(SEED)
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._cancelled, self._lock = threading.Event(), threading.RLock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._move("JOB_STATE_QUEUED", createTime=now())

    @property
    def name(self) -> str:
        return self.resource["name"]

    @property
    def state(self) -> str:
        return self.resource["state"]

    def json(self) -> dict[str, Any]:
        with self._lock:
            shown = {**self.resource, "trials": [trial.resource for trial in self.trials]}
            return json.loads(json.dumps(shown))

    def lines(self) -> list[str]:
        """What all trials have printed, one after the other."""
        return [line for trial in self.trials if trial.job for line in trial.job.lines()]

    def cancel(self) -> None:
        self._cancelled.set()

    def start(self) -> None:
        self._thread.start()

    def abandon(self) -> None:
        """Ends it without grace, because the stage is taken down."""
        self._cancelled.set()
        for trial in self.trials:
            if trial.job:
                trial.job.abandon()

    def join(self) -> None:
        """Waits for the end of its life."""
        self._thread.join()
        self._folder.cleanup()

    # Its own life

    def _run(self) -> None:
        try:
            self._live()
        except Exception as error:
            self._finish(FAILED, 13, f"Internal error: {error!r}")
            raise

    def _live(self) -> None:
        self._move("JOB_STATE_RUNNING", startTime=now())
        chosen = self._choices()
        most_failed = self.message.max_failed_trial_count or math.inf
        done = False
        while True:
            active = [trial for trial in self.trials if trial.resource["state"] == "ACTIVE"]
            for trial in active:
                if trial.job and trial.job.state in OVER:
                    self._end(trial)
            failed = sum(trial.resource["state"] == "INFEASIBLE" for trial in self.trials)
            if self._cancelled.is_set() or failed >= most_failed:
                break
            active = [trial for trial in active if trial.resource["state"] == "ACTIVE"]
            while not done and len(active) < self.message.parallel_trial_count:
                parameters = next(chosen, None)
                done = parameters is None
                if parameters is not None:
                    active.append(self._begin(parameters))
            self.most_at_once = max(self.most_at_once, len(active))
            if not active:
                return self._finish(SUCCEEDED)
            time.sleep(0.05)
        self._move("JOB_STATE_CANCELLING" if self._cancelled.is_set() else "JOB_STATE_RUNNING")
        self._stop_trials()
        if self._cancelled.is_set():
            return self._finish(CANCELLED, 1, "CANCELED")
        return self._finish(FAILED, 3, f"{failed} trials have failed.")

    def _begin(self, parameters: dict[str, Any]) -> TuningTrial:
        number = len(self.trials) + 1
        folder = Path(self._folder.name, str(number))
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)  # whoever the container runs as
        trial = TuningTrial(number, parameters, folder, _opened(folder / FILE))
        trial.resource = {
            "id": str(number),
            "name": f"{self.name}/trials/{number}",
            "state": "ACTIVE",
            "parameters": [{"parameterId": name, "value": value} for name, value in parameters.items()],
            "startTime": now(),
        }
        with self._lock:
            self.trials.append(trial)
        trial.job = self._start_trial(trial)
        trial.resource["customJob"] = trial.job.name
        return trial

    def _end(self, trial: TuningTrial) -> None:
        """Takes note of what an ended trial has reached: without a final measurement it is infeasible."""
        assert trial.job
        reason = trial.job.error.get("message", "") if trial.job.state != SUCCEEDED else ""
        measurements: list[dict[str, Any]] = []
        try:
            measurements = self._measurements(trial)
        except (ValueError, KeyError) as error:
            reason = reason or f"The metric cannot be read: {error!r}"
        reason = reason or ("" if measurements else "The trial has reported no metric.")
        trial.metrics.close()
        with self._lock:
            trial.resource |= {"endTime": now(), "state": "INFEASIBLE" if reason else "SUCCEEDED"}
            trial.resource |= {"infeasibleReason": reason} if reason else {}
            if measurements and not reason:
                trial.resource["finalMeasurement"] = measurements[-1]
        self.log.add("service", "INFO", f"Trial {trial.number}: {trial.resource['state']}. {reason}")

    def _measurements(self, trial: TuningTrial) -> list[dict[str, Any]]:
        """Reads what was reported, as the service's library writes it; anything else is an error.

        https://github.com/GoogleCloudPlatform/cloudml-hypertune/blob/master/hypertune/hypertune.py
        """
        trial.metrics.seek(0)
        metric = self.message.study_spec.metrics[0].metric_id
        found = []
        for line in trial.metrics.read().splitlines():
            entry = json.loads(line)
            if set(entry) != {"timestamp", "trial", "global_step", metric} or entry["trial"] != str(
                trial.number
            ):
                raise ValueError(f"not a measurement of {metric} in trial {trial.number}: {line}")
            if not isinstance(entry[metric], str) or not math.isfinite(float(entry[metric])):
                raise ValueError(f"{metric} is no finite number in text: {line}")
            metrics = [{"metricId": metric, "value": float(entry[metric])}]
            found.append({"stepCount": str(int(entry["global_step"])), "metrics": metrics})
        return found

    def _stop_trials(self) -> None:
        active = [trial for trial in self.trials if trial.resource["state"] == "ACTIVE" and trial.job]
        for trial in active:
            trial.job.cancel()  # type: ignore[union-attr]
        for trial in active:
            trial.job.join()  # type: ignore[union-attr]
            self._end(trial)

    # What is tried

    def _choices(self) -> Iterator[dict[str, Any]]:
        """Settings for one trial after the other, within the specification."""
        study, count = self.message.study_spec, self.message.max_trial_count
        names = [parameter.parameter_id for parameter in study.parameters]
        if study.algorithm == GRID:
            points = itertools.product(*(_points(parameter) for parameter in study.parameters))
            for point in itertools.islice(points, count):
                yield dict(zip(names, point, strict=True))
            return
        for _ in range(count):
            yield {each.parameter_id: self._choose(each) for each in study.parameters}

    def _choose(self, parameter: Any) -> Any:
        if kind(parameter) in ("CATEGORICAL", "DISCRETE"):
            return self._random.choice(_points(parameter))
        whole = kind(parameter) == "INTEGER"
        spec = parameter.integer_value_spec if whole else parameter.double_value_spec
        if parameter.scale_type in LOG_SCALES:
            value = math.exp(self._random.uniform(math.log(spec.min_value), math.log(spec.max_value)))
        else:
            value = self._random.uniform(spec.min_value, spec.max_value)
        value = min(max(value, spec.min_value), spec.max_value)
        return round(value) if whole else value

    # What the API shows of it

    def _finish(self, state: str, code: int = 0, message: str = "") -> None:
        error = {"error": {"code": code, "message": message}} if message else {}
        self._move(state, endTime=now(), **error)

    def _move(self, state: str, **more: Any) -> None:
        with self._lock:
            self.resource.update({**more, "state": state, "updateTime": now()})


def _opened(path: Path) -> IO[str]:
    """Opens the metric file of a trial, once, before the trial begins.

    The service's library writes into the file that is there and never replaces it. How the service follows it is not
    documented: it reads on in what it has open, so that a file put in its place is never seen.
    """
    path.touch()
    path.chmod(0o666)
    return path.open(encoding="utf-8")


def _points(parameter: Any) -> list[Any]:
    """All values of a parameter that has single ones; numbers of a discrete one are doubles."""
    if kind(parameter) == "INTEGER":
        spec = parameter.integer_value_spec
        return list(range(spec.min_value, spec.max_value + 1))
    chosen = "categorical_value_spec" if kind(parameter) == "CATEGORICAL" else "discrete_value_spec"
    return list(getattr(parameter, chosen).values)
