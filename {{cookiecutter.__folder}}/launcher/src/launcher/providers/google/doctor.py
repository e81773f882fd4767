"""What would make a job fail minutes after it was submitted, found in seconds before that. Changes nothing."""

from __future__ import annotations

from typing import Any

from ...job import RUN_CODE, RUN_DATA, Job, Problem
from ..errors import MissingError, RefusedError
from ..managed import Check, together
from . import auth as google
from . import inputs

NEEDED = (
    "storage.objects.create",
    "storage.objects.delete",
    "storage.objects.get",
    "storage.objects.list",
)
# Multi-regions by what their regions' names begin with, and the regions of predefined dual-regions.
WIDE = {"US": "us-", "EU": "europe-", "ASIA": "asia-"}
NOT_IN_EU = ("europe-west2", "europe-west6", "europe-west12")  # London, Zürich, Turin
PAIRS = {
    "ASIA1": ("asia-northeast1", "asia-northeast2"),
    "EUR4": ("europe-north1", "europe-west4"),
    "EUR5": ("europe-west1", "europe-west2"),
    "EUR7": ("europe-west2", "europe-west3"),
    "EUR8": ("europe-west3", "europe-west6"),
    "NAM4": ("us-central1", "us-east1"),
}


def examine(project: str, cloud: Any, job: Job, others: tuple[Check, ...] = ()) -> list[Problem]:
    """Run all checks at the same time; a check that cannot be made is a finding itself.

    Args:
        cloud: the section `cloud` of the configuration.
        others: the backend's own checks, its quotas among them; what they find comes first.
    """
    worktree, newest = RUN_CODE in job.env, cloud.image is None
    checks: list[Check] = [
        *others,
        lambda: inputs.check_image(job.image),
        lambda: inputs.check_code(job.image, worktree, newest),
    ]
    if cloud.bucket:
        checks.append(lambda: check_bucket(cloud.bucket, cloud.region))
    if target := job.env.get(RUN_DATA):
        checks.append(lambda: inputs.check_data(target))
    for variable, name in job.secrets.items():
        checks.append(lambda v=variable, n=name: check_secret(project, v, n))
    return together(checks)


def check_bucket(bucket: str, region: str) -> list[Problem]:
    """Is the bucket there, may it be read and written, and is it where the machines are?"""
    name = bucket.removeprefix("gs://").partition("/")[0]
    base = f"{google.endpoint('storage')}/storage/v1/b/{name}"
    try:
        query = {"permissions": list(NEEDED)}
        granted = google.call("GET", f"{base}/iam/testPermissions", params=query)
    except MissingError:
        remedy = "run `make cloud-setup`, which makes it, or give yours by cloud.bucket=gs://..."
        return [Problem(f"There is no bucket gs://{name}", remedy)]
    lacking = [need for need in NEEDED if need not in granted.get("permissions", [])]
    if lacking:
        what = (
            f"This login may not {', '.join(need.rpartition('.')[2] for need in lacking)} objects"
        )
        remedy = "an owner must grant it roles/storage.objectUser on the bucket"
        return [Problem(f"{what} in gs://{name}", remedy)]
    return _check_location(name, base, region)


def _check_location(name: str, base: str, region: str) -> list[Problem]:
    """Elsewhere than its machines a bucket is slower, and its traffic costs: worth saying, not forbidding.

    Another region than usual is what one tries when the usual one has no GPU left.
    """
    try:
        query = {"fields": "location,customPlacementConfig"}
        answer = google.call("GET", base, params=query)
    except RefusedError:
        return []  # object access does not include it
    location = answer.get("location", "").upper()
    placed = (answer.get("customPlacementConfig") or {}).get("dataLocations", [])
    regions = {location.lower(), *map(str.lower, placed), *PAIRS.get(location, ())}
    wide = WIDE.get(location)
    if region in regions or (wide and region.startswith(wide) and region not in NOT_IN_EU):
        return []
    what = f"The bucket gs://{name} is in {location or 'no known place'}, the job in {region}"
    remedy = (
        f"choose cloud.region={location.lower()}, or live with slower data and traffic that costs"
    )
    return [Problem(what, remedy, fatal=False)]


def check_secret(project: str, variable: str, name: str) -> list[Problem]:
    """Is there a value that the job can read? The value itself is not read."""
    url = f"{google.endpoint('secretmanager')}/v1/projects/{project}/secrets/{name}/versions/latest"
    what = f"The secret {name}, for {variable},"
    try:
        state = google.call("GET", url).get("state")
    except MissingError:
        add = f'`printf %s "${variable}" | gcloud secrets versions add {name} --data-file=-`'
        remedy = (
            f"run `make cloud-setup` and then {add}, or leave it out by ~cloud.secrets.{variable}"
        )
        return [Problem(f"{what} has no value", remedy)]
    except RefusedError:
        # Only the job's own account must read it, and whoever may not look is not told whether it exists.
        remedy = f"if there is none the job will fail at its start; see `gcloud secrets list --project={project}`"
        return [Problem(f"{what} cannot be seen by this login", remedy, fatal=False)]
    if state == "ENABLED":
        return []
    return [Problem(f"{what} is {str(state).lower()}", "enable its newest version or add one")]
