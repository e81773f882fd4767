"""The backend of AWS Batch against the strict stand-in: from a launch to its end, and what goes wrong on the way."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aws_batch_world import CAPACITY, cloud, job, on_stage
from launcher.errors import UserError
from launcher.job import Handle, State, Status
from launcher.providers.aws import batch, batch_submit, doctor
from launcher.providers.aws import setup as setup_package
from sagemaker_jobs import forget
from stage.aws import bench
from stage.aws.world import World

pytestmark = pytest.mark.cloud("aws")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with on_stage(tmp_path_factory.mktemp("stage")) as made:
        yield made


@pytest.fixture
def world(stage: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The same account, without a job."""
    monkeypatch.setattr(batch_submit, "DELAYS", (0.0, 0.0))
    monkeypatch.setattr(doctor, "_check_image", lambda *_: [])  # asks the registry, which is not here
    for name, value in stage.environment.items():
        monkeypatch.setenv(name, value)
    for kept in (stage.batch.jobs, stage.batch.blocked, stage.asked):
        kept.clear()
    stage.server.heal()
    forget()
    yield stage
    forget()


class Run:
    """A launched run, as its backend sees it.

    Args:
        backend: a new one, as another program would have.
    """

    def __init__(self, world: World, **changes: Any) -> None:
        self.world = world
        image = world.push("demo/train")
        self.handle: Handle = batch.connect(cloud()).submit(job(image=image, **changes))
        self.backend = batch.connect(cloud())

    @property
    def status(self) -> Status:
        found = self.backend.status("run-1")
        assert found is not None
        return found

    def start(self) -> None:
        self.world.batch.start(self.handle.name)

    def lose(self) -> None:
        self.world.batch.lose_host(self.handle.name)

    def finish(self, code: int = 0) -> None:
        self.world.batch.finish(self.handle.name, code)


def test_the_log_has_the_lines_of_all_attempts(world):
    """The first test here: the log takes no lines of a time to come, which others let pass."""
    run = Run(world)
    client, said = bench.client(world, "logs"), []
    for number in range(2):
        run.start()
        assert said == list(run.backend.logs("run-1"))
        described = bench.client(world, "batch").describe_jobs(jobs=[run.handle.name])["jobs"][0]
        where = {
            "logGroupName": "/aws/batch/job",
            "logStreamName": described["container"]["logStreamName"],
        }
        client.create_log_stream(**where)
        moment = described["createdAt"] + 1000
        client.put_log_events(**where, logEvents=[{"timestamp": moment, "message": f"attempt {number}"}])
        said.append(f"attempt {number}")
        assert list(run.backend.logs("run-1")) == said
        run.lose()


def test_a_job_goes_from_its_queue_to_its_end(world):
    run = Run(world)
    assert (run.status.state, run.status.name) == (State.queued, run.handle.name)
    world.pass_time(60)
    run.start()
    world.pass_time(600)
    assert (run.status.state, run.status.seconds) == (State.running, pytest.approx(600, abs=30))
    run.finish()
    world.pass_time(600)
    assert (run.status.state, run.status.seconds) == (State.succeeded, pytest.approx(600, abs=30))
    assert run.status.labels == {"project": "demo", "run": "run-1"}
    assert [each.run_id for each in run.backend.list()] == ["run-1"]


def test_a_lost_machine_is_replaced_as_often_as_was_allowed(world):
    run = Run(world)
    for _ in range(2):
        run.start()
        world.pass_time(300)
        run.lose()
        assert run.status.state is State.queued
        assert "Host EC2" in run.status.detail
        world.pass_time(3600)
    run.start()
    world.pass_time(300)
    run.lose()
    assert (run.status.state, run.status.seconds) == (State.failed, pytest.approx(900, abs=3))


@pytest.mark.parametrize("code", [75, 143])
def test_network_trouble_and_a_warned_machine_are_tried_again(world, code):
    run = Run(world)
    run.start()
    run.finish(code)
    assert run.status.state is State.queued
    run.start()
    run.finish()
    assert run.status.state is State.succeeded


@pytest.mark.parametrize(("code", "state"), [(1, State.failed), (137, State.failed), (124, State.stopped)])
def test_what_would_only_fail_again_is_not_tried_again(world, code, state):
    run = Run(world)
    run.start()
    run.finish(code)
    assert run.status.state is state
    assert f"exit code {code}" in run.status.detail


def test_the_time_limit_is_the_services_and_ends_the_job_for_good(world):
    run = Run(world, max_hours=0.5)
    run.start()
    world.pass_time(0.5 * 3600 + 1)
    run.finish(75)  # what the worker ends with after SIGTERM
    assert run.status.state is State.stopped
    assert run.status.seconds == pytest.approx(1800, abs=5)


def test_a_stopped_job_is_over_when_its_container_has_ended(world):
    run = Run(world)
    run.start()
    run.backend.stop("run-1")
    assert run.status.state is State.running  # and paid for
    run.backend.stop("run-1")
    world.pass_time(60)
    assert run.status.state is State.stopped
    assert "runs stop" in run.status.detail
    run.backend.stop("run-1")


def test_a_job_that_waits_is_stopped_at_once(world):
    run = Run(world)
    run.backend.stop("run-1")
    assert (run.status.state, run.status.seconds) == (State.stopped, 0)


def test_a_job_for_which_there_is_no_machine_says_so_and_is_ended_by_its_queue(world):
    world.batch.blocked["demo-l4-spot"] = f"{CAPACITY} - Service cannot fulfill the capacity requested"
    run = Run(world)
    world.pass_time(1200)
    assert run.status.state is State.queued
    assert run.status.detail.startswith(CAPACITY)
    world.pass_time(90000 - 1200)
    assert run.status.state is State.stopped


def test_ended_jobs_are_forgotten_and_that_is_no_error(world):
    run = Run(world)
    run.start()
    run.finish()
    world.pass_time(30 * 86400)
    assert run.backend.status("run-1") is None
    assert run.backend.list() == []
    assert list(run.backend.logs("run-1")) == []
    with pytest.raises(UserError, match="knows no job"):
        run.backend.stop("run-1")


def test_a_launch_whose_answer_was_lost_is_one_job(world):
    world.lose("batch", "SubmitJob")
    Run(world)
    assert world.operations("batch").count("SubmitJob") == 1
    assert len(world.batch.jobs) == 1


def test_a_launch_that_the_service_could_not_take_is_sent_again(world):
    world.fail("batch", "SubmitJob", "ServerException")
    Run(world)
    assert len(world.batch.jobs) == 1


def test_a_ready_queue_has_no_problem_and_one_that_is_not_there_has(world):
    settings = cloud(bucket=None)
    assert batch.connect(settings).check(job()) == []
    run = Run(world)
    [problem] = run.backend.check(job())[:1]
    assert "would share its run folder" in problem.what
    bench.client(world, "batch").update_job_queue(jobQueue="demo-l4-demand", state="DISABLED")
    [problem] = batch.connect(settings).check(job(run_id="run-2", spot=False))
    assert "is disabled" in problem.what


def test_the_role_that_setup_makes_for_github_may_do_all_of_it(world):
    run = Run(world)
    run.backend.check(job())
    run.backend.stop("run-1")
    text = (Path(setup_package.__file__).parent / "roles.yaml").read_text(encoding="utf-8")
    may: set[str] = set()
    for policy in yaml.safe_load(text)["Launcher"]["Properties"]["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            actions = statement["Action"]
            may.update([actions] if isinstance(actions, str) else actions)
    asked = {
        f"batch:{call.operation}"
        for call in world.asked
        if call.service == "batch" and not call.operation.startswith(("Create", "Update"))
    }
    assert asked
    assert asked | {"batch:TagResource", "batch:DeregisterJobDefinition", "iam:PassRole"} <= may
