"""A cluster of one's own instead of the service's machines: whether it suits a job, and costs nothing without one.

https://learn.microsoft.com/azure/machine-learning/how-to-create-attach-compute-cluster
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...job import Job, Machine, Problem
from .azureml_request import seconds_of

LONGEST_IDLE = 1800  # seconds that a node may stay after a job, paid for
DEDICATED = "Dedicated"  # the priority of machines that are not taken away


def check_cluster(found: Mapping[str, Any], job: Job, identity: str) -> list[Problem]:
    """Is it a cluster with such machines and the job's identity, and does it end them when no job needs them?

    Args:
        found: what the service says of it.
        identity: the name of the job's, or its client id.
    """
    name, outer = str(found.get("name", "")), found["properties"]
    if outer.get("computeType") != "AmlCompute":
        what = f"cloud.compute={name} is no cluster but of type {outer.get('computeType')}"
        return [Problem(what, "name a compute cluster, or leave it out")]
    inner = outer.get("properties") or {}
    scale = inner.get("scaleSettings") or {}
    problems = [*_of_machines(name, inner, scale, job), *_of_idleness(name, scale)]
    if not _has_identity(found.get("identity") or {}, identity):
        what = f"The cluster {name} has not the job's identity {identity}"
        how = f"`az ml compute update --name {name} --identity-type user_assigned --user-assigned-identities ID`"
        problems.append(Problem(what, f"{how}, with its resource id"))
    if outer.get("provisioningState") not in (None, "Succeeded", "Updating"):
        what = f"The cluster {name} is {outer['provisioningState']}"
        problems.insert(0, Problem(what, "repair it in the studio, or leave cloud.compute out"))
    return problems


def machines_of(found: Mapping[str, Any], machine: Machine, spot: bool) -> int:
    """Tell how many machines of a type and tier a cluster has at most."""
    inner = found["properties"].get("properties") or {}
    if not _is_size(inner, machine) or _is_spot(inner) != spot:
        return 0
    return int((inner.get("scaleSettings") or {}).get("maxNodeCount") or 0)


def _is_size(inner: Mapping[str, Any], machine: Machine) -> bool:
    return str(inner.get("vmSize", "")).lower() == machine.type.lower()


def _is_spot(inner: Mapping[str, Any]) -> bool:
    return str(inner.get("vmPriority") or DEDICATED) != DEDICATED


def _has_identity(found: Mapping[str, Any], wanted: str) -> bool:
    """Tell whether an identity, by its name or client id, is attached."""
    return any(
        path.rpartition("/")[2].lower() == wanted.lower() or (each or {}).get("clientId") == wanted
        for path, each in (found.get("userAssignedIdentities") or {}).items()
    )


def _of_machines(
    name: str, inner: Mapping[str, Any], scale: Mapping[str, Any], job: Job
) -> list[Problem]:
    problems, size = [], str(inner.get("vmSize", ""))
    if not _is_size(inner, job.machine):
        what = f"The cluster {name} has machines {size}, and cloud.machine={job.machine.name} is {job.machine.type}"
        problems.append(Problem(what, "choose the machine that it has, so that the price is right"))
    spot = _is_spot(inner)
    if spot != job.spot:
        what = f"The cluster {name} has {inner.get('vmPriority') or DEDICATED} machines"
        problems.append(
            Problem(what, f"give cloud.spot={str(spot).lower()}, so that the price is right")
        )
    most = int(scale.get("maxNodeCount") or 0)
    if most < job.nodes:
        what = f"The cluster {name} has {most} nodes at most, and the job needs {job.nodes}"
        problems.append(Problem(what, "raise its maximum, or give a lower cloud.nodes"))
    return problems


def _of_idleness(name: str, scale: Mapping[str, Any]) -> list[Problem]:
    least = int(scale.get("minNodeCount") or 0)
    if least:
        what = (
            f"The cluster {name} keeps {least} nodes without a job, which are paid for all the time"
        )
        return [Problem(what, f"`az ml compute update --name {name} --min-instances 0`")]
    idle = seconds_of(str(scale.get("nodeIdleTimeBeforeScaleDown") or "PT120S"))
    if idle is not None and idle <= LONGEST_IDLE:
        return []
    what = f"The cluster {name} keeps nodes for {scale['nodeIdleTimeBeforeScaleDown']} after a job"
    return [
        Problem(what, f"`az ml compute update --name {name} --idle-time-before-scale-down 120`")
    ]
