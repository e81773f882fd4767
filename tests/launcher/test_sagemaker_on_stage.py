"""The backend of SageMaker against a strict stand-in: what it submits is taken, and what becomes of it is understood."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from fake_backend import record
from launcher import records, storage
from launcher.errors import UserError
from launcher.janitor.chores import tidy
from launcher.job import EXIT_RETRY, EXIT_STOPPED, State
from launcher.money import ledger
from launcher.providers.errors import QuotaError, UnreachableError
from launcher.records.places import Place
from sagemaker_jobs import L4, REGION, backend, emptied, job, on_stage, state, submit, sweep

pytestmark = pytest.mark.cloud("aws")


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aws")
    with pytest.MonkeyPatch.context() as monkeypatch, on_stage(folder, monkeypatch) as found:
        yield found


@pytest.fixture
def stage(account):
    return emptied(*account)


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
    assert [name for _, name in known] == [handle.name]


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


def test_a_job_that_did_not_arrive_is_not_mistaken_for_one_of_its_name(stage, monkeypatch):
    tokens = iter(["aaaaaa", "aaaaaa", "bbbbbb"])
    monkeypatch.setattr("launcher.providers.aws.sagemaker.secrets.token_hex", lambda _: next(tokens))
    assert submit(stage, run_id="a.b") == "a-b-aaaaaa"
    stage.world.fail("sagemaker", "CreateTrainingJob", status=503)
    assert submit(stage, run_id="a-b") == "a-b-bbbbbb"


def test_a_service_that_stays_away_ends_the_submission(stage):
    stage.world.fail("sagemaker", "CreateTrainingJob", status=503, times=None)
    with pytest.raises(UnreachableError, match="503"):
        submit(stage)
    assert stage.world.operations("sagemaker").count("CreateTrainingJob") == 4


def test_a_refusal_is_one_sentence_and_not_repeated(stage):
    with pytest.raises(QuotaError, match=r"ml.g6.xlarge for spot training job usage.*servicequotas"):
        submit(stage, machine=L4)
    assert stage.world.operations("sagemaker").count("CreateTrainingJob") == 1


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


def test_what_a_request_does_not_take_travels_by_the_bucket(stage):
    long, commit = f"restore.from=s3://{'x' * 300}", "0123456789" * 4
    name = submit(stage, args=("a=1", long), env={"RUN_ID": "run-1", "RUN_COMMIT": commit})
    given = stage.sagemaker.job(name).given
    assert "ContainerArguments" not in given["AlgorithmSpecification"]
    assert commit not in json.dumps(given)
    text = storage.read_text(given["Environment"]["RUN_MORE"])
    assert json.loads(text or "") == {"args": ["a=1", long], "env": {"RUN_COMMIT": commit}}


def test_the_janitor_goes_on_with_a_run_after_network_trouble_and_counts_both_jobs(stage, tmp_path):
    home = str(tmp_path / "bucket/runs")
    wanted = job(image=stage.image, spot=False)
    place = Place("sagemaker", "sagemaker", stage.backend, home, {"project": "demo"}, 50.0, REGION)
    launched = record(
        "run-1",
        backend="sagemaker",
        launched=stage.backend.now().isoformat(),
        region=REGION,
        nodes=1,
        hourly_usd=1.0,
        worst_case_usd=1.5,
        max_hours=1.5,
        spot=False,
        type=wanted.machine.type,
        gpu=None,
        gpus=0,
        image=wanted.image,
        args=list(wanted.args),
        env=dict(wanted.env),
        labels=dict(wanted.labels),
        output=wanted.output,
    )
    ledger.reserve(home, launched.key, "run-1", 1.5, 50.0, stage.backend.now())
    first = stage.backend.submit(wanted).name
    records.write(home, replace(launched, job=first))
    stage.sagemaker.start(first)
    stage.world.pass_time(1800)
    stage.sagemaker.finish(first, EXIT_RETRY, "the bucket does not answer (status 75)")

    said: list[str] = []
    assert tidy([place], None, False, said.append) == []
    assert said == [
        "sagemaker: submitted again run run-1: preempted, with 1.00 of 1.5 hours left, for the 1. time"
    ]
    second = stage.backend.status("run-1").name
    assert stage.sagemaker.job(second).given["StoppingCondition"]["MaxRuntimeInSeconds"] == 3600
    assert tidy([place], None, False, said.append) == []
    assert len(said) == 1

    stage.sagemaker.start(second)
    stage.world.pass_time(1800)
    stage.sagemaker.finish(second)
    assert tidy([place], None, False, said.append) == []
    assert said[1:] == ["sagemaker: settled run run-1: it did cost 1.00 of 1.50 USD"]
