"""Training by AWS Batch, on the stage of test_aws.py: each job ends by itself, whatever happens, and nothing is left."""

import json
import re

import pytest
from stage.aws.batch_jobs import OVER_TIME, BatchJob
from stage.aws.scene import Stage
from stage.results import ENDLESS, LONG


def finished(aws: Stage, name: str) -> BatchJob:
    """A job when it is over."""
    job = aws.runs.wait(name)
    assert isinstance(job, BatchJob)
    return job


def test_it_trains_on_the_data_of_the_bucket_by_the_pushed_image(aws: Stage) -> None:
    job = finished(aws, aws.start("batch", "calm-batch", *LONG))
    assert job.status == "SUCCEEDED", "\n".join(job.lines)
    assert job.container["image"].startswith(f"{aws.image}@sha256:")
    assert job.queue.endswith("job-queue/cloud-training-cpu-spot")
    assert aws.outcome("calm-batch")["state"] == "succeeded"
    aws.listed("calm-batch", "succeeded")
    assert {"report.md", "model.safetensors", "worker.log"} <= set(aws.results("calm-batch"))
    assert "epoch 30/30" in aws.run("runs", "logs", "calm-batch").stdout


def test_a_host_lost_twice_is_replaced_and_the_bits_are_the_same(aws: Stage) -> None:
    name = aws.start("batch", "disturbed-batch", *LONG)
    job = aws.world.batch.job(name)
    aws.runs.until_line(name, "epoch 2/30")
    aws.runs.lose(name, notice=30)  # with a signal, as a launch template could have it
    aws.runs.until_line(name, "/30", after=len(job.lines))
    aws.runs.lose(name)  # and without
    finished(aws, name)
    assert job.status == "SUCCEEDED", "\n".join(job.lines)
    assert [attempt["statusReason"][:8] for attempt in job.attempts[:2]] == ["Host EC2", "Host EC2"]
    assert len(job.attempts) == len(json.loads(aws.results("disturbed-batch")["attempts.json"])) == 3
    aws.listed("disturbed-batch", "succeeded")
    assert aws.weights_and_log("disturbed-batch") == aws.weights_and_log("calm-batch")
    shown = aws.run("runs", "logs", "disturbed-batch").stdout  # of all three attempts
    assert "epoch 1/30" in shown
    assert "epoch 30/30" in shown
    assert "submitted again" not in aws.run("janitor").stdout
    assert aws.entry("disturbed-batch")["spent_usd"] is not None


def test_past_its_time_limit_it_is_stopped_with_its_results_saved(aws: Stage) -> None:
    # The service's own limit is another test's, and began before there was a container.
    with aws.runs.slowly():
        name = aws.start("batch", "too-long", *ENDLESS, "cloud.max_hours=0.03")  # 108 seconds
        job = finished(aws, name)
    assert (job.status, len(job.attempts)) == ("FAILED", 1), "\n".join(job.lines)
    assert aws.outcome("too-long")["state"] == "stopped"
    aws.listed("too-long", "stopped")
    assert aws.checkpoints("too-long")
    assert "submitted again" not in aws.run("janitor").stdout
    assert aws.jobs("too-long") == [name]


def test_the_service_ends_a_job_that_does_not(aws: Stage) -> None:
    name = aws.start("batch", "clock", *ENDLESS, "cloud.max_hours=1")
    aws.runs.until_line(name, "epoch 2/")
    aws.runs.until(lambda: bool(aws.checkpoints("clock")), name)  # which is uploaded beside the training
    aws.world.pass_time(3600)
    job = finished(aws, name)
    assert (job.status, job.reason, len(job.attempts)) == ("FAILED", OVER_TIME, 1)
    aws.listed("clock", "stopped")
    assert "submitted again" not in aws.run("janitor").stdout


def test_stop_ends_a_job_and_what_it_had_saved_stays(aws: Stage) -> None:
    name = aws.start("batch", "unwanted-batch", *ENDLESS)
    aws.runs.until_line(name, "epoch 2/")
    aws.listed("unwanted-batch", "running")
    aws.run("runs", "stop", "unwanted-batch")
    job = finished(aws, name)
    assert (job.status, len(job.attempts)) == ("FAILED", 1)
    assert aws.checkpoints("unwanted-batch")
    aws.listed("unwanted-batch", "stopped")
    assert "submitted again" not in aws.run("janitor").stdout
    assert aws.entry("unwanted-batch")["spent_usd"] is not None


def test_a_job_without_a_machine_waits_and_stop_ends_it(aws: Stage) -> None:
    aws.runs.capacity.clear()
    try:
        name = aws.start("batch", "nowhere", *ENDLESS)
        aws.listed("nowhere", "queued")
        aws.run("runs", "stop", "nowhere")
        assert finished(aws, name).attempts == []
    finally:
        aws.runs.capacity.set()
    aws.listed("nowhere", "stopped")


def test_an_answer_that_is_lost_makes_no_second_job(aws: Stage) -> None:
    aws.runs.capacity.clear()
    try:
        aws.world.server.lose("batch", "SubmitJob")
        name = aws.start("batch", "lost-answer", *ENDLESS)
        assert aws.jobs("lost-answer") == [name]
        aws.run("runs", "stop", "lost-answer")
        finished(aws, name)
    finally:
        aws.runs.capacity.set()


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("cloud.machine=t4", r"quota"),
        ("cloud.nodes=2", r"cloud=sagemaker and cloud=sky can"),
        ("cloud.max_cost_usd=1", r"max_cost_usd"),  # three attempts of two hours each
        ("cloud.image=IMAGE@sha256:" + "0" * 64, r"There is no image .*@sha256:0000"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(aws: Stage, setting: str, says: str) -> None:
    before = aws.submitted()
    result = aws.launch("batch", "refused", setting.replace("IMAGE", aws.image), check=False)
    said = result.stdout + result.stderr
    assert result.returncode == 1
    assert re.search(says, said), said
    assert "Traceback" not in said
    assert aws.submitted() == before


def test_nothing_runs_when_all_is_over(aws: Stage) -> None:
    assert all(job.over for job in aws.world.batch.jobs.values())
    assert aws.runs.running == {}
