"""Jobs of AWS Batch at work: their log, their end, and how to get at a notebook."""

from typing import Any

import pytest
from aws_batch_world import L4, REGION, at, attempt, batch_world, cloud
from launcher.errors import UserError
from launcher.job import Leftover
from launcher.providers.aws import batch, batch_submit
from launcher.providers.errors import ServiceError

pytestmark = pytest.mark.cloud("aws")


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setattr(batch_submit, "DELAYS", (0.0, 0.0))
    yield from batch_world(monkeypatch)


# -- log --------------------------------------------------------------------------------------


def test_the_lines_of_all_attempts_and_pages_are_given_in_order(world):
    world.lines = {"a": [["one\n"], [], ["two"]], "b": [["three"]]}
    first = attempt(at(10), at(10, 20), logStreamName="a")
    world.add("1", attempts=[first], container={"logStreamName": "b"})
    assert list(batch.connect(cloud()).logs("run-1")) == ["one", "two", "three"]


def test_a_stream_is_read_once_although_it_is_told_twice(world):
    world.lines = {"a": [["one"]]}
    last = attempt(at(10), at(10, 20), logStreamName="a")
    world.add("1", "SUCCEEDED", attempts=[last], container={"logStreamName": "a"})
    assert list(batch.connect(cloud()).logs("run-1")) == ["one"]


def test_what_has_not_printed_yet_has_no_lines(world):
    world.add("1", container={"logStreamName": "a"})
    world.refuse("FilterLogEvents", "ResourceNotFoundException", "The specified log group does not exist.")
    backend = batch.connect(cloud())
    assert list(backend.logs("run-1")) == []
    assert list(backend.logs("never")) == []


# -- stopping ---------------------------------------------------------------------------------


def test_stopping_ends_every_job_of_a_run_in_whatever_state(world):
    world.add("1", "RUNNABLE")
    world.add("2", "RUNNING")
    world.add("3", "SUCCEEDED")
    world.add("4", run_id="run-2")
    batch.connect(cloud()).stop("run-1")
    assert {sent["jobId"] for sent in world.sent("TerminateJob")} == {"1", "2"}
    assert all("runs stop" in sent["reason"] for sent in world.sent("TerminateJob"))


def test_a_job_that_ends_while_it_is_stopped_is_no_error(world):
    world.add("1")
    backend = batch.connect(cloud())
    jobs = backend._jobs

    def ended(run_id: str = "") -> list[dict[str, Any]]:
        found = [dict(one) for one in jobs(run_id)]
        world.jobs["1"]["status"] = "SUCCEEDED"
        return found

    backend._jobs = ended
    world.refuse("TerminateJob", "ClientException", "it has ended")
    backend.stop("run-1")


def test_a_job_that_cannot_be_ended_is_an_error(world):
    world.add("1")
    world.refuse("TerminateJob", "ClientException", "no")
    with pytest.raises(ServiceError):
        batch.connect(cloud()).stop("run-1")


def test_nothing_is_left_over(world):
    backend = batch.connect(cloud())
    assert backend.leftovers() == []
    assert not world.asked
    with pytest.raises(UserError, match="knows no"):
        backend.remove(Leftover("x", "disk x"))


# -- a notebook -------------------------------------------------------------------------------

CONTAINER = f"arn:aws:ecs:{REGION}:123456789012:container-instance/demo-l4-spot_Batch_77/abc"


@pytest.mark.parametrize("arn", [CONTAINER, f"arn:aws:ecs:{REGION}:123456789012:container-instance/abc"])
def test_a_notebook_is_reached_by_a_tunnel_to_the_machine_of_its_job(world, arn):
    world.add("1", container={"containerInstanceArn": arn})
    tunnel, notebook = batch.connect(cloud()).hint("run-1").splitlines()
    assert tunnel == (
        "tunnel    aws ssm start-session --region us-east-1 --target i-0123456789abcdef0 "
        "--document-name AWS-StartPortForwardingSession --parameters portNumber=8888,localPortNumber=8888"
    )
    assert notebook.startswith("notebook  http://localhost:8888/lab/tree/notebooks/explore.ipynb (ready")


def test_before_there_is_a_machine_the_command_looks_for_it(world):
    world.add("1", "RUNNABLE", statusReason="CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - none")
    tunnel, notebook = batch.connect(cloud()).hint("run-1").splitlines()
    assert (
        "--target $(aws ecs describe-container-instances --cluster demo-l4-spot_Batch_77 --container-instances "
        "$(aws batch describe-jobs --jobs 1 "
    ) in tunnel
    assert notebook.endswith("(its machine is not there yet: CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - none)")


def test_a_machine_that_this_login_may_not_see_is_left_to_the_command(world):
    world.add("1", container={"containerInstanceArn": CONTAINER})
    world.refuse("DescribeContainerInstances", "AccessDeniedException", status=403)
    assert "$(aws ecs describe-container-instances" in batch.connect(cloud()).hint("run-1")


@pytest.mark.parametrize("status", [None, "SUCCEEDED"])
def test_a_notebook_that_is_not_at_work_cannot_be_reached(world, status):
    if status:
        world.add("1", status)
    with pytest.raises(UserError, match="not at work"):
        batch.connect(cloud()).hint("run-1")


def test_the_machines_that_quota_allows_are_asked_for_by_this_backends_name(monkeypatch):
    asked = []
    monkeypatch.setattr(batch.quotas, "allowance", lambda *words: asked.append(words) or 2)
    assert batch.connect(cloud()).allowance(L4, spot=True) == 2
    assert asked == [("batch", REGION, L4, True)]
