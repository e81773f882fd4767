"""When the stand-in of Vertex AI starts a container again, and when a job is over, as documented."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from stage.google.vertex import CANCELLED, FAILED, SUCCEEDED
from stage.google.vertex_endings import After, Counts
from stage.rest import ask
from stage.vertex_bench import FOREVER, another, bash_stage, submit

STOCKOUT = "Resources are insufficient in region: us-central1. Try a different region or use a different accelerator."


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    with bash_stage(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


def scheduling(retries: bool = True, everything: bool = False) -> SimpleNamespace:
    return SimpleNamespace(disable_retries=not retries, restart_job_on_worker_restart=everything)


@pytest.mark.parametrize("retries", [True, False])
@pytest.mark.parametrize("status", [1, 2, 6, 11, 75, 137, 143, 255])
def test_a_failure_is_final_whatever_was_asked_for(status: int, retries: bool):
    assert Counts().after(True, status, False, scheduling(retries)) is After.FAILURE
    assert Counts().after(False, status, False, scheduling(retries, True)) is After.FAILURE


@pytest.mark.parametrize("retries", [True, False])
def test_a_crash_starts_the_whole_job_again_three_times(retries: bool):
    counts = Counts()
    for status in (134, 139, 134):
        assert counts.after(False, status, False, scheduling(retries)) is After.ALL_AGAIN
    assert counts.after(False, 139, False, scheduling(retries)) is After.FAILURE


@pytest.mark.parametrize(("everything", "after"), [(False, After.ONE_AGAIN), (True, After.ALL_AGAIN)])
def test_a_lost_machine_is_replaced_six_times_whatever_the_status(everything: bool, after: After):
    counts = Counts()
    for status in (0, 1, 134, 137, 143, 137):
        assert counts.after(True, status, True, scheduling(everything=everything)) is after
    assert counts.after(True, 137, True, scheduling(everything=everything)) is After.FAILURE
    # Crashes have a count of their own.
    assert counts.after(True, 134, False, scheduling()) is After.ALL_AGAIN


def test_without_retries_the_first_loss_is_the_end():
    assert Counts().after(True, 137, True, scheduling(False, True)) is After.FAILURE


@pytest.mark.engine
def test_a_worker_that_fails_ends_the_job_at_once(stage: SimpleNamespace):
    job = stage.service.wait(submit(stage, "fails", "exit 3"))
    assert (job.state, len(job.started), job.restarts) == (FAILED, 1, 0)
    assert job.error == {
        "code": 3,
        "message": "The replica workerpool0-0 exited with a non-zero status of 3. Termination reason: Error.",
    }


@pytest.mark.engine
def test_a_crash_is_tried_again_up_to_the_documented_bound(stage: SimpleNamespace):
    job = stage.service.wait(submit(stage, "aborts", "exit 134", disableRetries=True))
    assert (job.state, len(job.started), job.restarts, job.preemptions) == (FAILED, 4, 3, 0)
    assert "status of 134" in job.error["message"]


@pytest.mark.engine
def test_one_node_that_fails_ends_all_and_one_that_crashes_restarts_all(stage: SimpleNamespace):
    stopped = (143, 137)  # by whether it was so far as to hear of it
    job = stage.service.wait(submit(stage, "pair-fails", FOREVER, "sleep 1; exit 1"))
    assert (job.state, len(job.started), job.started[1][2]) == (FAILED, 2, 1)
    assert "workerpool1-0" in job.error["message"]
    assert job.started[0][2] in stopped
    job = submit(stage, "pair-crashes", FOREVER, "echo ready; sleep 1; exit 139")
    stage.service.wait_for_line(job, "ready", count=4)
    job.cancel()
    stage.service.wait(job, [CANCELLED])
    assert [task for task, *_ in job.started[:4]] == ["workerpool0-0", "workerpool1-0"] * 2
    assert job.started[1][2] == 139
    assert job.started[0][2] in stopped


@pytest.mark.engine
def test_a_new_container_has_nothing_of_the_one_before(stage: SimpleNamespace):
    job = submit(stage, "fresh", f"[ -e /mark ] && echo kept; touch /mark; {FOREVER}", strategy="SPOT")
    stage.service.wait_for_line(job, "ready")
    stage.service.preempt(job, grace_seconds=60)
    stage.service.wait_for_line(job, "ready", count=2)
    stage.service.kill(job)
    stage.service.wait_for_line(job, "ready", count=3)
    status, answer = ask(f"{stage.service.url}/v1/{job.name}:cancel", stage.token, {})
    assert (status, answer) == (200, {})
    stage.service.wait(job, [CANCELLED])
    assert job.lines() == ["ready", "saved", "ready", "ready", "saved"]
    assert [status for *_, status in job.started] == [143, 137, 143]
    assert (job.restarts, job.preemptions, job.error["code"]) == (2, 2, 1)
    with pytest.raises(AssertionError, match="does not run"):
        stage.service.kill(job)
    assert ask(f"{stage.service.url}/v1/{job.name}:cancel", stage.token, {})[0] == 200
    assert ask(f"{stage.service.url}/v1/{job.name}:cancel", stage.token, {"force": True})[0] == 400
    assert job.state == CANCELLED


@pytest.mark.engine
def test_who_ignores_sigterm_is_killed_after_the_grace(stage: SimpleNamespace):
    deaf = "trap 'echo no' TERM; echo ready; while :; do sleep 0.1; done"
    job = submit(stage, "stubborn", deaf, disableRetries=True)
    stage.service.wait_for_line(job, "ready")
    stage.service.preempt(job, grace_seconds=10)
    stage.service.wait(job, [FAILED])
    assert job.lines() == ["ready", "no"]
    assert job.started[0][2] == 137
    # What is not made good ends as a stock-out does.
    assert job.error["message"] == STOCKOUT


@pytest.mark.engine
@pytest.mark.parametrize("strategy", ["SPOT", "STANDARD"])
def test_a_job_that_finds_no_machine_fails_without_having_started(stage: SimpleNamespace, strategy: str):
    stage.service.sell_out(1)
    job = stage.service.wait(submit(stage, "stock-out", "true", strategy=strategy))
    assert (job.state, job.error["message"], job.started) == (FAILED, STOCKOUT, [])
    assert "startTime" not in job.json()
    assert stage.service.wait(submit(stage, "in-stock", "true", strategy=strategy)).state == SUCCEEDED


@pytest.mark.engine
def test_a_preempted_job_that_finds_no_other_machine_fails(stage: SimpleNamespace):
    job = submit(stage, "lost", FOREVER, strategy="SPOT")
    stage.service.wait_for_line(job, "ready")
    stage.service.sell_out(1)
    stage.service.preempt(job, grace_seconds=60)
    stage.service.wait(job, [FAILED])
    assert (job.error["message"], job.preemptions, len(job.started)) == (STOCKOUT, 1, 1)


@pytest.mark.engine
def test_a_failed_container_may_start_once_more_before_the_job_is_shut_down(stage: SimpleNamespace):
    with another(stage, hasty=True) as other:
        job = submit(other, "hasty", "echo here; exit 1")
        other.service.wait(job, [FAILED])
    assert job.lines() == ["here", "here"]
    assert job.started[0][2] == 1


@pytest.mark.engine
def test_the_error_may_come_later_than_the_state(stage: SimpleNamespace):
    with another(stage, error_seconds=600) as other:
        job = submit(other, "late", "exit 1")
        other.service.wait(job, [FAILED])
        assert job.error == {}
    assert "status of 1" in job.error["message"]


@pytest.mark.engine
def test_a_job_past_its_time_limit_is_stopped(stage: SimpleNamespace):
    job = submit(stage, "long", FOREVER, timeout="1.5s")
    stage.service.wait(job, [CANCELLED])
    assert set(job.lines()) <= {"ready", "saved"}
    assert job.error["code"] == 4
    assert job.limit_seconds == 1.5 < job.running_seconds


@pytest.mark.engine
def test_hours_may_be_short(stage: SimpleNamespace):
    with another(stage, seconds_per_hour=1) as fast:
        job = submit(fast, "long", FOREVER, timeout="7200s")
        fast.service.wait(job, [CANCELLED])
        assert job.limit_seconds == 2 < job.running_seconds


@pytest.mark.engine
def test_the_time_limit_begins_again_with_each_start_of_the_job(stage: SimpleNamespace):
    job = submit(stage, "again", FOREVER, timeout="3600s")
    stage.service.wait_for_line(job, "ready")
    before = job.counted_seconds
    stage.service.kill(job)
    stage.service.wait_for_line(job, "ready", count=2)
    job.cancel()
    stage.service.wait(job, [CANCELLED])
    assert job.running_seconds >= before + job.counted_seconds > job.counted_seconds


@pytest.mark.engine
@pytest.mark.parametrize(("everything", "starts"), [(True, 4), (False, 3)])
def test_a_lost_node_starts_anew_alone_or_with_all(stage: SimpleNamespace, everything: bool, starts: int):
    job = submit(stage, f"pair-{starts}", FOREVER, FOREVER, restartJobOnWorkerRestart=everything)
    stage.service.wait_for_line(job, "ready", count=2)
    stage.service.preempt(job, grace_seconds=60, node=1)
    stage.service.wait_for_line(job, "ready", count=starts)
    stage.service.wait(job, ["RUNNING"])
    assert len(job.started) == starts
    job.cancel()
    stage.service.wait(job, [CANCELLED])
