"""What the backend of SageMaker finds in an account: its own jobs and no others, sweeps, lines of logs, and what forbids a launch."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from launcher.job import Kind, State
from launcher.providers.aws.sagemaker import LOGS
from launcher.providers.errors import LoginError, UnreachableError
from sagemaker_jobs import SEARCH, backend, emptied, job, on_stage, state, submit, sweep
from stage.aws.bench import client

pytestmark = pytest.mark.cloud("aws")


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aws")
    with pytest.MonkeyPatch.context() as monkeypatch, on_stage(folder, monkeypatch) as found:
        yield found


@pytest.fixture
def stage(account):
    return emptied(*account)


def test_two_projects_whose_names_begin_alike_never_meet(stage):
    submit(stage)
    other = backend(labels={"project": "demo-two"})
    other.submit(job(image=stage.image))
    stage.world.pass_time(60)
    assert [len(each.list()) for each in (stage.backend, other)] == [1, 1]
    other.stop("run-1")
    assert state(stage) is State.queued
    assert state(SimpleNamespace(backend=other)) is not State.queued


def test_runs_whose_jobs_are_named_alike_are_told_apart(stage):
    for run_id in ("a.b", "a-b", "a_b", "a-b-c"):
        submit(stage, run_id=run_id)
        stage.world.pass_time(5)
    assert [each.run_id for each in stage.backend.list()] == ["a-b-c", "a_b", "a-b", "a.b"]
    stage.backend.stop("a.b")
    stage.world.pass_time(200)
    states = {each.run_id: each.state for each in stage.backend.list()}
    assert states == {**dict.fromkeys(("a-b-c", "a_b", "a-b"), State.queued), "a.b": State.stopped}


def test_a_fresh_job_is_listed_before_the_index_knows_it_and_later_still(stage):
    submit(stage)
    assert [each.state for each in stage.backend.list()] == [State.queued]
    stage.world.pass_time(1e5)
    assert [each.state for each in stage.backend.list()] == [State.stopped]


def test_a_state_that_the_index_has_not_seen_yet_is_shown(stage):
    name = submit(stage)
    stage.sagemaker.start(name)
    stage.world.pass_time(60)
    stage.sagemaker.finish(name)
    assert [each.state for each in stage.backend.list()] == [State.succeeded]


def test_lists_are_read_to_their_last_page(stage):
    for number in range(23):
        submit(stage, run_id=f"run-{number}")
    assert len(stage.backend.list()) == 23
    stage.world.pass_time(60)
    assert len(stage.backend.list()) == 23


@pytest.mark.parametrize("operation", ["Search", "ListTrainingJobs", "ListTags", "DescribeTrainingJob"])
def test_a_service_that_cannot_be_asked_is_no_empty_list(stage, operation):
    submit(stage)
    stage.world.fail("sagemaker", operation, status=503, times=None)
    with pytest.raises(UnreachableError):
        stage.backend.list()


def test_lines_of_all_nodes_are_given_with_where_they_come_from(stage):
    name, logs = submit(stage, nodes=2), client(stage.world, "logs")
    assert list(stage.backend.logs("run-1")) == []  # there is no log yet
    logs.create_log_group(logGroupName=LOGS)
    now = int(datetime.now(UTC).timestamp() * 1000) + 1000
    streams = {f"{name}/algo-1-17": "epoch 1", f"{name}/algo-2-17": "epoch 2", "other/algo-1-17": "no"}
    for number, (stream, text) in enumerate(streams.items()):
        where = {"logGroupName": LOGS, "logStreamName": stream}
        logs.create_log_stream(**where)
        logs.put_log_events(**where, logEvents=[{"timestamp": now + number, "message": text + "\n"}])
    assert list(stage.backend.logs("run-1")) == ["epoch 1", "[algo-2] epoch 2"]


def test_a_sweep_is_submitted_and_its_trials_are_counted_and_paid_for(stage):
    name = stage.backend.submit(sweep(image=stage.image)).name
    status = stage.backend.status("run-1")
    assert (status.state, status.seconds, status.name) == (State.queued, 0, name)
    assert status.detail == "0 of 5 trials, inprogress"
    first, second = stage.sagemaker.trials(name)
    stage.sagemaker.start(first.name)
    stage.world.pass_time(600)
    stage.sagemaker.say(first.name, "sweep objective=0.25 of val/accuracy at step 10")
    stage.sagemaker.start(second.name)
    stage.sagemaker.finish(first.name)
    stage.world.pass_time(100)
    for status in (stage.backend.status("run-1"), *stage.backend.list()):
        assert (status.run_id, status.state) == ("run-1", State.running)
        assert status.detail == "1 of 5 trials, inprogress"
        assert status.seconds == 180 + 100  # billed of the one, so far of the other
    assert first.metrics == {"val/accuracy": 0.25}


def test_stopping_a_sweep_ends_its_trials(stage):
    name = stage.backend.submit(sweep(image=stage.image)).name
    stage.backend.stop("run-1")
    stage.world.pass_time(200)
    assert state(stage) is State.stopped
    assert all(trial.over for trial in stage.sagemaker.trials(name))
    assert [each.run_id for each in stage.backend.list()] == ["run-1"]


def test_lines_of_trials_say_whose_they_are(stage):
    name = stage.backend.submit(sweep(image=stage.image)).name
    logs = client(stage.world, "logs")
    logs.create_log_group(logGroupName=LOGS)
    trial = stage.sagemaker.trials(name)[1].name
    now = int(datetime.now(UTC).timestamp() * 1000) + 1000
    for stream in (f"{trial}/algo-1-17", f"{name}-abcdef/algo-1-17"):  # the second is another run's
        where = {"logGroupName": LOGS, "logStreamName": stream}
        logs.create_log_stream(**where)
        logs.put_log_events(**where, logEvents=[{"timestamp": now, "message": "epoch 1"}])
    assert list(stage.backend.logs("run-1")) == ["[trial 2] epoch 1"]


def problems(stage: Any, **changes: Any) -> list[str]:
    return [str(each) for each in stage.backend.check(job(image=stage.image, **changes))]


def test_what_is_in_order_has_no_problem_of_the_service(stage, monkeypatch):
    monkeypatch.setattr("launcher.providers.aws.sagemaker.doctor.examine", lambda *a: examined(*a))
    assert problems(stage) == []
    submit(stage)
    assert "is queued, and would share its run folder" in problems(stage)[0]


def examined(cloud: Any, role: str, job: Any, others: Any) -> list[Any]:
    """The backend's own checks alone; those of image, code and data are the doctor's."""
    return [problem for check in others for problem in check()]


def test_what_the_service_cannot_do_is_said_before(stage, monkeypatch):
    monkeypatch.setattr("launcher.providers.aws.sagemaker.doctor.examine", lambda *a: [])
    [notebook] = problems(stage, kind=Kind.notebook)
    assert "notebook" in notebook
    assert "cloud=batch" in notebook
    assert "at most, and cloud.max_hours=700" in problems(stage, max_hours=700)[0]
    assert "no image" not in str(problems(stage))
    elsewhere = stage.image.replace("us-east-1", "eu-west-1")
    found = [str(each) for each in stage.backend.check(job(image=elsewhere))]
    assert "images of ECR in us-east-1 only" in found[0]
    stage.backend = backend(max_wait_hours=1000.0)
    assert "lets a job wait for 672 hours" in problems(stage, spot=False)[0]
    stage.backend = backend(labels={})
    assert "Without cloud.labels" in problems(stage)[0]
    many = replace(SEARCH, trials=800, parallel=11)
    found = [str(each) for each in backend().check(sweep(many, image=stage.image))]
    assert "750 trials at most" in found[0]
    assert "10 trials at a time" in found[1]


def test_a_second_sweep_of_one_name_would_share_the_folders_of_its_trials(stage, monkeypatch):
    monkeypatch.setattr("launcher.providers.aws.sagemaker.doctor.examine", lambda *a: examined(*a))
    stage.backend.submit(sweep(image=stage.image))
    stage.backend.stop("run-1")
    stage.world.pass_time(200)
    found = [str(each) for each in stage.backend.check(sweep(image=stage.image))]
    assert "There was a sweep run-1" in found[0]
    assert problems(stage) == []


def test_without_a_login_one_problem_says_so(stage, monkeypatch):
    def refuse() -> str:
        raise LoginError("There is no login to AWS here", "log in")

    monkeypatch.setattr(stage.backend, "who", refuse)
    assert problems(stage) == ["There is no login to AWS here: log in"]
