"""Training by SageMaker, from the image in ECR to results in a bucket, on stand-ins for AWS; whatever happens on the way."""

import json
import re

import pytest
from stage.aws.scene import Stage
from stage.aws.training import NOTICING, TrainingJob
from stage.results import ENDLESS, LONG


def finished(aws: Stage, name: str) -> TrainingJob:
    """A training job when it is over."""
    job = aws.runs.wait(name)
    assert isinstance(job, TrainingJob)
    return job


@pytest.fixture(scope="module")
def calm(aws: Stage) -> TrainingJob:
    """A training that nothing disturbs, when it is over."""
    return finished(aws, aws.start("sagemaker", "calm", *LONG))


def test_it_trains_on_the_data_of_the_bucket_by_the_pushed_image(aws: Stage, calm: TrainingJob) -> None:
    assert (calm.state, calm.attempts) == ("Completed", 1), "\n".join(calm.lines)
    aws.ended("calm", "succeeded")
    results = aws.results("calm")
    expected = {"metrics.json", "report.md", "model.safetensors", "config.yaml", "worker.log"}
    assert expected <= set(results), "\n".join(calm.lines)
    assert json.loads(results["metrics.json"])["test/accuracy"] > 0.97
    image = calm.given["AlgorithmSpecification"]["TrainingImage"]
    assert image.startswith(f"{aws.image}@sha256:")
    assert image in results["run.json"].decode()
    # The image holds no data: what it trained on came from where `dvc push` had put it, by the trainer's own keys.
    readers = {
        call.session.role for call in aws.world.asked if call.operation == "GetObject" and call.session
    }
    assert "cloud-training-trainer" in readers


def test_its_log_its_cost_and_its_entry_in_the_ledger(aws: Stage, calm: TrainingJob) -> None:
    shown = aws.run("runs", "logs", "calm").stdout
    assert "epoch 30/30" in shown
    assert "test/accuracy" in shown
    assert "Found credentials" not in shown  # nor anything else that AWS's client says to itself
    cost = aws.run("runs", "cost", "calm").stdout
    assert re.search(r"calm .* h  0\.\d\d USD/h x 1 .* succeeded", cost), cost
    aws.run("janitor")
    assert aws.entry("calm")["spent_usd"] is not None


def test_interrupted_twice_it_ends_with_the_same_bits(aws: Stage, calm: TrainingJob) -> None:
    name = aws.start("sagemaker", "disturbed", *LONG)
    job = aws.world.sagemaker.job(name)
    aws.runs.until_line(name, "epoch 2/30")
    aws.runs.lose(name, notice=30)  # with a signal, as nobody has promised it
    assert job.secondary == "Interrupted"
    seen = len(job.lines)
    aws.world.pass_time(NOTICING)
    aws.runs.until_line(name, "/30", after=seen)
    aws.runs.lose(name)  # and without
    aws.world.pass_time(NOTICING)
    finished(aws, name)
    assert (job.state, job.attempts) == ("Completed", 3), "\n".join(job.lines)
    aws.ended("disturbed", "succeeded")
    assert len(json.loads(aws.results("disturbed")["attempts.json"])) == 3
    assert aws.checkpoints("disturbed")
    assert aws.weights_and_log("disturbed") == aws.weights_and_log("calm")
    assert aws.jobs("disturbed") == [name]


def test_two_nodes_train_one_model(aws: Stage) -> None:
    name = aws.start("sagemaker", "two-nodes", "cloud.nodes=2", "trainer.max_epochs=3", "tracking=none")
    job = finished(aws, name)
    assert (job.state, job.machines) == ("Completed", 2), "\n".join(job.lines)
    results = aws.results("two-nodes")
    assert json.loads(results["run.json"])["starts"][-1]["processes"] == 2
    assert json.loads(results["metrics.json"])["test/accuracy"] > 0.5


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (("cloud.image=IMAGE@sha256:" + "0" * 64,), r"There is no image .*@sha256:0000"),
        (("cloud.nodes=2", "cloud.max_cost_usd=0.5"), r"max_cost_usd"),
        (("model.wdith=3",), r"did you mean model\.width\?"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(
    aws: Stage, settings: tuple[str, ...], says: str
) -> None:
    before, runs = aws.submitted(), set(aws.objects("runs/"))
    given = [setting.replace("IMAGE", aws.image) for setting in settings]
    result = aws.launch("sagemaker", "refused", *given, check=False)
    assert result.returncode == 1
    said = result.stdout + result.stderr
    assert re.search(says, said), said
    assert "Traceback" not in said
    assert aws.submitted() == before
    assert set(aws.objects("runs/")) == runs


def test_what_the_role_may_not_do_is_refused_in_one_sentence(aws: Stage) -> None:
    """Within the service's bounds and the person's; `cloud setup` has allowed the launcher 24 hours."""
    before = aws.submitted()
    hours = ("cloud.max_hours=25", "cloud.max_cost_usd=100")
    result = aws.launch("sagemaker", "forbidden", *hours, check=False)
    said = result.stdout + result.stderr
    assert result.returncode == 1
    assert "not authorized to perform: sagemaker:CreateTrainingJob" in said, said
    assert "MAX_HOURS" in said
    assert "Traceback" not in said
    assert aws.submitted() == before
    assert aws.entries("forbidden") == []  # and nothing of the month is set aside for it


def test_a_bucket_that_fails_for_a_while_loses_nothing(aws: Stage, calm: TrainingJob) -> None:
    name = aws.start("sagemaker", "stormy", *LONG)
    aws.runs.until_line(name, "epoch 2/30")
    # More than botocore itself tries again, with the code that S3 has for too much at a time.
    aws.world.fail("s3", "PutObject", "SlowDown", times=12)
    aws.world.fail("s3", "ListObjectsV2", "InternalError", status=500, times=3)
    try:
        job = finished(aws, name)
    finally:
        aws.world.server.heal()
    assert (job.state, job.attempts) == ("Completed", 1), "\n".join(job.lines)
    aws.ended("stormy", "succeeded")
    assert aws.checkpoints("stormy")
    assert aws.weights_and_log("stormy") == aws.weights_and_log("calm")


def test_a_job_that_is_stopped_has_saved_what_it_had(aws: Stage) -> None:
    name = aws.start("sagemaker", "unwanted", *ENDLESS)
    aws.runs.until_line(name, "epoch 2/")
    aws.run("runs", "stop", "unwanted")
    assert finished(aws, name).state == "Stopped"
    assert aws.checkpoints("unwanted")
    aws.listed("unwanted", "stopped")
    assert "submitted again" not in aws.run("janitor").stdout
    assert aws.jobs("unwanted") == [name]
    assert aws.entry("unwanted")["spent_usd"] is not None


def test_nothing_runs_when_all_is_over(aws: Stage) -> None:
    assert all(job.over for job in aws.world.sagemaker.jobs.values())
    assert aws.runs.running == {}
