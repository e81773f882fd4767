"""What Azure ML refuses of a job, beyond what its description says (`ml_shapes.py`).

Where no text of a refusal is known from anybody, the words are this file's own.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stage.azure.errors import AzureError
from stage.azure.ml_shapes import seconds
from stage.azure.ml_usages import SIZES, Size, size_of

# Names of jobs are what the description's pattern says of all names in a workspace, and dots are not in it.
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}")
# The words too: https://github.com/microsoft/dstoolkit-mlops-v2/pull/180.
EXPERIMENT = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,255}")
SHM = re.compile(r"[1-9]\d*[bkmgBKMG]")  # (number)(unit): azure-ai-ml, JobResourceConfiguration
EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
# "A CPU virtual machine. The VM is determined based on quota, performance, cost, and disk size": how-to-use-serverless-compute.
DEFAULT_SIZE = SIZES["standard_ds3_v2"]
# What may be changed of a job: https://github.com/MicrosoftDocs/azure-docs/issues/122250.
CHANGEABLE = ("description", "tags", "displayName", "properties", "isArchived")


@dataclass(frozen=True)
class Surroundings:
    """What a job may name.

    Args:
        workspace: ARM id.
        environments: ids of environments' versions, in lower case.
        computes: id in lower case -> a compute as its description says.
        identities: ARM id -> client id, object id of the workspace's user-assigned identities.
    """

    workspace: str
    environments: Mapping[str, Any]
    computes: Mapping[str, dict[str, Any]]
    identities: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def invalid(text: str, status: int = 400) -> AzureError:
    return AzureError(status, "UserError", text)


def absent(what: str) -> AzureError:
    return AzureError(501, "NotImplemented", f"{what}: not part of the stage")


def check_name(name: str) -> None:
    """Refuses a name that no job may have."""
    if not NAME.fullmatch(name):
        text = f"Job name '{name}' is invalid. Names start with a letter or a digit and have up to 255 letters, digits, - and _."
        raise invalid(text)


def check_job(given: dict[str, Any], around: Surroundings) -> None:
    """Refuses a command job that could never run.

    Args:
        given: its properties.
    """
    check_common(given)
    check_trial(given, around, inputs=given.get("inputs") or {})
    check_place(given, given.get("resources") or {}, around)
    limits = given.get("limits") or {}
    check_time(limits.get("timeout"), "timeout")


def check_common(given: dict[str, Any]) -> None:
    """What all jobs share."""
    if not EXPERIMENT.fullmatch(given.get("experimentName") or "Default"):
        raise invalid(
            "Experiment name must be 1-256 characters, start with a letter or a number, and can only contain letters,"
            " numbers, underscores, and dashes."
        )
    for name in ("componentId", "notificationSetting", "parentJobName"):
        if given.get(name):
            raise absent(name)


def check_trial(
    given: dict[str, Any],
    around: Surroundings,
    inputs: Mapping[str, Any],
    search: Mapping[str, Any] | None = None,
) -> None:
    """What is run, of a job or of a sweep's trials: its environment, its command, its machines."""
    where = given["environmentId"]
    if where.lower() not in around.environments:
        raise invalid(
            f"Environment {where} not found in workspace {around.workspace.rpartition('/')[2]}.", 404
        )
    if given.get("codeId") or given.get("outputs"):
        raise absent("codeId and outputs")
    if not given["command"].strip():
        raise invalid("Command must not be empty.")
    expand(given["command"], inputs, search or {})
    resources = given.get("resources") or {}
    if resources.get("instanceCount", 1) < 1:
        raise invalid("Instance count must be at least 1.")
    if resources.get("shmSize") is not None and not SHM.fullmatch(resources["shmSize"]):
        raise invalid(
            f"Invalid shm size {resources['shmSize']!r}: a number and one of b, k, m, g are expected."
        )
    if resources.get("dockerArgs") or resources.get("dockerArgsList"):
        raise absent("Docker's arguments")
    distribution = given.get("distribution") or {}
    if distribution.get("distributionType", "PyTorch") != "PyTorch":
        raise absent(distribution["distributionType"])
    if (distribution.get("processCountPerInstance") or 1) < 1:
        raise invalid("Process count per instance must be at least 1.")


def check_place(given: dict[str, Any], resources: dict[str, Any], around: Surroundings) -> None:
    """Where it runs and as whom: serverless, or on a cluster of one's own."""
    compute = given.get("computeId")
    identity = given.get("identity") or {}
    if not compute:
        size_of(resources.get("instanceType") or DEFAULT_SIZE.name)
        check_identity(identity, around.identities, "the workspace")
        return
    known = around.computes.get(compute.lower())
    if known is None or known["properties"]["computeType"] != "AmlCompute":
        # As seen: https://github.com/Azure/AML-Kubernetes/issues/118.
        raise invalid(f"Unknown compute target '{compute.rpartition('/')[2]}'.")
    if (given.get("queueSettings") or {}).get("jobTier", "Null") != "Null":
        raise invalid("A job tier is for serverless compute only: a cluster's own priority counts.")
    own = (known.get("identity") or {}).get("userAssignedIdentities") or {}
    found = {name: around.identities.get(name, ("", "")) for name in own}
    check_identity(identity, found, f"compute {known['name']}")


def check_identity(identity: dict[str, Any], known: Mapping[str, tuple[str, str]], whose: str) -> None:
    """A managed identity is one of those that are attached; serverless compute takes no system-assigned one.

    https://learn.microsoft.com/azure/machine-learning/how-to-use-serverless-compute#identity-support-and-credential-passthrough
    """
    if identity.get("identityType") != "Managed":
        return
    if not identity_of(identity, known):
        wanted = next(
            (identity[key] for key in ("clientId", "objectId", "resourceId") if identity.get(key)), "none"
        )
        raise invalid(f"Managed identity {wanted} is not one of the user-assigned identities of {whose}.")


def identity_of(identity: dict[str, Any], known: Mapping[str, tuple[str, str]]) -> str:
    """ARM id of the identity that a job named; "" where there is no such. The first, where it names none."""
    wanted = [identity.get(key) for key in ("resourceId", "clientId", "objectId")]
    for name, ids in known.items():
        same = [
            (one or "").lower() == has.lower() for one, has in zip(wanted, (name, *ids), strict=True) if one
        ]
        if all(same):
            return name
    return ""


def check_time(duration: str | None, what: str) -> None:
    """Durations have the precision of seconds, and are some."""
    if duration is not None and seconds(duration) < 1:
        raise invalid(f"The {what} must be at least one second.")


def machine(
    given: dict[str, Any], resources: dict[str, Any], computes: Mapping[str, Any]
) -> tuple[Size, bool]:
    """What a job runs on, and whether that is of low priority."""
    compute = given.get("computeId")
    if not compute:
        tier = (given.get("queueSettings") or {}).get("jobTier")
        return size_of(resources.get("instanceType") or DEFAULT_SIZE.name), tier == "Spot"
    settings = computes[compute.lower()]["properties"]["properties"]
    return size_of(settings["vmSize"]), settings.get("vmPriority") == "LowPriority"


def expand(command: str, inputs: Mapping[str, Any], search: Mapping[str, Any]) -> str:
    """A command in which each ${{...}} is replaced; refuses one that names what there is not.

    https://learn.microsoft.com/azure/machine-learning/reference-yaml-core-syntax (expression syntax).

    Args:
        search: name -> value of a sweep's parameters.
    """

    def value(found: re.Match[str]) -> str:
        kind, _, name = found[1].partition(".")
        if kind == "inputs" and name in inputs:
            if inputs[name].get("jobInputType") != "literal":
                raise absent("inputs that are no literals")
            return str(inputs[name]["value"])
        if kind == "search_space" and name in search:
            return str(search[name])
        raise invalid(f"Invalid expression {found[0]} in the command: there is no '{found[1]}'.")

    return EXPRESSION.sub(value, command)


def check_change(name: str, before: dict[str, Any], given: dict[str, Any]) -> None:
    """Refuses another job under a name that is taken; https://github.com/MicrosoftDocs/azure-docs/issues/122250."""
    keys = [key for key in {**before, **given} if key not in CHANGEABLE and before.get(key) != given.get(key)]
    if not keys:
        return
    changed = ", ".join(f" {key[0].upper()}{key[1:]}" for key in keys)
    raise AzureError(
        400,
        "UserError",
        "A job with this name already exists. If you are trying to create a new job, use a different name. If you are"
        f" trying to update an existing job, the existing job's{changed} cannot be changed. Only description, tags,"
        " displayName, properties, and isArchived can be updated.",
        inner={"code": "Immutable", "innerError": {"code": "JobPropertyImmutable"}},
    )
