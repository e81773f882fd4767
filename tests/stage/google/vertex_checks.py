"""What Vertex AI refuses in a request because of who sends it, to where, and what the region has."""

from typing import Any

from stage.google.identity import Identity
from stage.rest import Request, RequestError
from stage.google.vertex_rules import gpus, quota_metric


def check_place(identity: Identity, region: str, project: str, location: str) -> None:
    """Refuses what is not asked of this project, in the region of this endpoint."""
    if not identity.is_project(project):
        raise RequestError(403, f"Permission denied on resource project {project}.")
    if location != region:
        text = f"The location {location!r} is not that of the endpoint, {region!r}."
        raise RequestError(400, text, [("parent", text)])
    if "aiplatform.googleapis.com" in identity.disabled_services:
        text = f"Vertex AI API has not been used in project {project} before or it is disabled."
        raise RequestError(403, text)


def check_account(identity: Identity, request: Request, email: str) -> None:
    """Who submits a job needs to be allowed to act as the account that it runs as."""
    if not email:
        return
    allowed = identity.caller(request).allows("iam.serviceAccounts.actAs", email)
    if email not in identity.accounts or not allowed:
        text = f"You do not have permission to act as service account: {email} (or it may not exist)."
        raise RequestError(403, text)


def check_machines(identity: Identity, region: str, unsupported: set[str], spec: Any, times: int) -> None:
    """Refuses machines that the region does not have, and more of them than the quota allows: `times` jobs at a time."""
    wanted = gpus(spec)
    machines = {pool.machine_spec.machine_type for pool in spec.worker_pool_specs}
    missing = sorted(unsupported & (set(wanted) | machines))
    if missing:
        text = f"{missing[0]} is not supported in region {region}."
        raise RequestError(400, text, [("job_spec.worker_pool_specs[0].machine_spec", text)])
    spot = spec.scheduling.strategy == 4
    for gpu, count in wanted.items():
        metric = quota_metric(gpu, spot)
        limits = identity.quotas.get(metric)
        if limits is not None and limits.get(region, 0) < count * times:
            raise RequestError(429, f"The following quota metrics exceed quota limits: {metric}")
