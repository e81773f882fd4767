"""What Compute Engine changes: new VMs, and the end of VMs and disks."""

import re
import threading
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stage.compute_catalog import gpus
from stage.compute_operations import SITE, Clock, Operation, number
from stage.compute_rules import ComputeError, check, invalid, parse
from stage.compute_vms import Machine
from stage.rest import Answer, Request

if TYPE_CHECKING:
    from stage.compute import Compute


class Writes:
    """The POST and DELETE requests of one project."""

    def __init__(self, service: "Compute") -> None:
        self.service, self.identity = service, service.identity
        self._asked: dict[str, Operation] = {}  # requestId -> what came of it
        self._lock = threading.RLock()

    def answer(self, request: Request, path: str) -> Answer:
        """Answers a path below the project's own."""
        for method, pattern, service in (
            ("POST", r"zones/([^/]+)/instances", self._insert),
            ("DELETE", r"zones/([^/]+)/instances/([^/]+)", self._delete),
            ("POST", r"zones/([^/]+)/instances/([^/]+)/stop", self._stop),
            ("DELETE", r"zones/([^/]+)/disks/([^/]+)", self._delete_disk),
            ("POST", r"zones/([^/]+)/operations/([^/]+)/wait", self._wait),
        ):
            matched = re.fullmatch(pattern, path)
            if matched and request.method == method:
                self.service.check_zone(matched[1])
                return service(request, *matched.groups())
        raise ComputeError(
            501, f"{request.method} {request.path} is not part of the stand-in.", "notImplemented"
        )

    def _request_id(self, query: Mapping[str, str]) -> str:
        given = query.get("requestId", "")
        try:
            if given and uuid.UUID(given).int == 0:
                raise ValueError
        except ValueError as error:
            raise invalid("requestId", given, "Must be a valid UUID that is not all zeros.") from error
        return given

    def _insert(self, request: Request, zone: str) -> Answer:
        query = request.only("requestId")
        project, once = self.identity.project, self._request_id(query)
        given = parse(request.body)
        name = given.get("name", "")
        user = self.service.require(request, "compute.instances.create", f"zones/{zone}/instances/{name}")
        check(given, project, zone)
        for field, permission in (
            ("disks", "disks.create"),
            ("metadata", "instances.setMetadata"),
            ("labels", "instances.setLabels"),
            ("tags", "instances.setTags"),
            ("serviceAccounts", "instances.setServiceAccount"),
            ("networkInterfaces", "subnetworks.use"),
        ):
            if given.get(field):
                self.service.require(request, f"compute.{permission}", f"zones/{zone}/instances/{name}")
        if given["disks"][0]["initializeParams"].get("labels"):
            self.service.require(request, "compute.disks.setLabels", f"zones/{zone}/disks/{name}")
        if any(one.get("accessConfigs") for one in given["networkInterfaces"]):
            self.service.require(
                request, "compute.subnetworks.useExternalIp", f"zones/{zone}/instances/{name}"
            )
        self._check_account(request, given)
        with self._lock:
            if once and once in self._asked:
                return Answer(self._asked[once].json())
            if any((one.zone, one.name) == (zone, name) for one in self.service.machines(there_only=True)):
                text = f"The resource 'projects/{project}/zones/{zone}/instances/{name}' already exists"
                raise ComputeError(409, text, "alreadyExists")
            machine = Machine(
                described(given, project, zone, self.service.clock),
                *(self.identity, self.service.settings(self.service), self.service.stage, self.service.clock),
                capacity=self.service.capacity,
                obstacle=self._obstacle,
                told=self.service.tell,
                left=self.service.clear_disk,
            )
            self._add_disk(machine, given["disks"][0]["initializeParams"])
            operation = self.service.operation("insert", zone, f"instances/{name}", machine.id, user)
            self.service.add(machine)
            if once:
                self._asked[once] = operation
        machine.start(operation)
        return Answer(operation.json())

    def _check_account(self, request: Request, given: dict[str, Any]) -> None:
        for one in given.get("serviceAccounts", []):
            if one["email"] not in self.identity.accounts:
                text = f"The resource '{one['email']}' of type 'serviceAccount' was not found."
                raise invalid("resource.serviceAccounts[0].email", one["email"], text)
            if not self.identity.caller(request).allows("iam.serviceAccounts.actAs", one["email"]):
                text = f"The user does not have access to service account '{one['email']}'. Ask a project owner to grant you the iam.serviceAccountUser role on the service account"
                raise ComputeError(400, text, "SERVICE_ACCOUNT_ACCESS_DENIED")

    def _add_disk(self, machine: Machine, params: dict[str, Any]) -> None:
        shown = machine.resource["disks"][0]
        name = shown["source"].rpartition("/")[2]
        self.service.disks[machine.zone, name] = {
            "kind": "compute#disk",
            "id": number(),
            "name": name,
            "zone": machine.resource["zone"],
            "status": "READY",
            "sizeGb": shown["diskSizeGb"],
            "type": f"{machine.resource['zone']}/diskTypes/{params.get('diskType', 'pd-standard').rpartition('/')[2]}",
            "creationTimestamp": self.service.clock.text(),
            "selfLink": shown["source"],
            "users": [machine.resource["selfLink"]],
            **({"labels": params["labels"]} if params.get("labels") else {}),
        }

    def _obstacle(self, machine: Machine) -> tuple[dict[str, Any], int] | None:
        """Why a new VM cannot be had: no capacity, or over a quota."""
        kind = machine.resource["machineType"].rpartition("/")[2]
        if self.service.exhausted & {machine.zone, (machine.zone, kind)}:
            text = f"The zone 'projects/{self.identity.project}/zones/{machine.zone}' does not have enough resources available to fulfill the request.  '(resource type:compute)'."
            return {"code": "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "message": text}, 503
        region = machine.zone.rpartition("-")[0]
        for metric, where in ((gpu_metric(machine.resource), region), ("GPUS_ALL_REGIONS", "global")):
            limit = self.service.quotas.get(metric, {}).get(where)
            if limit is not None and gpus(machine.resource)[1] and self.service.usage(metric, where) > limit:
                place = "globally" if where == "global" else f"in region {region}"
                text = f"Quota '{metric}' exceeded.  Limit: {limit:.1f} {place}."
                return {"code": "QUOTA_EXCEEDED", "message": text}, 403
        return None

    def _delete(self, request: Request, zone: str, name: str) -> Answer:
        return self._end(request, zone, name, "delete")

    def _stop(self, request: Request, zone: str, name: str) -> Answer:
        return self._end(request, zone, name, "stop")

    def _end(self, request: Request, zone: str, name: str, what: str) -> Answer:
        request.only("requestId")
        user = self.service.require(request, f"compute.instances.{what}", f"zones/{zone}/instances/{name}")
        machine = self.service.known(zone, name)
        if what == "delete" and machine.resource.get("deletionProtection"):
            text = f"Invalid resource usage: 'Resource cannot be deleted if it's protected against deletion. Instance: {name}'."
            raise ComputeError(400, text, "invalidResourceUsage")
        operation = self.service.operation(what, zone, f"instances/{machine.name}", machine.id, user)
        machine.end(what, operation)
        return Answer(operation.json())

    def _delete_disk(self, request: Request, zone: str, name: str) -> Answer:
        request.only("requestId")
        user = self.service.require(request, "compute.disks.delete", f"zones/{zone}/disks/{name}")
        with self._lock:
            disk = self.service.disks.get((zone, name))
            if disk is None:
                raise self.service.not_found(f"zones/{zone}/disks/{name}")
            if disk.get("users"):
                text = f"The disk resource 'projects/{self.identity.project}/zones/{zone}/disks/{name}' is already being used by '{disk['users'][0].removeprefix(SITE + '/')}'"
                raise ComputeError(400, text, "resourceInUseByAnotherResource")
            del self.service.disks[zone, name]
        return Answer(self.service.operation("delete", zone, f"disks/{name}", disk["id"], user).done().json())

    def _wait(self, request: Request, zone: str, name: str) -> Answer:
        """Answers when an operation is done, or after two minutes."""
        request.only()
        self.service.require(request, "compute.zoneOperations.get", f"zones/{zone}/operations/{name}")
        operation = self.service.reads.operation(zone, name)
        operation.over.wait(120)
        return Answer(operation.json())


def gpu_metric(instance: dict[str, Any]) -> str:
    """The quota that an instance's GPUs count against, such as PREEMPTIBLE_NVIDIA_L4_GPUS."""
    spot = instance.get("scheduling", {}).get("provisioningModel") == "SPOT"
    name = gpus(instance)[0].replace("nvidia-tesla-", "nvidia-").replace("-", "_").upper()
    return f"{'PREEMPTIBLE_' if spot else ''}{name}_GPUS"


def described(given: dict[str, Any], project: str, zone: str, clock: Clock) -> dict[str, Any]:
    """A new instance as the API shows it: what was asked for, and what the service adds."""
    here = f"{SITE}/projects/{project}/zones/{zone}"
    spot = given.get("scheduling", {}).get("provisioningModel") == "SPOT"
    usual = {"provisioningModel": "STANDARD", "preemptible": spot, "automaticRestart": not spot}
    usual["onHostMaintenance"] = "TERMINATE" if spot else "MIGRATE"
    disk = given["disks"][0]
    params = disk["initializeParams"]
    shown = {
        "kind": "compute#attachedDisk",
        "type": "PERSISTENT",
        "mode": "READ_WRITE",
        "index": 0,
        "boot": True,
        "autoDelete": disk.get("autoDelete", False),
        "deviceName": "persistent-disk-0",
        "source": f"{here}/disks/{params.get('diskName', given['name'])}",
        "diskSizeGb": str(params.get("diskSizeGb", 50)),
    }
    return {
        **given,
        "kind": "compute#instance",
        "id": number(),
        "status": "PROVISIONING",
        "creationTimestamp": clock.text(),
        "zone": here,
        "machineType": f"{here}/machineTypes/{given['machineType'].rpartition('/')[2]}",
        "scheduling": usual | given.get("scheduling", {}),
        "disks": [shown],
        "selfLink": f"{here}/instances/{given['name']}",
        "labelFingerprint": "42WmSpB8rSM=",
    }
