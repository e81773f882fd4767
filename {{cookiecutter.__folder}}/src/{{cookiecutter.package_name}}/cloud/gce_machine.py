"""A virtual machine that runs one job, in Compute Engine's own JSON, and what its name and metadata say."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError
from .job import RUN_LABEL, Job

ANY_ZONE = "ZONE"  # stands for the zone until one has room
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
# As the price table has it; the system takes half of it, and a CUDA image 6.
DISK_TYPE, DISK_GB = "pd-balanced", 100
WITH_GPU = re.compile(r"(a\d|g\d)-")  # machine types that have their GPUs built in
WITH_GVNIC = re.compile(r"a3-")  # those that take no other network card
SHORTEST = 30  # the shortest time limit that there is
RUN_ID_ITEM = "run-id"
LONGEST_NAME = 63
PLAIN = re.compile(r"[a-z][-a-z0-9]*")


def body(
    job: Job,
    zone: str,
    number: int,
    *,
    image: str,
    account: str,
    labels: Mapping[str, str],
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """Give what `instances.insert` takes.

    Args:
        number: which machine of the run it is, from 1.
        image: what its disk begins as: projects/.../global/images/family/...
        account: e-mail of the job's identity.
        labels: of the machine and its disk.
        environment: of the worker.

    Raises:
        UserError: a variable of the environment cannot be handed over.
    """
    name = f"{stem(labels, job.run_id)}-{number}"
    seconds = max(SHORTEST, math.ceil(job.max_hours * 3600))
    interface: dict[str, Any] = {
        "network": "global/networks/default",
        # Without an address it would reach neither the registry nor the bucket; nothing is let in from outside.
        "accessConfigs": [{"type": "ONE_TO_ONE_NAT", "name": "External NAT"}],
    }
    if WITH_GVNIC.match(job.machine.type):
        interface["nicType"] = "GVNIC"
    machine = {
        "name": name,
        "machineType": f"zones/{zone}/machineTypes/{job.machine.type}",
        "labels": dict(labels),
        "tags": {"items": [owner(labels)]},  # by which the firewall lets Google's own tunnel in
        "disks": [_disk(zone, image, labels)],
        "networkInterfaces": [interface],
        "serviceAccounts": [{"email": account, "scopes": [SCOPE]}],
        "scheduling": {
            "provisioningModel": "SPOT" if job.spot else "STANDARD",
            "instanceTerminationAction": "DELETE",
            "maxRunDuration": {"seconds": str(seconds)},  # an int64, a string in the API's JSON
            "onHostMaintenance": "TERMINATE",  # machines with GPUs cannot be moved
            "automaticRestart": False,
        },
        # Not enableSecureBoot: it would refuse NVIDIA's driver.
        "shieldedInstanceConfig": {"enableVtpm": True, "enableIntegrityMonitoring": True},
        "metadata": {"items": _items(job, seconds, environment)},
    }
    if job.machine.gpu and not WITH_GPU.match(job.machine.type):
        gpu = job.machine.gpu.lower().replace("_", "-")
        machine["guestAccelerators"] = [
            {
                "acceleratorType": f"zones/{zone}/acceleratorTypes/{gpu}",
                "acceleratorCount": job.machine.gpus,
            }
        ]
    return machine


def _disk(zone: str, image: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "boot": True,
        "autoDelete": True,
        "initializeParams": {
            "sourceImage": image,
            "diskType": f"zones/{zone}/diskTypes/{DISK_TYPE}",
            "diskSizeGb": str(DISK_GB),
            "labels": dict(labels),
        },
    }


def _items(job: Job, seconds: int, environment: Mapping[str, str]) -> list[dict[str, str]]:
    """Give the metadata: two scripts, the same for every job, and what they read; nothing of it is spliced into them."""
    for variable, value in environment.items():
        if "\n" in value:
            raise UserError(f"{variable} has more than one line; Docker takes variables of one.")
    values = {
        RUN_ID_ITEM: job.run_id,
        "run-image": job.image,
        "run-args": json.dumps(job.args),
        "run-env": "".join(f"{variable}={value}\n" for variable, value in environment.items()),
        "run-gpus": str(job.machine.gpus if job.machine.gpu else 0),
        "run-seconds": str(seconds),
        "startup-script": _script("gce_startup.sh"),
        "shutdown-script": _script("gce_shutdown.sh"),
    }
    if job.machine.gpu:
        values["install-nvidia-driver"] = "True"  # Google's image does it itself, once
    return [{"key": key, "value": value} for key, value in values.items()]


def _script(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def owner(labels: Mapping[str, str]) -> str:
    """Give the project that labels are of."""
    return labels.get("project", "project")


def stem(labels: Mapping[str, str], run_id: str) -> str:
    """Give what the names of a run's machines begin with, before their numbers, and those of no other run."""
    name, longest = f"{owner(labels)}-{run_id}", LONGEST_NAME - len("-99")
    if PLAIN.fullmatch(name) and len(name) <= longest:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    plain = re.sub(r"[^-a-z0-9]", "-", name.lower())
    plain = plain if plain[0].isalpha() else f"m-{plain}"
    return f"{plain[: longest - len(digest) - 1].rstrip('-')}-{digest}"


def run_of(machine: Mapping[str, Any]) -> str:
    """Give the id of the run that a machine, as the service describes it, was made for."""
    items = (machine.get("metadata") or {}).get("items", [])
    exact = {item["key"]: item.get("value", "") for item in items}
    return exact.get(RUN_ID_ITEM) or machine["labels"][RUN_LABEL]


def zone_of(resource: Mapping[str, Any]) -> str:
    """Give the name of the zone that something is in."""
    return str(resource["zone"]).rpartition("/")[2]


def path_of(machine: Mapping[str, Any]) -> str:
    """Give where a machine is, below its project."""
    return f"zones/{zone_of(machine)}/instances/{machine['name']}"
