"""What Azure ML says of jobs, one by one and in lists."""

import copy
import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from stage.azure.errors import AzureError
from stage.azure.ml_jobs import Job
from stage.azure.ml_tuning import Sweep

PAGE = 10  # jobs in one answer; how many they are in truth is not documented
VIEWS = {"ActiveOnly": (False,), "ArchivedOnly": (True,), "All": (False, True)}
TYPE = "Microsoft.MachineLearningServices/workspaces"


def stamp(moment: float) -> str:
    """A moment as the service writes it."""
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f+00:00")


def tracking(job: Job | Sweep) -> str:
    """Where a job's MLflow is, without its scheme."""
    return f"{job.region}.api.azureml.ms/mlflow/v1.0{job.workspace}"


def described(job: Job | Sweep, tenant: str) -> dict[str, Any]:
    """The resource that GET gives; when it ran is not in it, run history has that."""
    said = copy.deepcopy(job.given)
    page = f"https://ml.azure.com/runs/{job.name}?wsid={job.workspace}&tid={tenant}"
    services = {"Tracking": ("Tracking", f"azureml://{tracking(job)}?"), "Studio": ("Studio", page)}
    said["services"] = said.get("services") or {}
    said["services"] |= {
        name: {"jobServiceType": kind, "port": None, "endpoint": where, "status": None, "errorMessage": None}
        for name, (kind, where) in services.items()
    }
    said.setdefault("displayName", job.name)
    said.setdefault("experimentName", "Default")
    said |= {"tags": dict(job.tags), "isArchived": said.get("isArchived", False), "status": job.status}
    own = {"_azureml.ComputeTargetType": "amlctrain" if "computeId" in said else "amlcdsi"}
    said["properties"] = (said.get("properties") or {}) | own
    if isinstance(job, Sweep):
        said["properties"] |= job.best()
    if job.parent:
        said["parentJobName"] = job.parent
    where = f"azureml://datastores/workspaceartifactstore/ExperimentRun/dcid.{job.name}"
    said["outputs"] = {"default": {"jobOutputType": "uri_folder", "mode": "ReadWriteMount", "uri": where}}
    made = {"createdAt": stamp(job.created), "createdBy": job.by, "createdByType": "Application"}
    return {
        "id": job.id,
        "name": job.name,
        "type": f"{TYPE}/jobs",
        "properties": said,
        "systemData": made,
    }


def listed(
    jobs: Iterable[Job | Sweep], query: Mapping[str, str], address: str, tenant: str
) -> dict[str, Any]:
    """A page of jobs, newest first; a sweep's trials are not among them, run history knows those.

    https://learn.microsoft.com/rest/api/azureml/jobs/list: a `tag` is a key ("Jobs returned will have this tag key"), a
    property a name or name=value.

    Args:
        address: of the collection, without a query.
    """
    unknown = set(query) - {"api-version", "$skip", "jobType", "tag", "listViewType", "properties"}
    if unknown:
        raise AzureError(400, "ValidationError", f"Unknown query parameters: {', '.join(sorted(unknown))}")
    view = query.get("listViewType", "ActiveOnly")
    if view not in VIEWS:
        raise AzureError(400, "ValidationError", f"The value '{view}' is not valid for listViewType.")
    found = [
        job
        for job in jobs
        if not job.parent
        and query.get("jobType", job.kind) == job.kind
        and ("tag" not in query or query["tag"] in job.tags)
        and job.given.get("isArchived", False) in VIEWS[view]
        and _has(job.given.get("properties") or {}, query.get("properties", ""))
    ]
    found.sort(key=lambda job: job.created, reverse=True)
    start = _start(query.get("$skip", ""), found)
    shown: dict[str, Any] = {"value": [described(job, tenant) for job in found[start : start + PAGE]]}
    if start + PAGE < len(found):
        kept = "".join(
            f"&{name}={value}" for name, value in query.items() if name not in ("$skip", "api-version")
        )
        last = found[start + PAGE - 1].name
        shown["nextLink"] = f"{address}?api-version={query['api-version']}&$skip=after:{last}{kept}"
    return shown


def _start(token: str, found: list[Job | Sweep]) -> int:
    """Where a page begins. The token is the service's own: what is no such is refused, numbers among them."""
    if not token:
        return 0
    kind, _, name = token.partition(":")
    names = [job.name for job in found]
    if kind != "after" or name not in names:
        raise AzureError(400, "ValidationError", f"The continuation token '{token}' is invalid.")
    return names.index(name) + 1


def _has(properties: Mapping[str, str], wanted: str) -> bool:
    for one in filter(None, wanted.split(",")):
        name, equals, value = one.partition("=")
        if name not in properties or (equals and properties[name] != value):
            return False
    return True
