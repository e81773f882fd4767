"""What tests of the stand-ins share: clients, roles, and requests that are in order."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from stage.aws.people import ACCOUNT, Session
from stage.aws.world import World

TRAINER = f"arn:aws:iam::{ACCOUNT}:role/demo-trainer"


def client(world: World, service: str, session: Session | None = None, region: str = "") -> Any:
    """A client of a service, of the administrator or of a role's session; it sends nothing twice."""
    keys = session or world.people.admin
    return boto3.client(
        service,
        region_name=region or world.region,
        endpoint_url=world.url,
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret,
        aws_session_token=keys.token or None,
        config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
    )


def policy(*statements: dict[str, Any]) -> str:
    """A policy of statements, which allow where they do not say what they do."""
    return json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow"} | one for one in statements]}
    )


def role(world: World, name: str, *services: str, may: list[dict[str, Any]] | None = None) -> str:
    """Makes a role that services may assume, with an inline policy; gives its ARN."""
    trust = policy({"Principal": {"Service": list(services)}, "Action": "sts:AssumeRole"})
    iam = client(world, "iam")
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    if may:
        iam.put_role_policy(RoleName=name, PolicyName="may", PolicyDocument=policy(*may))
    return arn


@contextmanager
def refused(code: str, *words: str) -> Iterator[None]:
    """Whether a call is refused with a code and a message that has these words."""
    with pytest.raises(ClientError) as refusal:
        yield
    error = refusal.value.response["Error"]  # type: ignore[typeddict-item]
    assert error["Code"] == code
    for word in words:
        assert word in error["Message"]


def training(image: str, name: str = "demo-1", **changes: Any) -> dict[str, Any]:
    """A training job's request on a machine without a GPU, on demand."""
    request: dict[str, Any] = {
        "TrainingJobName": name,
        "RoleArn": TRAINER,
        "AlgorithmSpecification": {
            "TrainingImage": image,
            "TrainingInputMode": "File",
            "ContainerArguments": ["experiment=shapes_unet"],
        },
        "OutputDataConfig": {"S3OutputPath": "s3://demo/runs/1/sagemaker", "CompressionType": "NONE"},
        "ResourceConfig": {"InstanceType": "ml.m7i.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 100},
        "StoppingCondition": {"MaxRuntimeInSeconds": 7200},
        "Environment": {"RUN_ID": "1"},
        "Tags": [{"Key": "project", "Value": "demo"}, {"Key": "run", "Value": "1"}],
    }
    return {key: value for key, value in (request | changes).items() if value is not None}


SPOT: dict[str, Any] = {
    "EnableManagedSpotTraining": True,
    "StoppingCondition": {"MaxRuntimeInSeconds": 7200, "MaxWaitTimeInSeconds": 36000},
}


def places(world: World, name: str, machines: list[str], maxvCpus: int = 16, **queue: Any) -> None:  # noqa: N803
    """Makes a compute environment on spot, and a queue, both of this name."""
    iam, ec2, batch = (client(world, service) for service in ("iam", "ec2", "batch"))
    if "machine" not in {
        one["InstanceProfileName"] for one in iam.list_instance_profiles()["InstanceProfiles"]
    }:
        role(world, "machine", "ec2.amazonaws.com")
        iam.create_instance_profile(InstanceProfileName="machine")
        iam.add_role_to_instance_profile(InstanceProfileName="machine", RoleName="machine")
    group = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["default"]}])
    batch.create_compute_environment(
        computeEnvironmentName=name,
        type="MANAGED",
        computeResources={
            "type": "SPOT",
            "allocationStrategy": "SPOT_PRICE_CAPACITY_OPTIMIZED",
            "bidPercentage": 70,
            "minvCpus": 0,
            "maxvCpus": maxvCpus,
            "instanceTypes": machines,
            "subnets": [one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]],
            "securityGroupIds": [group["SecurityGroups"][0]["GroupId"]],
            "instanceRole": f"arn:aws:iam::{ACCOUNT}:instance-profile/machine",
        },
        tags={"project": "demo"},
    )
    world.pass_time(60)
    order = [{"order": 1, "computeEnvironment": name}]
    batch.create_job_queue(jobQueueName=name, priority=1, computeEnvironmentOrder=order, **queue)
