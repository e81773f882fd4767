"""How to get at a notebook on a machine of AWS Batch: by a tunnel of Session Manager, for which no port is open.

A job of Batch is in its machine's own network, so Jupyter on the loopback is where the tunnel ends. The agent for it is in
Amazon's image for ECS, and enabled (github.com/aws/amazon-ecs-ami, scripts/enable-services.sh); the machine's role lets it
work. A person needs the AWS CLI with its Session Manager plugin, and the right ssm:StartSession.
"""

from __future__ import annotations

from typing import Any

from ..errors import ServiceError
from . import auth as aws
from . import batch_queues, batch_state

NOTEBOOK = "lab/tree/notebooks/explore.ipynb"
PORT = 8888  # of Jupyter, on the machine's loopback
DOCUMENT = "AWS-StartPortForwardingSession"
UNKNOWN = "CLUSTER"


def hint(region: str, found: dict[str, Any]) -> str:
    """Give the command of the tunnel and the notebook's address.

    A job has no machine for some minutes after it was submitted, and another one after each new attempt: then the
    command looks for it itself.

    Args:
        found: the job as the service describes it.
    """
    machine, ready = _machine(region, found), "ready in about five minutes"
    if not machine:
        machine = f"$({_find(region, found)})"
        ready = f"its machine is not there yet: {batch_state.detail(found)}"
    ports = f"portNumber={PORT},localPortNumber={PORT}"
    return (
        f"tunnel    aws ssm start-session --region {region} --target {machine} --document-name {DOCUMENT} "
        f"--parameters {ports}\n"
        f"notebook  http://localhost:{PORT}/{NOTEBOOK} ({ready})"
    )


def _machine(region: str, found: dict[str, Any]) -> str:
    """Give the number of a job's machine; empty where there is none, or this login may not look."""
    arn = str((found.get("container") or {}).get("containerInstanceArn") or "")
    if batch_state.state(found).name != "running" or not arn:
        return ""
    # arn:aws:ecs:REGION:ACCOUNT:container-instance/CLUSTER/ID
    parts = arn.split("/")
    try:
        where = parts[1] if len(parts) > 2 else _cluster(region, found)
        asked = {"cluster": where, "containerInstances": [arn]}
        answer = aws.call("ecs", "describe_container_instances", region, **asked)
        return str(next(iter(answer["containerInstances"]), {}).get("ec2InstanceId", ""))
    except ServiceError:
        return ""  # the person's own tool may


def _cluster(region: str, found: dict[str, Any]) -> str:
    try:
        queue = str(found["jobQueue"]).rpartition("/")[2]
        return batch_queues.cluster(region, queue) or UNKNOWN
    except (ServiceError, LookupError):
        return UNKNOWN


def _find(region: str, found: dict[str, Any]) -> str:
    """Give the command that prints the number of a job's machine."""
    form = f"--region {region} --output text --query"
    instance = f"aws batch describe-jobs --jobs {found['jobId']} {form} 'jobs[0].container.containerInstanceArn'"
    return (
        f"aws ecs describe-container-instances --cluster {_cluster(region, found)} "
        f"--container-instances $({instance}) {form} 'containerInstances[0].ec2InstanceId'"
    )
