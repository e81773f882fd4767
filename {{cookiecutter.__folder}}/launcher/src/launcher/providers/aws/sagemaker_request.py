"""A training job of SageMaker in the service's own words, as boto3's `create_training_job` takes them.

Bounds: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html, and botocore's model of it.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...job import RUN_DISK, RUN_ID, RUN_NODES, Job
from ..handed import Handed
from ..handed import hand as hand_over

LONGEST_NAME, TOKEN = 63, 6  # characters; of a name, and of what ends it
MOST_ARGUMENTS, LONGEST_ARGUMENT = 100, 256
MOST_VARIABLES, LONGEST_VALUE = 100, 512
LONGEST_RUN = 28 * 24 * 3600  # seconds
PENDING = (1800, 28 * 24 * 3600)  # seconds in which a job on demand may wait, least and most
MOST_RETRIES = 30

# Of a machine without NVMe it is a volume of its own; where there is NVMe none is made, and what is asked for must not be
# more than that, which is 125 GB of the smallest (API_ResourceConfig.html). The price table counts 100.
DISK_GB = 100
# Besides /opt/ml, which is root's, only this is on that disk; all else of the container is on a small one:
# https://docs.aws.amazon.com/sagemaker/latest/dg/model-train-storage.html
DISK = "/tmp/run"  # noqa: S108 - nobody else is on the machine

# "If the use of security-sensitive credentials are detected, SageMaker will reject your training job request" (boto3's
# own reference, until 2024). By what it detects them is not documented: here whatever has the form of AWS's keys, and the
# digest of a commit has as many characters as one.
KEY = re.compile(r"(?<![A-Za-z0-9/+])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])|(?:AKIA|ASIA)[A-Z0-9]{16}")


def hand(job: Job, environment: Mapping[str, str], most: int = MOST_VARIABLES) -> Handed:
    """Part what a request can hold from what travels by the bucket.

    Args:
        most: variables that a request takes.

    Raises:
        UserError: something does not fit, and there is no bucket.
    """
    fits = not too_much(job.args)
    return part(job, environment, job.args if fits else None, most)


def part(
    job: Job, environment: Mapping[str, str], args: tuple[str, ...] | None, most: int
) -> Handed:
    """Do `hand`, where it is known whether the arguments fit."""
    several = {RUN_NODES: str(job.nodes)} if job.nodes > 1 else {}
    wanted = {RUN_ID: job.run_id, RUN_DISK: DISK, **several, **environment}
    kept = {name: value for name, value in wanted.items() if _fits(value)}
    if len(kept) > most - 1:
        kept = dict(list(kept.items())[: most - 1])
    rest = {name: value for name, value in wanted.items() if name not in kept}
    return hand_over(job, "SageMaker", kept, rest, args)


def too_much(args: Sequence[str]) -> bool:
    """Tell whether a request does not take these arguments."""
    return len(args) > MOST_ARGUMENTS or any(
        len(each) > LONGEST_ARGUMENT or len(each.splitlines()) > 1 or KEY.search(each)
        for each in args
    )


def _fits(value: str) -> bool:
    return len(value) <= LONGEST_VALUE and not KEY.search(value)


def body(
    job: Job,
    handed: Handed,
    *,
    role: str,
    tags: Mapping[str, str],
    wait_hours: float,
    attempts: int,
    output: str,
) -> dict[str, Any]:
    """Give what `create_training_job` takes.

    Args:
        role: ARN of the job's identity.
        tags: of the job.
        wait_hours: for a machine, in all.
        attempts: starts of the job, the first one included.
        output: URI of the folder for what the service itself writes.
    """
    algorithm: dict[str, Any] = {"TrainingImage": job.image, "TrainingInputMode": "File"}
    if handed.args:
        # No ContainerEntrypoint: the image's own is the worker.
        algorithm["ContainerArguments"] = list(handed.args)
    request: dict[str, Any] = {
        "TrainingJobName": name(job.run_id, token(job)),
        "RoleArn": role,
        "AlgorithmSpecification": algorithm,
        # The worker keeps the results itself; this is for what it leaves to the service, which is nothing.
        "OutputDataConfig": {"S3OutputPath": f"{output}/sagemaker", "CompressionType": "NONE"},
        "ResourceConfig": {
            "InstanceType": f"ml.{job.machine.type}",
            "InstanceCount": job.nodes,
            "VolumeSizeInGB": DISK_GB,
        },
        "EnableManagedSpotTraining": job.spot,
        "StoppingCondition": _limits(job, wait_hours),
        "Environment": handed.environment,
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
    }
    if attempts > 1:
        # Of the service's own failures (InternalServerError) only. With it the limit of running is of all attempts together.
        request["RetryStrategy"] = {"MaximumRetryAttempts": min(MOST_RETRIES, attempts - 1)}
    return request


def _limits(job: Job, wait_hours: float) -> dict[str, int]:
    runtime = math.ceil(job.max_hours * 3600)
    limits = {"MaxRuntimeInSeconds": runtime}
    wait = math.ceil(wait_hours * 3600)
    if job.spot:  # the longest life of the job: waiting and running
        return {**limits, "MaxWaitTimeInSeconds": runtime + wait}
    least, most = PENDING
    return {**limits, "MaxPendingTimeInSeconds": min(most, max(least, wait))}


def stem(run_id: str, longest: int = LONGEST_NAME) -> str:
    """Give what the names of all jobs of a run begin with; other runs may have the same."""
    plain = re.sub(r"[^a-z0-9]+", "-", run_id.lower()).strip("-")
    return plain[: longest - TOKEN - 1].rstrip("-")


def name(run_id: str, token: str, longest: int = LONGEST_NAME) -> str:
    """Give the name of one job.

    Args:
        token: hexadecimal digits that no other job of the run has: a name is taken for ever.
    """
    return f"{stem(run_id, longest)}-{token}"


def token(job: Job) -> str:
    """Give the token that a request is shown with; the one that is submitted is drawn by lot."""
    return hashlib.sha256(repr((job.run_id, job.image, job.args)).encode()).hexdigest()[:TOKEN]
