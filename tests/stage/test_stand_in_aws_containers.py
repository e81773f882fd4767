"""Containers of SageMaker and AWS Batch on the stage: started, signalled, killed and repeated as by the services."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from stage import aws, registry
from stage.aws import runner
from stage.aws.bench import SPOT, client, places, role, training
from stage.aws.people import ACCOUNT

pytestmark = pytest.mark.engine

PULL = {
    "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"],
    "Resource": f"arn:aws:ecr:*:{ACCOUNT}:repository/stage/*",
}
LOGIN = {"Action": "ecr:GetAuthorizationToken", "Resource": "*"}
LOG = {"Action": ["logs:CreateLogStream", "logs:PutLogEvents"], "Resource": "*"}
TRAP = "trap 'echo got SIGTERM; exit 0' TERM; echo ready; while :; do sleep 0.1; done"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    folder = tmp_path_factory.mktemp("aws")
    with registry.registry(folder / "registry") as host, aws.serve(folder) as world:
        services = ("sagemaker.amazonaws.com", "ecs-tasks.amazonaws.com")
        role(world, "demo-trainer", *services, may=[PULL, LOGIN, LOG])
        role(world, "mute", *services, may=[PULL, LOGIN])
        role(world, "weak", *services)
        for tier in ("", "spot "):
            world.quotas.set(f"ml.m7i.2xlarge for {tier}training job usage", 100)
        world.quotas.set("L-34B43A08", 100)
        places(world, "demo", ["m7i.2xlarge"], maxvCpus=100)
        client(world, "ecr").create_repository(repositoryName="stage/bash")
        digest = registry.push_bash(host).partition("@")[2]
        image = f"{ACCOUNT}.dkr.ecr.{world.region}.amazonaws.com/stage/bash@{digest}"
        with runner.running(world, host, folder / "jobs") as runs:
            yield SimpleNamespace(world=world, runs=runs, image=image, digest=digest)


def train(stage: SimpleNamespace, name: str, script: str, **changes: Any) -> str:
    algorithm = {"TrainingImage": stage.image, "TrainingInputMode": "File", "ContainerArguments": [script]}
    request = training(stage.image, name, **{"AlgorithmSpecification": algorithm} | changes)
    client(stage.world, "ecr").describe_images(repositoryName="stage/bash")
    client(stage.world, "sagemaker").create_training_job(**request)
    return name


def submit(stage: SimpleNamespace, name: str, script: str, **changes: Any) -> str:
    batch = client(stage.world, "batch")
    client(stage.world, "ecr").describe_images(repositoryName="stage/bash")
    needs = [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "256"}]
    properties = {"image": stage.image, "command": [script], "resourceRequirements": needs}
    properties["jobRoleArn"] = f"arn:aws:iam::{ACCOUNT}:role/demo-trainer"
    definition = batch.register_job_definition(
        jobDefinitionName=name, type="container", containerProperties=properties, **changes
    )
    return batch.submit_job(jobName=name, jobQueue="demo", jobDefinition=definition["jobDefinitionArn"])[
        "jobId"
    ]


def logged(stage: SimpleNamespace, group: str, prefix: str) -> list[str]:
    logs = client(stage.world, "logs")
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group, logStreamNamePrefix=prefix)
    return [event["message"] for page in pages for event in page["events"]]


def test_what_was_pushed_ecr_knows(stage: SimpleNamespace) -> None:
    found = client(stage.world, "ecr").describe_images(repositoryName="stage/bash")["imageDetails"]
    assert [(one["imageDigest"], one["imageTags"]) for one in found] == [(stage.digest, ["latest"])]


# SageMaker


def test_a_training_runs_with_its_arguments_and_what_it_prints_is_logged(stage: SimpleNamespace) -> None:
    name = train(stage, "train-1", "echo $TRAINING_JOB_NAME $RUN_ID; echo at large > /tmp/a && echo wrote")
    job = stage.runs.wait(name)
    assert (job.state, job.lines) == ("Completed", ["train-1 1", "wrote"])
    assert logged(stage, "/aws/sagemaker/TrainingJobs", "train-1/algo-1-") == ["train-1 1", "wrote"]


def test_without_arguments_the_word_is_train(stage: SimpleNamespace) -> None:
    algorithm = {"TrainingImage": stage.image, "TrainingInputMode": "File"}
    name = train(stage, "train-2", "", AlgorithmSpecification=algorithm)
    job = stage.runs.wait(name)
    assert job.state == "Failed"
    assert "train: command not found" in job.lines[0]


def test_a_failure_says_what_it_left_in_its_file(stage: SimpleNamespace) -> None:
    name = train(stage, "train-3", "echo no GPU > /opt/ml/output/failure; exit 75")
    job = stage.runs.wait(name)
    assert (job.state, job.attempts) == ("Failed", 1)
    assert job.failure.startswith("AlgorithmError: no GPU")


def test_each_node_knows_its_name_and_those_of_all(stage: SimpleNamespace) -> None:
    script = "read -r line < /opt/ml/input/config/resourceconfig.json; echo $line; echo > /dev/tcp/algo-1/1"
    resources = {"InstanceType": "ml.m7i.2xlarge", "InstanceCount": 2, "VolumeSizeInGB": 30}
    job = stage.runs.wait(train(stage, "train-4", script, ResourceConfig=resources))
    for host in ("algo-1", "algo-2"):
        said = " ".join(logged(stage, "/aws/sagemaker/TrainingJobs", f"train-4/{host}-"))
        assert f'"current_host": "{host}", "hosts": ["algo-1", "algo-2"]' in said
    assert "Connection refused" in " ".join(job.lines)  # the name was found, and nobody listens there


def test_a_lost_machine_gives_no_signal_and_the_next_attempt_is_new(stage: SimpleNamespace) -> None:
    name = train(stage, "train-5", f"[ -e /tmp/here ] && echo old; echo > /tmp/here; {TRAP}", **SPOT)
    stage.runs.until_line(name, "ready")
    stage.runs.lose(name)
    job = stage.world.sagemaker.job(name)
    stage.world.pass_time(60)
    stage.runs.until(lambda: job.lines.count("ready") == 2, name)
    assert (job.attempts, job.lines) == (2, ["ready", "ready"])
    client(stage.world, "sagemaker").stop_training_job(TrainingJobName=name)
    stage.runs.wait(name)


def test_stopping_gives_a_signal_and_time(stage: SimpleNamespace) -> None:
    name = train(stage, "train-6", TRAP)
    stage.runs.until_line(name, "ready")
    client(stage.world, "sagemaker").stop_training_job(TrainingJobName=name)
    job = stage.runs.wait(name)
    assert (job.state, job.secondary, job.lines[-1]) == ("Stopped", "Stopped", "got SIGTERM")


def test_what_does_not_heed_the_signal_is_killed_at_the_time_limit(stage: SimpleNamespace) -> None:
    name = train(stage, "train-7", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
    stage.runs.until_line(name, "ready")
    stage.world.pass_time(7200 + 120)
    job = stage.runs.wait(name)
    assert (job.state, job.secondary) == ("Stopped", "MaxRuntimeExceeded")
    stage.runs.until(lambda: name not in stage.runs.running, name)


def test_a_role_that_may_not_pull_cannot_train_and_one_that_may_not_log_is_mute(
    stage: SimpleNamespace,
) -> None:
    arn = f"arn:aws:iam::{ACCOUNT}:role"
    weak = stage.runs.wait(train(stage, "train-8", "echo a", RoleArn=f"{arn}/weak"))
    assert (weak.state, weak.attempts) == ("Failed", 0)
    assert "ecr:BatchGetImage" in weak.failure
    mute = stage.runs.wait(train(stage, "train-9", "echo a", RoleArn=f"{arn}/mute"))
    assert (mute.state, mute.lines) == ("Completed", ["a"])
    assert logged(stage, "/aws/sagemaker/TrainingJobs", "train-9/") == []


@pytest.mark.parametrize("service", ["sagemaker", "batch"])
def test_a_container_has_the_keys_of_its_role(stage: SimpleNamespace, service: str) -> None:
    script = (
        "address=${AWS_CONTAINER_CREDENTIALS_FULL_URI#http://127.0.0.1:}; exec 3<>/dev/tcp/127.0.0.1/${address%%/*}; "
        "printf 'GET /%s HTTP/1.0\\r\\nAuthorization: %s\\r\\n\\r\\n' ${address#*/} $AWS_CONTAINER_AUTHORIZATION_TOKEN >&3; "
        "mapfile -t lines <&3; echo ${lines[-1]}"
    )
    start = train if service == "sagemaker" else submit
    job = stage.runs.wait(start(stage, f"keys-{service}", script))
    assert f'"RoleArn": "arn:aws:iam::{ACCOUNT}:role/demo-trainer"' in job.lines[-1]


# Batch


def test_a_job_is_tried_again_as_its_rules_say(stage: SimpleNamespace) -> None:
    rules = [{"onExitCode": "75", "action": "RETRY"}, {"onReason": "*", "action": "EXIT"}]
    script = (
        "echo attempt $AWS_BATCH_JOB_ATTEMPT at $AWS_BATCH_JQ_NAME; [ $AWS_BATCH_JOB_ATTEMPT = 2 ] || exit 75"
    )
    name = submit(stage, "batch-1", script, retryStrategy={"attempts": 3, "evaluateOnExit": rules})
    job = stage.runs.wait(name)
    assert (job.status, job.lines) == ("SUCCEEDED", ["attempt 1 at demo", "attempt 2 at demo"])
    streams = [attempt["container"]["logStreamName"] for attempt in job.attempts]
    assert [logged(stage, "/aws/batch/job", stream) for stream in streams] == [[line] for line in job.lines]


def test_a_failure_that_no_rule_repeats_is_the_end(stage: SimpleNamespace) -> None:
    rules = [{"onExitCode": "75", "action": "RETRY"}, {"onReason": "*", "action": "EXIT"}]
    name = submit(stage, "batch-2", "exit 3", retryStrategy={"attempts": 3, "evaluateOnExit": rules})
    job = stage.runs.wait(name)
    assert (job.status, job.exit_code, len(job.attempts)) == ("FAILED", 3, 1)


def test_a_lost_host_gives_no_signal(stage: SimpleNamespace) -> None:
    rules = [{"onStatusReason": "Host EC2*", "action": "RETRY"}, {"onReason": "*", "action": "EXIT"}]
    name = submit(stage, "batch-3", TRAP, retryStrategy={"attempts": 2, "evaluateOnExit": rules})
    job = stage.world.batch.job(name)
    for number in (1, 2):
        stage.runs.until(lambda number=number: job.lines.count("ready") == number, name)
        stage.runs.lose(name)
    assert (job.status, job.lines) == ("FAILED", ["ready", "ready"])


def test_terminating_gives_a_signal_and_time(stage: SimpleNamespace) -> None:
    name = submit(stage, "batch-4", TRAP)
    stage.runs.until_line(name, "ready")
    client(stage.world, "batch").terminate_job(jobId=name, reason="enough")
    job = stage.runs.wait(name)
    assert (job.status, job.reason, job.lines[-1]) == ("FAILED", "enough", "got SIGTERM")


def test_a_timeout_kills_what_does_not_heed_the_signal(stage: SimpleNamespace) -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    name = submit(stage, "batch-5", script, timeout={"attemptDurationSeconds": 60})
    stage.runs.until_line(name, "ready")
    stage.world.pass_time(91)
    job = stage.runs.wait(name)
    assert (job.status, job.exit_code) == ("FAILED", 137)


def test_memory_is_a_hard_limit(stage: SimpleNamespace) -> None:
    job = stage.runs.wait(submit(stage, "batch-6", "a=x; while :; do a=$a$a; done"))
    assert (job.status, job.exit_code) == ("FAILED", 137)
    assert job.container_reason.startswith("OutOfMemoryError")


def test_without_capacity_a_job_waits(stage: SimpleNamespace) -> None:
    stage.runs.capacity.clear()
    name = submit(stage, "batch-7", "echo a")
    stage.world.pass_time(60)
    assert stage.world.batch.job(name).status == "RUNNABLE"
    stage.runs.capacity.set()
    assert stage.runs.wait(name).status == "SUCCEEDED"
