"""What an account has already, before a stack is made in it: asked, and changed only where a sentence says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ....errors import UserError
from ....project import Project
from ...errors import MissingError, RefusedError, ServiceError
from ...steps import Steps
from .. import auth as aws

ISSUER = "token.actions.githubusercontent.com"
# Each is made by the first use of its service, where the user may; Batch makes that of spot for nobody
# (docs.aws.amazon.com/batch/latest/userguide/spot-fleet-roles-cli.html), and two dozen environments at once would race.
SERVICES = ("batch.amazonaws.com", "spot.amazonaws.com")
LOGS = {"BatchLog": "/aws/batch/job", "TrainingLog": "/aws/sagemaker/TrainingJobs"}
PUBLIC = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


@dataclass(frozen=True)
class Network:
    """Where machines of Batch are."""

    vpc: str
    subnets: tuple[str, ...]


def find_network(region: str) -> Network:
    """Give the default network and its subnets, whose machines have an address to reach the registry from.

    Raises:
        UserError: there is none.
    """
    mine = [{"Name": "is-default", "Values": ["true"]}]
    found = aws.call("ec2", "describe_vpcs", region, Filters=mine)["Vpcs"]
    if not found:
        raise UserError(
            f"There is no default VPC in {region}, where the machines of Batch would be: make one with "
            f"`aws ec2 create-default-vpc --region {region}` (or in the console: VPC > Actions > Create default VPC), and run this again."
        )
    vpc = found[0]["VpcId"]
    inside = [{"Name": "vpc-id", "Values": [vpc]}]
    subnets = [
        each["SubnetId"]
        for each in aws.pages("ec2", "describe_subnets", "Subnets", region, Filters=inside)
        if each.get("DefaultForAz") and each.get("MapPublicIpOnLaunch")
    ]
    if not subnets:
        raise UserError(
            f"The default VPC {vpc} in {region} has no default subnet that gives machines a public address, and they need one to "
            f"reach the registry: make one with `aws ec2 create-default-subnet --region {region} --availability-zone {region}a`, and run this again."
        )
    return Network(vpc, tuple(sorted(subnets)))


def offered(types: list[str], region: str) -> set[str]:
    """Give those of some machine types that EC2 has in a region: an environment with another cannot be made."""
    only = [{"Name": "instance-type", "Values": types}]
    operation = "describe_instance_type_offerings"
    found = aws.pages("ec2", operation, "InstanceTypeOfferings", region, Filters=only)
    return {each["InstanceType"] for each in found}


def find_bucket(project: Project, account: str) -> bool:
    """Tell whether the bucket is there. The names of buckets are the whole world's, and a bucket cannot be moved.

    Raises:
        UserError: it is somebody else's, or elsewhere.
    """
    rename = "choose another name in pyproject.toml ([tool.launcher]) and .dvc/config."
    name, region = project.bucket, project.region
    try:
        found = aws.call("s3", "head_bucket", region, Bucket=name, ExpectedBucketOwner=account)
    except MissingError:
        return False
    except RefusedError as error:
        raise UserError(f"The bucket s3://{name} belongs to somebody else: {rename}") from error
    headers = found["ResponseMetadata"].get("HTTPHeaders", {})
    where = headers.get("x-amz-bucket-region") or found.get("BucketRegion") or region
    if where != region:
        raise UserError(
            f"The bucket s3://{name} is in {where} and not in {region}, where the jobs are, so every byte would be paid for: {rename}"
        )
    return True


def is_ours(project: Project) -> bool:
    """Tell by the bucket's tag whether a stack of this project made it, be it an earlier one."""
    try:
        tags = aws.call("s3", "get_bucket_tagging", project.region, Bucket=project.bucket)["TagSet"]
    except ServiceError as error:
        if error.code not in ("NoSuchTagSet", "NoSuchTagSetError"):
            raise
        return False
    return {"Key": "project", "Value": project.slug} in tags


def is_open(project: Project) -> bool:
    """Tell whether a bucket that was there before may be, or become, public."""
    try:
        found = aws.call("s3", "get_public_access_block", project.region, Bucket=project.bucket)
    except ServiceError as error:
        if error.code != "NoSuchPublicAccessBlockConfiguration":
            raise
        return True
    return not all(found["PublicAccessBlockConfiguration"].get(each) for each in PUBLIC)


def provider_arn(account: str) -> str:
    """Name the account's identity provider for GitHub."""
    return f"arn:aws:iam::{account}:oidc-provider/{ISSUER}"


def find_provider(account: str) -> dict[str, Any] | None:
    """Give the account's identity provider for GitHub; None where there is none."""
    try:
        return aws.call(
            "iam", "get_open_id_connect_provider", OpenIDConnectProviderArn=provider_arn(account)
        )
    except MissingError:
        return None


def check_provider(found: dict[str, Any] | None) -> None:
    """Refuse a provider that takes no token made for AWS, as those for other clients do.

    Raises:
        UserError: saying what it lacks.
    """
    if found and "sts.amazonaws.com" not in found.get("ClientIDList", ()):
        raise UserError(
            f"The account's identity provider {ISSUER} does not know the audience sts.amazonaws.com: add it in the console "
            "(IAM > Identity providers > Actions > Add audience), and run this again."
        )


def has_log(name: str, region: str) -> bool:
    """Tell whether there is a log group."""
    found = aws.pages("logs", "describe_log_groups", "logGroups", region, logGroupNamePrefix=name)
    return any(each["logGroupName"] == name for each in found)


def find_secret(name: str, region: str) -> dict[str, Any] | None:
    """Give what is known of a secret but its value; None where there is none."""
    try:
        return aws.call("secretsmanager", "describe_secret", region, SecretId=name)
    except MissingError:
        return None


def make_service_roles(steps: Steps) -> None:
    """Make the services' own roles, which an account has once; they cost nothing and are not removed."""
    prefix = "/aws-service-role/"
    known = () if steps.dry else aws.pages("iam", "list_roles", "Roles", PathPrefix=prefix)
    there = {role["Path"] for role in known}
    for service in SERVICES:
        if steps.dry:
            steps.show("iam", "create_service_linked_role", f"AWSServiceName={service}")
        elif f"{prefix}{service}/" not in there:
            aws.call("iam", "create_service_linked_role", AWSServiceName=service)
            steps.changes += 1
    steps.say("services", "the roles of Batch and of spot machines")
