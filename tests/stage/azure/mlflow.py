"""MLflow's REST interface as Azure ML speaks it, for what a running job may log.

https://mlflow.org/docs/latest/rest-api.html; its place: azureml-examples, using-mlflow/using-rest-api.
"""

import math
import re
from typing import Any

from stage.azure.errors import AzureError
from stage.azure.ml_hands import Jobs
from stage.azure.ml_jobs import BEFORE, Job
from stage.azure.ml_listing import described
from stage.azure.ml_tuning import Sweep
from stage.azure.server import Call, Reply

PREFIX = "api/2.0/mlflow/"
# Fewer than MLflow's own: https://github.com/mlflow/mlflow/issues/2441, and equinor/gordo#934 for the parameters.
METRICS, PARAMETERS = 200, 100
# The words of https://github.com/mlflow/mlflow/issues/4202.
NAME = re.compile(r"[\w./ -]{1,250}", re.ASCII)
STATES = {"Completed": "FINISHED", "Failed": "FAILED", "Canceled": "KILLED"}


class MLflow:
    """Runs as MLflow knows them; each is a job."""

    def __init__(self, ml: Jobs) -> None:
        self._ml = ml

    def __call__(self, call: Call, workspace: str, rest: str, run: str) -> Reply:
        """Answers one call.

        Args:
            run: the only run that the caller's token is for; "" where it is a principal's.
        """
        handlers = {
            ("POST", "runs/log-metric"): self._log_metric,
            ("POST", "runs/log-batch"): self._log_batch,
            ("POST", "runs/set-tag"): self._set_tag,
            ("POST", "runs/log-parameter"): self._accept,
            ("POST", "runs/update"): self._accept,
            ("GET", "runs/get"): self._get,
            ("GET", "metrics/get-history"): self._history,
        }
        handle = handlers.get((call.method, rest.removeprefix(PREFIX)))
        if handle is None or not rest.startswith(PREFIX):
            raise AzureError(404, "NotFound", f"The stage does not know {call.method} {call.path}")
        given = dict(call.query) if call.method == "GET" else call.json()
        name = given.get("run_id") or given.get("run_uuid")
        if not isinstance(name, str):
            raise _invalid("Missing value for required parameter 'run_id'.")
        job = self._ml.jobs.get((workspace.lower(), name))
        if run and run != name:
            raise AzureError(403, "UserError", f"The token is for run {run}, not for {name}.")
        if job is None:
            raise AzureError(404, "UserError", f"Run with id '{name}' was not found")
        return Reply(200, handle(job, given))

    def _log_metric(self, job: Job | Sweep, given: dict[str, Any]) -> dict[str, Any]:
        self._log(job, [given])
        return {}

    def _log_batch(self, job: Job | Sweep, given: dict[str, Any]) -> dict[str, Any]:
        metrics = given.get("metrics") or []
        for what, most in (("metrics", METRICS), ("params", PARAMETERS), ("tags", PARAMETERS)):
            if len(given.get(what) or []) > most:
                raise _invalid(f"A batch logging request can contain at most {most} {what}.")
        self._log(job, metrics)
        for tag in given.get("tags") or []:
            job.tags[tag["key"]] = tag["value"]
        return {}

    def _log(self, job: Job | Sweep, metrics: list[dict[str, Any]]) -> None:
        """Keeps values, all or none: a metric grows, and nothing of it is overwritten."""
        found: list[tuple[str, float, int, int]] = []
        for one in metrics:
            for key in ("key", "value", "timestamp"):
                if one.get(key) is None:
                    raise _invalid(f"Missing value for required parameter '{key}'.")
            if not isinstance(one["key"], str) or not NAME.fullmatch(one["key"]):
                raise _invalid(
                    f"Invalid metric name: '{one['key']}'. Names may only contain alphanumerics, underscores (_), dashes (-),"
                    " periods (.), spaces ( ), and slashes (/)."
                )
            step = one.get("step") or 0
            if not _number(one["value"]) or not _whole(one["timestamp"]) or not _whole(step):
                raise _invalid(
                    f"Invalid value of metric '{one['key']}': a number and whole milliseconds are expected."
                )
            found.append((one["key"], float(one["value"]), int(step), int(one["timestamp"])))
        for key, value, step, moment in found:
            job.metrics.setdefault(key, []).append((value, step, moment))

    def _set_tag(self, job: Job | Sweep, given: dict[str, Any]) -> dict[str, Any]:
        job.tags[given["key"]] = str(given["value"])
        return {}

    def _accept(self, job: Job | Sweep, given: dict[str, Any]) -> dict[str, Any]:
        """The state of a run is its job's, and parameters are kept for nobody here."""
        return {}

    def _get(self, job: Job | Sweep, given: dict[str, Any]) -> dict[str, Any]:
        state = "SCHEDULED" if job.status in BEFORE else STATES.get(job.status, "RUNNING")
        info: dict[str, Any] = {
            "run_id": job.name,
            "run_uuid": job.name,
            "status": state,
            "lifecycle_stage": "active",
        }
        info["experiment_id"] = described(job, "")["properties"]["experimentName"]
        for name, moment in (("start_time", job.started), ("end_time", job.ended)):
            info |= {name: round(moment * 1000)} if moment is not None else {}
        tags = dict(job.tags) | ({"mlflow.parentRunId": job.parent} if job.parent else {})
        last = [{"key": key, **_point(values[-1])} for key, values in job.metrics.items()]
        shown = [{"key": key, "value": value} for key, value in tags.items()]
        return {"run": {"info": info, "data": {"metrics": last, "tags": shown, "params": []}}}

    def _history(self, job: Job | Sweep, given: dict[str, Any]) -> dict[str, Any]:
        key = given.get("metric_key", "")
        return {"metrics": [{"key": key, **_point(one)} for one in job.metrics.get(key, [])]}


def _point(value: tuple[float, int, int]) -> dict[str, Any]:
    # Protocol buffers in JSON: 64-bit numbers may come as text, and are no numbers of JSON where they are not finite.
    shown = value[0] if math.isfinite(value[0]) else str(value[0])
    return {"value": shown, "step": str(value[1]), "timestamp": str(value[2])}


def _number(value: Any) -> bool:
    if isinstance(value, str):
        return value in ("NaN", "Infinity", "-Infinity")
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    if isinstance(value, str):
        return bool(re.fullmatch(r"-?\d+", value))
    return isinstance(value, int) and not isinstance(value, bool)


def _invalid(text: str) -> AzureError:
    return AzureError(400, "ValidationError", text)
