"""Jobs of Vertex AI against a small server: how they are and how they ended, what they say, and how they are stopped."""

from datetime import UTC, datetime
from typing import Any

import pytest
from launcher.errors import UserError
from launcher.job import State
from launcher.providers.google import vertex
from vertex_jobs import JOBS, NAME, cloud, found, no_sweeps  # noqa: F401 - its fixture


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("QUEUED", State.queued),
        ("PENDING", State.queued),
        ("PAUSED", State.queued),
        ("RUNNING", State.running),
        ("UPDATING", State.running),
        ("CANCELLING", State.running),
        ("SUCCEEDED", State.succeeded),
        ("PARTIALLY_SUCCEEDED", State.failed),
        ("FAILED", State.failed),
        ("CANCELLED", State.stopped),
        ("EXPIRED", State.stopped),
    ],
)
def test_every_state_of_the_service_has_one_of_ours(server, theirs, ours):
    server.say("GET", JOBS, {"customJobs": [found(state=theirs)]})
    status = vertex.connect(cloud()).status("run-1")
    assert status is not None
    assert status.state is ours


def test_a_failed_job_says_why_and_how_long_it_was_paid_for(server):
    ran: dict[str, Any] = {
        "startTime": "2026-01-01T10:05:00Z",
        "endTime": "2026-01-01T11:05:30Z",
    }
    error = {"code": 3, "message": "The replica workerpool0-0 exited with a non-zero status of 1."}
    server.say("GET", JOBS, {"customJobs": [found(state="FAILED", error=error, **ran)]})
    status = vertex.connect(cloud()).status("run-1")
    assert status is not None
    assert (status.seconds, status.detail) == (3630, error["message"])
    assert status.created == datetime(2026, 1, 1, 10, 0, 0, 123456, UTC)
    assert status.url.endswith("/training/77?project=my-project")


@pytest.mark.parametrize(
    ("error", "state"),
    [
        ({"code": 4, "message": "Job exceeded its timeout."}, State.stopped),
        (
            {"code": 3, "message": "The replica workerpool0-0 exited with a non-zero status of 124."},
            State.stopped,
        ),
        (
            {"code": 3, "message": "The replica workerpool0-0 exited with a non-zero status of 1."},
            State.failed,
        ),
        ({"code": 8, "message": "Resources are insufficient in region: us-central1."}, State.preempted),
    ],
)
def test_how_a_job_ended_is_in_its_error(server, error, state):
    server.say("GET", JOBS, {"customJobs": [found(state="FAILED", error=error)]})
    status = vertex.connect(cloud()).status("run-1")
    assert status is not None
    assert (status.state, status.detail) == (state, error["message"])


def test_a_job_that_waits_costs_nothing_and_one_that_runs_costs_until_now(server):
    started = datetime.now(UTC).replace(microsecond=0).isoformat()
    stamp: dict[str, Any] = {"startTime": started, "updateTime": "2020-01-01T00:00:00Z"}
    jobs = [found(1, "PENDING"), found(2, "RUNNING", **stamp)]
    server.say("GET", JOBS, {"customJobs": jobs})
    waiting, running = sorted(vertex.connect(cloud()).list(), key=lambda one: one.url)
    assert waiting.seconds == 0
    assert 0 < running.seconds < 600


def test_the_newest_job_of_a_run_counts_on_whichever_page_it_is(server):
    newer = found(9, "RUNNING", createTime="2026-01-02T00:00:00Z")
    server.say("GET", JOBS, {"customJobs": [found(8, "FAILED")], "nextPageToken": "more"})
    server.say("GET", JOBS, {"customJobs": [newer]})
    status = vertex.connect(cloud()).status("run-1")
    assert status is not None
    assert status.url.endswith("/training/9?project=my-project")
    first, second = server.sent("GET", JOBS)
    assert first["query"]["filter"] == ['display_name="run-1" AND labels.project="slug"']
    assert second["query"]["pageToken"] == ["more"]


def test_a_run_without_a_job_has_no_status_and_no_lines(server):
    server.say("GET", JOBS, {})
    backend = vertex.connect(cloud())
    assert backend.status("run-1") is None
    assert list(backend.logs("run-1")) == []


def test_all_jobs_of_the_project_are_listed_newest_first(server):
    newer = found(9, "RUNNING", createTime="2026-01-02T00:00:00Z")
    server.say("GET", JOBS, {"customJobs": [found(8, "FAILED"), newer]})
    states = [status.state for status in vertex.connect(cloud()).list()]
    assert states == [State.running, State.failed]
    assert server.sent("GET", JOBS)[0]["query"]["filter"] == ['labels.project="slug"']


def test_the_lines_of_all_pages_are_given_with_the_node_they_come_from(server):
    def entry(task: str, **payload: Any) -> dict[str, Any]:
        return {"resource": {"type": "ml_job", "labels": {"task_name": task}}, **payload}

    first = [entry("workerpool0-0", textPayload="epoch 1\n")]
    second = [entry("workerpool1-0", jsonPayload={"message": "epoch 2"})]
    server.say("GET", JOBS, {"customJobs": [found()]})
    server.say("POST", "/v2/entries:list", {"entries": first, "nextPageToken": "more"})
    server.say("POST", "/v2/entries:list", {"entries": second})
    lines = list(vertex.connect(cloud()).logs("run-1"))
    assert lines == ["epoch 1", "[workerpool1-0] epoch 2"]
    one, two = (sent["body"] for sent in server.sent("POST", "/v2/entries:list"))
    assert 'resource.type="ml_job"' in one["filter"]
    assert 'resource.labels.job_id="77"' in one["filter"]
    assert one["orderBy"] == "timestamp asc"
    assert two == {**one, "pageToken": "more"}


def test_stopping_cancels_the_job(server):
    server.say("GET", JOBS, {"customJobs": [found()]})
    server.say("POST", f"/v1/{NAME}:cancel", {})
    vertex.connect(cloud()).stop("run-1")
    assert len(server.sent("POST", f"/v1/{NAME}:cancel")) == 1


def test_stopping_a_run_ends_every_job_of_it(server):
    older = NAME.replace("/77", "/76")
    server.say("GET", JOBS, {"customJobs": [found(), found(76)]})
    for name in (NAME, older):
        server.say("POST", f"/v1/{name}:cancel", {})
    vertex.connect(cloud()).stop("run-1")
    for name in (NAME, older):
        assert len(server.sent("POST", f"/v1/{name}:cancel")) == 1


def test_stopping_an_ended_job_asks_for_nothing(server):
    server.say("GET", JOBS, {"customJobs": [found(state="SUCCEEDED")]})
    vertex.connect(cloud()).stop("run-1")
    assert not server.sent("POST", f"/v1/{NAME}:cancel")


def test_a_job_that_ends_while_it_is_stopped_is_no_error(server):
    server.say("GET", JOBS, {"customJobs": [found()]})
    server.say("GET", JOBS, {"customJobs": [found(state="SUCCEEDED")]})
    server.refuse("POST", f"/v1/{NAME}:cancel", 400, "not cancellable")
    vertex.connect(cloud()).stop("run-1")


def test_a_job_that_cannot_be_stopped_is_an_error(server):
    server.say("GET", JOBS, {"customJobs": [found()]})
    server.refuse("POST", f"/v1/{NAME}:cancel", 400, "not cancellable")
    with pytest.raises(UserError, match="not cancellable"):
        vertex.connect(cloud()).stop("run-1")


def test_stopping_an_unknown_run_says_where_to_look(server):
    server.say("GET", JOBS, {})
    with pytest.raises(UserError, match="runs list"):
        vertex.connect(cloud()).stop("run-1")
