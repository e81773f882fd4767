"""The backend of SageMaker against a strict stand-in: what it submits is taken, and what becomes of it is understood."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from launcher import storage
from launcher.errors import UserError
from launcher.job import EXIT_RETRY, EXIT_STOPPED, Kind, State
from launcher.providers.aws.sagemaker import LOGS
from launcher.providers.errors import LoginError, QuotaError, UnreachableError
from sagemaker_jobs import L4, SEARCH, backend, job, on_stage, sweep
from stage.aws.bench import client

pytestmark = pytest.mark.cloud("aws")


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aws")
    with pytest.MonkeyPatch.context() as monkeypatch, on_stage(folder, monkeypatch) as (world, image):
        yield world, image


@pytest.fixture
def stage(account):
    """The account without any job or log."""
    world, image = account
    world.sagemaker.jobs.clear()
    world.sagemaker.tunings.clear()
    world.clock._now = float(round(time.time()))  # which moto's logs go by
    world.server.heal()
    world.server.asked.clear()
    logs = client(world, "logs")
    for group in logs.describe_log_groups()["logGroups"]:
        logs.delete_log_group(logGroupName=group["logGroupName"])
    return SimpleNamespace(world=world, image=image, sagemaker=world.sagemaker, backend=backend())


def submit(stage: Any, **changes: Any) -> str:
    return stage.backend.submit(job(image=stage.image, **changes)).name


def state(stage: Any, run_id: str = "run-1") -> Any:
    status = stage.backend.status(run_id)
    assert status
    return status.state


def test_what_is_sent_is_what_is_shown_but_for_the_name(stage):
    name = submit(stage)
    assert stage.sagemaker.job(name).given == {
        **stage.backend.request(job(image=stage.image)),
        "TrainingJobName": name,
    }


def test_a_job_goes_from_queued_to_its_end(stage):
    name = submit(stage)
    assert state(stage) is State.queued
    stage.sagemaker.start(name)
    stage.world.pass_time(600)
    status = stage.backend.status("run-1")
    assert (status.state, status.seconds, status.name) == (State.running, 600, name)
    assert status.labels == {"project": "demo", "run": "run-1", "max-seconds": "5400"}
    assert status.url.endswith(f"#/jobs/{name}")
    stage.sagemaker.finish(name)
    status = stage.backend.status("run-1")
    assert (status.state, status.seconds) == (State.succeeded, 180)  # what is billed of spot
    assert abs(status.created - stage.backend.now()) < timedelta(minutes=15)


def test_a_job_whose_machine_was_taken_away_waits_and_goes_on(stage):
    name = submit(stage)
    stage.sagemaker.start(name)
    stage.world.pass_time(600)
    stage.sagemaker.interrupt(name)
    stage.world.pass_time(1800)
    status = stage.backend.status("run-1")
    assert (status.state, status.seconds) == (State.queued, 600)  # nothing is paid while it waits
    stage.sagemaker.start(name)
    stage.world.pass_time(60)
    status = stage.backend.status("run-1")
    assert (status.state, status.seconds) == (State.running, 660)


@pytest.mark.parametrize(("spot", "wait"), [(True, 24 * 3600), (False, 1800)])
def test_a_job_without_a_machine_is_ended_by_the_service(stage, spot, wait):
    stage.backend = backend(max_wait_hours=24.0 if spot else 0.1)
    submit(stage, spot=spot)
    stage.world.pass_time(wait - 60)
    assert state(stage) is State.queued
    stage.world.pass_time(5400 + 180)
    assert state(stage) is State.stopped


def test_the_time_limit_is_of_all_starts_together(stage):
    name = submit(stage)
    for _ in range(2):
        stage.sagemaker.start(name)
        stage.world.pass_time(2400)
        stage.sagemaker.interrupt(name)
        stage.world.pass_time(120)
    stage.sagemaker.start(name)
    stage.world.pass_time(600 + 120)
    status = stage.backend.status("run-1")
    assert status.state is State.stopped
    assert status.detail.startswith("MaxRuntimeExceeded: it ran for all the time")


@pytest.mark.parametrize(
    ("code", "ours"),
    [(1, State.failed), (EXIT_STOPPED, State.stopped), (EXIT_RETRY, State.preempted), (143, State.preempted)],
)
def test_what_a_container_ends_with_tells_whether_another_may_help(stage, code, ours):
    name = submit(stage)
    stage.sagemaker.start(name)
    stage.world.pass_time(60)
    stage.sagemaker.finish(name, code, "the bucket does not answer: exit code: 1")
    status = stage.backend.status("run-1")
    assert (status.state, "does not answer" in status.detail) == (ours, True)


def test_a_run_that_is_submitted_again_has_the_time_of_both_jobs(stage):
    first = submit(stage, spot=False)
    stage.sagemaker.start(first)
    stage.world.pass_time(600)
    stage.sagemaker.finish(first, EXIT_RETRY)
    stage.world.pass_time(600)
    second = submit(stage, spot=False)
    assert second != first
    stage.sagemaker.start(second)
    stage.world.pass_time(60)
    for status in (stage.backend.status("run-1"), stage.backend.list()[0]):
        assert (status.state, status.name, status.seconds) == (State.running, second, 660)
    stage.sagemaker.finish(second)
    stage.world.pass_time(60)
    # Launched once more, what is allowed is another: the time before is in the record.
    more = {"RUN_ID": "run-1", "RUN_MAX_SECONDS": "6060", "RUN_MAX_ATTEMPTS": "7"}
    third = submit(stage, spot=False, env=more)
    status = stage.backend.status("run-1")
    assert (status.name, status.seconds) == (third, 0)


def test_a_region_without_such_a_machine_is_no_failure_of_the_run(stage):
    name = submit(stage, spot=False)
    stage.sagemaker.fail(name, "CapacityError: Unable to provision requested ML compute capacity.")
    status = stage.backend.status("run-1")
    assert (status.state, status.seconds) == (State.preempted, 0)


@pytest.mark.parametrize("of", [job, sweep])
def test_a_job_whose_answer_was_lost_is_not_submitted_twice(stage, of):
    wanted = of(image=stage.image)
    operation = "CreateHyperParameterTuningJob" if wanted.search else "CreateTrainingJob"
    stage.world.lose("sagemaker", operation)
    handle = stage.backend.submit(wanted)
    known = stage.sagemaker.tunings if wanted.search else stage.sagemaker.jobs
    assert [name for _, name in known if name == handle.name] == [handle.name]
    assert len(known) == 1 if not wanted.search else True


def test_a_job_that_did_not_arrive_is_submitted_again(stage):
    stage.world.fail("sagemaker", "CreateTrainingJob", status=503)
    stage.world.fail("sagemaker", "CreateTrainingJob", "ThrottlingException", status=400)
    submit(stage)
    assert len(stage.sagemaker.jobs) == 1


def test_a_name_that_another_job_has_is_not_taken_for_its_own(stage, monkeypatch):
    tokens = iter(["aaaaaa", "aaaaaa", "bbbbbb"])
    monkeypatch.setattr("launcher.providers.aws.sagemaker.secrets.token_hex", lambda _: next(tokens))
    assert submit(stage) == "run-1-aaaaaa"
    assert submit(stage) == "run-1-bbbbbb"


def test_a_service_that_stays_away_ends_the_submission(stage):
    stage.world.fail("sagemaker", "CreateTrainingJob", status=503, times=None)
    with pytest.raises(UnreachableError, match="503"):
        submit(stage)
    assert stage.world.operations("sagemaker").count("CreateTrainingJob") == 4


def test_a_refusal_is_one_sentence_and_not_repeated(stage):
    with pytest.raises(QuotaError, match=r"ml.g6.xlarge for spot training job usage.*servicequotas"):
        submit(stage, machine=L4)
    assert stage.world.operations("sagemaker").count("CreateTrainingJob") == 1


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


def test_stopping_ends_the_job_and_an_ended_one_may_be_stopped_again(stage):
    name = submit(stage)
    stage.sagemaker.start(name)
    stage.backend.stop("run-1")
    assert state(stage) is State.running  # and paid for until it has ended
    stage.backend.stop("run-1")
    stage.world.pass_time(130)
    assert state(stage) is State.stopped
    stage.backend.stop("run-1")
    assert stage.world.operations("sagemaker").count("StopTrainingJob") == 1


def test_a_job_that_ends_while_it_is_stopped_is_no_error(stage, monkeypatch):
    name = submit(stage)
    stage.sagemaker.start(name)
    found = stage.backend._finder.of_run("run-1")
    stage.sagemaker.finish(name)
    monkeypatch.setattr(stage.backend._finder, "of_run", lambda _: found)
    stage.backend.stop("run-1")


def test_a_job_that_cannot_be_stopped_is_an_error(stage):
    submit(stage)
    stage.world.fail("sagemaker", "StopTrainingJob", "ValidationException", message="not now", status=400)
    with pytest.raises(UserError, match="not now"):
        stage.backend.stop("run-1")
    with pytest.raises(UserError, match="runs list"):
        stage.backend.stop("never")


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


def test_what_a_request_does_not_take_travels_by_the_bucket(stage):
    long, commit = f"restore.from=s3://{'x' * 300}", "0123456789" * 4
    name = submit(stage, args=("a=1", long), env={"RUN_ID": "run-1", "RUN_COMMIT": commit})
    given = stage.sagemaker.job(name).given
    assert "ContainerArguments" not in given["AlgorithmSpecification"]
    assert commit not in json.dumps(given)
    text = storage.read_text(given["Environment"]["RUN_MORE"])
    assert json.loads(text or "") == {"args": ["a=1", long], "env": {"RUN_COMMIT": commit}}


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
