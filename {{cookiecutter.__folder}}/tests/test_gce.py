"""The backend of Compute Engine against a small server: what is sent, and what is made of the answers."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from {{ cookiecutter.package_name }}.cloud import gce, gce_api, google, records
from {{ cookiecutter.package_name }}.cloud.google_errors import GoogleError, UnreachableError
from {{ cookiecutter.package_name }}.cloud.job import Leftover, State
from {{ cookiecutter.package_name }}.errors import UserError

from .google_server import CUT, google_server
from .test_gce_parts import CPU, cloud, job

API = "/compute/v1/projects/my-project"
ZONES, OPERATIONS = f"{API}/zones", f"{API}/aggregated/operations"
MACHINES, DISKS = f"{API}/aggregated/instances", f"{API}/aggregated/disks"
DONE = {"name": "op-1", "status": "DONE"}


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(gce_api, "PAUSE", 0)
    with google_server(tmp_path, monkeypatch) as running:
        for path in (MACHINES, DISKS, OPERATIONS):
            running.say("GET", path, {"items": {}})
        yield running


@pytest.fixture
def home(tmp_path) -> Path:
    """The folder of all runs, in place of a bucket's."""
    return tmp_path / "bucket" / "runs"


@pytest.fixture
def backend(server, home):
    return gce.connect(cloud(bucket=str(home.parent)))


def ago(minutes: float) -> str:
    """A time as the service writes it, in its own zone."""
    moment = datetime.now(UTC) - timedelta(minutes=minutes)
    return f"{(moment - timedelta(hours=8)).isoformat(timespec='milliseconds')[:-6]}-08:00"


def machine(number: int = 1, status: str = "RUNNING", **more: Any) -> dict[str, Any]:
    """A machine as the service describes it."""
    return {
        "id": str(70 + number),
        "name": f"slug-run-1-{number}",
        "zone": "https://www.googleapis.com/compute/v1/projects/my-project/zones/us-central1-b",
        "status": status,
        "creationTimestamp": ago(10),
        "labels": {"project": "slug", "run": "run-1", "max-seconds": "5400"},
        "metadata": {"items": [{"key": "run-id", "value": "run-1"}]},
        **more,
    }


def place(server: Any, *found: dict[str, Any], path: str = MACHINES) -> None:
    """Lay out a list of all zones."""
    kind = path.rpartition("/")[2]
    server.forget("GET", path)
    empty = {"warning": {"code": "NO_RESULTS_ON_PAGE"}}
    scopes = {"zones/us-central1-a": empty, "zones/us-central1-b": {kind: list(found)}}
    server.say("GET", path, {"items": scopes})


def operation(kind: str, minutes: float, number: int = 1, **more: Any) -> dict[str, Any]:
    link = f"https://www.googleapis.com/compute/v1{API}/zones/b/instances/slug-run-1-{number}"
    moment = ago(minutes)
    base = {"operationType": kind, "targetLink": link, "targetId": str(70 + number)}
    return {**base, "status": "DONE", "insertTime": moment, "endTime": moment, **more}


def launch(home: Path, minutes: float = 30, **changes: Any) -> None:
    """Write the record of a launch."""
    launched = (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat(timespec="seconds")
    values: dict[str, Any] = dict.fromkeys(records.Record.__dataclass_fields__)
    values |= {"run_id": "run-1", "backend": "gce", "launched": launched, "max_hours": 1.5}
    values |= {"env": dict(job().env) | {"RUN_MAX_SECONDS": "5400"}, "labels": {"run": "run-1"}}
    values |= {"kind": "train", "job": "projects/p/zones/b/instances/slug-run-1-1", "url": ""}
    values["earlier_seconds"] = 0.0
    records.write(str(home), records.Record(**{**values, **changes}))


# -- submission ----------------------------------------------------------------------------------


def zones(server: Any, *names: str) -> None:
    listed = [{"name": name, "status": "UP"} for name in names]
    down = {"name": "us-central1-c", "status": "DOWN"}
    other = {"name": "us-central12-a", "status": "UP"}
    server.say("GET", ZONES, {"items": [other, *listed[:1]], "nextPageToken": "more"})
    server.say("GET", ZONES, {"items": [*listed[1:], down]})


def instances(letter: str) -> str:
    return f"{ZONES}/us-central1-{letter}/instances"


def wait(letter: str) -> str:
    return f"{ZONES}/us-central1-{letter}/operations/op-1/wait"


def failed(code: str, message: str = "") -> dict[str, Any]:
    return {**DONE, "error": {"errors": [{"code": code, "message": message}]}}


def test_a_machine_is_made_as_shown_and_waited_for(server, backend):
    zones(server, "us-central1-a", "us-central1-b")
    server.say("POST", instances("a"), {"name": "op-1", "status": "RUNNING"})
    server.say("POST", wait("a"), {"name": "op-1", "status": "RUNNING"})
    server.say("POST", wait("a"), DONE)
    handle = backend.submit(job())
    assert handle.name == "projects/my-project/zones/us-central1-a/instances/slug-run-1-1"
    assert handle.url == (
        "https://console.cloud.google.com/compute/instancesDetail/"
        "zones/us-central1-a/instances/slug-run-1-1?project=my-project"
    )
    [sent] = server.sent("POST", instances("a"))
    shown = json.dumps(backend.request(job())).replace("zones/ZONE/", "zones/us-central1-a/")
    assert sent["body"] == json.loads(shown)
    assert len(server.sent("POST", wait("a"))) == 2


def test_a_zone_without_room_or_without_such_a_machine_is_passed_over(server, backend):
    zones(server, "us-central1-a", "us-central1-b", "us-central1-f")
    server.say("POST", instances("a"), {"name": "op-1", "status": "RUNNING"})
    server.say("POST", wait("a"), failed("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"))
    absent = "Machine type with name 'g2-standard-8' does not exist in zone 'us-central1-b'."
    server.refuse("POST", instances("b"), 400, absent)
    server.say("POST", instances("f"), DONE)
    assert "/us-central1-f/" in backend.submit(job()).name


def test_when_no_zone_has_room_all_that_were_tried_are_named(server, home):
    zoned = cloud(bucket=str(home.parent), zones=["us-central1-b", "us-central1-a"])
    for letter in "ba":
        server.say("POST", instances(letter), failed("ZONE_RESOURCE_POOL_EXHAUSTED"))
    with pytest.raises(GoogleError, match=r"us-central1-b: .*us-central1-a: .*cloud\.region"):
        gce.connect(zoned).submit(job())
    assert not server.sent("GET", ZONES)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_quota_that_is_used_up_ends_the_search_at_once(server, backend, at_once):
    zones(server, "us-central1-a", "us-central1-b")
    message = "Quota 'NVIDIA_L4_GPUS' exceeded.  Limit: 0.0 in region us-central1."
    if at_once:
        error = {"code": 403, "message": message, "errors": [{"reason": "quotaExceeded"}]}
        server.say("POST", instances("a"), {"error": error}, 403)
    else:
        server.say("POST", instances("a"), failed("QUOTA_EXCEEDED", message))
    with pytest.raises(GoogleError, match=r"quota is used up: .*NVIDIA_L4_GPUS.*iam-admin/quotas"):
        backend.submit(job())
    assert len(server.sent("POST", instances("a"))) == 1
    assert not server.sent("POST", instances("b"))


def test_a_request_whose_answer_was_lost_is_repeated_as_the_same_one(server, backend):
    zones(server, "us-central1-a")
    server.say("POST", instances("a"), status=CUT)
    server.say("POST", instances("a"), DONE)
    backend.submit(job())
    first, second = server.sent("POST", instances("a"))
    assert first["query"]["requestId"] == second["query"]["requestId"]


def test_a_machine_that_is_there_although_every_answer_was_lost_is_taken(server, backend):
    zones(server, "us-central1-a", "us-central1-b")
    server.say("POST", instances("a"), status=CUT)
    server.say("GET", f"{instances('a')}/slug-run-1-1", machine())
    assert backend.submit(job()).name.endswith("us-central1-a/instances/slug-run-1-1")
    assert not server.sent("POST", instances("b"))


def test_without_any_answer_no_other_zone_is_tried(server, backend):
    zones(server, "us-central1-a", "us-central1-b")
    server.refuse("POST", instances("a"), 503, "busy")
    with pytest.raises(UnreachableError, match="503"):
        backend.submit(job())
    assert not server.sent("POST", instances("b"))


def test_a_run_that_has_a_machine_at_work_gets_no_second_one(server, backend):
    place(server, machine(2))
    assert backend.submit(job()).name.endswith("us-central1-b/instances/slug-run-1-2")
    assert [one["method"] for one in server.asked if "/instances" in one["path"]] == ["GET"]


def test_the_next_machine_has_a_number_that_none_had(server, backend):
    place(server, operation("insert", 60, 3), operation("delete", 50, 3), path=OPERATIONS)
    place(server, machine(2, "TERMINATED"))
    zones(server, "us-central1-a")
    server.say("POST", instances("a"), DONE)
    assert backend.submit(job()).name.endswith("slug-run-1-4")
    [asked] = server.sent("GET", OPERATIONS)
    assert asked["query"]["filter"] == ['targetLink eq ".*/instances/slug-run-1-[0-9]+"']


def test_a_denied_permission_is_named_with_the_role_that_holds_it(server, backend):
    zones(server, "us-central1-a")
    message = "Required 'compute.instances.create' permission for 'projects/my-project/...'"
    server.refuse("POST", instances("a"), 403, message)
    with pytest.raises(UserError, match=r"roles/compute\.instanceAdmin\.v1"):
        backend.submit(job())


# -- status --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("PROVISIONING", State.queued),
        ("STAGING", State.queued),
        ("RUNNING", State.running),
        ("STOPPING", State.running),
        ("REPAIRING", State.running),
    ],
)
def test_a_machine_tells_the_state(server, backend, home, theirs, ours):
    launch(home)
    place(server, machine(status=theirs))
    status = backend.status("run-1")
    assert status.state is ours
    assert status.name == "projects/my-project/zones/us-central1-b/instances/slug-run-1-1"
    assert status.detail == f"slug-run-1-1 in us-central1-b is {theirs.lower()}"
    assert status.labels["max-seconds"] == "5400"
    assert 599 <= status.seconds < 630


def test_time_is_the_providers(server, backend, home):
    launch(home)
    server.ahead = 3600.0
    place(server, machine())
    assert 4199 <= backend.status("run-1").seconds < 4230
    assert timedelta(minutes=59) < backend.now() - datetime.now(UTC) < timedelta(minutes=61)


def test_the_time_of_all_machines_of_a_launch_counts(server, backend, home):
    launch(home, minutes=40)
    before = [operation("insert", 90, 1), operation("delete", 80, 1)]  # of an earlier launch
    gone = [operation("insert", 35, 2), operation("compute.instances.preempted", 15, 2)]
    place(server, *before, *gone, operation("insert", 10, 3), path=OPERATIONS)
    place(server, machine(3))
    assert 30 * 60 - 1 <= backend.status("run-1").seconds < 30 * 60 + 30


def test_a_run_whose_machine_is_gone_is_preempted(server, backend, home):
    launch(home)
    gone = [operation("insert", 25), operation("compute.instances.preempted", 5)]
    place(server, *gone, path=OPERATIONS)
    status = backend.status("run-1")
    assert status.state is State.preempted
    assert 20 * 60 - 1 <= status.seconds < 20 * 60 + 1
    assert not status.state.over


def test_a_run_whose_machine_is_gone_has_ended_as_its_worker_noted(server, backend, home):
    launch(home)
    records.close(str(home), "run-1", State.failed, 1, "ValueError: no")
    (home / "run-1" / records.ATTEMPTS).write_text('[{"seconds": 120.0}]')
    status = backend.status("run-1")
    assert (status.state, status.detail, status.seconds) == (State.failed, "ValueError: no", 120.0)


def test_a_launch_that_died_before_its_record_is_found_by_its_machine(server, backend, home):
    launch(home, job=None)
    assert backend.status("run-1") is None
    place(server, operation("insert", 25), operation("delete", 20), path=OPERATIONS)
    assert backend.status("run-1").state is State.preempted
    place(server, machine())
    assert backend.status("run-1").state is State.running


def test_another_backends_run_and_an_unknown_one_have_no_status(server, backend, home):
    assert backend.status("run-1") is None
    launch(home, backend="vertex")
    assert backend.status("run-1") is None


def test_a_machine_is_seen_even_when_the_bucket_is_not(server, backend, home, monkeypatch):
    def refuse(*_: Any) -> None:
        raise UserError("no bucket")

    monkeypatch.setattr(records, "read", refuse)
    place(server, machine())
    assert backend.status("run-1").state is State.running
    place(server)
    with pytest.raises(UserError, match="no bucket"):
        backend.status("run-1")


def test_runs_whose_labels_are_the_same_are_kept_apart(server, backend, home):
    launch(home)
    other = {"items": [{"key": "run-id", "value": "Run-1"}]}
    place(server, machine(metadata=other))
    assert backend.status("run-1").state is State.preempted
    assert backend.status("Run-1").state is State.running


# -- what is whose -------------------------------------------------------------------------------

THEIRS = (
    {},
    {"project": "slug"},  # a machine that a person has made
    {"project": "slug-2", "run": "run-1"},
    {"run": "run-1"},
)


@pytest.mark.parametrize("labels", THEIRS)
def test_nothing_of_anybody_else_is_seen_or_touched(server, backend, home, labels):
    """Even if the service would list it."""
    other = machine(labels=labels)
    place(server, other, machine(2, "TERMINATED", labels=labels))
    disk = {"name": "d", "zone": "z/us-central1-b", "labels": labels}
    place(server, {**disk, "creationTimestamp": ago(60)}, path=DISKS)
    assert backend.list() == []
    assert backend.leftovers() == []
    assert backend.status("run-1") is None
    with pytest.raises(UserError, match="runs list"):
        backend.stop("run-1")
    assert not [one for one in server.asked if one["method"] == "DELETE"]


def test_without_labels_nothing_is_ours(server, home):
    place(server, machine())
    assert gce.connect(cloud(labels={}, bucket=str(home.parent))).list() == []


def test_all_machines_are_listed_newest_first(server, backend, home):
    other = machine(1, name="slug-run-2-1", creationTimestamp=ago(2))
    other |= {"id": "99", "metadata": {"items": [{"key": "run-id", "value": "run-2"}]}}
    place(server, machine(), other)
    assert [status.run_id for status in backend.list()] == ["run-2", "run-1"]
    [asked] = server.sent("GET", MACHINES)
    assert asked["query"]["filter"] == ['(labels.project="slug")']


def test_leftovers_are_machines_that_are_off_and_disks_of_none(server, backend):
    ours = {"project": "slug", "run": "run-1"}
    base = {"zone": "z/us-central1-b", "labels": ours, "creationTimestamp": ago(60)}
    place(server, machine(1, "TERMINATED"), machine(2))
    place(
        server,
        {**base, "name": "old"},
        {**base, "name": "used", "users": ["slug-run-1-2"]},
        {**base, "name": "new", "creationTimestamp": ago(1)},  # its machine may be on its way
        path=DISKS,
    )
    found = backend.leftovers()
    names = [f"zones/us-central1-b/{name}" for name in ("instances/slug-run-1-1", "disks/old")]
    assert [one.name for one in found] == names
    server.say("DELETE", f"{API}/{names[0]}", DONE)
    for one in found:
        backend.remove(one)  # the second is gone by now: 404
    assert len(server.sent("DELETE", f"{API}/{names[0]}")) == 1


# -- stop, logs, hint ----------------------------------------------------------------------------


def test_stopping_deletes_the_machine_and_closes_the_run(server, backend, home):
    launch(home)
    place(server, machine(), machine(2, "TERMINATED"))
    path = f"{instances('b')}/slug-run-1-1"
    server.say("DELETE", path, DONE)
    backend.stop("run-1")
    assert len(server.sent("DELETE", path)) == 1
    assert records.outcome(str(home), "run-1")["state"] == "stopped"  # type: ignore[index]


def test_a_preempted_run_that_is_stopped_is_not_started_again(server, backend, home):
    launch(home)
    backend.stop("run-1")
    assert backend.status("run-1").state is State.stopped
    backend.stop("run-1")


def test_lines_come_from_cloud_logging_page_by_page(server, backend, home):
    launch(home)
    first = {"entries": [{"jsonPayload": {"message": "epoch 1\n"}}], "nextPageToken": "more"}
    server.say("POST", "/v2/entries:list", first)
    server.say("POST", "/v2/entries:list", {"entries": [{"jsonPayload": {"message": "epoch 2"}}]})
    assert list(backend.logs("run-1")) == ["epoch 1", "epoch 2"]
    one, two = (sent["body"] for sent in server.sent("POST", "/v2/entries:list"))
    assert 'resource.type="gce_instance"' in one["filter"]
    assert 'jsonPayload.container.metadata.run="run-1"' in one["filter"]
    assert 'timestamp>="20' in one["filter"]
    assert two == {**one, "pageToken": "more"}


def test_before_there_are_lines_the_machine_tells_what_it_does(server, backend):
    place(server, machine())
    server.say("POST", "/v2/entries:list", {})
    said = "kernel: x\r\nNov 22 m google_metadata_script_runner[7]: startup-script: machine: a: b"
    server.say("GET", f"{instances('b')}/slug-run-1-1/serialPort", {"contents": said})
    assert list(backend.logs("run-1")) == ["machine: a: b"]


def test_a_tunnel_leads_to_a_notebook(server, backend):
    with pytest.raises(UserError, match="no machine"):
        backend.hint("run-1")
    place(server, machine())
    assert (
        "gcloud compute ssh slug-run-1-1 --zone=us-central1-b --project=my-project "
        "--tunnel-through-iap -- -N -L 8888:localhost:8888" in backend.hint("run-1")
    )
    assert "http://localhost:8888/lab/tree/notebooks/explore.ipynb" in backend.hint("run-1")


# -- checks --------------------------------------------------------------------------------------


def problems(backend: Any, given: Any) -> str:
    return "\n".join(str(problem) for problem in backend.check(given) if problem.fatal)


def quotas(server: Any, path: str, **limits: tuple[float, float]) -> None:
    listed = [{"metric": k, "limit": v[0], "usage": v[1]} for k, v in limits.items()]
    server.say("GET", path, {"quotas": listed})


def test_quotas_and_machines_at_work_are_found_before_a_launch(server, backend):
    place(server, machine())
    region, project = f"{API}/regions/us-central1", API
    quotas(server, region, PREEMPTIBLE_NVIDIA_L4_GPUS=(1.0, 1.0), NVIDIA_L4_GPUS=(8.0, 0.0))
    quotas(server, project, GPUS_ALL_REGIONS=(0.0, 0.0))
    found = problems(backend, job())
    assert "slug-run-1-1 is at work on run run-1" in found
    assert "PREEMPTIBLE_NVIDIA_L4_GPUS in us-central1 is 1, of which 1 are in use" in found
    assert "GPUS_ALL_REGIONS" not in found  # counts no machines on spot
    found = problems(backend, replace(job(), spot=False))
    assert "GPUS_ALL_REGIONS is 0" in found
    assert "NVIDIA_L4_GPUS in" not in found


def test_processors_have_a_quota_too_and_one_that_may_not_be_read_is_left_alone(server, backend):
    plain = job(machine=CPU)
    assert "quota" not in problems(backend, plain).lower()
    region = f"{API}/regions/us-central1"
    quotas(server, region, PREEMPTIBLE_CPUS=(0.0, 0.0), CPUS=(8.0, 4.0))
    server.say("GET", API, {})
    assert "CPUS in us-central1 is 8, of which 4 are in use" in problems(backend, plain)


def test_a_request_needs_neither_network_nor_login(server, monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT")
    request = gce.connect(cloud(project=None, zones=["us-central1-b"])).request(job())
    assert request["machineType"] == "zones/us-central1-b/machineTypes/g2-standard-8"
    [account] = request["serviceAccounts"]
    assert account["email"] == "slug-trainer@PROJECT.iam.gserviceaccount.com"
    assert not server.asked


@pytest.mark.parametrize("ending", ["", "/"])
def test_the_api_is_where_gclouds_variable_says(monkeypatch, ending):
    name = "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE"
    monkeypatch.setenv(name, f"http://localhost:1/compute/v1{ending}")
    assert gce_api.Compute("p").url("zones") == "http://localhost:1/compute/v1/projects/p/zones"
    monkeypatch.delenv(name)
    assert google.endpoint("compute") == "https://compute.googleapis.com/compute/v1"


def test_removing_what_cannot_be_removed_is_an_error(server, backend):
    server.refuse("DELETE", f"{API}/zones/b/disks/d", 400, "in use")
    with pytest.raises(UserError, match="in use"):
        backend.remove(Leftover("zones/b/disks/d", "disk d"))


def test_the_libraries_wait_until_they_are_needed():
    code = (
        "import sys; import {{ cookiecutter.package_name }}.cloud.gce;"
        "print([name for name in ('requests', 'google.auth', 'torch') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"
