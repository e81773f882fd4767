"""The backend of Google Cloud Batch against a small server: what is sent, and what is made of the answers."""

from datetime import UTC, datetime
from typing import Any

import pytest
from batch_world import ENTRIES, JOBS, NAME, PARENT, cloud, event, found, job, task_failed
from google_server import CUT
from launcher.errors import UserError
from launcher.job import State
from launcher.providers.errors import RefusedError, UnreachableError
from launcher.providers.google import batch

# -- submitting -------------------------------------------------------------------------------


def test_a_job_is_submitted_as_shown_and_its_page_is_given(server):
    server.say("POST", JOBS, found())
    backend = batch.connect(cloud())
    handle = backend.submit(job())
    assert handle.name == NAME
    assert handle.url == (
        "https://console.cloud.google.com/batch/jobsDetail/regions/us-central1/jobs/slug-run-1-77/details"
        "?project=my-project"
    )
    [sent] = server.sent("POST", JOBS)
    assert sent["body"] == backend.request(job())
    assert sent["login"] == "Bearer valid"
    [name] = sent["query"]["jobId"]
    assert name.startswith("slug-run-1-")


def test_two_launches_of_one_run_are_two_jobs(server):
    server.say("POST", JOBS, found())
    for _ in range(2):
        batch.connect(cloud()).submit(job())
    first, second = (sent["query"] for sent in server.sent("POST", JOBS))
    assert first["jobId"] != second["jobId"]
    assert first["requestId"] != second["requestId"]


def test_a_request_whose_answer_was_lost_is_sent_again_as_the_same(server):
    server.say("POST", JOBS, status=CUT)
    server.refuse("POST", JOBS, 503, "busy")
    server.say("POST", JOBS, found())
    assert batch.connect(cloud()).submit(job()).name == NAME
    queries = [sent["query"] for sent in server.sent("POST", JOBS)]
    assert len(queries) == 3
    assert queries[0] == queries[1] == queries[2]


def test_a_name_that_is_taken_by_this_very_job_is_success(server, monkeypatch):
    monkeypatch.setattr(batch.Batch, "_new_name", lambda self, run_id: "slug-run-1-77")
    server.say("POST", JOBS, status=CUT)
    server.refuse("POST", JOBS, 409, "Job already exists")
    server.say("GET", f"/v1/{NAME}", found())
    assert batch.connect(cloud()).submit(job()).name == NAME


def test_a_name_that_is_taken_by_another_project_is_an_error(server, monkeypatch):
    monkeypatch.setattr(batch.Batch, "_new_name", lambda self, run_id: "slug-run-1-77")
    server.refuse("POST", JOBS, 409, "Job already exists")
    server.say("GET", f"/v1/{NAME}", found(labels={"project": "slug-two", "run": "run-1"}))
    with pytest.raises(UserError, match="already exists"):
        batch.connect(cloud()).submit(job())


def test_a_service_that_stays_away_ends_the_submission(server):
    server.refuse("POST", JOBS, 503, "busy")
    with pytest.raises(UnreachableError, match="503"):
        batch.connect(cloud()).submit(job())


def test_a_refused_submission_says_which_role_is_missing_and_is_not_repeated(server):
    message = "caller does not have access to act as the specified service account: slug-trainer@x.iam"
    server.refuse("POST", JOBS, 403, message)
    with pytest.raises(RefusedError, match=r"roles/iam\.serviceAccountUser"):
        batch.connect(cloud()).submit(job())
    assert len(server.sent("POST", JOBS)) == 1


def test_a_permission_that_is_missing_is_named_with_its_role(server):
    server.refuse("GET", JOBS, 403, "Permission 'batch.jobs.list' denied on resource")
    with pytest.raises(RefusedError, match=r"roles/batch\.jobsEditor .*batch\.jobs\.list"):
        batch.connect(cloud()).list()


# -- how a job is -----------------------------------------------------------------------------


def status_of(server: Any, *jobs: dict[str, Any]) -> Any:
    server.say("GET", JOBS, {"jobs": list(jobs)})
    status = batch.connect(cloud()).status("run-1")
    assert status is not None
    return status


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("QUEUED", State.queued),
        ("SCHEDULED", State.queued),
        ("RUNNING", State.running),
        ("CANCELLATION_IN_PROGRESS", State.running),
        ("DELETION_IN_PROGRESS", State.running),
        ("SUCCEEDED", State.succeeded),
        ("FAILED", State.failed),
        ("CANCELLED", State.stopped),
    ],
)
def test_every_state_of_the_service_has_one_of_ours(server, theirs, ours):
    assert status_of(server, found(state=theirs)).state is ours


def test_a_job_that_ran_into_its_time_limit_was_stopped(server):
    over = task_failed(50005, " due to task runs over the maximum runtime")
    assert status_of(server, found(state="FAILED", status={"statusEvents": [over]})).state is State.stopped


@pytest.mark.parametrize(
    ("code", "ours"), [(50005, State.stopped), (124, State.stopped), (1, State.failed), (None, State.failed)]
)
def test_what_the_job_does_not_tell_its_task_does(server, code, ours):
    ended = {"eventTime": "2026-01-01T11:00:00Z", "taskState": "FAILED", "taskExecution": {"exitCode": code}}
    task = {"status": {"statusEvents": [ended]}} if code else {}
    server.say("GET", f"/v1/{NAME}/taskGroups/group0/tasks/0", task)
    failed = found(state="FAILED", status={"statusEvents": [event("Job failed.")]})
    server.say("GET", JOBS, {"jobs": [failed]})
    backend = batch.connect(cloud())
    assert [status.state for _ in range(2) for status in backend.list()] == [ours, ours]
    assert len(server.sent("GET", f"/v1/{NAME}/taskGroups/group0/tasks/0")) == 1


def test_only_how_the_last_attempt_ended_counts(server):
    events = [
        event("Task failed with exit code 50005.", "2026-01-01T10:30:00Z"),
        {**task_failed(1), "eventTime": "2026-01-01T11:00:00Z"},
    ]
    status = status_of(server, found(state="FAILED", status={"statusEvents": events}))
    assert status.state is State.failed
    assert status.detail.endswith("with exit code 1.")


def test_an_earlier_attempt_never_says_how_the_job_ended(server):
    earlier = event("Task failed with exit code 50005.", "2026-01-01T10:30:00Z")
    last = event("Job state is set from RUNNING to FAILED.", "2026-01-01T11:00:00Z")
    task = {"status": {"statusEvents": [event("Task failed with exit code 1.", "2026-01-01T11:00:00Z")]}}
    server.say("GET", f"/v1/{NAME}/taskGroups/group0/tasks/0", task)
    assert (
        status_of(server, found(state="FAILED", status={"statusEvents": [earlier, last]})).state
        is State.failed
    )


def test_a_job_that_waits_says_for_what_and_costs_nothing(server):
    why = (
        "Quota checking process decides to delay scheduling for the job [Quota: PREEMPTIBLE_NVIDIA_L4_GPUS]."
    )
    newer, older = event(why, "2026-01-01T10:09:00Z"), event("Job is queued.", "2026-01-01T10:00:01Z")
    status = status_of(server, found(state="QUEUED", status={"statusEvents": [newer, older]}))
    assert (status.state, status.detail, status.seconds) == (State.queued, why, 0)
    assert status.created == datetime(2026, 1, 1, 10, 0, 0, 123456, UTC)
    assert status.labels == {"project": "slug", "run": "run-1"}
    assert status.name == NAME


def test_the_service_adds_up_how_long_a_job_that_is_over_ran(server):
    events = [event(f"Job state is set from SCHEDULED to RUNNING for job {NAME}.", "2026-01-01T10:00:00Z")]
    status = {"runDuration": "3630.250s", "statusEvents": events}
    over = found(state="SUCCEEDED", updateTime="2026-01-01T20:00:00Z", status=status)
    assert status_of(server, over).seconds == 3630.25


def test_a_job_that_runs_costs_until_now_even_where_the_sum_is_behind(server, monkeypatch):
    monkeypatch.setattr(batch.google, "now", lambda: datetime(2026, 1, 1, 11, 0, tzinfo=UTC))
    events = [event(f"Job state is set from SCHEDULED to RUNNING for job {NAME}.", "2026-01-01T10:00:00Z")]
    assert status_of(server, found(status={"runDuration": "60s", "statusEvents": events})).seconds == 3600


def test_a_job_that_waits_for_another_machine_costs_what_it_ran(server):
    events = [event(f"Job state is set from SCHEDULED to RUNNING for job {NAME}.", "2026-01-01T10:00:00Z")]
    again = found(state="QUEUED", status={"runDuration": "60s", "statusEvents": events})
    assert status_of(server, again).seconds == 60


def test_a_job_that_is_over_without_a_sum_ran_until_it_was_last_changed(server):
    events = [event(f"Job state is set from SCHEDULED to RUNNING for job {NAME}.", "2026-01-01T10:00:00Z")]
    over = found(state="FAILED", updateTime="2026-01-01T10:10:00Z", status={"statusEvents": events})
    assert status_of(server, over).seconds == 600


def test_the_newest_job_of_a_run_counts_on_whichever_page_it_is(server):
    newer = found(9, createTime="2026-01-02T00:00:00Z")
    server.say("GET", JOBS, {"jobs": [found(8, "FAILED")], "nextPageToken": "more"})
    server.say("GET", JOBS, {"jobs": [newer]})
    status = batch.connect(cloud()).status("run-1")
    assert status is not None
    assert status.name == newer["name"]
    first, second = server.sent("GET", JOBS)
    assert first["query"]["filter"] == ['labels.project="slug"']
    assert second["query"]["pageToken"] == ["more"]


def test_a_run_without_a_job_has_no_status_and_no_lines(server):
    server.say("GET", JOBS, {})
    backend = batch.connect(cloud())
    assert backend.status("run-1") is None
    assert list(backend.logs("run-1")) == []


@pytest.mark.parametrize("labels", [{"project": "slug-two", "run": "run-1"}, {"project": "slug"}, {}])
def test_what_is_not_wholly_this_projects_is_never_seen_whatever_a_list_gives(server, labels):
    server.say("GET", JOBS, {"jobs": [found(labels=labels)]})
    backend = batch.connect(cloud())
    assert backend.list() == []
    assert backend.status("run-1") is None
    with pytest.raises(UserError):
        backend.stop("run-1")


def test_runs_are_told_apart_by_their_ids_and_not_by_their_labels(server):
    server.say("GET", JOBS, {"jobs": [found(1, run_id="Run.1", labels={"project": "slug", "run": "run-1"})]})
    backend = batch.connect(cloud())
    assert backend.status("run-1") is None
    status = backend.status("Run.1")
    assert status is not None
    assert status.run_id == "Run.1"


def test_without_labels_nothing_is_this_projects(server):
    assert batch.connect(cloud(labels={})).list() == []
    assert not server.asked


def test_a_list_with_holes_does_not_pass_for_all_there_is(server):
    server.say("GET", JOBS, {"jobs": [found()], "unreachable": [PARENT]})
    with pytest.raises(UnreachableError, match="cannot reach"):
        batch.connect(cloud()).list()


def test_the_lines_of_all_pages_are_given(server):
    server.say("GET", JOBS, {"jobs": [found()]})
    server.say("POST", ENTRIES, {"entries": [{"textPayload": "epoch 1\n"}], "nextPageToken": "more"})
    server.say("POST", ENTRIES, {"entries": [{"jsonPayload": {"message": "epoch 2"}}]})
    assert list(batch.connect(cloud()).logs("run-1")) == ["epoch 1", "epoch 2"]
    one, two = (sent["body"] for sent in server.sent("POST", ENTRIES))
    assert one["resourceNames"] == ["projects/my-project"]
    assert one["filter"] == (
        'log_id("batch_task_logs") AND labels.job_uid="slug-run-1-77-uid"'
        ' AND timestamp>="2026-01-01T10:00:00.123456789Z"'
    )
    assert two == {**one, "pageToken": "more"}


# -- stopping ---------------------------------------------------------------------------------


def test_stopping_cancels_every_job_of_a_run(server):
    older = NAME.replace("-77", "-76")
    server.say("GET", JOBS, {"jobs": [found(), found(76, "QUEUED"), found(75, "FAILED")]})
    for name in (NAME, older):
        server.say("POST", f"/v1/{name}:cancel", {})
    batch.connect(cloud()).stop("run-1")
    for name in (NAME, older):
        assert len(server.sent("POST", f"/v1/{name}:cancel")) == 1


@pytest.mark.parametrize(
    "state", ["SUCCEEDED", "CANCELLED", "CANCELLATION_IN_PROGRESS", "DELETION_IN_PROGRESS"]
)
def test_stopping_what_has_ended_or_is_about_to_asks_for_nothing(server, state):
    server.say("GET", JOBS, {"jobs": [found(state=state)]})
    batch.connect(cloud()).stop("run-1")
    assert [sent["method"] for sent in server.asked if sent["path"].startswith(JOBS)] == ["GET"]


def test_a_job_that_ends_while_it_is_stopped_is_no_error(server):
    server.say("GET", JOBS, {"jobs": [found()]})
    server.refuse("POST", f"/v1/{NAME}:cancel", 400, "not cancellable")
    server.say("GET", f"/v1/{NAME}", found(state="SUCCEEDED"))
    batch.connect(cloud()).stop("run-1")
    assert not server.sent("DELETE", f"/v1/{NAME}")


def test_a_job_that_cannot_be_cancelled_is_deleted(server):
    server.say("GET", JOBS, {"jobs": [found()]})
    server.refuse("POST", f"/v1/{NAME}:cancel", 400, "not cancellable")
    server.say("GET", f"/v1/{NAME}", found())
    server.say("DELETE", f"/v1/{NAME}", {})
    batch.connect(cloud()).stop("run-1")
    assert len(server.sent("DELETE", f"/v1/{NAME}")) == 1


def test_a_job_that_can_be_neither_cancelled_nor_deleted_is_an_error(server):
    server.say("GET", JOBS, {"jobs": [found()]})
    server.refuse("POST", f"/v1/{NAME}:cancel", 400, "not cancellable")
    server.say("GET", f"/v1/{NAME}", found())
    server.refuse("DELETE", f"/v1/{NAME}", 403, "Permission 'batch.jobs.delete' denied")
    with pytest.raises(RefusedError, match=r"batch\.jobs\.delete"):
        batch.connect(cloud()).stop("run-1")


def test_a_job_is_not_taken_for_ended_because_nobody_answers(server):
    server.say("GET", JOBS, {"jobs": [found()]})
    server.refuse("POST", f"/v1/{NAME}:cancel", 503, "busy")
    server.refuse("GET", f"/v1/{NAME}", 503, "busy")
    with pytest.raises(UnreachableError):
        batch.connect(cloud()).stop("run-1")


def test_a_job_that_is_gone_by_then_is_no_error(server):
    server.say("GET", JOBS, {"jobs": [found()]})
    batch.connect(cloud()).stop("run-1")


def test_stopping_an_unknown_run_says_where_to_look(server):
    server.say("GET", JOBS, {})
    with pytest.raises(UserError, match="runs list"):
        batch.connect(cloud()).stop("run-1")


def test_nothing_is_left_over(server):
    backend = batch.connect(cloud())
    assert backend.leftovers() == []
    assert not server.asked
