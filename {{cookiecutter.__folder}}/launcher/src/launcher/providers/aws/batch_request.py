"""A job of AWS Batch in the service's own JSON: a job definition of its own, and the job; and what both are called.

The image can be named in a definition only, so each launch registers one. All else is there too: what a submission puts
in place of it may have 8192 characters ("Container Overrides length must be at most 8192",
github.com/Netflix/metaflow/issues/1482), a definition 24 KiB.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from ...errors import UserError
from ...job import EXIT_PREEMPTED, RUN_ID, RUN_LABEL, Job, Machine
from . import batch_machines

RETRY_STATUS = 75  # EX_TEMPFAIL; any will do here, since a rule names what is tried again
MOST_ATTEMPTS = 10  # RetryStrategy
LEAST_SECONDS = 60  # JobTimeout
LOG_GROUP = "/aws/batch/job"
RESERVED = "AWS_BATCH"  # no variable of ours may begin so
# https://docs.aws.amazon.com/batch/latest/userguide/service_limits.html
MOST_BYTES = 24 * 1024
# The first rule that fits counts, and where none does, the service tries again: so the last one fits always. A job that
# was ended by a person or by its time limit is never tried again. Texts of the service's:
# https://docs.aws.amazon.com/batch/latest/userguide/job_retries.html
RULES = (
    {"onStatusReason": "Host EC2*", "action": "RETRY"},  # "Host EC2 (instance i-...) terminated."
    {"onExitCode": str(RETRY_STATUS), "action": "RETRY"},
    {"onExitCode": str(EXIT_PREEMPTED), "action": "RETRY"},
    {"onStatusReason": "Task failed to start*", "action": "RETRY"},  # the registry was slow, say
    {"onReason": "*", "action": "EXIT"},
)


def requests(
    job: Job,
    *,
    account: str,
    role: str,
    labels: Mapping[str, str],
    environment: Mapping[str, str],
    attempts: int,
    token: str,
) -> dict[str, Any]:
    """Give what RegisterJobDefinition and SubmitJob take, by their names.

    Args:
        account: what the names of the project's things begin with.
        role: ARN of the job's identity.
        labels: tags of the definition, the job and its task.
        environment: of the worker.
        attempts: starts of the container, the first one included.
        token: letters and digits that no other launch has.

    Raises:
        UserError: a variable cannot be handed over, or it is too much.
    """
    variables = {**environment, RUN_ID: job.run_id}
    for variable in variables:
        if variable.startswith(RESERVED):
            raise UserError(
                f"{variable} cannot be set: Batch keeps names that begin with {RESERVED} for itself."
            )
    definition = {
        "jobDefinitionName": definition_name(account),
        "type": "container",
        "platformCapabilities": ["EC2"],
        "containerProperties": _container(job, role, variables),
        "retryStrategy": {
            "attempts": min(MOST_ATTEMPTS, max(1, attempts)),
            "evaluateOnExit": [dict(rule) for rule in RULES],
        },
        # of each attempt anew, from its own start
        "timeout": {"attemptDurationSeconds": max(LEAST_SECONDS, math.ceil(job.max_hours * 3600))},
        "propagateTags": True,
        "tags": dict(labels),
    }
    size = len(json.dumps(definition).encode())
    if size > MOST_BYTES:
        raise UserError(
            f"Settings and environment of this job are {size} bytes, and Batch takes {MOST_BYTES}: "
            "put settings into a file of configs/experiment/ instead of typing them."
        )
    return {
        "RegisterJobDefinition": definition,
        "SubmitJob": {
            "jobName": f"{name_start(account, job.run_id)}{token}",
            "jobQueue": queue_name(account, job.machine, job.spot),
            # with the revision that the first call makes
            "jobDefinition": definition_name(account),
            "propagateTags": True,
            "tags": dict(labels),
        },
    }


def _container(job: Job, role: str, variables: Mapping[str, str]) -> dict[str, Any]:
    """Give the container: the image's own entry point is the worker, and its network is the machine's (no other is to be
    had for such jobs: https://docs.aws.amazon.com/batch/latest/userguide/networking-modes-jobs.html)."""
    return {
        "image": job.image,
        "command": list(job.args),
        "jobRoleArn": role,
        "environment": [{"name": name, "value": value} for name, value in variables.items()],
        "resourceRequirements": batch_machines.resources(job.machine),
        "linuxParameters": {
            "sharedMemorySize": batch_machines.shared_memory(job.machine),
            "initProcessEnabled": True,  # it hands signals on, and buries what the worker leaves
        },
        "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": LOG_GROUP}},
    }


def definition_name(account: str) -> str:
    """Give the name of the project's job definitions."""
    return f"{account}-train"


def queue_name(account: str, machine: Machine, spot: bool) -> str:
    """Give the queue whose machines are of this kind; `make cloud-setup` makes it."""
    return f"{account}-{machine.name}-{'spot' if spot else 'demand'}"


def name_start(account: str, run_id: str = "") -> str:
    """Give what the names of a run's jobs, or of all of the project's, begin with. Others may begin so too."""
    # At most 128 letters, digits, dashes and underscores: 22 of the account, 64 of the run, 6 of the token.
    return f"{account}-{re.sub(r'[^A-Za-z0-9_-]', '-', run_id)}{'-' * bool(run_id)}"


def run_of(found: Mapping[str, Any]) -> str:
    """Give the id of the run that a job, as the service describes it, is of; empty where it does not say."""
    for variable in found.get("container", {}).get("environment") or []:
        if variable.get("name") == RUN_ID:
            return str(variable["value"])  # its label holds but some of what an id may have
    return str((found.get("tags") or {}).get(RUN_LABEL, ""))
