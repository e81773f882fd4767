"""The stand-in for SageMaker's training jobs refuses and does what the service does."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from stage import aws
from stage.aws.bench import SPOT, TRAINER, client, refused, role, training
from stage.aws.people import ACCOUNT
from stage.one_field import REMOVED, with_field

SPOT_TIMES = SPOT["StoppingCondition"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[aws.World]:
    with aws.serve(tmp_path_factory.mktemp("aws")) as world:
        role(world, "demo-trainer", "sagemaker.amazonaws.com")
        role(world, "elsewhere", "ec2.amazonaws.com")
        for tier in ("", "spot "):
            world.quotas.set(f"ml.m7i.2xlarge for {tier}training job usage", 1000)
        yield world


@pytest.fixture(scope="module")
def image(world: aws.World) -> str:
    return world.push("demo/train")


@pytest.fixture(scope="module")
def sagemaker(world: aws.World) -> Any:
    return client(world, "sagemaker")


@pytest.fixture
def submit(sagemaker: Any, image: str, request: pytest.FixtureRequest) -> Any:
    """Submits a job whose name is the test's, with changes of the request; gives the name."""

    def send(name: str = "", **changes: Any) -> str:
        name = name or f"t-{abs(hash(request.node.name)) % 10**12}"
        sagemaker.create_training_job(**training(image, name, **changes))
        return name

    return send


@pytest.fixture
def status(sagemaker: Any) -> Any:
    """A job's two states."""

    def ask(name: str) -> tuple[str, str]:
        job = sagemaker.describe_training_job(TrainingJobName=name)
        return job["TrainingJobStatus"], job["SecondaryStatus"]

    return ask


# What a job may be


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("TrainingJobName", "a" * 64, "trainingJobName"),
        ("TrainingJobName", "a.b", "trainingJobName"),
        ("TrainingJobName", "-a", "trainingJobName"),
        ("TrainingJobName", REMOVED, "trainingJobName"),
        ("AlgorithmSpecification.ContainerArguments", ["a"] * 101, "containerArguments"),
        ("AlgorithmSpecification.ContainerArguments", [], "containerArguments"),
        ("AlgorithmSpecification.ContainerArguments.0", "a" * 257, "containerArguments"),
        ("AlgorithmSpecification.ContainerArguments.0", "a\nb", "regular expression"),
        ("AlgorithmSpecification.TrainingInputMode", "Files", "enum value set"),
        ("AlgorithmSpecification.TrainingInputMode", REMOVED, "trainingInputMode"),
        ("AlgorithmSpecification.TrainingImage", REMOVED, "TrainingImage or AlgorithmName"),
        ("Environment.RUN_ID", "a" * 513, "environment"),
        ("Environment", {f"K{i}": "" for i in range(101)}, "environment"),
        ("Environment", {"1K": ""}, "environment"),
        ("HyperParameters", {"a": "b" * 2501}, "hyperParameters"),
        ("HyperParameters", {"a": 1}, "hyperParameters"),
        ("RetryStrategy", {"MaximumRetryAttempts": 31}, "maximumRetryAttempts"),
        ("Tags", [{"Key": f"k{i}", "Value": ""} for i in range(51)], "tags"),
        ("Tags", [{"Key": "a", "Value": ""}] * 2, "Duplicate tag keys"),
        ("Tags", [{"Key": "aws:a", "Value": ""}], "aws:"),
        ("ResourceConfig", REMOVED, "ResourceConfig"),
        ("ResourceConfig.InstanceType", "ml.g99.xlarge", "enum value set"),
        ("ResourceConfig.InstanceType", REMOVED, "InstanceType"),
        ("ResourceConfig.InstanceCount", 0, "InstanceCount"),
        ("ResourceConfig.InstanceCount", "1", "integer"),
        ("ResourceConfig.VolumeSizeInGB", REMOVED, "VolumeSizeInGB"),
        ("StoppingCondition", REMOVED, "StoppingCondition"),
        ("StoppingCondition.MaxRuntimeInSeconds", 28 * 86400 + 1, "MaxRuntimeInSeconds"),
        ("StoppingCondition.MaxRuntimeInSeconds", 0, "maxRuntimeInSeconds"),
        ("StoppingCondition.MaxPendingTimeInSeconds", 1799, "maxPendingTimeInSeconds"),
        ("StoppingCondition", SPOT_TIMES, "only supported when EnableManagedSpotTraining"),
        ("OutputDataConfig.S3OutputPath", "runs/1", "s3OutputPath"),
        ("RoleArn", REMOVED, "oleArn"),
        ("RoleArn", f"arn:aws:iam::{ACCOUNT}:role/nobody", "exists"),
        ("RoleArn", f"arn:aws:iam::{ACCOUNT}:role/elsewhere", "sagemaker.amazonaws.com"),
    ],
)
def test_a_job_with_one_bad_field_is_refused(
    sagemaker: Any, image: str, path: str, value: Any, words: str
) -> None:
    with refused("ValidationException", words):
        sagemaker.create_training_job(**with_field(training(image, "bad"), path, value))


@pytest.mark.parametrize(
    "times",
    [{"MaxRuntimeInSeconds": 7200}, {"MaxRuntimeInSeconds": 7200, "MaxWaitTimeInSeconds": 7199}],
)
def test_spot_has_to_wait_as_long_as_it_runs(submit: Any, times: dict[str, int]) -> None:
    with refused("ValidationException", "MaxWaitTimeInSeconds"):
        submit(EnableManagedSpotTraining=True, StoppingCondition=times)


def test_a_day_is_the_time_limit_where_none_is_given(world: aws.World, submit: Any, status: Any) -> None:
    name = submit(StoppingCondition={"MaxPendingTimeInSeconds": 1800})
    world.sagemaker.start(name)
    world.pass_time(86400 + 120)
    assert status(name) == ("Stopped", "MaxRuntimeExceeded")


@pytest.mark.parametrize("wrong", ["digest", "repository", "region", "host"])
def test_the_image_has_to_be_in_ecr_of_the_region(submit: Any, image: str, wrong: str) -> None:
    host, _, rest = image.partition("/")
    name, _, digest = rest.partition("@")
    changed = {
        "digest": f"{host}/{name}@sha256:{'0' * 64}",
        "repository": f"{host}/other@{digest}",
        "region": image.replace("us-east-1", "eu-west-1"),
        "host": f"ghcr.io/{name}@{digest}",
    }[wrong]
    with refused("ValidationException", "Cannot find the requested image"):
        submit(AlgorithmSpecification={"TrainingImage": changed, "TrainingInputMode": "File"})


def test_a_name_is_taken_for_ever_in_its_region(world: aws.World, submit: Any, image: str) -> None:
    name = submit()
    world.sagemaker.start(name)
    world.sagemaker.finish(name, 0)
    with refused("ResourceInUse", "unique"):
        submit(name)
    role_arn = training(image)["RoleArn"]
    there = world.push("demo/train", region="eu-west-1")
    client(world, "sagemaker", region="eu-west-1").create_training_job(
        **training(there, name, RoleArn=role_arn)
    )


def test_a_new_account_has_no_gpus_and_the_refusal_says_which_quota(world: aws.World, submit: Any) -> None:
    gpu = {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 100}
    with refused(
        "ResourceLimitExceeded", "'ml.g5.xlarge for training job usage' is 0 Instances", "delta of 2"
    ):
        submit(ResourceConfig=gpu)
    with refused("ResourceLimitExceeded", "'ml.g5.xlarge for spot training job usage' is 0 Instances"):
        submit(ResourceConfig=gpu, **SPOT)


def test_a_quota_is_of_the_jobs_that_have_not_ended(world: aws.World, submit: Any) -> None:
    gpu = {"InstanceType": "ml.g4dn.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 100}
    world.quotas.set("ml.g4dn.xlarge for training job usage", 1)
    first = submit(ResourceConfig=gpu)
    with refused("ResourceLimitExceeded", "current utilization of 1 Instances"):
        submit("quota-2", ResourceConfig=gpu)
    world.sagemaker.start(first)
    world.sagemaker.finish(first, 1)
    submit("quota-3", ResourceConfig=gpu)


def test_a_machine_that_the_region_has_not_is_refused(world: aws.World) -> None:
    there = world.push("demo/train", region="eu-west-1")
    gpu = {"InstanceType": "ml.p5.4xlarge", "InstanceCount": 1, "VolumeSizeInGB": 100}
    with refused("ResourceLimitExceeded", "not available in this region"):
        client(world, "sagemaker", region="eu-west-1").create_training_job(
            **training(there, "there", ResourceConfig=gpu)
        )


# What becomes of one


def test_a_job_runs_to_its_end(world: aws.World, sagemaker: Any, submit: Any, status: Any) -> None:
    name = submit()
    assert status(name) == ("InProgress", "Starting")
    assert "TrainingStartTime" not in sagemaker.describe_training_job(TrainingJobName=name)
    world.pass_time(60)
    world.sagemaker.start(name)
    assert status(name) == ("InProgress", "Training")
    world.pass_time(600)
    assert "BillableTimeInSeconds" not in sagemaker.describe_training_job(TrainingJobName=name)
    world.sagemaker.finish(name, 0)
    job = sagemaker.describe_training_job(TrainingJobName=name)
    assert (job["TrainingJobStatus"], job["BillableTimeInSeconds"]) == ("Completed", 600)
    assert (job["TrainingEndTime"] - job["TrainingStartTime"]).total_seconds() == 600
    passed = [one["Status"] for one in job["SecondaryStatusTransitions"]]
    assert passed == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert job["Environment"] == {"RUN_ID": "1"}


@pytest.mark.parametrize("code", [1, 75, 143])
def test_a_container_that_ends_by_itself_is_never_tried_again(
    world: aws.World, sagemaker: Any, submit: Any, code: int
) -> None:
    name = submit(RetryStrategy={"MaximumRetryAttempts": 2})
    world.sagemaker.start(name)
    world.sagemaker.finish(name, code, failure="No GPU is here." + "é" * 1024)
    world.pass_time(3600)
    job = sagemaker.describe_training_job(TrainingJobName=name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Failed", "Failed")
    assert job["FailureReason"].startswith("AlgorithmError: No GPU is here.")
    assert len(job["FailureReason"]) <= 1024
    assert world.sagemaker.job(name).attempts == 1


def test_a_lost_spot_machine_is_replaced_and_only_working_seconds_are_billed(
    world: aws.World, sagemaker: Any, submit: Any, status: Any
) -> None:
    name = submit(**SPOT)
    world.sagemaker.start(name)
    world.pass_time(1000)
    world.sagemaker.interrupt(name)
    assert status(name) == ("InProgress", "Interrupted")
    world.pass_time(3600)
    assert status(name) == ("InProgress", "Starting")
    world.sagemaker.start(name)
    world.pass_time(1000)
    world.sagemaker.finish(name, 0)
    job = sagemaker.describe_training_job(TrainingJobName=name)
    assert (job["TrainingTimeInSeconds"], job["BillableTimeInSeconds"]) == (2000, 600)
    assert world.sagemaker.job(name).attempts == 2


def test_a_machine_on_demand_is_not_lost_to_spot(world: aws.World, submit: Any) -> None:
    name = submit()
    world.sagemaker.start(name)
    with pytest.raises(AssertionError):
        world.sagemaker.interrupt(name)


def test_the_time_limit_is_of_all_attempts_together(world: aws.World, submit: Any, status: Any) -> None:
    name = submit(**SPOT)
    world.sagemaker.start(name)
    world.pass_time(5000)
    world.sagemaker.interrupt(name)
    world.pass_time(5000)
    world.sagemaker.start(name)
    world.pass_time(2199)
    assert status(name) == ("InProgress", "Training")
    world.pass_time(1)
    assert status(name) == ("Stopping", "Stopping")
    world.pass_time(120)
    assert status(name) == ("Stopped", "MaxRuntimeExceeded")


def test_the_seconds_after_the_signal_are_billed_too(world: aws.World, sagemaker: Any, submit: Any) -> None:
    name = submit()
    world.sagemaker.start(name)
    world.pass_time(7200 + 120)
    assert sagemaker.describe_training_job(TrainingJobName=name)["BillableTimeInSeconds"] == 7320


@pytest.mark.parametrize("lost", [False, True])
def test_waiting_for_spot_ends_at_its_limit(world: aws.World, submit: Any, status: Any, lost: bool) -> None:
    name = submit(**SPOT)
    if lost:
        world.sagemaker.start(name)
        world.sagemaker.interrupt(name)
    world.pass_time(36000 + 120)
    assert status(name) == ("Stopped", "MaxWaitTimeExceeded")


def test_waiting_on_demand_ends_at_its_limit(world: aws.World, submit: Any, status: Any) -> None:
    name = submit(StoppingCondition={"MaxRuntimeInSeconds": 60, "MaxPendingTimeInSeconds": 1800})
    world.pass_time(1799)
    assert status(name) == ("InProgress", "Starting")
    world.pass_time(2)
    assert status(name) == ("Stopped", "Stopped")


def test_what_stops_is_stopped_by_its_own_end_or_after_the_grace(
    world: aws.World, sagemaker: Any, submit: Any, status: Any
) -> None:
    for name in ("stop-1", "stop-2"):
        submit(name)
        world.sagemaker.start(name)
        sagemaker.stop_training_job(TrainingJobName=name)
        assert status(name) == ("Stopping", "Stopping")
    world.sagemaker.finish("stop-1", 143)
    assert status("stop-1") == ("Stopped", "Stopped")
    world.pass_time(120)
    assert status("stop-2") == ("Stopped", "Stopped")


def test_what_has_ended_cannot_be_stopped(world: aws.World, sagemaker: Any, submit: Any) -> None:
    name = submit()
    sagemaker.stop_training_job(TrainingJobName=name)
    with refused("ValidationException", "in status Stopping"):
        sagemaker.stop_training_job(TrainingJobName=name)
    world.pass_time(1)
    with refused("ValidationException", "in status Stopped"):
        sagemaker.stop_training_job(TrainingJobName=name)


def test_what_is_not_there_is_a_validation_error(sagemaker: Any) -> None:
    for ask in (sagemaker.describe_training_job, sagemaker.stop_training_job):
        with refused("ValidationException", "not found"):
            ask(TrainingJobName="nothing")


def test_the_service_fails_by_its_own_fault(world: aws.World, sagemaker: Any, submit: Any) -> None:
    name = submit()
    world.sagemaker.fail(name, "CapacityError: Unable to provision requested ML compute capacity.")
    assert sagemaker.describe_training_job(TrainingJobName=name)["FailureReason"].startswith("CapacityError")


# How it is found


def found(sagemaker: Any, name: str, value: str) -> list[str]:
    filters = [{"Name": f"Tags.{name}", "Operator": "Equals", "Value": value}]
    answer = sagemaker.search(Resource="TrainingJob", SearchExpression={"Filters": filters})
    return [one["TrainingJob"]["TrainingJobName"] for one in answer["Results"]]


def test_search_knows_of_a_job_and_of_its_state_later_than_others(
    world: aws.World, sagemaker: Any, submit: Any
) -> None:
    name = submit(Tags=[{"Key": "run", "Value": "late"}])
    assert found(sagemaker, "run", "late") == []
    world.pass_time(30)
    assert found(sagemaker, "run", "late") == [name]
    world.sagemaker.start(name)
    job = sagemaker.search(
        Resource="TrainingJob",
        SearchExpression={"Filters": [{"Name": "TrainingJobName", "Operator": "Contains", "Value": name}]},
    )["Results"][0]["TrainingJob"]
    assert job["SecondaryStatus"] == "Starting"


def test_search_needs_a_value_to_compare_with(sagemaker: Any) -> None:
    filters = [{"Name": "Tags.run", "Operator": "Equals"}]
    with refused("ValidationException", "Value"):
        sagemaker.search(Resource="TrainingJob", SearchExpression={"Filters": filters})


def test_a_list_has_pages_of_ten_oldest_first(sagemaker: Any, submit: Any) -> None:
    names = [submit(f"page-{number}") for number in range(12)]
    first = sagemaker.list_training_jobs(NameContains="page-")
    assert [one["TrainingJobName"] for one in first["TrainingJobSummaries"]] == names[:10]
    pages = sagemaker.get_paginator("list_training_jobs").paginate(NameContains="page-")
    assert [one["TrainingJobName"] for page in pages for one in page["TrainingJobSummaries"]] == names
    newest = sagemaker.list_training_jobs(NameContains="page-", SortOrder="Descending", MaxResults=1)
    assert newest["TrainingJobSummaries"][0]["TrainingJobName"] == names[-1]
    assert (
        sagemaker.list_training_jobs(NameContains="page-", StatusEquals="Failed")["TrainingJobSummaries"]
        == []
    )


def test_tags_are_added_and_listed(sagemaker: Any, submit: Any) -> None:
    name = submit()
    arn = sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobArn"]
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "run", "Value": "2"}])
    tags = {tag["Key"]: tag["Value"] for tag in sagemaker.list_tags(ResourceArn=arn)["Tags"]}
    assert tags == {"project": "demo", "run": "2"}


# Who may do it


MAY = SimpleNamespace(
    create={
        "Action": "sagemaker:CreateTrainingJob",
        "Resource": f"arn:aws:sagemaker:*:{ACCOUNT}:training-job/demo-*",
        "Condition": {
            "NumericLessThanEquals": {"sagemaker:MaxRuntimeInSeconds": "7200"},
            "ForAllValues:StringEquals": {"sagemaker:InstanceTypes": ["ml.m7i.2xlarge"]},
        },
    },
    tag={"Action": "sagemaker:AddTags", "Resource": f"arn:aws:sagemaker:*:{ACCOUNT}:training-job/demo-*"},
    give={
        "Action": "iam:PassRole",
        "Resource": TRAINER,
        "Condition": {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
    },
)


def launcher(world: aws.World, name: str, *may: dict[str, Any]) -> Any:
    role(world, name, may=list(may))
    return client(world, "sagemaker", world.people.session(name))


def test_who_may_create_pass_and_tag_submits(world: aws.World, image: str) -> None:
    launcher(world, "all-three", MAY.create, MAY.tag, MAY.give).create_training_job(
        **training(image, "demo-may")
    )


@pytest.mark.parametrize(
    ("without", "action"),
    [("create", "sagemaker:CreateTrainingJob"), ("tag", "sagemaker:AddTags"), ("give", "iam:PassRole")],
)
def test_each_of_the_three_rights_is_needed(world: aws.World, image: str, without: str, action: str) -> None:
    may = [one for name, one in vars(MAY).items() if name != without]
    client = launcher(world, f"without-{without}", *may)
    with refused("AccessDeniedException", action, "no identity-based policy"):
        client.create_training_job(**training(image, f"demo-no-{without}"))


@pytest.mark.parametrize(
    "changes",
    [
        {"StoppingCondition": {"MaxRuntimeInSeconds": 7201}},
        {"ResourceConfig": {"InstanceType": "ml.c7i.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 100}},
        {"TrainingJobName": "other-1"},
    ],
)
def test_a_policy_caps_time_machine_and_name(world: aws.World, image: str, changes: dict[str, Any]) -> None:
    name = f"capped-{next(iter(changes))}"
    client = launcher(world, name, MAY.create, MAY.tag, MAY.give)
    with refused("AccessDeniedException", "sagemaker:CreateTrainingJob"):
        client.create_training_job(**training(image, "demo-capped") | changes)


def test_a_job_without_a_time_limit_does_not_pass_a_cap(world: aws.World, image: str) -> None:
    client = launcher(world, "no-limit", MAY.create, MAY.tag, MAY.give)
    with refused("AccessDeniedException", "sagemaker:CreateTrainingJob"):
        client.create_training_job(**training(image, "demo-2", StoppingCondition={}))


def test_a_policy_can_go_by_a_jobs_tags(world: aws.World, submit: Any) -> None:
    name = submit()
    other = submit("other-project", Tags=[{"Key": "project", "Value": "other"}])
    condition = {"StringEquals": {"aws:ResourceTag/project": "demo"}}
    may = {"Action": "sagemaker:StopTrainingJob", "Resource": "*", "Condition": condition}
    client = launcher(world, "stopper", may)
    client.stop_training_job(TrainingJobName=name)
    with refused("AccessDeniedException", "sagemaker:StopTrainingJob"):
        client.stop_training_job(TrainingJobName=other)
