"""How to get at a notebook on a machine of Batch: by a tunnel to the machine, which is found by its label."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import ServiceError
from . import auth as google
from . import batch_state

LABEL = "batch-job-uid"  # Batch gives it to each machine itself
NOTEBOOK = "lab/tree/notebooks/explore.ipynb"
PORT = 8888  # of Jupyter, on the machine's loopback


def hint(project: str, job: dict[str, Any]) -> str:
    """Give the command of the tunnel and the notebook's address.

    A job has no machine for some minutes after it was submitted, and another one after each new attempt: then the
    command looks for it itself.

    Args:
        job: as the service describes it.
    """
    machine = next(_machines(project, job["uid"]), None)
    ready = "ready in about five minutes"
    if machine:
        which = f"{machine['name']} --zone={str(machine['zone']).rpartition('/')[2]}"
    else:
        which = f"$({_find(project, job['uid'])})"
        ready = f"its machine is not there yet: {batch_state.detail(job)}"
    tunnel = f"gcloud compute ssh {which} --project={project} --tunnel-through-iap"
    return (
        f"tunnel    {tunnel} -- -N -L {PORT}:localhost:{PORT}\n"
        f"notebook  http://localhost:{PORT}/{NOTEBOOK} ({ready})"
    )


def _machines(project: str, uid: str) -> Iterator[dict[str, Any]]:
    """Find the machines that a job has now; none where they cannot be listed: the person's own tool may."""
    query = {"filter": f'labels.{LABEL}="{uid}"', "returnPartialSuccess": "true"}
    url = f"{google.endpoint('compute')}/projects/{project}/aggregated/instances"
    while True:
        try:
            answer = google.call("GET", url, params=query)
        except ServiceError:
            return
        for place in answer.get("items", {}).values():
            for machine in place.get("instances", []):
                labels = machine.get("labels") or {}
                if labels.get(LABEL) == uid and machine["status"] == "RUNNING":
                    yield machine
        if not (page := answer.get("nextPageToken")):  # a page may be empty and not the last one
            return
        query["pageToken"] = page


def _find(project: str, uid: str) -> str:
    """Give the command that prints the name of a job's machine, and its zone, as the tunnel's command takes them."""
    form = "value[separator=' --zone='](name,zone.basename())"
    where = f"--project={project} --filter=labels.{LABEL}={uid}"
    return f'gcloud compute instances list {where} --format="{form}"'
