"""What would keep a job of AWS Batch from running, found before it is launched."""

from typing import Any

import pytest
from aws_batch_world import BatchWorld, batch_world, cloud, job
from launcher.job import Problem
from launcher.providers.aws import batch, doctor

pytestmark = pytest.mark.cloud("aws")


@pytest.fixture
def world(monkeypatch):
    for check in ("_check_image", "check_role"):
        monkeypatch.setattr(doctor, check, lambda *_: [])
    monkeypatch.setattr(batch.quotas, "check", lambda *_: [])
    yield from batch_world(monkeypatch)


def problems(changed: Any = None, **changes: Any) -> list[Problem]:
    """What the backend itself finds wrong: there is neither a bucket nor an image, which others look at."""
    return batch.connect(changed or cloud(bucket=None)).check(job(**changes))


def test_a_job_whose_queue_is_ready_has_no_problem(world):
    assert problems() == []


def test_a_queue_that_was_never_made_says_how_to_make_it(world):
    del world.queues["demo-l4-spot"]
    [problem] = problems()
    assert str(problem) == (
        "There is no queue demo-l4-spot of AWS Batch in us-east-1: run `make cloud-setup`, which makes it"
    )
    assert problem.fatal


@pytest.mark.parametrize("part", ["queues", "environments"])
@pytest.mark.parametrize(
    ("changes", "words", "fatal"),
    [
        ({"state": "DISABLED"}, "is disabled", True),
        (
            {"status": "INVALID", "statusReason": "the role is gone."},
            "is INVALID (the role is gone)",
            True,
        ),
        ({"status": "UPDATING"}, "is not ready yet (updating)", False),
        ({"status": "DELETING"}, "is DELETING", True),
    ],
)
def test_a_queue_that_starts_nothing_is_found_and_so_are_its_machines(world, part, changes, words, fatal):
    getattr(world, part)["demo-l4-spot"] |= changes
    [problem] = problems()
    what = {"queues": "The queue demo-l4-spot", "environments": "The compute environment demo-l4-spot"}
    assert problem.what.startswith(f"{what[part]} {words}")
    assert problem.fatal == fatal


def test_a_queue_without_machines_is_found(world):
    world.queues["demo-l4-spot"]["computeEnvironmentOrder"] = []
    [problem] = problems()
    assert "has no machines" in problem.what


def test_only_the_queue_of_the_jobs_own_machine_and_tier_counts(world):
    world.queues["demo-l4-demand"]["state"] = "DISABLED"
    assert problems() == []
    [problem] = problems(spot=False)
    assert "demo-l4-demand is disabled" in problem.what


def test_a_job_that_can_never_start_and_is_before_this_one_is_told(world):
    reason = "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - too large"
    world.add("1", "RUNNABLE", "run-9", statusReason="CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - none")
    world.add("2", "RUNNABLE", "run-9")
    world.add("3", "RUNNABLE", "run-9", statusReason=reason)
    [problem] = problems()
    assert "The job demo-run-9-3 is before this one in its queue" in problem.what
    assert not problem.fatal


def test_two_jobs_never_share_a_run_folder(world):
    world.add("1", "RUNNABLE")
    [problem] = problems()
    assert "A job of run run-1 is queued" in problem.what
    assert "uv run runs stop run-1" in problem.remedy


def test_an_ended_job_of_the_run_is_in_nobodys_way(world):
    world.add("1", "FAILED")
    assert problems() == []


def test_quotas_are_asked_for_by_this_backends_name(world, monkeypatch):
    found = Problem("too little", "ask for more")
    monkeypatch.setattr(batch.quotas, "check", lambda name, region, _: [found] if name == "batch" else [])
    assert problems() == [found]


def test_what_may_not_be_looked_at_is_a_finding_with_the_right_that_is_missing(world):
    message = "User: x is not authorized to perform: batch:DescribeJobQueues"
    for _ in range(2):
        world.refuse("DescribeJobQueues", "AccessDeniedException", message, 403)
    [problem] = problems()
    assert "batch:DescribeJobQueues" in problem.remedy


@pytest.mark.parametrize(
    ("changes", "words", "fatal"),
    [
        ({"labels": {}}, "Without cloud.labels", True),
        ({"max_attempts": 11}, "10 times at most, not 11", False),
        ({"driver": "580.1"}, "cloud.driver has no effect", False),
        ({"zones": ["us-east-1a"]}, "cloud.zones has no effect", False),
    ],
)
def test_settings_that_the_service_cannot_follow_are_found(world, changes, words, fatal):
    [problem] = problems(cloud(bucket=None, **changes))
    assert words in problem.what
    assert problem.fatal == fatal


def test_several_machines_are_refused_with_the_backend_that_can(world):
    [problem] = problems(nodes=2)
    assert problem.remedy == "use cloud=sagemaker"


def test_without_a_login_that_is_all_that_is_found(world: BatchWorld):
    world.refuse("GetCallerIdentity", "ExpiredToken", "The security token is expired", 403)
    [problem] = problems()
    assert "aws sso login" in problem.remedy
    assert [name for name, _ in world.asked] == ["GetCallerIdentity"]
