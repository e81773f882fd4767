"""What Compute Engine refuses in a new instance, as its reference documents it; Google's own types carry no such rules."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from google.protobuf import json_format

from stage.compute_catalog import (
    ATTACHED,
    BUILT_IN,
    DISKS,
    MACHINES,
    ROOT,
    gpus,
    has_gpu,
    has_machine,
    image_size,
)
from stage.rest import RequestError

# What the stand-in makes something of. Anything else is refused: nothing shall be relied on that was never tried.
FIELDS = {
    *("name", "description", "labels", "machineType", "disks", "networkInterfaces", "metadata", "tags"),
    *("serviceAccounts", "scheduling", "guestAccelerators", "shieldedInstanceConfig", "deletionProtection"),
}
NAME = "(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)"
DAY = 24 * 3600


class ComputeError(RequestError):
    """A refusal in the form of Compute Engine's errors, which is older than that of other services."""

    def __init__(self, code: int, message: str, reason: str) -> None:
        super().__init__(code, message)
        self.reason = reason

    def json(self) -> dict[str, Any]:
        one = {"message": self.message, "domain": "global", "reason": self.reason}
        return {"error": {"code": self.code, "message": self.message, "errors": [one]}}


def invalid(field: str, value: Any, why: str) -> ComputeError:
    return ComputeError(400, f"Invalid value for field '{field}': '{value}'. {why}", "invalid")


def missing(field: str) -> ComputeError:
    return ComputeError(400, f"Required field '{field}' not specified", "required")


@cache
def prepare() -> Any:
    """Google's own message; importing it takes seconds, so the first request need not wait for it."""
    from google.cloud.compute_v1.types import Instance

    return Instance


def parse(body: bytes) -> dict[str, Any]:
    """Reads an Instance as protobuf and gives it as JSON; refuses what its schema does not know.

    Raises:
        ComputeError: 400, with the parser's words.
    """
    try:
        _no_snake_case(json.loads(body))
        message = json_format.Parse(body, prepare().pb(prepare()()), ignore_unknown_fields=False)
    except (ValueError, AttributeError, json_format.ParseError) as error:
        raise ComputeError(400, f"Invalid JSON payload received. {error}", "parseError") from error
    return json_format.MessageToDict(message)


def _no_snake_case(content: Any) -> None:
    """protobuf's parser would take proto's own names too, the service takes those of its JSON only."""
    for name, value in (
        content.items()
        if isinstance(content, dict)
        else enumerate(content if isinstance(content, list) else ())
    ):
        if "_" in str(name):
            raise ValueError(f'Unknown name "{name}": Cannot find field.')
        if name != "labels":
            _no_snake_case(value)


def check(instance: dict[str, Any], project: str, zone: str) -> None:
    """Refuses a parsed instance at the first documented rule that it breaks."""
    for problem in _problems(instance, project, zone):
        raise problem


def _problems(instance: dict[str, Any], project: str, zone: str) -> Iterator[ComputeError]:
    for field in instance:
        if field not in FIELDS:
            raise RequestError(501, f"resource.{field} is not part of the stand-in.")
    if not instance.get("name"):
        yield missing("resource.name")
    if not re.fullmatch(NAME, instance["name"]):
        yield invalid("resource.name", instance["name"], f"Must be a match of regex '{NAME}'")
    if not instance.get("machineType"):
        yield missing("resource.machineType")
    machine = local(instance["machineType"], "resource.machineType", "machineTypes", project, zone)
    if not has_machine(machine, zone):
        yield invalid(
            "resource.machineType",
            instance["machineType"],
            f"Machine type with name '{machine}' does not exist in zone '{zone}'.",
        )
    yield from _accelerators(instance, machine, project, zone)
    yield from _scheduling(instance, machine)
    yield from _labels(instance.get("labels", {}), "resource.labels")
    yield from _metadata(instance.get("metadata", {}))
    yield from _disks(instance, machine, project, zone)
    yield from _network(instance, project, zone.rpartition("-")[0])
    yield from _accounts(instance.get("serviceAccounts", []))
    for tag in instance.get("tags", {}).get("items", []):
        if not re.fullmatch(NAME, tag):
            yield invalid("resource.tags.items[0]", tag, f"Must be a match of regex '{NAME}'")


def local(url: str, field: str, kind: str, project: str, zone: str) -> str:
    """The name at the end of a URL that must be of this project and zone; a bare name is no URL."""
    found = re.fullmatch(rf"{ROOT}zones/(?P<zone>[^/]+)/{kind}/(?P<name>[^/]+)", url)
    if not found:
        raise invalid(field, url, "The URL is malformed.")
    if found["zone"] != zone or found["project"] not in (None, project):
        raise invalid(field, url, "The resource is in another zone or project than the instance.")
    return found["name"]


def _accelerators(instance: dict[str, Any], machine: str, project: str, zone: str) -> Iterator[ComputeError]:
    asked = instance.get("guestAccelerators", [])
    field = "resource.guestAccelerators[0].acceleratorType"
    if len(asked) > 1:
        yield invalid("resource.guestAccelerators", "", "At most one type of accelerator can be attached.")
    for one in asked:
        url, count = one.get("acceleratorType", ""), one.get("acceleratorCount", 0)
        gpu = local(url, field, "acceleratorTypes", project, zone)
        if not has_gpu(gpu, zone):
            yield ComputeError(
                404,
                f"The resource 'projects/{project}/zones/{zone}/acceleratorTypes/{gpu}' was not found",
                "notFound",
            )
        if machine in BUILT_IN and (gpu, count) != BUILT_IN[machine]:
            yield invalid(field, url, f"{machine} comes with {BUILT_IN[machine][1]} {BUILT_IN[machine][0]}.")
        fits = machine.startswith("n1-") and MACHINES[machine] <= ATTACHED.get(gpu, {}).get(count, 0)
        if machine not in BUILT_IN and not fits:
            text = f"[{machine}, {gpu}] features are not compatible for creating instance: {count} of them."
            yield ComputeError(400, text, "badRequest")


def _scheduling(instance: dict[str, Any], machine: str) -> Iterator[ComputeError]:
    given, field = instance.get("scheduling", {}), "resource.scheduling"
    known = {
        "provisioningModel",
        "preemptible",
        "automaticRestart",
        "onHostMaintenance",
        "instanceTerminationAction",
        "maxRunDuration",
    }
    for name in set(given) - known:
        raise RequestError(501, f"{field}.{name} is not part of the stand-in.")
    model, action = given.get("provisioningModel", "STANDARD"), given.get("instanceTerminationAction")
    maintenance = given.get("onHostMaintenance")
    for name, value, values in (
        ("provisioningModel", model, ("STANDARD", "SPOT")),
        ("instanceTerminationAction", action, ("DELETE", "STOP", None)),
        ("onHostMaintenance", maintenance, ("MIGRATE", "TERMINATE", None)),
    ):
        if value not in values:
            yield invalid(f"{field}.{name}", value, f"Must be one of {', '.join(filter(None, values))}.")
    spot = model == "SPOT"
    if given.get("preemptible") and not spot:
        yield invalid(f"{field}.preemptible", "true", "Only with provisioningModel SPOT.")
    if spot and given.get("automaticRestart"):
        yield ComputeError(
            400, "Scheduling must have automaticRestart be false when preemptible is true.", "badRequest"
        )
    if spot and maintenance == "MIGRATE":
        yield ComputeError(
            400, "Scheduling must have onHostMaintenance=TERMINATE when preemptible is true.", "badRequest"
        )
    if gpus(instance)[0] and maintenance != "TERMINATE" and not spot:
        yield ComputeError(
            400, "Instances with guest accelerators do not support live migration.", "badRequest"
        )
    if machine in ("a3-highgpu-1g", "a3-highgpu-2g", "a3-highgpu-4g") and not spot:
        yield ComputeError(400, f"{machine} can be created as a Spot or Flex-start VM only.", "badRequest")
    limit = given.get("maxRunDuration")
    if action and not spot and limit is None:
        yield ComputeError(
            400,
            "You cannot specify a termination action for a VM instance that has the standard provisioning model (default). To use instance termination action, the VM instance must use the spot provisioning model or have a time limit.",
            "badRequest",
        )
    if limit is not None:
        if not action:
            yield ComputeError(
                400, "A VM with a limited run time needs scheduling.instanceTerminationAction.", "badRequest"
            )
        seconds = int(limit.get("seconds", 0))
        if not 30 <= seconds <= 120 * DAY:
            yield invalid(f"{field}.maxRunDuration", seconds, "Must be between 30 seconds and 120 days.")


def _labels(labels: dict[str, str], field: str) -> Iterator[ComputeError]:
    if len(labels) > 64:
        yield invalid(field, len(labels), "At most 64 labels.")
    for key, value in labels.items():
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", key):
            yield invalid(
                field, key, "Label key must have 1 to 63 lower-case letters, digits, _ and -, a letter first."
            )
        if not re.fullmatch(r"[a-z0-9_-]{0,63}", value):
            yield invalid(
                field, value, "Label value must have at most 63 lower-case letters, digits, _ and -."
            )


def _metadata(metadata: dict[str, Any]) -> Iterator[ComputeError]:
    items = metadata.get("items", [])
    keys = [item.get("key", "") for item in items]
    for key in keys:
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", key):
            yield invalid(
                "resource.metadata.items[0].key", key, "Must be a match of regex '[a-zA-Z0-9-_]{1,128}'"
            )
        if keys.count(key) > 1:
            yield invalid("resource.metadata", key, f"Metadata has duplicate keys: {key}")
    sizes = [len(item.get("value", "").encode()) for item in items]
    if any(size > 256 * 1024 for size in sizes):
        yield invalid(
            "resource.metadata.items[0].value", "", "Metadata value is too large: at most 262144 bytes."
        )
    if sum(sizes) + sum(map(len, keys)) > 512 * 1024:
        yield invalid("resource.metadata", "", "Metadata is too large: at most 524288 bytes altogether.")


def _disks(instance: dict[str, Any], machine: str, project: str, zone: str) -> Iterator[ComputeError]:
    disks = instance.get("disks", [])
    if not disks:
        yield missing("resource.disks")
    if len(disks) != 1 or not disks[0].get("boot"):
        yield invalid(
            "resource.disks",
            len(disks),
            "The first disk must be the boot disk (and the stand-in has no other).",
        )
    params, field = disks[0].get("initializeParams"), "resource.disks[0].initializeParams"
    if not params:
        yield missing(field)
    for name in set(params) - {"sourceImage", "diskSizeGb", "diskType", "diskName", "labels"}:
        raise RequestError(501, f"{field}.{name} is not part of the stand-in.")
    size = image_size(params.get("sourceImage", ""))
    if size is None:
        yield invalid(
            f"{field}.sourceImage",
            params.get("sourceImage", ""),
            "The referenced image resource cannot be found.",
        )
    elif not size <= int(params.get("diskSizeGb", size)) <= 65536:
        yield invalid(
            f"{field}.diskSizeGb",
            params["diskSizeGb"],
            f"Requested disk size cannot be smaller than the image size ({size} GB).",
        )
    kind = local(
        params.get("diskType", f"zones/{zone}/diskTypes/pd-standard"),
        f"{field}.diskType",
        "diskTypes",
        project,
        zone,
    )
    if kind not in DISKS:
        yield invalid(f"{field}.diskType", kind, "The disk type does not exist.")
    if machine[:2] in ("g2", "a3") and kind == "pd-standard":
        yield ComputeError(
            400, "[pd-standard] features are not compatible for creating instance.", "badRequest"
        )
    yield from _labels(params.get("labels", {}), f"{field}.labels")


def _network(instance: dict[str, Any], project: str, region: str) -> Iterator[ComputeError]:
    interfaces, field = instance.get("networkInterfaces", []), "resource.networkInterfaces"
    if not interfaces:
        yield missing(field)
    for one in interfaces:
        for name in set(one) - {"network", "subnetwork", "accessConfigs", "stackType", "nicType"}:
            raise RequestError(501, f"{field}[0].{name} is not part of the stand-in.")
        network, subnet = one.get("network", "global/networks/default"), one.get("subnetwork")
        if not re.fullmatch(rf"{ROOT}global/networks/{NAME}", network):
            yield invalid(f"{field}[0].network", network, "The URL is malformed.")
        if subnet and not re.fullmatch(rf"{ROOT}regions/{region}/subnetworks/{NAME}", subnet):
            yield invalid(f"{field}[0].subnetwork", subnet, "The URL is malformed, or of another region.")
        for access in one.get("accessConfigs", []):
            if access.get("type", "ONE_TO_ONE_NAT") != "ONE_TO_ONE_NAT":
                yield invalid(f"{field}[0].accessConfigs[0].type", access["type"], "Must be ONE_TO_ONE_NAT.")


def _accounts(accounts: list[dict[str, Any]]) -> Iterator[ComputeError]:
    if len(accounts) > 1:
        yield invalid("resource.serviceAccounts", len(accounts), "At most one service account.")
    for one in accounts:
        if not one.get("email") or not one.get("scopes"):
            yield missing("resource.serviceAccounts[0].email and .scopes")
        for scope in one["scopes"]:
            if not re.fullmatch(r"https://www\.googleapis\.com/auth/[a-z._-]+", scope):
                yield invalid("resource.serviceAccounts[0].scopes[0]", scope, "Invalid scope.")
