"""How one gets at a notebook on Google Cloud Batch."""

from typing import Any

import pytest
from batch_world import JOBS, cloud, event, found, job
from launcher.errors import UserError
from launcher.providers.google import batch

# -- a notebook -------------------------------------------------------------------------------


MACHINES_PATH = "/compute/v1/projects/my-project/aggregated/instances"


def machine(name: str, uid: str = "slug-run-1-77-uid", state: str = "RUNNING") -> dict[str, Any]:
    zone = "https://www.googleapis.com/compute/v1/projects/my-project/zones/us-central1-b"
    return {"name": name, "zone": zone, "status": state, "labels": {"batch-job-uid": uid}}


def test_a_notebook_is_reached_by_a_tunnel_to_the_machine_of_its_job(server):
    others = [machine("gone", state="STOPPING"), machine("other", uid="slug-run-1-77-uid-2"), machine("mine")]
    server.say("GET", JOBS, {"jobs": [found()]})
    items = {"zones/us-central1-a": {"warning": {}}, "zones/us-central1-b": {"instances": others}}
    server.say("GET", MACHINES_PATH, {"items": {}, "nextPageToken": "more"})
    server.say("GET", MACHINES_PATH, {"items": items})
    tunnel, notebook = batch.connect(cloud()).hint("run-1").splitlines()
    assert tunnel == (
        "tunnel    gcloud compute ssh mine --zone=us-central1-b --project=my-project --tunnel-through-iap"
        " -- -N -L 8888:localhost:8888"
    )
    assert notebook.startswith("notebook  http://localhost:8888/lab/tree/notebooks/explore.ipynb (ready")
    sent = [one["query"] for one in server.sent("GET", MACHINES_PATH)]
    assert [one["filter"] for one in sent] == [['labels.batch-job-uid="slug-run-1-77-uid"']] * 2
    assert [one.get("pageToken") for one in sent] == [None, ["more"]]


@pytest.mark.parametrize("refused", [True, False])
def test_before_there_is_a_machine_the_command_looks_for_it(server, refused):
    waiting = found(state="QUEUED", status={"statusEvents": [event("no machine yet")]})
    server.say("GET", JOBS, {"jobs": [waiting]})
    if refused:
        server.refuse("GET", MACHINES_PATH, 403, "Permission compute.instances.list denied")
    else:
        server.say("GET", MACHINES_PATH, {"items": {}})
    tunnel, notebook = batch.connect(cloud()).hint("run-1").splitlines()
    assert "$(gcloud compute instances list --project=my-project" in tunnel
    assert "--filter=labels.batch-job-uid=slug-run-1-77-uid" in tunnel
    assert tunnel.endswith("--tunnel-through-iap -- -N -L 8888:localhost:8888")
    assert notebook.endswith("(its machine is not there yet: no machine yet)")


def test_a_notebook_that_no_list_has_yet_is_not_denied_to_whoever_launched_it(server):
    server.say("POST", JOBS, found(state="QUEUED"))
    server.say("GET", JOBS, {})
    backend = batch.connect(cloud())
    backend.submit(job())
    assert "slug-run-1-77-uid" in backend.hint("run-1")


@pytest.mark.parametrize("jobs", [[], [found(state="SUCCEEDED")]])
def test_a_notebook_that_is_not_at_work_cannot_be_reached(server, jobs):
    server.say("GET", JOBS, {"jobs": jobs})
    with pytest.raises(UserError, match="not at work"):
        batch.connect(cloud()).hint("run-1")
