"""The stand-in's compute environments and job queues, made by its API and by CloudFormation."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from stage import aws
from stage.aws.bench import client, places, refused, role
from stage.aws.people import ACCOUNT
from stage.one_field import REMOVED, with_field


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[aws.World]:
    with aws.serve(tmp_path_factory.mktemp("aws")) as world:
        places(world, "usual", ["m7i.2xlarge"])
        yield world


@pytest.fixture(scope="module")
def batch(world: aws.World) -> Any:
    return client(world, "batch")


@pytest.fixture
def environment(batch: Any) -> dict[str, Any]:
    """A request that is in order."""
    known = batch.describe_compute_environments(computeEnvironments=["usual"])["computeEnvironments"][0]
    return {
        "computeEnvironmentName": "tried",
        "type": "MANAGED",
        "computeResources": known["computeResources"]
        | {"ec2Configuration": [{"imageType": "ECS_AL2023_NVIDIA"}]},
    }


RESOURCES = "computeResources"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("computeEnvironmentName", "a.b", "valid pattern"),
        ("computeEnvironmentName", "usual", "already exists"),
        ("type", "Managed", "enum value set"),
        (RESOURCES, REMOVED, "computeResources"),
        (f"{RESOURCES}.type", REMOVED, "null"),
        (f"{RESOURCES}.instanceTypes", REMOVED, "instanceTypes"),
        (f"{RESOURCES}.instanceTypes", ["g99.xlarge"], "g99.xlarge is not supported"),
        (f"{RESOURCES}.subnets", [], "subnets"),
        (f"{RESOURCES}.securityGroupIds", REMOVED, "securityGroupIds"),
        (f"{RESOURCES}.instanceRole", REMOVED, "instanceRole"),
        (f"{RESOURCES}.maxvCpus", 0, "maxvCpus"),
        (f"{RESOURCES}.minvCpus", 17, "minvCpus"),
        (f"{RESOURCES}.bidPercentage", 0, "bidPercentage"),
        (f"{RESOURCES}.bidPercentage", 101, "bidPercentage"),
        (f"{RESOURCES}.type", "EC2", "for SPOT only"),
        (f"{RESOURCES}.allocationStrategy", REMOVED, "spotIamFleetRole"),
        (f"{RESOURCES}.ec2Configuration.0.imageType", "ECS_AL2_NVIDIA", "not supported"),
        (f"{RESOURCES}.launchTemplate", {"version": "1"}, "launch template"),
        ("serviceRole", "arn:aws:iam::123456789012:role/nobody", "batch.amazonaws.com"),
    ],
)
def test_an_environment_with_one_bad_field_is_refused(
    batch: Any, environment: dict[str, Any], path: str, value: Any, words: str
) -> None:
    request = environment if path != "serviceRole" else environment | {"serviceRole": ""}
    with refused("ClientException", words):
        batch.create_compute_environment(**with_field(request, path, value))


def test_a_machine_that_the_region_has_not_is_refused(world: aws.World, environment: dict[str, Any]) -> None:
    request = with_field(environment, f"{RESOURCES}.instanceTypes", ["p5.4xlarge"])
    with refused("ClientException", "p5.4xlarge is not supported in eu-west-1"):
        client(world, "batch", region="eu-west-1").create_compute_environment(**request)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("instanceRole", "arn:aws:iam::123456789012:role/machine", "Invalid IamInstanceProfile: machine"),
        ("subnets", ["subnet-1"], "subnet-1"),
        ("securityGroupIds", ["sg-1"], "sg-1"),
        ("launchTemplate", {"launchTemplateName": "nothing"}, "nothing"),
    ],
)
def test_what_ec2_would_refuse_makes_an_environment_invalid_later(
    world: aws.World, batch: Any, environment: dict[str, Any], path: str, value: Any, words: str
) -> None:
    name = f"invalid-{path}"
    request = with_field(
        environment | {"computeEnvironmentName": name}, f"{RESOURCES}.instanceTypes", ["m7i.2xlarge"]
    )
    if path == "instanceRole" and value.endswith("machine"):
        value = value.replace("role/machine", "role/machine")
        role(world, "no-profile", "ec2.amazonaws.com")
        value, words = value.replace("machine", "no-profile"), words.replace("machine", "no-profile")
    request[RESOURCES][path] = value
    batch.create_compute_environment(**request)

    def said() -> dict[str, Any]:
        return batch.describe_compute_environments(computeEnvironments=[name])["computeEnvironments"][0]

    assert said()["status"] == "CREATING"
    world.pass_time(60)
    assert said()["status"] == "INVALID"
    assert said()["statusReason"].startswith("CLIENT_ERROR - ")
    assert words in said()["statusReason"]
    order = [{"order": 1, "computeEnvironment": name}]
    with refused("ClientException", "not valid"):
        batch.create_job_queue(jobQueueName=name, priority=1, computeEnvironmentOrder=order)


def test_the_services_own_role_is_made_with_its_name(world: aws.World) -> None:
    found = client(world, "iam").get_role(RoleName="AWSServiceRoleForBatch")["Role"]
    assert found["Path"] == "/aws-service-role/batch.amazonaws.com/"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"jobQueueName": "a.b"}, "valid pattern"),
        ({"jobQueueName": "usual"}, "already exists"),
        ({"priority": -1}, "priority"),
        ({"computeEnvironmentOrder": []}, "computeEnvironmentOrder"),
        ({"computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "nothing"}]}, "does not exist"),
        ({"jobStateTimeLimitActions": {"maxTimeSeconds": 599}}, "maxTimeSeconds"),
        ({"jobStateTimeLimitActions": {"maxTimeSeconds": 86401}}, "maxTimeSeconds"),
        ({"jobStateTimeLimitActions": {"action": "TERMINATE"}}, "CANCEL"),
        ({"jobStateTimeLimitActions": {"state": "RUNNING"}}, "enum value set"),
        ({"jobStateTimeLimitActions": {"reason": "no machine"}}, "reason must be one of"),
    ],
)
def test_a_queue_with_one_bad_field_is_refused(batch: Any, changes: dict[str, Any], words: str) -> None:
    action = {"state": "RUNNABLE", "action": "CANCEL", "maxTimeSeconds": 600}
    action["reason"] = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
    if "jobStateTimeLimitActions" in changes:
        changes = {"jobStateTimeLimitActions": [action | changes["jobStateTimeLimitActions"]]}
    request = {
        "jobQueueName": "tried",
        "priority": 1,
        "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "usual"}],
    }
    with refused("ClientException", words):
        batch.create_job_queue(**request | changes)


def test_both_are_switched_off_before_they_are_deleted_and_the_queue_first(
    world: aws.World, batch: Any
) -> None:
    places(world, "leaving", ["m7i.2xlarge"])
    with refused("ClientException", "JobQueue relationship"):
        batch.delete_compute_environment(computeEnvironment="leaving")
    with refused("ClientException", "DISABLED"):
        batch.delete_job_queue(jobQueue="leaving")
    batch.update_job_queue(jobQueue="leaving", state="DISABLED")
    batch.delete_job_queue(jobQueue="leaving")
    with refused("ClientException", "DISABLED"):
        batch.delete_compute_environment(computeEnvironment="leaving")
    batch.update_compute_environment(computeEnvironment="leaving", state="DISABLED")
    with refused("ClientException", "being modified"):
        batch.delete_compute_environment(computeEnvironment="leaving")
    world.pass_time(60)
    batch.delete_compute_environment(computeEnvironment="leaving")
    assert batch.describe_job_queues(jobQueues=["leaving"])["jobQueues"] == []
    assert batch.describe_compute_environments(computeEnvironments=["leaving"])["computeEnvironments"] == []


def test_who_makes_an_environment_passes_its_roles(world: aws.World, environment: dict[str, Any]) -> None:
    making = {"Action": ["batch:CreateComputeEnvironment", "batch:TagResource"], "Resource": "*"}
    role(world, "maker", may=[making])
    batch = client(world, "batch", world.people.session("maker"))
    request = with_field(environment, f"{RESOURCES}.instanceTypes", ["m7i.2xlarge"])
    with refused("AccessDeniedException", "iam:PassRole", "role/machine"):
        batch.create_compute_environment(**request)


# By CloudFormation


@pytest.fixture(scope="module")
def template(world: aws.World) -> dict[str, Any]:
    ec2 = client(world, "ec2")
    group = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["default"]}])
    return {
        "Resources": {
            "Machine": {
                "Type": "AWS::IAM::Role",
                "Properties": {
                    "RoleName": "stack-machine",
                    "ManagedPolicyArns": [
                        "arn:aws:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"
                    ],
                    "AssumeRolePolicyDocument": {
                        "Version": "2012-10-17",
                        "Statement": [
                            {
                                "Effect": "Allow",
                                "Principal": {"Service": "ec2.amazonaws.com"},
                                "Action": "sts:AssumeRole",
                            }
                        ],
                    },
                },
            },
            "Profile": {
                "Type": "AWS::IAM::InstanceProfile",
                "Properties": {"InstanceProfileName": "stack-machine", "Roles": [{"Ref": "Machine"}]},
            },
            "Environment": {
                "Type": "AWS::Batch::ComputeEnvironment",
                "Properties": {
                    "ComputeEnvironmentName": "stack-g5",
                    "Type": "MANAGED",
                    "State": "ENABLED",
                    "ReplaceComputeEnvironment": False,
                    "ComputeResources": {
                        "Type": "SPOT",
                        "AllocationStrategy": "SPOT_PRICE_CAPACITY_OPTIMIZED",
                        "BidPercentage": 70,
                        "MinvCpus": 0,
                        "MaxvCpus": 16,
                        "InstanceTypes": ["g5.xlarge"],
                        "Subnets": [one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]],
                        "SecurityGroupIds": [group["SecurityGroups"][0]["GroupId"]],
                        "InstanceRole": {"Fn::GetAtt": ["Profile", "Arn"]},
                        "Ec2Configuration": [{"ImageType": "ECS_AL2023_NVIDIA"}],
                        "Tags": {"Project": "demo"},
                    },
                    "Tags": {"Project": "demo"},
                },
            },
            "Queue": {
                "Type": "AWS::Batch::JobQueue",
                "Properties": {
                    "JobQueueName": "stack-g5",
                    "Priority": 1,
                    "ComputeEnvironmentOrder": [{"Order": 1, "ComputeEnvironment": {"Ref": "Environment"}}],
                    "JobStateTimeLimitActions": [
                        {
                            "State": "RUNNABLE",
                            "Action": "CANCEL",
                            "MaxTimeSeconds": 3600,
                            "Reason": "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
                        }
                    ],
                    "Tags": {"Project": "demo"},
                },
            },
        }
    }


def without_name(template: dict[str, Any]) -> None:
    del template["Resources"]["Environment"]["Properties"]["ComputeEnvironmentName"]


def test_a_stack_makes_changes_and_removes_both(
    world: aws.World, batch: Any, template: dict[str, Any]
) -> None:
    formation = client(world, "cloudformation")
    asked = {"StackName": "demo", "Capabilities": ["CAPABILITY_NAMED_IAM"]}
    formation.create_stack(**asked, TemplateBody=json.dumps(template))
    environment = batch.describe_compute_environments(computeEnvironments=["stack-g5"])[
        "computeEnvironments"
    ][0]
    assert (environment["status"], environment["tags"]) == ("VALID", {"Project": "demo"})
    assert environment["computeResources"]["ec2Configuration"] == [{"imageType": "ECS_AL2023_NVIDIA"}]
    assert environment["computeResources"]["tags"] == {"Project": "demo"}
    queue = batch.describe_job_queues(jobQueues=["stack-g5"])["jobQueues"][0]
    assert queue["computeEnvironmentOrder"][0]["computeEnvironment"] == environment["computeEnvironmentArn"]
    assert queue["jobStateTimeLimitActions"][0]["maxTimeSeconds"] == 3600

    changed = copy.deepcopy(template)
    changed["Resources"]["Environment"]["Properties"]["ComputeResources"]["BidPercentage"] = 60
    changed["Resources"]["Queue"]["Properties"]["Priority"] = 2
    formation.update_stack(**asked, TemplateBody=json.dumps(changed))
    environment = batch.describe_compute_environments(computeEnvironments=["stack-g5"])[
        "computeEnvironments"
    ][0]
    assert environment["computeResources"]["bidPercentage"] == 60
    assert batch.describe_job_queues(jobQueues=["stack-g5"])["jobQueues"][0]["priority"] == 2

    formation.delete_stack(StackName="demo")
    assert batch.describe_job_queues(jobQueues=["stack-g5"])["jobQueues"] == []
    assert batch.describe_compute_environments(computeEnvironments=["stack-g5"])["computeEnvironments"] == []


@pytest.mark.parametrize(
    ("replace", "name", "value"),
    [
        (False, "Tags", {"Project": "other"}),  # whatever is said of replacing
        (True, "BidPercentage", 60),
        (None, "BidPercentage", 60),  # it is the usual
    ],
)
def test_a_named_environment_cannot_be_replaced(
    world: aws.World, template: dict[str, Any], replace: bool | None, name: str, value: Any
) -> None:
    formation, stack = client(world, "cloudformation"), f"replaced-{name.lower()}-{replace}".lower()
    first = json.loads(json.dumps(template).replace("stack-", f"{stack}-"))
    properties = first["Resources"]["Environment"]["Properties"]
    properties["ReplaceComputeEnvironment"] = replace
    if replace is None:
        del properties["ReplaceComputeEnvironment"]
    asked = {"StackName": stack, "Capabilities": ["CAPABILITY_NAMED_IAM"]}
    formation.create_stack(**asked, TemplateBody=json.dumps(first))
    changed = copy.deepcopy(first)
    properties = changed["Resources"]["Environment"]["Properties"]
    (properties if name == "Tags" else properties["ComputeResources"])[name] = value
    with refused("ValidationError", "custom-named resource requires replacing"):
        formation.update_stack(**asked, TemplateBody=json.dumps(changed))
    formation.delete_stack(StackName=stack)


def test_a_stack_whose_environment_is_invalid_fails(world: aws.World, template: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(template).replace("stack-", "wrong-"))
    resources = changed["Resources"]["Environment"]["Properties"]["ComputeResources"]
    resources["InstanceRole"] = f"arn:aws:iam::{ACCOUNT}:instance-profile/nothing"
    with refused("ValidationError", "went INVALID with error: CLIENT_ERROR - Invalid IamInstanceProfile"):
        client(world, "cloudformation").create_stack(StackName="wrong", TemplateBody=json.dumps(changed))
