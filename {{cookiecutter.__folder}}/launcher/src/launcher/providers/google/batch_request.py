"""A job of Google Cloud Batch in the service's own JSON, and the name that it gets."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any

from ...errors import UserError
from ...job import EXIT_PREEMPTED, RUN_ID, RUN_LABEL, Job
from . import pricing

RETRY_STATUS = 75  # EX_TEMPFAIL; any will do here, since a policy lists what is tried again
# A machine that was taken away, has gone silent, was rebooted, was made anew: its task may be done again. Not 50005,
# the end of the time limit: each attempt has a limit of its own, so the job would go on beyond what was allowed. Nor
# 50004, a task that did not end at its limit when it was told to: the same.
# https://docs.cloud.google.com/batch/docs/troubleshooting#reserved-exit-codes
LOST = (50001, 50002, 50003, 50006)
MOST_RETRIES = 10  # TaskSpec.maxRetryCount
LONGEST_NAME = 63
NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")

# Named although the image says the same: on machines with a GPU the service has started containers without the entry
# point of their image (github.com/nextflow-io/nextflow/issues/7315).
ENTRY_POINT = ("python", "-m", "launcher.worker")
# What Docker runs there by itself has 64 MB of shared memory, with which loaders of data die. It is a limit, not taken.
SHARED_MEMORY_GB = 8  # for each GPU, and at least so much
# Jupyter listens on the loopback, which has to be the machine's own for a tunnel to end there.
OPTIONS = "--network=host --stop-timeout=25"  # seconds; a spot machine has 30

# Container-Optimized OS of Batch's own making. `installGpuDrivers` gives it the driver that its release has by default
# (InstancePolicyOrTemplate in google/cloud/batch/v1/job.proto); that was 580.173.02 for one of August 2026
# (github.com/DataBiosphere/leonardo/pull/4922), and CUDA 13 needs 580. `driverVersion` names another one.
SYSTEM = "batch-cos"
DISK_GB = (
    100  # as the price table has it; a CUDA image takes 6, the rest is for data and checkpoints
)
NETWORK = "default"
BUILT_IN = re.compile(r"(a\d|g\d)-")  # machine types that have their GPUs
WITH_GVNIC = re.compile(r"(a3|a4|g4)-")  # those that take no other network card


def body(
    job: Job,
    *,
    region: str,
    zones: list[str],
    account: str,
    labels: Mapping[str, str],
    environment: Mapping[str, str],
    attempts: int,
    driver: str | None = None,
) -> dict[str, Any]:
    """Give what `jobs.create` takes.

    Args:
        zones: of the region, in which it may run; empty: all of them.
        account: e-mail of the job's identity.
        labels: of the job, its machine and its disk.
        environment: of the worker.
        attempts: starts of the task, the first one included.
        driver: version of NVIDIA's driver; None: the one of the machine's system.

    Raises:
        UserError: a variable of the environment cannot be handed over.
    """
    for variable, value in environment.items():
        if "\n" in value:
            raise UserError(f"{variable} has more than one line; Docker takes variables of one.")
    places = [f"zones/{zone}" for zone in zones] or [f"regions/{region}"]
    return {
        "taskGroups": [
            {
                "taskCount": "1",  # an int64, which is a string in the API's JSON
                "taskCountPerNode": "1",
                "taskSpec": _task(job, environment, attempts),
            }
        ],
        "allocationPolicy": {
            "location": {"allowedLocations": places},
            "instances": [_machine(job, driver)],
            "serviceAccount": {"email": account},
            "labels": dict(labels),
            "network": {"networkInterfaces": [_interface(job.machine.type, region)]},
            # by which the firewall keeps everybody out, but for Google's own tunnel
            "tags": [owner(labels)],
        },
        "labels": dict(labels),
        "logsPolicy": {"destination": "CLOUD_LOGGING"},  # without it they are not kept
    }


def _task(job: Job, environment: Mapping[str, str], attempts: int) -> dict[str, Any]:
    program, *words = ENTRY_POINT
    container = {
        "imageUri": job.image,
        "entrypoint": program,
        "commands": [*words, *job.args],
        "options": f"{OPTIONS} --shm-size={SHARED_MEMORY_GB * max(1, job.machine.gpus)}g",
    }
    codes = [RETRY_STATUS, EXIT_PREEMPTED, *LOST]
    return {
        "runnables": [{"container": container}],
        "environment": {"variables": {RUN_ID: job.run_id, **environment}},
        "maxRunDuration": f"{math.ceil(job.max_hours * 3600)}s",  # of each attempt anew
        "maxRetryCount": min(MOST_RETRIES, max(0, attempts - 1)),
        # There is one policy, and whatever it does not list is not tried again.
        "lifecyclePolicies": [{"action": "RETRY_TASK", "actionCondition": {"exitCodes": codes}}],
    }


def _machine(job: Job, driver: str | None) -> dict[str, Any]:
    machine = job.machine
    policy: dict[str, Any] = {
        "machineType": machine.type,
        "provisioningModel": "SPOT" if job.spot else "STANDARD",
        "bootDisk": {
            "image": SYSTEM,
            "type": pricing.boot_disk(machine.type),
            "sizeGb": str(DISK_GB),
        },
    }
    if not machine.gpu:
        return {"policy": policy}
    if driver or not BUILT_IN.match(machine.type):
        kind = machine.gpu.lower().replace("_", "-")
        accelerator = {"type": kind, "count": str(machine.gpus)}
        policy["accelerators"] = [{**accelerator, **({"driverVersion": driver} if driver else {})}]
    return {"policy": policy, "installGpuDrivers": True}


def _interface(machine_type: str, region: str) -> dict[str, Any]:
    """Give the machine's network: with an address, without which it would reach neither registry nor bucket."""
    interface: dict[str, Any] = {
        "network": f"global/networks/{NETWORK}",
        "subnetwork": f"regions/{region}/subnetworks/{NETWORK}",
        "noExternalIpAddress": False,
    }
    return {**interface, "nicType": "GVNIC"} if WITH_GVNIC.match(machine_type) else interface


def owner(labels: Mapping[str, str]) -> str:
    """Give the project that labels are of."""
    return str(labels.get("project", "project"))


def job_id(labels: Mapping[str, str], run_id: str, token: str) -> str:
    """Give the name of one launch's job.

    Args:
        token: letters and digits that no other launch has.
    """
    name, longest = f"{owner(labels)}-{run_id}", LONGEST_NAME - len(token) - 1
    if not NAME.fullmatch(name) or len(name) > longest:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        plain = re.sub(r"[^-a-z0-9]", "-", name.lower())
        plain = plain if plain[0].isalpha() else f"j-{plain}"
        name = f"{plain[: longest - len(digest) - 1].rstrip('-')}-{digest}"
    return f"{name}-{token}"


def run_of(job: Mapping[str, Any]) -> str:
    """Give the id of the run that a job, as the service describes it, is of; empty where it does not say."""
    for group in job.get("taskGroups") or []:
        variables = group.get("taskSpec", {}).get("environment", {}).get("variables", {})
        if RUN_ID in variables:
            return str(variables[RUN_ID])  # its label holds but some of what an id may have
    return str((job.get("labels") or {}).get(RUN_LABEL, ""))
