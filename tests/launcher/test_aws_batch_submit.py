"""Submitting to AWS Batch: once, although the service cannot tell a request that comes twice."""

from typing import Any

import pytest
from aws_batch_world import ARN, batch_world, cloud, job
from launcher.providers.aws import batch, batch_submit
from launcher.providers.errors import QuotaError, RefusedError, UnreachableError

pytestmark = pytest.mark.cloud("aws")


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setattr(batch_submit, "DELAYS", (0.0, 0.0))
    yield from batch_world(monkeypatch)


def test_a_job_is_submitted_as_shown_with_a_definition_of_its_own(world):
    backend = batch.connect(cloud())
    shown = backend.request(job())
    handle = backend.submit(job())
    assert handle.name == "job-1"
    assert handle.url == (
        "https://us-east-1.console.aws.amazon.com/batch/home?region=us-east-1#jobs/detail/job-1"
    )
    assert world.sent("RegisterJobDefinition") == [shown["RegisterJobDefinition"]]
    revision = f"{ARN}:job-definition/demo-train:1"
    assert world.sent("SubmitJob") == [{**shown["SubmitJob"], "jobDefinition": revision}]


def test_two_launches_of_one_run_have_two_names(world):
    backend = batch.connect(cloud())
    for _ in range(2):
        backend.submit(job())
    batch.connect(cloud()).submit(job())
    names = {sent["jobName"] for sent in world.sent("SubmitJob")}
    assert len(names) == 3
    assert all(name.startswith("demo-run-1-") for name in names)


def test_a_job_whose_answer_was_lost_is_found_and_not_sent_again(world):
    world.lose("SubmitJob")
    assert batch.connect(cloud()).submit(job()).name == "job-1"
    assert len(world.sent("SubmitJob")) == 1


def test_a_request_that_never_arrived_is_sent_again_under_the_same_name(world):
    world.lose("SubmitJob", done=False)
    assert batch.connect(cloud()).submit(job()).name == "job-1"
    first, second = world.sent("SubmitJob")
    assert first == second


def test_of_a_launch_that_arrived_twice_after_all_one_job_goes_on(world):
    """The list does not have the first one yet when it is looked for."""
    world.lose("SubmitJob")
    world.hidden.add("job-1")
    answer = world.on_SubmitJob

    def late(**given: Any) -> dict[str, Any]:
        if world.jobs:
            world.hidden.clear()
        return answer(**given)

    world.on_SubmitJob = late
    assert batch.connect(cloud()).submit(job()).name == "job-2"
    assert [sent["jobId"] for sent in world.sent("TerminateJob")] == ["job-1"]


def test_a_job_of_another_launch_is_not_taken_for_a_lost_one(world):
    world.add("other", jobName="demo-run-1-ABCDEF")
    backend = batch.connect(cloud())
    backend._token = "abcdef"
    world.lose("SubmitJob", done=False)
    assert backend.submit(job()).name == "job-1"


def test_a_service_that_stays_away_ends_the_submission(world):
    for _ in range(3):
        world.refuse("SubmitJob", "ServerException", "busy", 500)
    with pytest.raises(UnreachableError, match="answers 500"):
        batch.connect(cloud()).submit(job())
    assert len(world.sent("SubmitJob")) == 3
    assert not world.sent("DeregisterJobDefinition")  # a job may need it


def test_too_many_requests_are_waited_for_and_a_quota_is_not(world):
    world.refuse("SubmitJob", "TooManyRequestsException")
    batch.connect(cloud()).submit(job())
    world.refuse("SubmitJob", "ServiceQuotaExceededException")
    with pytest.raises(QuotaError):
        batch.connect(cloud()).submit(job())
    assert len(world.sent("SubmitJob")) == 3


def test_a_refused_submission_is_not_repeated_and_leaves_no_definition(world):
    message = "User: x is not authorized to perform: batch:SubmitJob on resource: y"
    world.refuse("SubmitJob", "AccessDeniedException", message, 403)
    with pytest.raises(RefusedError, match="must allow this login batch:SubmitJob"):
        batch.connect(cloud()).submit(job())
    assert len(world.sent("SubmitJob")) == 1
    assert [each["status"] for each in world.definitions.values()] == ["INACTIVE"]


def test_old_definitions_go_but_for_the_newest_and_those_of_jobs_at_work(world):
    backend = batch.connect(cloud())
    for number in range(14):
        backend.submit(job(run_id=f"run-{number}"))
    kept = {each["revision"] for each in world.definitions.values() if each["status"] == "ACTIVE"}
    assert kept == set(range(1, 15))  # all are at work
    for number in (1, 3):
        world.jobs[f"job-{number}"]["status"] = "SUCCEEDED"
    backend.submit(job(run_id="run-14"))
    gone = {each["revision"] for each in world.definitions.values() if each["status"] == "INACTIVE"}
    assert gone == {1, 3}


def test_a_launch_succeeds_although_old_definitions_cannot_be_looked_at(world):
    world.refuse("DescribeJobDefinitions", "AccessDeniedException", status=403)
    assert batch.connect(cloud()).submit(job()).name == "job-1"
