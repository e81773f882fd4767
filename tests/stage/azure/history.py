"""Run history: when a job ran, how it failed, and where its log is; at REGION.api.azureml.ms, which a workspace names.

Paths and fields: azure-ai-ml's generated client `_restclient/runhistory`.
"""

import base64
import hashlib
import hmac
import re
import secrets
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

from stage.azure.blob import DOMAIN, LOGS, Blob
from stage.azure.errors import AzureError
from stage.azure.ml_hands import Jobs
from stage.azure.ml_jobs import Job
from stage.azure.ml_listing import described, stamp
from stage.azure.ml_tuning import Sweep
from stage.azure.mlflow import MLflow
from stage.azure.people import People
from stage.azure.roles import Roles
from stage.azure.server import Call, Place, Reply, Server

HOSTS = "*.api.azureml.ms"
VALID = 8 * 3600  # seconds of the world that an address of a log is good for
# "Token scope https://ml.azure.com or management's": azure-ai-ml asks for either.
AUDIENCES = ("https://ml.azure.com", "https://management.azure.com", "https://management.core.windows.net")
PATH = re.compile(
    r"/(?P<service>history|mlflow)/v1\.0(?P<workspace>/subscriptions/[^/]+/resourceGroups/[^/]+/providers/"
    r"Microsoft\.MachineLearningServices/workspaces/[^/]+)/(?P<rest>.+)",
    re.IGNORECASE,
)
RUN = re.compile(
    r"(?:experiments/(?P<experiment>[^/]+)/)?runs/(?P<name>[^/]+)(?:/(?P<what>details|children))?"
)


class History:
    """The data plane of all regions; a test reads and changes runs through `AzureML`."""

    def __init__(self, ml: Jobs, server: Server, people: People, roles: Roles, blob: Blob) -> None:
        self._ml, self._people, self._roles = ml, people, roles
        self._key = secrets.token_bytes(32)
        self.mlflow = MLflow(ml)
        server.register(
            Place(HOSTS, _service, self, lambda host: host.split(".")[0] in ml.arm.locations, _refused)
        )
        blob.logs = self._log

    def run_token(self, job: Job) -> str:
        """The token that a job's containers have for their own run, as AZUREML_RUN_TOKEN and for MLflow."""
        end = 30 * 86400
        claims = {"aud": "run", "oid": "", "runid": job.name, "workspace": job.workspace.lower()}
        return self._people.sign(claims | {"exp": time.time() + end, "iss": "azureml", "role": "Contributor"})

    def __call__(self, call: Call) -> Reply:
        if call.path.rstrip("/").startswith("/discovery"):
            return self._discovery(call)
        found = PATH.fullmatch(call.path)
        if not found:
            raise AzureError(404, "NotFound", f"The stage does not know {call.method} {call.path}")
        workspace = self._ml.arm.resources.get(found["workspace"].lower())
        writes = call.method != "GET" and not found["rest"].endswith(("/search", "/get", "/get-history"))
        run = self._whose(call, found["workspace"], "write" if writes else "read")
        if workspace is None:
            raise AzureError(
                404, "UserError", f"Workspace {found['workspace'].rpartition('/')[2]} was not found"
            )
        if workspace.content["location"].replace(" ", "").lower() != call.host.split(".")[0]:
            raise AzureError(404, "UserError", "The workspace is not in this region.")
        self._ml.tune()
        if found["service"].lower() == "mlflow":
            return self.mlflow(call, workspace.id, found["rest"], run)
        return self._history(call, workspace.id, found["rest"], run)

    def _discovery(self, call: Call) -> Reply:
        """https://learn.microsoft.com/azure/machine-learning/how-to-manage-rest; it needs no token, `api` is what counts."""
        where = f"https://{call.host}"
        names = ("api", "experimentation", "history", "hyperdrive", "modelmanagement", "pipelines")
        return Reply(200, dict.fromkeys(names, where) | {"studio": "https://ml.azure.com"})

    def _whose(self, call: Call, workspace: str, verb: str) -> str:
        """Refuses who may not; gives the one run that a token is for, "" where it is a principal's."""
        token = call.headers.get("authorization", "").partition(" ")[2]
        claims = self._people.read(token) if token else None
        if claims and claims["aud"] == "run":
            if claims["workspace"] != workspace.lower():
                raise AzureError(403, "UserError", "The run token is for another workspace.")
            return claims["runid"]
        if not token:  # as seen: https://github.com/mlflow/mlflow/issues/5846
            raise AzureError(
                401, "UserError", "Bearer token not provided.", inner={"code": "AuthorizationError"}
            )
        principal = self._people.require(call.headers, *AUDIENCES)
        self._roles.require(
            principal, f"Microsoft.MachineLearningServices/workspaces/experiments/runs/{verb}", workspace
        )
        return ""

    def _history(self, call: Call, workspace: str, rest: str, run: str) -> Reply:
        found = RUN.fullmatch(rest)
        if not found or call.method != "GET":
            raise AzureError(404, "NotFound", f"The stage does not know {call.method} {call.path}")
        job = self._ml.jobs.get((workspace.lower(), found["name"]))
        experiment = found["experiment"] or (job.given.get("experimentName") or "Default" if job else "")
        if (
            job is None
            or (run and run != job.name)
            or experiment != (job.given.get("experimentName") or "Default")
        ):
            # As seen: https://github.com/Azure/AutoML-vNext-Preview/issues/3.
            raise AzureError(404, "UserError", f"Run {found['name']} was not found")
        if found["what"] == "children":
            trials = job.trials if isinstance(job, Sweep) else []
            return Reply(200, {"value": [self._said(trial) for trial in trials], "nextLink": None})
        said = self._said(job)
        return Reply(200, said | ({"logFiles": self._files(job)} if found["what"] == "details" else {}))

    def _said(self, job: Job | Sweep) -> dict[str, Any]:
        times = {"startTimeUtc": job.started, "lastStartTimeUtc": job.last_started, "endTimeUtc": job.ended}
        resource = described(job, self._people.tenant)["properties"]
        said: dict[str, Any] = {"runId": job.name, "status": job.status, "createdTimeUtc": stamp(job.created)}
        said |= {name: stamp(moment) if moment is not None else None for name, moment in times.items()}
        said |= {"parentRunId": job.parent or None, "rootRunId": job.parent or job.name, "jobCost": None}
        said |= {
            "tags": dict(job.tags),
            "properties": resource["properties"],
            "target": "serverless",
            "warnings": [],
        }
        said |= {"displayName": resource["displayName"], "experimentName": resource["experimentName"]}
        if compute := job.given.get("computeId"):
            said["target"] = compute.rpartition("/")[2]
        if job.parent:
            sweep = self._ml.jobs[job.workspace.lower(), job.parent]
            assert isinstance(sweep, Sweep)
            drawn = {key: str(value) for key, value in sweep.values[job.name].items()}
            said["parameters"] = drawn
        said["error"] = None
        if job.error:
            inner = {"code": "BadArgument", "innerError": {"code": "AzureMLComputeJobFailed"}}
            error = {**job.error, "messageParameters": {}, "details": [], "innerError": inner}
            place = {"environment": job.region, "location": job.region, "time": "0001-01-01T00:00:00+00:00"}
            said["error"] = {"error": error, "correlation": None, **place, "componentName": "CommonRuntime"}
        return said

    # Logs

    def _files(self, job: Job | Sweep) -> dict[str, str]:
        """Addresses that need no token; the service's own logs stand beside the user's."""
        names = [*job.logs, "system_logs/lifecycler/lifecycler.log"] if job.last_started is not None else []
        return {name: self._address(job, name) for name in names}

    def _address(self, job: Job | Sweep, name: str) -> str:
        properties = self._ml.arm.get(job.workspace).properties
        host = f"{properties['storageAccount'].rpartition('/')[2]}{DOMAIN}"
        path = f"{LOGS}{job.name}/{name}"
        end = stamp(self._ml.arm.clock.now() + VALID)[:19] + "Z"
        query = {"sv": "2019-07-07", "sr": "b", "sp": "r", "se": end}
        if properties["systemDatastoresAuthMode"].lower() != "accesskey":
            query["skoid"] = self._ml.arm.get(job.workspace).private["system"].object_id
        query["sig"] = self._signature(host, path, query)
        return f"https://{host}{path}?{urllib.parse.urlencode(query)}"

    def _signature(self, host: str, path: str, query: Mapping[str, str]) -> str:
        """By a key of the account, or by whom `skoid` names: .../rest/api/storageservices/create-user-delegation-sas."""
        signed = f"{host} {path} {query.get('se', '')} {query.get('skoid', '')}"
        return base64.b64encode(hmac.digest(self._key, signed.encode(), hashlib.sha256)).decode()

    def _log(self, call: Call) -> Reply:
        """https://learn.microsoft.com/rest/api/storageservices/get-blob by a shared access signature."""
        end, now = call.query.get("se", ""), stamp(self._ml.arm.clock.now())[:19] + "Z"
        right = hmac.compare_digest(
            call.query.get("sig", ""), self._signature(call.host, call.path, call.query)
        )
        if not right or end < now or "authorization" in call.headers:
            # A token beside the signature counts, and it is none for storage.
            text = "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly."
            raise AzureError(403, "AuthenticationFailed", text)
        name, _, file = call.path.partition("/dcid.")[2].partition("/")
        job = next((one for one in self._ml.jobs.values() if one.name == name), None)
        if job is None or call.method not in ("GET", "HEAD"):
            raise AzureError(404, "BlobNotFound", "The specified blob does not exist.")
        lines = job.logs.get(file, []) if file.startswith("user_logs/") else ["lifecycler: started"]
        content = "".join(f"{line}\n" for line in lines).encode()
        kind = {"Content-Type": "text/plain", "x-ms-blob-type": "AppendBlob"}
        wanted = re.fullmatch(
            r"bytes=(\d+)-(\d*)", call.headers.get("range", call.headers.get("x-ms-range", ""))
        )
        if not wanted:
            return Reply(200, content, kind)
        start, last = int(wanted[1]), int(wanted[2] or len(content))
        if start >= len(content):
            raise AzureError(
                416, "InvalidRange", "The range specified is invalid for the current size of the resource."
            )
        part = content[start : last + 1]
        return Reply(
            206, part, kind | {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(content)}"}
        )


def _service(path: str) -> str:
    """Which service a path is of, for what is recorded and fails: discovery is Azure ML's itself."""
    return next((name for name in ("history", "mlflow") if path.startswith(f"/{name}/")), "ml")


def _refused(refusal: AzureError) -> Reply:
    """As run history and MLflow word it: https://github.com/mlflow/mlflow/issues/11462."""
    codes = {
        400: "INVALID_PARAMETER_VALUE",
        401: "UNAUTHENTICATED",
        403: "PERMISSION_DENIED",
        404: "RESOURCE_DOES_NOT_EXIST",
    }
    error = {"code": refusal.code, "message": refusal.message, "details": [], "innerError": refusal.inner}
    body = {
        "error": error,
        "statusCode": refusal.status,
        "error_code": codes.get(refusal.status, "INTERNAL_ERROR"),
    }
    return Reply(refusal.status, body | {"message": refusal.message}, refusal.headers)
