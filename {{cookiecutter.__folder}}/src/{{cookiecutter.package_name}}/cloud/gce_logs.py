"""What containers on machines have printed, as Docker's driver `gcplogs` sends it to Cloud Logging."""

from __future__ import annotations

from collections.abc import Iterator

from . import google


def lines(project: str, run_id: str, since: str | None) -> Iterator[str]:
    """Give the lines of a run, oldest first, of all its machines.

    Args:
        since: time from which on they are looked for; None for all that is kept.
    """
    conditions = [
        'resource.type="gce_instance"',
        f'logName="projects/{project}/logs/gcplogs-docker-driver"',
        f'jsonPayload.container.metadata.run="{run_id}"',
    ]
    if since:
        conditions.append(f'timestamp>="{since}"')
    body = {
        "resourceNames": [f"projects/{project}"],
        "filter": " AND ".join(conditions),
        "orderBy": "timestamp asc",
        "pageSize": 1000,
    }
    url = f"{google.endpoint('logging')}/v2/entries:list"
    while True:
        answer = google.call("POST", url, body, retry=True)  # it only reads
        for entry in answer.get("entries", []):
            yield str((entry.get("jsonPayload") or {}).get("message", "")).rstrip("\n")
        if not (page := answer.get("nextPageToken")):
            return
        body = {**body, "pageToken": page}
