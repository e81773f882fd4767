"""What AWS Batch is sent: of the published model, within what the service documents, and nothing that it would refuse."""

import re
from typing import Any

import pytest
from aws_batch_world import ACCOUNT, CPU, DIGEST, T4X4, cloud, job
from launcher import providers
from launcher.errors import UserError
from launcher.job import Machine
from launcher.money.prices import table
from launcher.providers.aws import batch, batch_machines, pricing
from launcher.settings import schema
from omegaconf import OmegaConf
from stage.aws import machines
from stage.aws.shapes import check, model

pytestmark = pytest.mark.cloud("aws")

ROWS = {row["machine"]: row for row in table(pricing.TABLE) if "batch" in row["backends"].split()}
MACHINES = [Machine(name, row["type"], row["gpu"] or None, int(row["gpus"])) for name, row in ROWS.items()]


def requests(settings: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    backend = batch.connect(cloud(project=ACCOUNT, **(settings or {})))
    backend._token = "abcdef"
    return backend.request(job(**changes))


def container(**changes: Any) -> dict[str, Any]:
    return requests(**changes)["RegisterJobDefinition"]["containerProperties"]


def test_a_request_is_exactly_what_the_service_documents():
    tags = {"project": "demo", "run": "run-1"}
    assert requests() == {
        "RegisterJobDefinition": {
            "jobDefinitionName": "demo-train",
            "type": "container",
            "platformCapabilities": ["EC2"],
            "containerProperties": {
                "image": f"123456789012.dkr.ecr.us-east-1.amazonaws.com/demo/train@{DIGEST}",
                "command": ["trainer.max_epochs=2", "run.id=run-1"],
                "jobRoleArn": "arn:aws:iam::123456789012:role/demo-trainer",
                "environment": [
                    {"name": "RUN_ID", "value": "run-1"},
                    {"name": "RUN_MAX_ATTEMPTS", "value": "3"},
                    {"name": "AWS_REGION", "value": "us-east-1"},
                    {"name": "AWS_DEFAULT_REGION", "value": "us-east-1"},
                ],
                "resourceRequirements": [
                    {"type": "VCPU", "value": "4"},
                    {"type": "MEMORY", "value": "14745"},
                    {"type": "GPU", "value": "1"},
                ],
                "linuxParameters": {"sharedMemorySize": 8192, "initProcessEnabled": True},
                "logConfiguration": {
                    "logDriver": "awslogs",
                    "options": {"awslogs-group": "/aws/batch/job"},
                },
            },
            "retryStrategy": {
                "attempts": 3,
                "evaluateOnExit": [
                    {"onStatusReason": "Host EC2*", "action": "RETRY"},
                    {"onExitCode": "75", "action": "RETRY"},
                    {"onExitCode": "143", "action": "RETRY"},
                    {"onStatusReason": "Task failed to start*", "action": "RETRY"},
                    {"onReason": "*", "action": "EXIT"},
                ],
            },
            "timeout": {"attemptDurationSeconds": 5400},
            "propagateTags": True,
            "tags": tags,
        },
        "SubmitJob": {
            "jobName": "demo-run-1-abcdef",
            "jobQueue": "demo-l4-spot",
            "jobDefinition": "demo-train",
            "propagateTags": True,
            "tags": tags,
        },
    }


@pytest.mark.parametrize("spot", [True, False])
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_every_request_is_of_the_model_that_aws_publishes_and_keeps_its_rules(machine, spot):
    sent = requests({"max_attempts": 50}, machine=machine, spot=spot, max_hours=0.001)
    for operation, parameters in sent.items():
        check(model("batch").operation_model(operation), parameters)
    obey(sent["RegisterJobDefinition"], sent["SubmitJob"])


def obey(definition: dict[str, Any], submission: dict[str, Any]) -> None:
    """The rules that are in the documentation and not in the model: it has no lengths, patterns or numbers."""
    word = r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}"
    assert re.fullmatch(word, definition["jobDefinitionName"])
    assert re.fullmatch(word, submission["jobName"])
    assert 1 <= definition["retryStrategy"]["attempts"] <= 10
    rules = definition["retryStrategy"]["evaluateOnExit"]
    assert len(rules) <= 5
    assert rules[-1] == {"onReason": "*", "action": "EXIT"}
    for rule in rules:
        for name, pattern in rule.items():
            allowed = {"onExitCode": r"[0-9]*\*?", "action": "RETRY|EXIT"}.get(name, r"[A-Za-z0-9.:\s]*\*?")
            assert re.fullmatch(allowed, pattern)
    assert definition["timeout"]["attemptDurationSeconds"] >= 60
    container = definition["containerProperties"]
    assert not {"vcpus", "memory", "networkConfiguration", "executionRoleArn"} & set(container)
    assert all(container["command"])
    assert not [each for each in container["environment"] if each["name"].startswith("AWS_BATCH")]
    assert len(definition["tags"]) + len(submission["tags"]) <= 50
    assert "containerOverrides" not in submission  # 8192 characters are too few


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_a_job_asks_for_its_whole_machine_and_for_no_more_than_that_has(machine):
    known = machines.types()[machine.type]
    asked = {each["type"]: int(each["value"]) for each in batch_machines.resources(machine)}
    assert asked["VCPU"] == known.vcpus
    assert asked.get("GPU", 0) == known.gpus == machine.gpus
    assert known.memory * 0.85 < asked["MEMORY"] <= known.registered
    assert batch_machines.shared_memory(machine) < asked["MEMORY"]


def test_a_machine_of_unknown_size_is_refused_before_it_waits_for_ever():
    with pytest.raises(UserError, match=r"How large x9\.large is"):
        requests(machine=Machine("x9", "x9.large"))


def test_shared_memory_grows_with_the_gpus():
    assert container(machine=T4X4)["linuxParameters"]["sharedMemorySize"] == 4 * 8192
    assert container(machine=CPU)["linuxParameters"]["sharedMemorySize"] == 8192


@pytest.mark.parametrize(("attempts", "starts"), [(1, 1), (10, 10), (50, 10)])
def test_a_job_is_started_as_often_as_was_allowed_and_the_service_can(attempts, starts):
    sent = requests({"max_attempts": attempts})
    assert sent["RegisterJobDefinition"]["retryStrategy"]["attempts"] == starts


@pytest.mark.parametrize(
    ("status", "reason", "code", "again"),
    [
        ("Host EC2 (instance i-0123) terminated.", "", None, True),
        ("Essential container in task exited", "", 75, True),
        ("Essential container in task exited", "", 143, True),
        ("Essential container in task exited", "", 1, False),
        ("Essential container in task exited", "", 124, False),
        ("Essential container in task exited", "OutOfMemoryError: Container killed", 137, False),
        ("Task failed to start", "CannotPullContainerError: timeout", None, True),
    ],
)
def test_what_is_tried_again(status, reason, code, again):
    """By the first rule of which every condition fits."""
    given = {"onStatusReason": status, "onReason": reason, "onExitCode": "" if code is None else str(code)}
    for rule in requests()["RegisterJobDefinition"]["retryStrategy"]["evaluateOnExit"]:
        conditions = {name: value for name, value in rule.items() if name != "action"}
        if all(_globs(given[name], pattern) for name, pattern in conditions.items()):
            assert (rule["action"] == "RETRY") == again
            return
    pytest.fail("no rule fits, and then it is tried again")


def _globs(text: str, pattern: str) -> bool:
    if pattern.endswith("*"):
        return text.lower().startswith(pattern[:-1].lower())
    return text.lower() == pattern.lower()


@pytest.mark.parametrize(("hours", "seconds"), [(2.0, 7200), (0.01, 60), (0.9999, 3600)])
def test_the_time_limit_is_in_whole_seconds_and_never_less_than_a_minute(hours, seconds):
    sent = requests(max_hours=hours)
    assert sent["RegisterJobDefinition"]["timeout"] == {"attemptDurationSeconds": seconds}


@pytest.mark.parametrize(
    ("run_id", "name"),
    [
        ("run-1", "demo-run-1-abcdef"),
        ("Run_1.b", "demo-Run_1-b-abcdef"),
        ("x" * 64, f"demo-{'x' * 64}-abcdef"),
    ],
)
def test_every_id_of_a_run_gives_a_name_that_the_service_takes(run_id, name):
    assert requests(run_id=run_id)["SubmitJob"]["jobName"] == name
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", name)


@pytest.mark.parametrize(("spot", "queue"), [(True, "demo-cpu-spot"), (False, "demo-cpu-demand")])
def test_the_queue_says_on_which_machine_and_at_what_price(spot, queue):
    assert requests(machine=CPU, spot=spot)["SubmitJob"]["jobQueue"] == queue


def test_a_role_may_be_named_in_full():
    arn = "arn:aws:iam::999999999999:role/other"
    found = requests({"service_account": arn})["RegisterJobDefinition"]
    assert found["containerProperties"]["jobRoleArn"] == arn


def test_secrets_are_named_and_never_given():
    found = container(secrets={"WANDB_API_KEY": "demo-wandb"})
    assert {"name": "RUN_SECRETS", "value": "WANDB_API_KEY=demo-wandb"} in found["environment"]
    assert "secrets" not in found


def test_a_variable_that_the_service_keeps_for_itself_is_refused():
    with pytest.raises(UserError, match="AWS_BATCH_X cannot be set"):
        requests(env={"AWS_BATCH_X": "1"})


def test_settings_that_are_too_long_are_refused_with_what_to_do():
    with pytest.raises(UserError, match=r"Batch takes 24576: put settings into a file"):
        requests(args=tuple(f"model.layers.{number}=100" for number in range(1500)))


def test_a_launch_has_its_own_name_until_it_is_made():
    backend = batch.connect(cloud(project=ACCOUNT))
    assert backend.request(job()) == backend.request(job())
    assert backend.request(job()) != batch.connect(cloud(project=ACCOUNT)).request(job())


def test_what_it_can_do_is_said_to_the_planning():
    assert providers.abilities("batch") == {"NOTEBOOKS"}
    assert batch.LIMIT_PER_ATTEMPT
    assert batch.RETRY_STATUS == 75


def test_its_settings_name_this_backend_and_machines_that_it_has(project_root):
    schema.register_resolver()
    settings = OmegaConf.merge(schema.CloudConfig, OmegaConf.load(project_root / "configs/cloud/batch.yaml"))
    assert settings.backend == "batch"
    assert settings.bucket.startswith("s3://")
    assert set(settings.machine) <= {machine.name for machine in MACHINES}
    assert settings.max_attempts <= 10
    backend = batch.connect(OmegaConf.merge(settings, {"project": ACCOUNT}))
    backend.check_names()
    assert requests()["SubmitJob"]["jobQueue"] == backend.request(job())["SubmitJob"]["jobQueue"]
