"""What is made of what AWS Batch says of jobs: whose they are, how they are, and how long they ran."""

from datetime import UTC, datetime
from typing import Any

import pytest
from aws_batch_world import ARN, NOW, BatchWorld, at, attempt, batch_world, cloud, job
from launcher.errors import UserError
from launcher.job import State
from launcher.providers.aws import batch, batch_submit
from launcher.providers.errors import UnreachableError

pytestmark = pytest.mark.cloud("aws")


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setattr(batch_submit, "DELAYS", (0.0, 0.0))
    yield from batch_world(monkeypatch)


def status_of(world: BatchWorld, status: str = "RUNNING", **more: Any) -> Any:
    world.add("1", status, **more)
    found = batch.connect(cloud()).status("run-1")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("SUBMITTED", State.queued),
        ("PENDING", State.queued),
        ("RUNNABLE", State.queued),
        ("STARTING", State.queued),  # no limit of the service counts yet
        ("RUNNING", State.running),
        ("SUCCEEDED", State.succeeded),
        ("FAILED", State.failed),
    ],
)
def test_every_state_of_the_service_has_one_of_ours(world, theirs, ours):
    assert status_of(world, theirs).state is ours


@pytest.mark.parametrize(
    "more",
    [
        {"isTerminated": True, "statusReason": "enough of it"},
        {"isCancelled": True},
        {"statusReason": "Job attempt duration exceeded timeout"},
        {
            "statusReason": "Canceled by JobStateTimeLimit action due to reason: CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
        },
        {"container": {"exitCode": 124}, "statusReason": "Essential container in task exited"},
    ],
    ids=["terminated", "cancelled", "time limit", "waited too long", "the worker's own limit"],
)
def test_what_was_ended_has_not_failed(world, more):
    assert status_of(world, "FAILED", **more).state is State.stopped


@pytest.mark.parametrize(
    "more",
    [
        {"statusReason": "Task failed to start", "container": {"reason": "DockerTimeoutError: timed out"}},
        {"container": {"exitCode": 1}},
    ],
)
def test_what_failed_was_not_stopped(world, more):
    assert status_of(world, "FAILED", **more).state is State.failed


def test_a_job_that_is_being_ended_is_paid_for_until_it_has(world):
    assert status_of(world, "RUNNING", isTerminated=True).state is State.running


def test_only_what_ran_is_counted_over_all_attempts(world):
    lost = "Host EC2 (instance i-1) terminated."
    attempts = [attempt(at(10), at(10, 20), lost), attempt(at(10, 40), at(10, 50), lost)]
    waiting = status_of(world, "RUNNABLE", attempts=attempts, startedAt=at(10, 40))
    assert (waiting.state, waiting.seconds) == (State.queued, 30 * 60)
    assert waiting.detail == f"another machine, after: {lost}"
    running = status_of(world, "RUNNING", attempts=attempts, startedAt=at(11, 30))
    assert running.seconds == pytest.approx(60 * 60, abs=30)  # and half an hour until now
    starting = status_of(world, "STARTING", attempts=attempts, startedAt=at(10, 40))
    assert starting.seconds == 30 * 60
    over = status_of(world, "FAILED", attempts=attempts, startedAt=at(10), stoppedAt=at(12))
    assert over.seconds == 30 * 60


def test_an_attempt_that_is_listed_while_it_runs_counts_once(world):
    attempts = [attempt(at(11))]
    running = status_of(world, "RUNNING", attempts=attempts, startedAt=at(11))
    assert running.seconds == pytest.approx(3600, abs=30)


def test_a_job_that_never_started_cost_nothing(world):
    waiting = status_of(world, "RUNNABLE", startedAt=0)
    assert (waiting.seconds, waiting.detail) == (0, "runnable")
    assert status_of(world, "FAILED", isCancelled=True, startedAt=0, stoppedAt=at(12)).seconds == 0


def test_a_status_says_what_the_service_knows(world):
    status = status_of(world, tags={"project": "demo", "run": "run-1", "max-seconds": "5400"})
    assert status.created == datetime(2026, 1, 1, 10, tzinfo=UTC)
    assert status.labels == {"project": "demo", "run": "run-1", "max-seconds": "5400"}
    assert (status.name, status.run_id, status.detail) == ("1", "run-1", "running")
    assert batch.connect(cloud()).now() >= NOW


def test_why_a_job_waits_is_told_and_what_to_do_where_it_would_wait_for_ever(world):
    reason = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested"
    assert status_of(world, "RUNNABLE", statusReason=reason).detail == reason
    reason = "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job's requirements cannot be met."
    detail = status_of(world, "RUNNABLE", statusReason=reason).detail
    assert detail.startswith("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job's requirements")
    assert "less memory" in detail
    assert "make cloud-setup" in detail


def test_how_a_job_ended_is_told_with_the_containers_own_reason(world):
    container = {"exitCode": 137, "reason": "OutOfMemoryError: Container killed due to memory usage"}
    reason = "Essential container in task exited"
    status = status_of(world, "FAILED", statusReason=reason, container=container)
    assert status.detail == f"{reason}; {container['reason']}; exit code 137"


def test_jobs_of_all_queues_pages_and_states_are_listed_newest_first(world):
    for number, status in enumerate(("SUCCEEDED", "FAILED", "RUNNABLE", "RUNNING", "STARTING")):
        world.add(f"{number}", status, f"run-{number}", createdAt=at(10, number))
    world.add("9", "SUBMITTED", "run-9", jobQueue=f"{ARN}:job-queue/demo-cpu-spot")
    listed = batch.connect(cloud()).list()
    assert [status.run_id for status in listed] == ["run-4", "run-3", "run-2", "run-1", "run-0", "run-9"]


def test_more_than_a_hundred_jobs_are_described_in_parts(world):
    for number in range(101):
        world.add(f"{number}", "SUCCEEDED")
    assert len(batch.connect(cloud()).list()) == 101
    assert [len(sent["jobs"]) for sent in world.sent("DescribeJobs")] == [100, 1]


def test_the_newest_job_of_a_run_counts(world):
    world.add("old", "FAILED")
    world.add("new", createdAt=at(11))
    assert status_of(world, "SUCCEEDED").name == "new"


@pytest.mark.parametrize("tags", [{"project": "demo-two", "run": "run-1"}, {"project": "demo"}, {}])
def test_what_is_not_wholly_this_projects_is_never_seen_whatever_its_name(world, tags):
    world.queues["demo-two-l4-spot"] = world.queue("demo-two-l4-spot")
    world.add("1", tags=tags)
    world.add("2", tags=tags, jobQueue=f"{ARN}:job-queue/demo-two-l4-spot", jobName="demo-two-run-1-2")
    backend = batch.connect(cloud())
    assert backend.list() == []
    assert backend.status("run-1") is None
    with pytest.raises(UserError, match="runs list"):
        backend.stop("run-1")


def test_other_queues_are_not_asked(world):
    others = {"payroll-l4-spot", "demo-by-hand"}
    world.queues |= {name: world.queue(name) for name in others}
    batch.connect(cloud()).list()
    assert {sent["jobQueue"] for sent in world.sent("ListJobs")} == set(world.queues) - others


@pytest.mark.parametrize("other", ["run.1", "RUN-1", "run-1-b"])
def test_runs_are_told_apart_by_their_ids_and_not_by_names_or_labels(world, other):
    world.add("1", run_id=other, jobName="demo-run-1-b-1", tags={"project": "demo", "run": "run-1"})
    backend = batch.connect(cloud())
    assert backend.status("run-1") is None
    assert [status.run_id for status in backend.list()] == [other]


def test_an_id_with_dots_finds_its_job(world):
    backend = batch.connect(cloud())
    backend.submit(job(run_id="Run.1"))
    status = batch.connect(cloud()).status("Run.1")
    assert status is not None
    assert status.run_id == "Run.1"


def test_a_job_that_no_list_has_yet_is_known_to_whoever_submitted_it(world):
    backend = batch.connect(cloud())
    world.hidden.add("job-1")
    backend.submit(job())
    status = backend.status("run-1")
    assert status is not None
    assert status.name == "job-1"
    assert backend.status("run-2") is None


def test_without_labels_nothing_is_this_projects(world):
    assert batch.connect(cloud(labels={})).list() == []
    assert not world.asked


def test_a_list_with_holes_does_not_pass_for_all_there_is(world):
    world.refuse("ListJobs", "ServerException", "busy", 500)
    with pytest.raises(UnreachableError):
        batch.connect(cloud()).list()
