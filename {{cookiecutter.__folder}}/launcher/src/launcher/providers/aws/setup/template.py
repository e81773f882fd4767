"""The template of a project's stack: stack.yaml and roles.yaml, and the queues of Batch from the price table."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import pricing

HERE = Path(__file__).parent
TIERS = {"spot": "SPOT", "demand": "EC2"}
AT_ONCE = 4  # machines of one kind; what is more waits in the queue
# The provider's own end of waiting; of the reasons that Batch finds for it, no other than these can be named
# (docs.aws.amazon.com/batch/latest/userguide/job_stuck_in_runnable.html). It looks at the queue's first job only.
WAITING = {
    "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY": 86400,  # the most that it takes
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE": 600,  # never fits: waiting helps nobody
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT": 600,
}


@dataclass(frozen=True)
class Row:
    """A machine that there are queues for.

    Args:
        name: its row in the price table, such as l4.
        type: EC2's type, such as g6.xlarge.
    """

    name: str
    type: str
    gpu: bool


def rows(region: str, backend: str) -> list[Row]:
    """Give the machines that a backend has in a region."""
    with pricing.TABLE.open(newline="", encoding="utf-8") as file:
        return [
            Row(row["machine"], row["type"], bool(row["gpu"]))
            for row in csv.DictReader(file)
            if row["region"] == region and backend in row["backends"].split()
        ]


def template(prefix: str, queues: list[Row], types: list[str]) -> dict[str, Any]:
    """Give the whole template.

    Args:
        prefix: what names of roles and queues begin with.
        queues: the machines of Batch.
        types: SageMaker's types that GitHub may train on.
    """
    import yaml

    whole = yaml.safe_load((HERE / "stack.yaml").read_text(encoding="utf-8"))
    whole["Resources"] |= yaml.safe_load((HERE / "roles.yaml").read_text(encoding="utf-8"))
    for repository in ("Images", "Serving"):  # its text counts, too
        policy = whole["Resources"][repository]["Properties"]["LifecyclePolicy"]
        rules = json.loads(policy["LifecyclePolicyText"])
        policy["LifecyclePolicyText"] = json.dumps(rules, separators=(",", ":"))
    for row in queues:
        for tier in TIERS:
            whole["Resources"] |= _queue(f"{prefix}-{row.name}-{tier}", row, tier)
    for policy in whole["Resources"]["Launcher"]["Properties"]["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            if statement.get("Sid") == "Create":
                statement["Condition"]["ForAllValues:StringEquals"] = {
                    "sagemaker:InstanceTypes": types
                }
    return whole


def compact(whole: dict[str, Any]) -> str:
    """Give a template as it is sent, which may have 51,200 bytes."""
    return json.dumps(whole, separators=(",", ":"))


def readable(whole: dict[str, Any]) -> str:
    """Give a template for people, as YAML without aliases."""
    import yaml

    return yaml.safe_dump(json.loads(compact(whole)), sort_keys=False, width=120)


def _queue(name: str, row: Row, tier: str) -> dict[str, Any]:
    """Give the environment and the queue of a machine, which have the same name."""
    logical = "".join(word.capitalize() for word in (row.name.replace("-", " "), tier))
    logical = logical.replace(" ", "")
    on_spot = tier == "spot"
    resources = {
        "Type": TIERS[tier],
        # EC2 starts no machine above this share of the price on demand.
        **({"BidPercentage": pricing.spot_percent(row.type)} if on_spot else {}),
        "AllocationStrategy": "SPOT_PRICE_CAPACITY_OPTIMIZED"
        if on_spot
        else "BEST_FIT_PROGRESSIVE",
        "MinvCpus": 0,
        "MaxvCpus": AT_ONCE * vcpus(row.type),
        "InstanceTypes": [row.type],
        "Ec2Configuration": [{"ImageType": "ECS_AL2023_NVIDIA" if row.gpu else "ECS_AL2023"}],
        "InstanceRole": {"Fn::GetAtt": ["MachineProfile", "Arn"]},
        # By its number: $Latest would change without the environments learning of it.
        "LaunchTemplate": {
            "LaunchTemplateId": {"Ref": "LaunchTemplate"},
            "Version": {"Fn::GetAtt": ["LaunchTemplate", "LatestVersionNumber"]},
        },
        "Subnets": {"Ref": "Subnets"},
        "SecurityGroupIds": [{"Fn::GetAtt": ["Network", "GroupId"]}],
        "Tags": {"project": {"Ref": "Slug"}},  # of its machines
    }
    environment = {
        "ComputeEnvironmentName": name,
        "Type": "MANAGED",
        # Changed in place: one with a name cannot be replaced. It wants the service's own role, so none is named
        # (docs.aws.amazon.com/batch/latest/userguide/infrastructure-updates.html).
        "ReplaceComputeEnvironment": False,
        "ComputeResources": resources,
        # An update leaves jobs that run alone for so long; half an hour by default.
        "UpdatePolicy": {"JobExecutionTimeoutMinutes": 360},
    }
    queue = {
        "JobQueueName": name,
        "Priority": 1,
        "ComputeEnvironmentOrder": [
            {"Order": 1, "ComputeEnvironment": {"Ref": f"{logical}Machines"}}
        ],
        "JobStateTimeLimitActions": [
            {"State": "RUNNABLE", "Action": "CANCEL", "MaxTimeSeconds": seconds, "Reason": reason}
            for reason, seconds in WAITING.items()
        ],
        "Tags": {"project": {"Ref": "Slug"}},
    }
    return {
        f"{logical}Machines": {"Type": "AWS::Batch::ComputeEnvironment", "Properties": environment},
        f"{logical}Queue": {"Type": "AWS::Batch::JobQueue", "Properties": queue},
    }


def vcpus(machine_type: str) -> int:
    """Give how many vCPUs a machine has: four times what its size says, xlarge being one."""
    return 4 * int(machine_type.partition(".")[2].removesuffix("xlarge") or 1)
