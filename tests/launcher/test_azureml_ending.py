"""Azure ML in a workspace on the stage: how jobs end, are stopped and listed."""

import json
from collections.abc import Iterator
from typing import Any

import azureml_place
import pytest
from azureml_jobs import job
from azureml_place import FIRST, SECOND, note, run
from azureml_world import Place
from launcher import records
from launcher.errors import UserError
from launcher.job import State
from launcher.providers.azure import azureml_request
from launcher.providers.errors import ServiceError
from launcher.storage import StorageUnavailable, write_text

pytestmark = pytest.mark.cloud("azure")
made, place = azureml_place.made, azureml_place.place  # fixtures


def test_a_machine_that_is_taken_away_leaves_the_job_in_the_queue_and_its_time_is_not_forgotten(place):
    backend = place.backend()
    run(place)
    note(place, 95.0)
    place.world.ml.lose(FIRST)
    status = backend.status("run-1")
    assert (status.state, status.seconds) == (State.queued, 95.0)
    place.world.pass_time(3600)  # in the queue, where nothing is paid
    place.world.ml.start(FIRST)
    place.world.pass_time(20)
    assert backend.status("run-1").state is State.running
    assert backend.status("run-1").seconds >= 95.0
    note(place, 95.0, 20.0)
    place.world.ml.finish(FIRST)
    place.world.pass_time(10)
    assert backend.status("run-1").seconds >= 115.0


def test_a_job_that_the_service_does_not_start_again_is_one_to_go_on_with(place):
    backend = place.backend()
    run(place)
    place.world.ml.lose(FIRST, restarts=False)
    assert backend.status("run-1").state is State.preempted
    handle = backend.submit(job(max_hours=1.0))
    assert handle.name == SECOND
    place.world.pass_time(10)
    place.world.ml.start(SECOND)
    place.world.pass_time(50)
    status = backend.status("run-1")
    assert (status.state, status.name) == (State.running, SECOND)
    assert status.seconds == pytest.approx(150, abs=40)  # both of the launch's jobs
    assert [each.name for each in backend.list()] == [SECOND, FIRST]


@pytest.mark.parametrize(
    ("code", "ours"), [(75, State.preempted), (143, State.preempted), (1, State.failed), (124, State.stopped)]
)
def test_the_status_of_the_program_tells_whether_another_start_may_help(place, code, ours):
    run(place)
    place.world.ml.say(FIRST, "the last line: exit code: 1")
    place.world.ml.finish(FIRST, code)
    place.world.pass_time(10)
    status = place.backend().status("run-1")
    assert status.state is ours
    assert f"exited with status code {code}" in status.detail


@pytest.mark.parametrize(
    ("outcome", "ours"), [(None, State.preempted), ("failed", State.failed), ("stopped", State.stopped)]
)
def test_a_failure_without_a_status_is_what_the_worker_has_noted(place, outcome, ours):
    run(place)
    if outcome:
        write_text(f"{place.bucket}/runs/run-1/{records.OUTCOME}", json.dumps({"state": outcome}))
    place.world.ml.fail(FIRST, "JobFailed: Submitted script failed with a non-zero exit code", "UserError")
    assert place.backend().status("run-1").state is ours
    assert place.backend().list()[0].state is ours


def test_a_bucket_in_trouble_hides_no_job(place, monkeypatch):
    def fail(*_: Any) -> None:
        raise StorageUnavailable("the bucket does not answer")

    for name in ("attempts", "outcome"):
        monkeypatch.setattr(records, name, fail)
    run(place)
    assert place.backend().status("run-1").state is State.running
    place.world.ml.fail(FIRST, "JobFailed: Submitted script failed with a non-zero exit code", "UserError")
    assert [each.state for each in place.backend().list()] == [State.preempted]


def test_a_fault_of_the_service_is_a_failure(place):
    run(place)
    place.world.ml.fail(FIRST, "AzureMLCompute job failed. Image pull failed")
    status = place.backend().status("run-1")
    assert status.state is State.failed
    assert "Image pull failed" in status.detail


# The end


def test_a_job_is_stopped_at_any_time_and_twice(place):
    backend = place.backend()
    run(place)
    backend.stop("run-1")
    assert backend.status("run-1").state is State.running
    backend.stop("run-1")
    place.world.pass_time(60)
    assert backend.status("run-1").state is State.stopped
    backend.stop("run-1")
    assert len(place.world.paths("arm", "^POST .*/cancel")) == 1
    with pytest.raises(UserError, match="knows no job of run never"):
        backend.stop("never")


def test_a_job_that_ended_just_before_it_was_stopped_is_no_trouble(place):
    backend = place.backend()
    run(place)
    place.world.ml.finish(FIRST)
    backend.stop("run-1")  # Finalizing
    place.world.fail("arm", "^POST .*/cancel", 400, "UserError", times=None)
    backend.submit(job(run_id="run-2"))
    with pytest.raises(ServiceError):
        backend.stop("run-2")


@pytest.mark.parametrize("status", ["CancelRequested", "Finalizing"])
def test_a_job_that_the_service_does_not_end_is_not_said_to_be_stopped(place, status):
    """Jobs were seen so for half a day and longer, with their machine."""
    backend = place.backend()
    run(place)
    hung = place.world.ml.job(FIRST)
    hung.status, hung.deadlines = status, lambda: iter(())
    place.world.pass_time(5000)
    backend.stop("run-1")  # still within what it may take
    place.world.pass_time(1200)
    with pytest.raises(ServiceError, match=rf"has not ended {FIRST}, which is {status} .*; end it at https"):
        backend.stop("run-1")
    assert len(place.world.paths("arm", "^POST .*/cancel")) == 1


def test_one_job_that_is_not_ended_keeps_no_other_from_being(place):
    backend = place.backend()
    run(place)
    place.world.ml.job(FIRST).status = "Completed"
    assert backend.submit(job()).name == SECOND
    place.world.ml.job(FIRST).status = "Running"
    place.world.fail("arm", f"^POST .*/{SECOND}/cancel", 400, "UserError", times=None)
    with pytest.raises(ServiceError):
        backend.stop("run-1")
    assert place.world.ml.job(FIRST).status == "CancelRequested"


def test_the_service_ends_a_job_at_its_limit(place):
    run(place, 5401)
    place.world.pass_time(60)
    assert place.backend().status("run-1").state is State.stopped


@pytest.fixture
def from_submission(place: Place) -> Iterator[None]:
    """The service counts waiting as running, which it does not say that it does not."""
    place.world.ml.measure = "submitted"
    yield
    place.world.ml.measure = "attempt"


@pytest.mark.usefixtures("from_submission")
@pytest.mark.parametrize("waited", [6000, 4000, 10])
def test_a_job_whose_limit_was_used_up_by_waiting_is_one_to_go_on_with(place, waited):
    backend = place.backend()
    backend.submit(job())
    place.world.pass_time(waited)
    if waited < 5400:
        place.world.ml.start(FIRST)
        place.world.pass_time(5500 - waited)
    place.world.pass_time(60)
    status = backend.status("run-1")
    if waited == 10:  # it had nearly all of its time
        assert status.state is State.stopped
    else:
        assert status.state is State.preempted
        assert "counted from its submission" in status.detail
        assert backend.submit(job(max_hours=0.5)).name == SECOND


def test_a_job_that_a_person_stops_while_it_waits_is_stopped(place):
    backend = place.backend()
    backend.submit(job())
    place.world.pass_time(7200)
    backend.stop("run-1")
    place.world.pass_time(60)
    assert backend.status("run-1").state is State.stopped


def test_lines_are_given_of_what_each_node_has_printed(place):
    backend = place.backend()
    assert list(backend.logs("run-1")) == []
    backend.submit(job(nodes=2))
    assert list(backend.logs("run-1")) == []
    place.world.pass_time(10)
    place.world.ml.start(FIRST)
    place.world.ml.say(FIRST, "one", "two", file="user_logs/std_log_process_0.txt")
    place.world.ml.say(FIRST, "three", file="user_logs/std_log_process_1.txt")
    assert list(backend.logs("run-1")) == ["one", "two", "[node 1] three"]


def test_all_jobs_are_found_on_all_pages_and_nobody_else_s(place):
    backend = place.backend()
    for number in range(23):
        place.world.pass_time(1)
        backend.submit(job(run_id=f"run-{number}"))
    place.world.ml.job(azureml_request.name("run-3", 1)).given["isArchived"] = True
    place.backend(labels={"project": "other"}).submit(job(run_id="other"))
    found = backend.list()
    assert [each.run_id for each in found] == [f"run-{number}" for number in reversed(range(23))]
    assert backend.status("other") is None
    assert place.backend(labels={}).list() == []


def test_jobs_that_ended_long_ago_are_listed_without_their_times(place):
    backend = place.backend()
    run(place)
    place.world.ml.finish(FIRST)
    place.world.pass_time(41 * 24 * 3600)
    place.world.asked.clear()
    [status] = backend.list()
    assert (status.state, status.seconds) == (State.succeeded, 0.0)
    assert place.world.paths("history") == []
