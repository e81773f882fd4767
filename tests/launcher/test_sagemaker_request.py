"""What is sent to SageMaker: held against botocore's own model of the service, and read by people in a dry run."""

import json
import subprocess
import sys
from typing import Any

import botocore.session
import pytest
from launcher.errors import UserError
from launcher.job import Machine
from launcher.providers.aws import auth, sagemaker_request
from sagemaker_jobs import IMAGE, L4, ROLE, backend, job, sweep
from stage.aws.errors import AwsError
from stage.aws.shapes import check, model

pytestmark = pytest.mark.cloud("aws")
TRAINING, TUNING = "CreateTrainingJob", "CreateHyperParameterTuningJob"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fits(request: dict[str, Any], operation: str = TRAINING) -> dict[str, Any]:
    """The request, which botocore's model must allow: what is required, names, enums, patterns, bounds."""
    check(model("sagemaker").operation_model(operation), request)
    return request


def request(**changes: Any) -> dict[str, Any]:
    return fits(backend().request(job(**changes)))


def test_a_request_is_exactly_what_the_service_documents():
    name = request().pop("TrainingJobName")
    assert name.startswith("run-1-")
    assert len(name) == len("run-1-") + 6
    assert request(machine=L4, nodes=2, secrets={"WANDB_API_KEY": "demo-wandb"}) == {
        "TrainingJobName": name,
        "RoleArn": ROLE,
        "AlgorithmSpecification": {
            "TrainingImage": IMAGE,
            "TrainingInputMode": "File",
            "ContainerArguments": ["trainer.max_epochs=2", "run.id=run-1"],
        },
        "OutputDataConfig": {
            "S3OutputPath": "s3://demo-bucket/runs/run-1/sagemaker",
            "CompressionType": "NONE",
        },
        "ResourceConfig": {"InstanceType": "ml.g6.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 100},
        "EnableManagedSpotTraining": True,
        "StoppingCondition": {"MaxRuntimeInSeconds": 5400, "MaxWaitTimeInSeconds": 5400 + 24 * 3600},
        "RetryStrategy": {"MaximumRetryAttempts": 4},
        "Environment": {
            "RUN_ID": "run-1",
            "RUN_DISK": "/tmp/run",
            "RUN_NODES": "2",
            "RUN_MAX_SECONDS": "5400",
            "RUN_MAX_ATTEMPTS": "5",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "RUN_SECRETS": "WANDB_API_KEY=demo-wandb",
        },
        "Tags": [
            {"Key": "project", "Value": "demo"},
            {"Key": "run", "Value": "run-1"},
            {"Key": "max-seconds", "Value": "5400"},
        ],
    }


def test_a_request_needs_neither_network_nor_login(monkeypatch):
    monkeypatch.setattr(auth, "call", lambda *a, **k: pytest.fail("asked"))
    monkeypatch.setattr(auth, "pages", lambda *a, **k: pytest.fail("asked"))
    for each in (job(), sweep(), job(args=("x" * 300,))):
        assert json.dumps(backend().request(each)) == json.dumps(backend().request(each))


@pytest.mark.parametrize(
    ("hours", "pending"), [(0.1, 1800), (24.0, 86400), (1000.0, 28 * 86400), (0.0, 1800)]
)
def test_on_demand_the_service_bounds_the_waiting(hours, pending):
    limits = fits(backend(max_wait_hours=hours).request(job(spot=False)))["StoppingCondition"]
    assert limits == {"MaxRuntimeInSeconds": 5400, "MaxPendingTimeInSeconds": pending}


def test_the_model_that_is_installed_knows_all_that_is_sent():
    members = model("sagemaker").shape_for("StoppingCondition").members
    assert {"MaxRuntimeInSeconds", "MaxWaitTimeInSeconds", "MaxPendingTimeInSeconds"} <= set(members)
    loader = botocore.session.get_session().get_component("data_loader")
    assert "sagemaker" in loader.list_available_services("service-2")


def test_time_is_rounded_up_to_whole_seconds():
    assert request(max_hours=1 / 3)["StoppingCondition"]["MaxRuntimeInSeconds"] == 1200
    assert request(max_hours=0.35001)["StoppingCondition"]["MaxRuntimeInSeconds"] == 1261


@pytest.mark.parametrize(("attempts", "retries"), [(1, None), (2, 1), (99, 30)])
def test_the_services_own_failures_are_tried_again_as_often_as_the_run_may_start(attempts, retries):
    found = fits(backend(max_attempts=attempts).request(job())).get("RetryStrategy")
    assert (found or {}).get("MaximumRetryAttempts") == retries


@pytest.mark.parametrize(
    ("run_id", "stem"),
    [
        ("20261128-101500-abcdef0-wxyz", "20261128-101500-abcdef0-wxyz"),
        ("Try_1.b--c", "try-1-b-c"),
        ("a" * 64, "a" * 56),
        ("a" * 55 + "-" + "b" * 8, "a" * 55),
        ("1-", "1"),
    ],
)
def test_names_are_in_the_services_alphabet_and_length(run_id, stem):
    name = request(run_id=run_id)["TrainingJobName"]
    assert name[:-7] == stem
    tuned = fits(backend().request(sweep(run_id=run_id)), TUNING)["HyperParameterTuningJobName"]
    assert tuned[:-7] == stem[:25].rstrip("-")


@pytest.mark.parametrize(
    ("args", "travels"),
    [
        (("a=1",) * 100, False),
        (("a=1",) * 101, True),
        (("a=" + "x" * 254,), False),
        (("a=" + "x" * 255,), True),
        (("a='1\n2'",), True),  # the model's patterns have no line ends
        ((f"restore.from={COMMIT}",), True),  # looks like a key of AWS
    ],
)
def test_arguments_that_a_request_does_not_take_travel_by_the_bucket(args, travels):
    found = request(args=args)
    given = found["AlgorithmSpecification"].get("ContainerArguments")
    assert given == (None if travels else list(args))
    uri = "s3://demo-bucket/runs/run-1/arguments.json"
    assert found["Environment"].get("RUN_MORE") == (uri if travels else None)


def handed(**changes: Any) -> Any:
    return backend()._hand(job(**changes))


def test_variables_that_a_request_does_not_take_travel_by_the_bucket():
    env = {"LONG": "x" * 513, "FITS": "x" * 512, "RUN_COMMIT": COMMIT, "KEY": "AKIAIOSFODNN7EXAMPLE"}
    found = request(env=env)
    assert found["Environment"]["FITS"] == env.pop("FITS")
    assert not set(env) & set(found["Environment"])
    assert found["AlgorithmSpecification"]["ContainerArguments"] == ["trainer.max_epochs=2", "run.id=run-1"]
    assert json.loads(handed(env=env).more) == {"args": None, "env": env}


@pytest.mark.parametrize("of", [job, sweep])
def test_no_number_of_variables_is_too_many(of):
    many = {f"V{number}": str(number) for number in range(120)}
    wanted, operation = of(env=many), TUNING if of is sweep else TRAINING
    found = fits(backend().request(wanted), operation)
    sent = found.get("TrainingJobDefinition", found)["Environment"]
    more = json.loads(backend()._hand(wanted).more)["env"]
    assert {name: value for name, value in {**sent, **more}.items() if name in many} == many
    assert sent["RUN_ID"] == "run-1"


def test_what_is_no_key_stays_readable():
    digests = {"RUN_IMAGE": IMAGE, "RUN_OUTPUT": "s3://demo-bucket/runs/20261128-101500-abcdef0-wxyz"}
    assert handed(env=digests).more == ""


def test_without_a_bucket_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"too long or too many; give cloud\.bucket"):
        backend().request(job(output=None, args=("a" * 300,)))


@pytest.mark.parametrize(
    ("path", "value"),
    [("TrainingJobName", "a" * 64), ("Nodes", 2), ("EnableManagedSpotTraining", "yes"), ("RoleArn", "me")],
)
def test_the_check_of_this_file_refuses_what_is_wrong(path, value):
    with pytest.raises(AwsError):
        fits({**request(), path: value})


def test_every_machine_of_the_price_table_is_one_of_the_services():
    from launcher.money.prices import machines, price

    types = model("sagemaker").shape_for("TrainingInstanceType").enum
    for name in machines("sagemaker"):
        machine: Machine = price("sagemaker", name, "us-east-1").machine
        assert f"ml.{machine.type}" in types


def test_a_dry_run_prints_what_the_service_takes(project):
    words = ["cloud=sagemaker", "dry_run=true", "cloud.project=123456789012", "cloud.machine=l4"]
    program = [sys.executable, "-m", "launcher.commands.launch", *words]
    done = subprocess.run(program, check=False, capture_output=True, text=True, cwd=project)
    assert done.returncode == 0, done.stderr
    found = fits(json.loads(done.stdout))
    assert found["ResourceConfig"]["InstanceType"] == "ml.g6.xlarge"
    assert found["RoleArn"].endswith(":role/demo-trainer")
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/demo/train:main"
    assert found["AlgorithmSpecification"]["TrainingImage"] == image


def test_a_dry_run_of_a_sweep_prints_what_the_service_takes(project):
    words = ["sweep=lr", "cloud=sagemaker", "dry_run=true", "cloud.project=123456789012", "cloud.machine=cpu"]
    program = [sys.executable, "-m", "launcher.commands.launch", *words, "cloud.max_cost_usd=100"]
    done = subprocess.run(program, check=False, capture_output=True, text=True, cwd=project)
    assert done.returncode == 0, done.stderr
    found = fits(json.loads(done.stdout), TUNING)
    [range_] = found["HyperParameterTuningJobConfig"]["ParameterRanges"]["ContinuousParameterRanges"]
    assert (range_["Name"], range_["ScalingType"]) == ("optimizer.lr", "Logarithmic")


def test_the_shown_name_is_the_same_for_the_same_job_and_another_for_another():
    assert sagemaker_request.token(job()) == sagemaker_request.token(job())
    assert sagemaker_request.token(job()) != sagemaker_request.token(job(args=("a=1",)))
