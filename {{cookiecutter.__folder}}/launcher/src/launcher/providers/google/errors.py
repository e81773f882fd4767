"""What Google Cloud refuses, in one sentence of what is wrong and what to do about it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..errors import (
    LoginError,
    MissingError,
    QuotaError,
    RefusedError,
    ServiceError,
    UnreachableError,
    line,
)

if TYPE_CHECKING:
    from requests import Response

LOGIN = "run `gcloud auth application-default login`"
QUOTAS = "https://console.cloud.google.com/iam-admin/quotas"
ROLES = {  # the narrowest predefined role that holds the permissions of this prefix
    "aiplatform.": "roles/aiplatform.user",
    "artifactregistry.": "roles/artifactregistry.reader",
    "batch.": "roles/batch.jobsEditor",
    "compute.": "roles/compute.viewer",
    "iam.serviceAccounts.actAs": "roles/iam.serviceAccountUser on the job's service account",
    "logging.": "roles/logging.viewer",
    "run.": "roles/run.admin",
    "iam.serviceAccounts.create": "roles/iam.serviceAccountCreator",
    "secretmanager.versions.access": "roles/secretmanager.secretAccessor on the secret",
    "secretmanager.": "roles/secretmanager.viewer on the secret",
    "serviceusage.services.use": "roles/serviceusage.serviceUsageConsumer",
    "storage.objects.": "roles/storage.objectUser on the bucket",
}


def explain(response: Response) -> ServiceError:
    """Say in one sentence what an answer of 400 or more means, and what to do."""
    status, where = response.status_code, urlsplit(response.url).netloc
    message, reason, about = _details(response)
    if reason == "SERVICE_DISABLED":
        service = about.get("service", where)
        project = about.get("consumer", "").removeprefix("projects/") or "PROJECT"
        return RefusedError(
            f"The API {service} is off in project {project}",
            f"run `gcloud services enable {service} --project={project}` and wait a minute",
        )
    if reason == "BILLING_DISABLED":
        return RefusedError(
            "The project has no billing account",
            "link one at https://console.cloud.google.com/billing/projects",
        )
    if status == 403 and reason == "quotaExceeded":  # Compute Engine's; to ask again does not help
        return ServiceError(f"A quota is used up: {message}", f"ask for more at {QUOTAS}")
    if status == 401:
        return LoginError(f"{where} does not accept the login ({message})", LOGIN)
    if status == 403:
        return RefusedError(f"Permission denied: {message}", _role(message, about))
    if status == 404:
        return MissingError(f"Not found: {message}", "check the name, the project and the region")
    if status == 429:
        return QuotaError(f"A quota is used up: {message}", f"ask for more at {QUOTAS} or wait")
    if status >= 500 or status == 408:
        return UnreachableError(f"{where} answers {status} ({message})", "try again in a minute")
    return ServiceError(f"{where} refuses the request: {message}", "correct that setting")


def _details(response: Response) -> tuple[str, str, dict[str, str]]:
    """Give message, reason and its details; each API has its own idea of an error's form."""
    try:
        error = response.json()
    except ValueError:
        return line(response.reason or response.status_code), "", {}
    error = error.get("error", error) if isinstance(error, dict) else {}
    if not isinstance(error, dict):
        return line(error), "", {}
    for detail in error.get("details") or []:
        if str(detail.get("@type", "")).endswith("google.rpc.ErrorInfo"):
            metadata = detail.get("metadata") or {}
            return line(error.get("message", "")), str(detail.get("reason", "")), metadata
    inner = (error.get("errors") or [{}])[0]  # a registry's, or the storage API's
    message = error.get("message") or inner.get("message") or error.get("status")
    return line(message or response.reason), str(inner.get("reason", "")), {}


def _role(message: str, about: dict[str, str]) -> str:
    named = re.search(r"\b([a-z]+\.[A-Za-z]+\.[A-Za-z]+)\b", message)
    permission = about.get("permission") or (named[1] if named else "")
    if "act as" in message:
        permission = "iam.serviceAccounts.actAs"
    for prefix, role in ROLES.items():
        if permission.startswith(prefix):
            return f"an owner of the project must grant this login {role} (it holds {permission})"
    return "an owner of the project must grant this login what is missing (`make cloud-setup` does)"
