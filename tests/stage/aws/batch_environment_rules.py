"""What AWS Batch refuses of a compute environment at once, and what makes one INVALID afterwards.

https://docs.aws.amazon.com/batch/latest/APIReference/API_ComputeResource.html, API_Ec2Configuration.html.
"""

from collections.abc import Mapping
from typing import Any

from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends

from stage.aws.batch_rules import refusal
from stage.aws.errors import AwsError
from stage.aws.machines import offered, types
from stage.aws.people import ACCOUNT, role_of, trusts
from stage.aws.server import Call

IMAGES = ("ECS_AL2023", "ECS_AL2023_NVIDIA")
LINKED = "AWSServiceRoleForBatch"
SPOT = ("SPOT_CAPACITY_OPTIMIZED", "SPOT_PRICE_CAPACITY_OPTIMIZED", "SPOT_CAPACITY_OPTIMIZED_PRIORITIZED")


def check_environment(given: Mapping[str, Any], region: str) -> None:
    """Refuses what cannot be made."""
    where = given.get("computeResources")
    if given["type"] != "MANAGED" or (where and where["type"] not in ("EC2", "SPOT")):
        raise AwsError("NotImplemented", "Managed environments of EC2 only are part of the stand-in.", 501)
    if not where:
        raise refusal("computeResources must be specified for a MANAGED compute environment")
    for name in ("instanceTypes", "subnets", "instanceRole"):
        if not where.get(name):
            raise refusal(f"computeResources.{name} is required")
    if not where.get("securityGroupIds") and "launchTemplate" not in where:
        raise refusal("computeResources.securityGroupIds is required")
    least, most = where.get("minvCpus", 0), where["maxvCpus"]
    if not 0 <= least <= most or most < 1 or not least <= where.get("desiredvCpus", least) <= most:
        raise refusal("minvCpus <= desiredvCpus <= maxvCpus does not hold")
    for name in where["instanceTypes"]:
        families = {one.partition(".")[0] for one in offered(region)}
        if name != "optimal" and name not in offered(region) and name not in families:
            raise refusal(f"Instance type {name} is not supported in {region}")
    _check_tier(where)
    for one in where.get("ec2Configuration", []):
        if one["imageType"] not in IMAGES:
            # Amazon Linux 2 ends: refused for new environments since 2026-06-30 (the launcher's facts, section 7).
            raise refusal(f"imageType {one['imageType']} is not supported")
    template = where.get("launchTemplate")
    if template is not None and ("launchTemplateId" in template) == ("launchTemplateName" in template):
        raise refusal("Either the launch template ID or the launch template name has to be specified")


def _check_tier(where: Mapping[str, Any]) -> None:
    strategy, spot = where.get("allocationStrategy", "BEST_FIT"), where["type"] == "SPOT"
    if strategy in SPOT and not spot:
        raise refusal(f"{strategy} is for SPOT only")
    if "bidPercentage" in where and (not spot or not 1 <= where["bidPercentage"] <= 100):
        raise refusal("bidPercentage must be between 1 and 100, and is for SPOT only")
    if spot and strategy == "BEST_FIT" and "spotIamFleetRole" not in where:
        raise refusal("spotIamFleetRole is required for SPOT with BEST_FIT, which is also the default")


def allowed(call: Call, given: Mapping[str, Any]) -> None:
    """Refuses who may not pass the roles, and makes the service-linked one where it is needed.

    https://docs.aws.amazon.com/batch/latest/userguide/using-service-linked-roles.html.
    """
    if "serviceRole" in given:
        call.require("iam:PassRole", given["serviceRole"], iam__PassedToService="batch.amazonaws.com")
        role = role_of(given["serviceRole"])
        if role is None or not trusts(role, "batch.amazonaws.com"):
            raise refusal(f"{given['serviceRole']} is no role that batch.amazonaws.com may assume")
    elif role_of(LINKED) is None:
        arn = f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/batch.amazonaws.com/{LINKED}"
        call.require("iam:CreateServiceLinkedRole", arn, iam__AWSServiceName="batch.amazonaws.com")
        iam_backends[ACCOUNT]["aws"].create_service_linked_role("batch.amazonaws.com", "", "")
    profile = _profile(given["computeResources"]["instanceRole"])
    if profile is not None:
        for role in profile.roles:
            call.require("iam:PassRole", role.arn, iam__PassedToService="ec2.amazonaws.com")


def _profile(name: str) -> Any:
    """The instance profile of a name or ARN: not a role's, which is a usual mistake."""
    known = iam_backends[ACCOUNT]["aws"].instance_profiles.values()
    return next((one for one in known if name in (one.name, one.arn)), None)


def fault(environment: Mapping[str, Any], region: str) -> str:
    """Why an environment is INVALID; "" where it is not.

    The first as seen: https://github.com/Netflix/metaflow-tools/issues/9; the others are EC2's own words for it.
    """
    where, ec2 = environment["computeResources"], ec2_backends[ACCOUNT][region]
    profile = _profile(where["instanceRole"])
    if (
        profile is None
        or not profile.roles
        or not all(trusts(one, "ec2.amazonaws.com") for one in profile.roles)
    ):
        return f"CLIENT_ERROR - Invalid IamInstanceProfile: {where['instanceRole'].rpartition('/')[2]}"
    subnets = {name for zone in ec2.subnets.values() for name in zone}
    if missing := [one for one in where["subnets"] if one not in subnets]:
        return f"CLIENT_ERROR - The subnet ID '{missing[0]}' does not exist"
    groups = {name for vpc in ec2.groups.values() for name in vpc}
    if missing := [one for one in where.get("securityGroupIds", []) if one not in groups]:
        return f"CLIENT_ERROR - The security group '{missing[0]}' does not exist"
    template = where.get("launchTemplate", {})
    name = template.get("launchTemplateName")
    if name and name not in {one.name for one in ec2.launch_templates.values()}:
        return f"CLIENT_ERROR - The specified launch template, with template name {name}, does not exist."
    number = template.get("launchTemplateId")
    if number and number not in ec2.launch_templates:
        return f"CLIENT_ERROR - The specified launch template, with template ID {number}, does not exist."
    return ""


def machines_of(environment: Mapping[str, Any], region: str) -> list[str]:
    """Names of the types that an environment may start; optimal is of the newer C, M and R families."""
    found = []
    for name in environment["computeResources"]["instanceTypes"]:
        families = ("c5", "m5", "r5") if name == "optimal" else (name,)
        found += [one for one in sorted(offered(region)) if one == name or one.partition(".")[0] in families]
    return [one for one in found if one in types()]
