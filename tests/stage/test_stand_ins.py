"""The stand-in of Vertex AI really runs images, keeps their logs, lists and cancels jobs; and leaves nothing."""

import json
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from servers import free_port

from stage import containers, registry
from stage.google.vertex import CANCELLED, FAILED, SUCCEEDED, vertex
from stage.rest import ask
from stage.vertex_bench import DIGEST, FOREVER, bash_stage, refuse, script, submit

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    with bash_stage(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


def test_pushed_layers_are_counted(stage: SimpleNamespace):
    name, _, digest = stage.image.removeprefix(f"{stage.host}/").partition("@")
    layers = registry.layers(stage.host, name, digest)
    assert len(layers) == 1
    assert layers.items() <= registry.blobs(stage.folder).items()
    assert registry.manifest(stage.host, name, digest)[0] == digest
    with pytest.raises(urllib.error.HTTPError, match="404"):
        registry.manifest(stage.host, name, DIGEST)


def test_who_may_not_submit_does_not(stage: SimpleNamespace):
    people, base = stage.people, stage.base
    assert refuse(stage, 401, token=None)["status"] == "UNAUTHENTICATED"
    assert refuse(stage, 401, token="ya29.unknown")["status"] == "UNAUTHENTICATED"
    assert refuse(stage, 401, token=people.token(stage.launcher, -1))["status"] == "UNAUTHENTICATED"
    assert refuse(stage, 403, token=people.token(stage.trainer))["status"] == "PERMISSION_DENIED"
    refuse(stage, 403, path=base.replace(people.project, "other-project"))
    refuse(stage, 400, path=base.replace("us-central1", "europe-west4"))
    refuse(stage, 404, path=base.replace("/v1/", "/v2/"))
    refuse(stage, 400, path=f"{base}?async=true")
    refuse(stage, 400, job=b"{")
    refuse(stage, 400, job=[])
    job = script(stage, "refused", "true")
    job["jobSpec"]["serviceAccount"] = f"somebody-else@{people.project}.iam.gserviceaccount.com"
    refuse(stage, 403, job)
    job["jobSpec"]["serviceAccount"] = stage.launcher.email  # exists, but nobody may act as it
    refuse(stage, 403, job)
    bad = script(stage, "", "true")
    violations = refuse(stage, 400, bad)["details"][0]["fieldViolations"]
    assert [one["field"] for one in violations] == ["display_name"]


def test_a_job_runs_with_what_it_was_given(stage: SimpleNamespace):
    job = submit(stage, "env", "env; echo wrong >&2")
    done = stage.service.wait(job).json()
    assert done["state"] == SUCCEEDED
    assert done["createTime"] <= done["startTime"] <= done["endTime"] == done["updateTime"]
    variables = {name: value for name, _, value in (line.partition("=") for line in job.lines())}
    assert variables["RUN_ID"] == "env"
    assert variables["STAGE"] == "on"
    assert json.loads(variables["CLUSTER_SPEC"])["task"] == {"type": "workerpool0", "index": 0}
    token = ask(
        f"http://{variables['GCE_METADATA_HOST']}/computeMetadata/v1/instance/service-accounts/default/email",
        **{"Metadata-Flavor": "Google"},
    )
    assert token == (200, stage.trainer.email)
    assert (job.restarts, job.preemptions, len(job.started), job.started[0][2]) == (0, 0, 1, 0)
    assert job.machine_seconds > 0
    assert stage.service.containers(running_only=False) == []


def test_logs_are_read_page_by_page(stage: SimpleNamespace):
    job = submit(stage, "logs", "for i in 1 2 3; do echo line $i; done; echo wrong >&2")
    stage.service.wait(job)
    url, where = (
        f"{stage.service.url}/v2/entries:list",
        f'resource.type="ml_job" AND resource.labels.job_id="{job.id}"',
    )
    body = {"resourceNames": [f"projects/{stage.people.project}"], "filter": where, "pageSize": 2}
    messages: list[str] = []
    while True:
        status, page = ask(url, stage.token, body)
        assert status == 200, page
        messages += [one["jsonPayload"]["message"] for one in page["entries"]]
        if "nextPageToken" not in page:
            break
        body["pageToken"] = page["nextPageToken"]
    assert [line for line in messages if "line" in line] == ["line 1", "line 2", "line 3"]
    del body["pageToken"]
    severe = ask(
        url, stage.token, {**body, "filter": f"{where} severity>=ERROR", "orderBy": "timestamp desc"}
    )[1]
    assert [one["jsonPayload"]["message"] for one in severe["entries"]] == ["wrong"]
    assert severe["entries"][0]["resource"]["labels"]["task_name"] == "workerpool0-0"
    for wrong in (
        {"filter": "x"},
        {"resourceNames": []},
        {"orderBy": "timestamp"},
        {"pageSize": -1},
        {"limit": 1},
    ):
        assert ask(url, stage.token, {**body, **wrong})[0] == 400, wrong
    assert ask(url, None, body)[0] == 401
    assert ask(url, stage.people.token(stage.trainer), body)[0] == 403
    assert ask(url, stage.token, {**body, "resourceNames": ["projects/other"]})[0] == 403


def test_jobs_are_listed_newest_first(stage: SimpleNamespace):
    for name in ("list-a", "list-b", "list-b"):
        stage.service.wait(submit(stage, name, "true"))
    b = urllib.parse.quote('labels.run="list-b"')
    page = ask(f"{stage.base}?filter={b}&pageSize=1", stage.token)[1]
    more = ask(f"{stage.base}?filter={b}&pageSize=1&pageToken={page['nextPageToken']}", stage.token)[1]
    assert page["customJobs"][0]["createTime"] > more["customJobs"][0]["createTime"]
    assert "nextPageToken" not in more
    assert ask(f"{stage.base}?filter={urllib.parse.quote('displayName=none')}", stage.token) == (200, {})
    name = page["customJobs"][0]["name"]
    assert ask(f"{stage.service.url}/v1/{name}", stage.token)[1] == page["customJobs"][0]
    for query in ("orderBy=createTime", "filter=run%3Da", "pageToken=x", "pageSize=1&pageSize=2"):
        assert ask(f"{stage.base}?{query}", stage.token)[0] == 400, query
    assert ask(stage.base)[0] == 401
    assert ask(f"{stage.base}/1", stage.token)[0] == 404


def test_a_queued_job_can_be_cancelled(stage: SimpleNamespace):
    stage.service.capacity.clear()
    try:
        job = submit(stage, "queued", "true")
        ask(f"{stage.service.url}/v1/{job.name}:cancel", stage.token, {})
        stage.service.wait(job, [CANCELLED])
    finally:
        stage.service.capacity.set()
    assert job.started == []
    assert "startTime" not in job.json()


def test_an_image_that_is_not_there_fails_the_job(stage: SimpleNamespace):
    job = script(stage, "absent", "true")
    job["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]["imageUri"] = f"{stage.host}/stage/bash@{DIGEST}"
    assert ask(stage.base, stage.token, job)[0] == 200
    done = stage.service.wait("absent", [FAILED])
    assert "Failed to pull the image" in done.error["message"]
    assert done.started == []


def test_nodes_know_each_other(stage: SimpleNamespace):
    show = 'echo "$CLUSTER_SPEC"'
    gate = free_port()
    waits = f"until : > /dev/tcp/127.0.0.1/{gate}; do sleep 0.1; done 2>/dev/null"
    job = submit(stage, "nodes", f"{show}; {waits}", f"{show}; {FOREVER}")
    stage.service.wait_for_line(job, "ready")
    with socket.create_server(("127.0.0.1", gate)):
        stage.service.wait(job)
    # The primary replica's end is the job's: the other one is shut down.
    assert job.state == SUCCEEDED
    first, second = (json.loads(job.lines(f"workerpool{node}-0")[0]) for node in (0, 1))
    assert first["cluster"] == second["cluster"]
    assert (
        [first["task"]["type"], second["task"]["type"]]
        == list(first["cluster"])
        == ["workerpool0", "workerpool1"]
    )
    assert len({*first["cluster"]["workerpool0"], *first["cluster"]["workerpool1"]}) == 2
    assert job.lines("workerpool1-0")[1:] == ["ready", "saved"]


def test_what_still_runs_is_ended_with_the_stage(stage: SimpleNamespace):
    with vertex(stage.people, registries=[stage.host]) as service:
        other = SimpleNamespace(
            **{**vars(stage), "service": service, "base": stage.base.replace(stage.service.url, service.url)}
        )
        service.wait_for_line(submit(other, "left", FOREVER, FOREVER), "ready", count=2)
        # What a container prints can be here before the engine counts it as running.
        assert len(service.containers(running_only=False)) == 2
        assert len(containers.ids(service.stage)) >= 2
    assert containers.ids(service.stage) == []


def test_without_docker_a_test_is_skipped_with_a_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    call: Callable[[], None] = containers.require
    with pytest.raises(pytest.skip.Exception, match="make engine"):
        call()
