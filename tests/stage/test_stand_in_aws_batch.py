"""The stand-in for AWS Batch's jobs refuses and does what the service does."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from stage import aws
from stage.aws.batch_hosts import NO_CAPACITY, UNDETERMINED
from stage.aws.bench import TRAINER, client, places, refused, role
from stage.aws.people import ACCOUNT
from stage.one_field import REMOVED, with_field

numbers = itertools.count(1)
RULES = [
    {"onStatusReason": "Host EC2*", "action": "RETRY"},
    {"onExitCode": "75", "action": "RETRY"},
    {"onReason": "*", "action": "EXIT"},
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[aws.World]:
    with aws.serve(tmp_path_factory.mktemp("aws")) as world:
        role(world, "demo-trainer", "ecs-tasks.amazonaws.com")
        role(world, "elsewhere", "ec2.amazonaws.com")
        for quota in ("L-34B43A08", "L-3819A6DF", "L-1216C47A"):
            world.quotas.set(quota, 1000)
        places(world, "demo-cpu-spot", ["m7i.2xlarge"], maxvCpus=1000)
        places(world, "demo-a10g-spot", ["g5.xlarge"], maxvCpus=1000)
        yield world


@pytest.fixture(scope="module")
def batch(world: aws.World) -> Any:
    return client(world, "batch")


@pytest.fixture(scope="module")
def definition(world: aws.World) -> dict[str, Any]:
    return {
        "jobDefinitionName": "demo",
        "type": "container",
        "containerProperties": {
            "image": world.push("demo/train"),
            "jobRoleArn": TRAINER,
            "command": ["experiment=a"],
            "resourceRequirements": [{"type": "VCPU", "value": "8"}, {"type": "MEMORY", "value": "28000"}],
            "environment": [{"name": "RUN_ID", "value": "1"}, {"name": "KEPT", "value": "yes"}],
            "linuxParameters": {"sharedMemorySize": 8192, "initProcessEnabled": True},
        },
        "retryStrategy": {"attempts": 3, "evaluateOnExit": RULES},
        "timeout": {"attemptDurationSeconds": 7200},
        "tags": {"project": "demo"},
    }


@pytest.fixture
def submit(batch: Any, definition: dict[str, Any]) -> Any:
    """Registers a revision and submits a job with it; gives the job's id."""

    def send(queue: str = "demo-cpu-spot", name: str = "", register: Any = None, **changes: Any) -> str:
        revision = batch.register_job_definition(**definition | (register or {}))
        request = {
            "jobName": name or f"demo-{next(numbers)}",
            "jobQueue": queue,
            "jobDefinition": revision["jobDefinitionArn"],
            "tags": {"project": "demo"},
        }
        return batch.submit_job(**request | changes)["jobId"]

    return send


@pytest.fixture
def job(batch: Any) -> Any:
    return lambda name: batch.describe_jobs(jobs=[name])["jobs"][0]


# What a definition and a job may be

CONTAINER = "containerProperties"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("jobDefinitionName", "a.b", "valid pattern"),
        ("jobDefinitionName", "-a", "valid pattern"),
        ("jobDefinitionName", "a" * 129, "valid pattern"),
        ("type", "containers", "enum value set"),
        (f"{CONTAINER}.image", REMOVED, "image"),
        (CONTAINER, REMOVED, "containerProperties"),
        (f"{CONTAINER}.memory", 4, "deprecated"),
        (f"{CONTAINER}.resourceRequirements", [{"type": "VCPU", "value": "8"}], "Memory is not provided"),
        (f"{CONTAINER}.resourceRequirements", [{"type": "MEMORY", "value": "8"}], "vCPU is not provided"),
        (f"{CONTAINER}.resourceRequirements.0.value", "0.5", "VCPU"),
        (f"{CONTAINER}.resourceRequirements.1.value", "3", "MEMORY"),
        (f"{CONTAINER}.resourceRequirements.0.type", "GPUS", "enum value set"),
        (f"{CONTAINER}.environment.0.name", "AWS_BATCH_JOB_ID", "AWS_BATCH"),
        (f"{CONTAINER}.environment.0.name", "", "name"),
        (f"{CONTAINER}.ephemeralStorage", {"sizeInGiB": 100}, "not applicable"),
        (f"{CONTAINER}.secrets", [{"name": "A", "valueFrom": "b"}], "executionRoleArn"),
        (f"{CONTAINER}.environment.0.value", "a" * 24 * 1024, "24 KiB"),
        ("retryStrategy.attempts", 0, "between 1 and 10"),
        ("retryStrategy.attempts", 11, "between 1 and 10"),
        ("retryStrategy.attempts", REMOVED, "attempts"),
        ("retryStrategy.evaluateOnExit", RULES * 2, "at most 5"),
        ("retryStrategy.evaluateOnExit.0", {"action": "RETRY"}, "at least one"),
        ("retryStrategy.evaluateOnExit.0.action", "STOP", "enum value set"),
        ("retryStrategy.evaluateOnExit.0.onStatusReason", "Host EC2 (*", "pattern"),
        ("retryStrategy.evaluateOnExit.0.onStatusReason", "*EC2", "pattern"),
        ("retryStrategy.evaluateOnExit.1.onExitCode", "7?", "pattern"),
        ("retryStrategy.evaluateOnExit.1.onExitCode", "a", "pattern"),
        ("timeout.attemptDurationSeconds", 59, "at least 60"),
        ("tags", {"aws:a": "b"}, "tag"),
        ("tags", {"a": "b" * 257}, "tag"),
        ("tags", {f"k{i}": "" for i in range(51)}, "tags"),
    ],
)
def test_a_definition_with_one_bad_field_is_refused(
    batch: Any, definition: dict[str, Any], path: str, value: Any, words: str
) -> None:
    with refused("ClientException", words):
        batch.register_job_definition(**with_field(definition, path, value))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"jobName": "a.b"}, "Job name should match valid pattern"),
        ({"jobName": "_a"}, "Job name should match valid pattern"),
        ({"jobName": "a" * 129}, "Job name should match valid pattern"),
        ({"jobQueue": "nothing"}, "JobQueue nothing not found"),
        ({"jobDefinition": "nothing"}, "does not exist or is not in ACTIVE status"),
        ({"jobDefinition": "demo:999"}, "does not exist or is not in ACTIVE status"),
        ({"containerOverrides": {"memory": 4}}, "deprecated"),
        ({"containerOverrides": {"environment": [{"name": "AWS_BATCH_A", "value": ""}]}}, "AWS_BATCH"),
        ({"containerOverrides": {"command": ["a" * 31 * 1024]}}, "less than 30 KiB"),
        ({"timeout": {"attemptDurationSeconds": 1}}, "at least 60"),
        ({"retryStrategy": {"attempts": 11}}, "between 1 and 10"),
    ],
)
def test_a_job_with_one_bad_field_is_refused(submit: Any, changes: dict[str, Any], words: str) -> None:
    with refused("ClientException", words):
        submit(**changes)


def test_a_jobs_image_cannot_be_another_than_its_definitions() -> None:
    from stage.aws.errors import AwsError
    from stage.aws.shapes import check, model

    given = {"jobName": "a", "jobQueue": "q", "jobDefinition": "d", "containerOverrides": {"image": "i"}}
    with pytest.raises(AwsError, match=r"Unknown member at .containerOverrides\.image"):
        check(model("batch").operation_model("SubmitJob"), given)


def test_revisions_count_up_and_a_name_means_the_newest_active_one(
    batch: Any, definition: dict[str, Any], job: Any
) -> None:
    first, second = (
        batch.register_job_definition(**definition | {"jobDefinitionName": "counted"}) for _ in range(2)
    )
    assert (first["revision"], second["revision"]) == (1, 2)
    batch.deregister_job_definition(jobDefinition="counted:2")
    with refused("ClientException", "ACTIVE"):
        batch.submit_job(jobName="a", jobQueue="demo-cpu-spot", jobDefinition="counted:2")
    name = batch.submit_job(jobName="a", jobQueue="demo-cpu-spot", jobDefinition="counted")["jobId"]
    assert job(name)["jobDefinition"] == first["jobDefinitionArn"]
    assert batch.register_job_definition(**definition | {"jobDefinitionName": "counted"})["revision"] == 3
    active = batch.describe_job_definitions(jobDefinitionName="counted", status="ACTIVE")["jobDefinitions"]
    assert [one["revision"] for one in active] == [3, 1]


def test_a_disabled_queue_takes_no_job(batch: Any, submit: Any, world: aws.World) -> None:
    places(world, "demo-off", ["m7i.2xlarge"])
    batch.update_job_queue(jobQueue="demo-off", state="DISABLED")
    with refused("ClientException", "ENABLED"):
        submit("demo-off")


# What becomes of one


def test_a_job_runs_to_its_end(world: aws.World, submit: Any, job: Any) -> None:
    name = submit()
    assert job(name)["status"] == "SUBMITTED"
    assert "startedAt" not in job(name)
    world.pass_time(60)
    assert job(name)["status"] == "RUNNABLE"
    world.batch.pull(name)
    assert job(name)["status"] == "STARTING"
    world.pass_time(60)
    world.batch.start(name)
    assert job(name)["status"] == "RUNNING"
    world.pass_time(600)
    world.batch.finish(name, 0)
    said = job(name)
    assert (said["status"], said["statusReason"]) == ("SUCCEEDED", "Essential container in task exited")
    assert said["stoppedAt"] - said["startedAt"] == 600_000
    assert said["container"]["exitCode"] == 0
    assert [attempt["container"]["exitCode"] for attempt in said["attempts"]] == [0]
    assert said["attempts"][0]["container"]["logStreamName"].startswith("demo/default/")


def test_overrides_replace_the_command_and_join_the_environment(submit: Any, job: Any) -> None:
    name = submit(
        containerOverrides={
            "command": ["b"],
            "environment": [{"name": "RUN_ID", "value": "2"}],
            "resourceRequirements": [{"type": "MEMORY", "value": "1000"}],
        }
    )
    container = job(name)["container"]
    assert container["command"] == ["b"]
    assert {one["name"]: one["value"] for one in container["environment"]} == {"RUN_ID": "2", "KEPT": "yes"}
    assert {one["type"]: one["value"] for one in container["resourceRequirements"]} == {
        "VCPU": "8",
        "MEMORY": "1000",
    }


def test_a_lost_host_is_tried_again_and_nobody_knows_its_exit_code(
    world: aws.World, submit: Any, job: Any
) -> None:
    name = submit()
    world.batch.start(name)
    world.batch.lose_host(name)
    said = job(name)
    assert said["status"] == "RUNNABLE"
    attempt = said["attempts"][0]
    assert attempt["statusReason"].startswith("Host EC2 (instance i-")
    assert attempt["statusReason"].endswith(") terminated.")
    assert "exitCode" not in attempt["container"]
    world.batch.start(name)
    assert world.batch.job(name).attempt == 2
    first, second = attempt["container"]["logStreamName"], job(name)["container"]["logStreamName"]
    assert first != second


def test_attempts_count_the_first_and_end(world: aws.World, submit: Any, job: Any) -> None:
    name = submit()
    for _ in range(3):
        world.batch.start(name)
        world.batch.lose_host(name)
    assert job(name)["status"] == "FAILED"
    assert job(name)["statusReason"].startswith("Host EC2")
    assert len(job(name)["attempts"]) == 3


@pytest.mark.parametrize(
    ("rules", "code", "reason", "again"),
    [
        (RULES, 75, "", True),
        (RULES, 1, "", False),
        (RULES, 1, "OutOfMemoryError: Container killed due to memory usage", False),
        (RULES[:2], 1, "", True),  # no rule fits
        ([], 1, "", True),
        ([{"onExitCode": "7*", "action": "EXIT"}], 75, "", False),
        ([{"onExitCode": "1", "action": "EXIT"}, {"onExitCode": "1", "action": "RETRY"}], 1, "", False),
        ([{"onExitCode": "1", "onReason": "OutOf*", "action": "EXIT"}], 1, "", True),
        ([{"onReason": "outof*", "action": "EXIT"}], 137, "OutOfMemoryError", False),
    ],
)
def test_the_first_rule_that_fits_decides(
    world: aws.World, submit: Any, job: Any, rules: list[Any], code: int, reason: str, again: bool
) -> None:
    name = submit(retryStrategy={"attempts": 2, "evaluateOnExit": rules})
    world.batch.start(name)
    world.batch.finish(name, code, reason)
    assert job(name)["status"] == ("RUNNABLE" if again else "FAILED")


def test_one_attempt_is_usual(world: aws.World, submit: Any, job: Any) -> None:
    name = submit(register={"retryStrategy": {}})
    world.batch.start(name)
    world.batch.finish(name, 1)
    assert job(name)["status"] == "FAILED"


def test_the_timeout_is_of_each_attempt_and_is_not_tried_again(
    world: aws.World, submit: Any, job: Any
) -> None:
    name = submit()
    world.batch.start(name)
    world.pass_time(7000)
    world.batch.lose_host(name)
    world.batch.start(name)
    world.pass_time(7199)
    assert not world.batch.job(name).stopping
    world.pass_time(1)
    assert world.batch.job(name).stopping
    assert job(name)["status"] == "RUNNING"
    world.pass_time(30)
    said = job(name)
    assert (said["status"], said["container"]["exitCode"]) == ("FAILED", 137)
    assert "timeout" in said["statusReason"]


def test_pulling_the_image_counts_for_no_limit(world: aws.World, submit: Any, job: Any) -> None:
    name = submit(timeout={"attemptDurationSeconds": 60})
    world.batch.pull(name)
    world.pass_time(3600)
    assert job(name)["status"] == "STARTING"


def test_a_container_that_ends_well_after_its_time_has_failed(
    world: aws.World, submit: Any, job: Any
) -> None:
    name = submit(timeout={"attemptDurationSeconds": 60})
    world.batch.start(name)
    world.pass_time(61)
    world.batch.finish(name, 0)
    assert job(name)["status"] == "FAILED"


def test_without_a_timeout_a_job_runs_for_ever(world: aws.World, submit: Any, job: Any) -> None:
    name = submit(register={"timeout": {"attemptDurationSeconds": 60}}, jobQueue="demo-cpu-spot")
    endless = world.batch.job(name)
    endless.definition.pop("timeout")
    world.batch.start(name)
    world.pass_time(30 * 86400)
    assert job(name)["status"] == "RUNNING"
    world.batch.finish(name)


def test_terminating_ends_a_job_at_any_state_with_the_reason(
    world: aws.World, batch: Any, submit: Any, job: Any
) -> None:
    waiting, running = submit(), submit()
    world.batch.start(running)
    for name in (waiting, running):
        batch.terminate_job(jobId=name, reason="stopped by octocat")
    assert (job(waiting)["status"], job(waiting)["isTerminated"]) == ("FAILED", True)
    assert job(waiting)["statusReason"] == "stopped by octocat"
    assert (job(running)["status"], job(running)["isTerminated"]) == ("RUNNING", True)
    world.pass_time(30)
    assert (job(running)["status"], job(running)["statusReason"]) == ("FAILED", "stopped by octocat")
    assert len(job(running)["attempts"]) == 1


def test_a_terminated_job_may_end_by_itself_in_its_grace(
    world: aws.World, batch: Any, submit: Any, job: Any
) -> None:
    name = submit()
    world.batch.start(name)
    batch.terminate_job(jobId=name, reason="enough")
    world.batch.finish(name, 0)
    assert (job(name)["status"], job(name)["container"]["exitCode"]) == ("FAILED", 0)


def test_terminating_what_has_ended_does_nothing(world: aws.World, batch: Any, submit: Any, job: Any) -> None:
    name = submit()
    world.batch.start(name)
    world.batch.finish(name, 0)
    batch.terminate_job(jobId=name, reason="late")
    assert (job(name)["status"], job(name)["isTerminated"]) == ("SUCCEEDED", False)


def test_cancelling_does_not_end_what_runs(world: aws.World, batch: Any, submit: Any, job: Any) -> None:
    waiting, running = submit(), submit()
    world.batch.start(running)
    for name in (waiting, running):
        batch.cancel_job(jobId=name, reason="no more")
    assert (job(waiting)["status"], job(waiting)["isCancelled"]) == ("FAILED", True)
    assert job(running)["status"] == "RUNNING"


def test_overrides_that_are_too_long_for_ecs_fail_only_at_the_start(
    world: aws.World, submit: Any, job: Any
) -> None:
    name = submit(containerOverrides={"command": ["a" * 8000]})
    world.batch.start(name)
    assert job(name)["status"] == "FAILED"
    assert job(name)["statusReason"] == "Container Overrides length must be at most 8192"


def test_an_image_that_is_missing_fails_only_at_the_start(
    world: aws.World, submit: Any, job: Any, definition: dict[str, Any]
) -> None:
    image = definition[CONTAINER]["image"].replace("demo/train", "demo/other")
    name = submit(register={CONTAINER: definition[CONTAINER] | {"image": image}})
    world.batch.start(name)
    assert job(name)["status"] == "FAILED"
    assert job(name)["container"]["reason"].startswith("CannotPullContainerError")


@pytest.mark.parametrize("wrong", ["elsewhere", "nobody"])
def test_a_role_that_ecs_may_not_assume_fails_only_at_the_start(
    world: aws.World, submit: Any, job: Any, definition: dict[str, Any], wrong: str
) -> None:
    arn = f"arn:aws:iam::{ACCOUNT}:role/{wrong}"
    name = submit(register={CONTAINER: definition[CONTAINER] | {"jobRoleArn": arn}})
    world.batch.start(name)
    assert job(name)["status"] == "FAILED"
    assert "unable to assume the role" in job(name)["attempts"][0]["statusReason"]


# Where it waits


@pytest.mark.parametrize(("kind", "value"), [("MEMORY", "32000"), ("VCPU", "9"), ("GPU", "1")])
def test_what_no_machine_of_the_queue_holds_waits_for_ever(
    world: aws.World, batch: Any, submit: Any, job: Any, kind: str, value: str
) -> None:
    places(world, f"demo-{kind}", ["m7i.2xlarge"])
    name = submit(
        f"demo-{kind}", containerOverrides={"resourceRequirements": [{"type": kind, "value": value}]}
    )
    with pytest.raises(AssertionError, match="JOB_RESOURCE_REQUIREMENT"):
        world.batch.start(name)
    assert "statusReason" not in job(name)
    world.pass_time(30 * 86400)
    assert job(name)["status"] == "RUNNABLE"
    assert job(name)["statusReason"].startswith("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - ")
    batch.terminate_job(jobId=name, reason="-")


def test_a_queue_ends_waiting_for_the_reason_that_it_names_and_for_no_other(
    world: aws.World, submit: Any, job: Any
) -> None:
    action = {
        "state": "RUNNABLE",
        "action": "CANCEL",
        "maxTimeSeconds": 600,
        "reason": "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
    }
    places(world, "demo-limited", ["m7i.2xlarge"], jobStateTimeLimitActions=[action])
    first, second = submit("demo-limited"), submit("demo-limited")
    world.batch.blocked["demo-limited"] = UNDETERMINED
    world.pass_time(7 * 86400)
    assert job(first)["statusReason"] == UNDETERMINED
    world.batch.job(first).to("RUNNABLE")
    world.batch.blocked["demo-limited"] = NO_CAPACITY
    world.pass_time(1200)
    assert (job(first)["status"], job(first)["isCancelled"]) == ("FAILED", True)
    assert job(first)["statusReason"] == (
        "Canceled by JobStateTimeLimit action due to reason: CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
    )
    # Only the head of a queue is looked at: the second had not waited yet.
    assert job(second)["status"] == "RUNNABLE"


def test_a_queue_whose_environment_is_off_says_so(
    world: aws.World, batch: Any, submit: Any, job: Any
) -> None:
    places(world, "demo-broken", ["m7i.2xlarge"])
    batch.update_compute_environment(computeEnvironment="demo-broken", state="DISABLED")
    world.pass_time(60)
    name = submit("demo-broken")
    world.pass_time(601)
    assert job(name)["statusReason"].startswith("ACTION_REQUIRED")


def test_machines_are_as_many_as_the_environment_and_the_quota_allow(
    world: aws.World, submit: Any, job: Any
) -> None:
    places(world, "demo-one", ["m7i.2xlarge"], maxvCpus=8)
    first, second = submit("demo-one"), submit("demo-one")
    world.batch.start(first)
    with pytest.raises(AssertionError, match="other jobs"):
        world.batch.start(second)
    world.batch.finish(first, 0)
    world.quotas.set("L-34B43A08", 5)
    with pytest.raises(AssertionError, match="UNDETERMINED"):
        world.batch.start(second)
    world.quotas.set("L-34B43A08", 1000)
    world.batch.start(second)


def test_a_new_account_has_no_vcpus_for_gpus(world: aws.World, submit: Any) -> None:
    gpu = [
        {"type": "GPU", "value": "1"},
        {"type": "VCPU", "value": "4"},
        {"type": "MEMORY", "value": "14000"},
    ]
    name = submit("demo-a10g-spot", containerOverrides={"resourceRequirements": gpu})
    world.quotas.set("L-3819A6DF", 0)
    with pytest.raises(AssertionError, match="UNDETERMINED"):
        world.batch.start(name)
    world.quotas.set("L-3819A6DF", 4)
    world.batch.start(name)
    assert world.batch.job(name).machine == "g5.xlarge"


# How it is found


def test_a_list_has_running_jobs_only_where_nothing_else_is_asked(
    world: aws.World, batch: Any, submit: Any
) -> None:
    places(world, "demo-list", ["m7i.2xlarge"], maxvCpus=1000)
    waiting, running = (submit("demo-list", f"listed-{number}") for number in range(2))
    world.batch.start(running)

    def listed(**asked: Any) -> list[str]:
        return [one["jobId"] for one in batch.list_jobs(jobQueue="demo-list", **asked)["jobSummaryList"]]

    assert listed() == [running]
    assert listed(jobStatus="SUBMITTED") == [waiting]
    by_name = {"name": "JOB_NAME", "values": ["LISTED-*"]}
    assert set(listed(filters=[by_name], jobStatus="FAILED")) == {waiting, running}
    assert listed(filters=[{"name": "JOB_NAME", "values": ["listed-1"]}]) == [running]
    assert listed(filters=[{"name": "JOB_NAME", "values": ["listed"]}]) == []
    assert len(listed(filters=[by_name], maxResults=1)) == 1
    for wrong in (
        {"filters": [by_name] * 2},
        {"filters": [{"name": "JOB", "values": ["a"]}]},
        {"maxResults": 101},
    ):
        with refused("ClientException"):
            listed(**wrong)
    with refused("ClientException", "jobQueue"):
        batch.list_jobs()


def test_what_has_ended_is_forgotten_after_a_day(world: aws.World, batch: Any, submit: Any, job: Any) -> None:
    name = submit(name="forgotten")
    world.batch.start(name)
    world.batch.finish(name, 0)
    world.pass_time(86399)
    assert job(name)["status"] == "SUCCEEDED"
    world.pass_time(1)
    assert batch.describe_jobs(jobs=[name])["jobs"] == []
    filters = [{"name": "JOB_NAME", "values": ["forgotten"]}]
    assert batch.list_jobs(jobQueue="demo-cpu-spot", filters=filters)["jobSummaryList"] == []
    with refused("ClientException", "does not exist"):
        batch.terminate_job(jobId=name, reason="-")


def test_at_most_a_hundred_jobs_are_described_at_once(batch: Any) -> None:
    with refused("ClientException"):
        batch.describe_jobs(jobs=["a"] * 101)


def test_a_jobs_tags_are_its_own_not_its_definitions(batch: Any, submit: Any, job: Any) -> None:
    name = submit(tags={"run": "1"}, propagateTags=True)
    assert job(name)["tags"] == {"run": "1"}
    batch.tag_resource(resourceArn=job(name)["jobArn"], tags={"run": "2"})
    assert batch.list_tags_for_resource(resourceArn=job(name)["jobArn"])["tags"] == {"run": "2"}
    batch.untag_resource(resourceArn=job(name)["jobArn"], tagKeys=["run"])
    assert job(name)["tags"] == {}


# Who may do it

QUEUES = f"arn:aws:batch:*:{ACCOUNT}:job-queue/demo-*"
MAY: dict[str, dict[str, Any]] = {
    "submit": {
        "Action": "batch:SubmitJob",
        "Resource": [
            QUEUES,
            f"arn:aws:batch:*:{ACCOUNT}:job-definition/demo*",
            f"arn:aws:batch:*:{ACCOUNT}:job/*",
        ],
    },
    "register": {
        "Action": "batch:RegisterJobDefinition",
        "Resource": f"arn:aws:batch:*:{ACCOUNT}:job-definition/demo*",
    },
    "tag": {"Action": "batch:TagResource", "Resource": f"arn:aws:batch:*:{ACCOUNT}:*"},
    "give": {
        "Action": "iam:PassRole",
        "Resource": TRAINER,
        "Condition": {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}},
    },
}


def launch(world: aws.World, name: str, may: list[Any], definition: dict[str, Any], queue: str) -> None:
    role(world, name, may=may)
    batch = client(world, "batch", world.people.session(name))
    arn = batch.register_job_definition(**definition)["jobDefinitionArn"]
    batch.submit_job(jobName="may", jobQueue=queue, jobDefinition=arn, tags={"project": "demo"})


def test_who_may_register_pass_tag_and_submit_launches(world: aws.World, definition: dict[str, Any]) -> None:
    launch(world, "all-rights", list(MAY.values()), definition, "demo-cpu-spot")


@pytest.mark.parametrize(
    ("without", "action"),
    [
        ("submit", "batch:SubmitJob"),
        ("register", "batch:RegisterJobDefinition"),
        ("tag", "batch:TagResource"),
        ("give", "iam:PassRole"),
    ],
)
def test_each_right_is_needed(
    world: aws.World, definition: dict[str, Any], without: str, action: str
) -> None:
    may = [one for name, one in MAY.items() if name != without]
    with refused("AccessDeniedException", action):
        launch(world, f"no-{without}", may, definition, "demo-cpu-spot")


def test_a_policy_goes_by_the_queue(world: aws.World, definition: dict[str, Any]) -> None:
    places(world, "other-queue", ["m7i.2xlarge"])
    with refused("AccessDeniedException", "batch:SubmitJob", "job-queue/other-queue"):
        launch(world, "by-queue", list(MAY.values()), definition, "other-queue")


def test_a_policy_goes_by_the_tags_of_the_queue(world: aws.World, definition: dict[str, Any]) -> None:
    tagged = {"StringEquals": {"aws:ResourceTag/project": "demo"}}
    queue = {"Action": "batch:SubmitJob", "Resource": QUEUES, "Condition": tagged}
    rest = {"Action": "batch:SubmitJob", "Resource": MAY["submit"]["Resource"][1:]}
    may = [queue, rest, *(one for name, one in MAY.items() if name != "submit")]
    for name in ("demo", "other"):
        places(world, f"demo-of-{name}", ["m7i.2xlarge"], tags={"project": name})
    launch(world, "by-tag", may, definition, "demo-of-demo")
    with refused("AccessDeniedException", "batch:SubmitJob", "job-queue/demo-of-other"):
        launch(world, "by-other-tag", may, definition, "demo-of-other")


@pytest.mark.parametrize(("region", "listed"), [("us-east-1", True), ("eu-west-1", False)])
def test_a_policy_goes_by_the_region(world: aws.World, region: str, listed: bool) -> None:
    here = {"StringEquals": {"aws:RequestedRegion": "us-east-1"}}
    role(world, f"in-{region}", may=[{"Action": "batch:DescribeJobs", "Resource": "*", "Condition": here}])
    batch = client(world, "batch", world.people.session(f"in-{region}"), region)
    if listed:
        assert batch.describe_jobs(jobs=["none"])["jobs"] == []
    else:
        with refused("AccessDeniedException", "batch:DescribeJobs"):
            batch.describe_jobs(jobs=["none"])


def test_a_policy_goes_by_a_jobs_tags(world: aws.World, submit: Any, job: Any) -> None:
    condition = {"StringEquals": {"aws:ResourceTag/project": "demo"}}
    role(world, "ender", may=[{"Action": "batch:TerminateJob", "Resource": "*", "Condition": condition}])
    batch = client(world, "batch", world.people.session("ender"))
    batch.terminate_job(jobId=submit(), reason="-")
    with refused("AccessDeniedException", "batch:TerminateJob"):
        batch.terminate_job(jobId=submit(tags={"project": "other"}), reason="-")
