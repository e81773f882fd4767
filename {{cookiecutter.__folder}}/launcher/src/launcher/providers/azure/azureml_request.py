"""A job of Azure Machine Learning in the service's own JSON (REST API 2025-12-01): a dry run prints what its reference describes.

https://learn.microsoft.com/rest/api/azureml/jobs/create-or-update
"""

from __future__ import annotations

import hashlib
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ...job import RUN_EVENTS, RUN_ID, RUN_NODES, Job
from ..handed import Handed
from ..handed import hand as hand_over

API = "2025-12-01"
FOLDER = "/app"  # of the image: the service starts a job in a folder of its own
PROGRAM = (
    "python -m launcher.worker"  # as the image's entry point, of which the service makes no use
)
TIERS = {True: "Spot", False: "Standard"}
SHARED_MEMORY = "8g"  # for the workers that load data
LONGEST_NAME = 255  # of a job, of letters, digits, hyphens and underscores
STEM = 200  # characters of a run's id in it
# How long a command may be is not documented; Linux takes 128 KiB for one argument of a program, which bash is given here.
LONGEST_COMMAND = 32_000
# What the service replaces in a command, or might: ${{inputs.x}}, and what is older than that.
EXPANDED = re.compile(r"\$\{\{|\$\[\[|\{inputs\.|\{outputs\.|\{search_space\.|[\x00-\x1f\x7f]")
# By which azure-identity, adlfs and DVC find the job's identity. That the service names it itself on serverless machines,
# in DEFAULT_IDENTITY_CLIENT_ID, is not documented; this was what helped: github.com/Azure/azure-sdk-for-python/issues/31071
CLIENT_ID = "AZURE_CLIENT_ID"
# Asked in the container, about the machine: it goes away without a signal to its containers.
# https://learn.microsoft.com/azure/virtual-machines/linux/scheduled-events
EVENTS = "http://169.254.169.254/metadata/scheduledevents?api-version=2020-07-01"


def hand(job: Job, environment: Mapping[str, str]) -> Handed:
    """Part what a request can hold from what travels by the bucket.

    Raises:
        UserError: something does not fit, and there is no bucket.
    """
    wanted = {RUN_ID: job.run_id, **environment}
    if job.nodes > 1:
        wanted[RUN_NODES] = str(job.nodes)
    if job.spot:
        wanted[RUN_EVENTS] = EVENTS
    kept = {name: value for name, value in wanted.items() if not EXPANDED.search(value)}
    rest = {name: value for name, value in wanted.items() if name not in kept}
    fits = not any(EXPANDED.search(each) for each in job.args)
    fits = fits and len(shlex.join(job.args)) <= LONGEST_COMMAND
    return hand_over(job, "Azure ML", kept, rest, job.args if fits else None)


def command(args: Sequence[str], chosen: Sequence[str] = ()) -> str:
    """Give the line that bash gets.

    Args:
        args: handed on word by word.
        chosen: words in which the service, or bash for it, puts a value.
    """
    words = [*map(shlex.quote, args), *(f'"{each}"' for each in chosen)]
    return f"cd {FOLDER} && exec {' '.join([PROGRAM, *words])}"  # exec, so that signals arrive


def body(
    job: Job,
    handed: Handed,
    *,
    environment: str,
    identity: str,
    tags: Mapping[str, str],
    experiment: str,
    compute: str | None,
) -> dict[str, Any]:
    """Give a command job.

    Args:
        environment: path of the version that holds the image.
        identity: client id of the job's user-assigned identity.
        experiment: under which it is shown.
        compute: path of a cluster; None for machines of the service, which are there for this job only.
    """
    properties: dict[str, Any] = {
        "jobType": "Command",
        "displayName": job.run_id,
        "experimentName": experiment,
        "command": command(handed.args or ()),
        "environmentId": environment,
        "environmentVariables": {CLIENT_ID: identity, **handed.environment},
        "identity": {"identityType": "Managed", "clientId": identity},
        "limits": {"jobLimitsType": "Command", "timeout": duration(job.max_hours * 3600)},
        "resources": {"instanceCount": job.nodes, "shmSize": SHARED_MEMORY},
        "tags": dict(tags),
    }
    if compute:  # whose type of machine, and whether it may be taken away, are the cluster's own
        properties["computeId"] = compute
    else:
        properties["resources"]["instanceType"] = job.machine.type
        properties["queueSettings"] = {"jobTier": TIERS[job.spot]}
    if job.nodes > 1:  # one worker on each, which starts the node's processes itself
        properties["distribution"] = {"distributionType": "PyTorch", "processCountPerInstance": 1}
    return {"properties": properties}


def environment_version(image: str, slug: str) -> tuple[str, str]:
    """Give the name and the version under which the service knows an image: for good, as it is the image's digest."""
    repository, _, digest = image.partition("@sha256:")
    other = hashlib.sha256(repository.encode()).hexdigest()
    # Of a tag, which only a dry run has, there is no digest; two registries may hold the same image.
    return slug, f"{digest[:12] or 'unresolved'}-{other[:4]}"


def environment_body(image: str) -> dict[str, Any]:
    """Give an environment that is an image and nothing else: it is used as it is, and nothing is built."""
    return {"properties": {"image": image, "osType": "Linux"}}


def name(run_id: str, number: int) -> str:
    """Give the id of a run's job: the same id is the same job, whoever asks for it and however often.

    Args:
        number: of the jobs that the run has had, this one included.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", run_id.lower()).strip("-")[:STEM].rstrip("-")
    which = hashlib.sha256(run_id.encode()).hexdigest()[:6]  # other runs may have the same stem
    return f"{plain or 'run'}-{which}-{number}"


def duration(seconds: float) -> str:
    """Give a time as ISO 8601 has it, rounded up to a second."""
    minutes, rest = divmod(max(1, math.ceil(round(seconds, 3))), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "H"), (minutes, "M"), (rest, "S"))
    return "PT" + "".join(f"{number}{unit}" for number, unit in parts if number)


def seconds_of(text: str) -> float | None:
    """Read such a time; None where it is none."""
    found = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", text)
    if not found or not any(found.groups()):
        return None
    days, hours, minutes, rest = (float(each or 0) for each in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest
