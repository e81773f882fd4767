"""What Compute Engine tells without changing anything: VMs, disks, operations, and what a project may have where."""

import re
from typing import TYPE_CHECKING, Any

from stage.compute_catalog import BUILT_IN, IMAGES, MACHINES, REGIONS, WHERE, ZONES, has_gpu, has_machine
from stage.compute_filter import listing
from stage.compute_operations import SITE, Operation
from stage.compute_rules import ComputeError
from stage.rest import Request

if TYPE_CHECKING:
    from stage.compute import Compute

Json = dict[str, Any]
KINDS = {  # collection -> what its permissions and its kind are called
    "instances": ("instances", "instance"),
    "disks": ("disks", "disk"),
    "operations": ("zoneOperations", "operation"),
    "machineTypes": ("machineTypes", "machineType"),
    "acceleratorTypes": ("acceleratorTypes", "acceleratorType"),
}


class Reads:
    """The GET requests of one project."""

    def __init__(self, service: "Compute") -> None:
        self.service = service

    def answer(self, request: Request, project: str, path: str, query: dict[str, str]) -> Json:
        """Answers a path below the project's own."""
        for pattern, service in (
            (r"", self._project),
            (r"regions/([^/]+)", self._region),
            (r"zones", self._zones),
            (r"zones/([^/]+)", self._zone),
            (r"global/images/family/([^/]+)", self._family),
            (r"aggregated/(\w+)", self._aggregated),
            (r"zones/([^/]+)/instances/([^/]+)/serialPort", self._console),
            (r"zones/([^/]+)/(\w+)", self._list),
            (r"zones/([^/]+)/(\w+)/([^/]+)", self._get),
        ):
            found = re.fullmatch(pattern, path)
            if found:
                return service(request, project, query, *found.groups())
        raise ComputeError(404, f"The requested URL {request.path} was not found on this server.", "notFound")

    def operation(self, zone: str, name: str) -> Operation:
        found = self.service.operations.get(name)
        if found is None or found.zone != zone:
            raise self.service.not_found(f"zones/{zone}/operations/{name}")
        return found

    def _project(self, request: Request, project: str, query: dict[str, str]) -> Json:
        self.service.require(request, "compute.projects.get", "")
        return {"kind": "compute#project", "name": project, "quotas": self._quotas("global")}

    def _region(self, request: Request, project: str, query: dict[str, str], region: str) -> Json:
        self.service.require(request, "compute.regions.get", f"regions/{region}")
        if region not in REGIONS:
            raise self.service.not_found(f"regions/{region}")
        return {
            "kind": "compute#region",
            "name": region,
            "status": "UP",
            "zones": [f"{SITE}/projects/{project}/zones/{zone}" for zone in ZONES if zone.startswith(region)],
            "quotas": self._quotas(region),
        }

    def _quotas(self, region: str) -> list[Json]:
        return [
            {
                "metric": metric,
                "limit": float(limits[region]),
                "usage": float(self.service.usage(metric, region)),
            }
            for metric, limits in self.service.quotas.items()
            if region in limits
        ]

    def _zones(self, request: Request, project: str, query: dict[str, str]) -> Json:
        self.service.require(request, "compute.zones.list", "zones")
        items, more = listing([self._one_zone(project, zone) for zone in ZONES], query)
        return {"kind": "compute#zoneList", "items": items, **more}

    def _zone(self, request: Request, project: str, query: dict[str, str], zone: str) -> Json:
        self.service.require(request, "compute.zones.get", f"zones/{zone}")
        if zone not in ZONES:
            raise self.service.not_found(f"zones/{zone}")
        return self._one_zone(project, zone)

    def _one_zone(self, project: str, zone: str) -> Json:
        region = f"{SITE}/projects/{project}/regions/{zone.rpartition('-')[0]}"
        return {"kind": "compute#zone", "name": zone, "status": "UP", "region": region}

    def _family(self, request: Request, project: str, query: dict[str, str], family: str) -> Json:
        """Public images may be seen by anybody who is somebody."""
        if family not in IMAGES.get(project, {}):
            text = f"The resource 'projects/{project}/global/images/family/{family}' was not found"
            raise ComputeError(404, text, "notFound")
        return {
            "kind": "compute#image",
            "name": f"{family}-v20261101",
            "family": family,
            "status": "READY",
            "diskSizeGb": str(IMAGES[project][family]),
            "selfLink": f"{SITE}/projects/{project}/global/images/{family}-v20261101",
        }

    def _console(self, request: Request, project: str, query: dict[str, str], zone: str, name: str) -> Json:
        self.service.require(
            request, "compute.instances.getSerialPortOutput", f"zones/{zone}/instances/{name}"
        )
        text = self.service.known(zone, name).console()
        start = int(query.get("start", 0))
        return {
            "kind": "compute#serialPortOutput",
            "contents": text[start:],
            "start": str(start),
            "next": str(len(text)),
        }

    def _get(
        self, request: Request, project: str, query: dict[str, str], zone: str, what: str, name: str
    ) -> Json:
        self.service.check_zone(zone)
        self._may(request, what, "get", f"zones/{zone}/{what}/{name}")
        if what == "operations":
            return self.operation(zone, name).json()
        if what == "instances":
            return self.service.known(zone, name).json()
        for item in self._items(zone, what):
            if item["name"] == name:
                return item
        raise self.service.not_found(f"zones/{zone}/{what}/{name}")

    def _list(self, request: Request, project: str, query: dict[str, str], zone: str, what: str) -> Json:
        self.service.check_zone(zone)
        self._may(request, what, "list", f"zones/{zone}/{what}")
        items, more = listing(self._items(zone, what), query)
        return (
            {"kind": f"compute#{KINDS[what][1]}List", "id": f"projects/{project}/zones/{zone}/{what}"}
            | ({"items": items} if items else {})
            | more
        )

    def _aggregated(self, request: Request, project: str, query: dict[str, str], what: str) -> Json:
        """By zone; one without any has a warning in their place, and so has one that cannot be reached."""
        self._may(request, what, "list", what)
        if what == "operations":  # those of no zone are among them
            self.service.require(request, "compute.globalOperations.list", what)
        away = self.service.unreachable
        if away and query.get("returnPartialSuccess") != "true":
            raise ComputeError(503, f"The zone {min(away)} cannot be reached.", "backendError")
        found, more = listing(
            [item for zone in ZONES if zone not in away for item in self._items(zone, what)], query
        )
        items: dict[str, Json] = {}
        for zone in ZONES:
            here = [item for item in found if item["zone"].endswith(f"/{zone}")]
            items[f"zones/{zone}"] = {what: here} if here else {"warning": _warning(zone, zone in away)}
        kind = f"compute#{KINDS[what][1]}AggregatedList"
        unreachable = {"unreachables": [f"zones/{zone}" for zone in sorted(away)]} if away else {}
        return (
            {"kind": kind, "id": f"projects/{project}/aggregated/{what}", "items": items} | more | unreachable
        )

    def _may(self, request: Request, what: str, verb: str, resource: str) -> None:
        if what not in KINDS:
            raise ComputeError(501, f"{what} are not part of the stand-in.", "notImplemented")
        self.service.require(request, f"compute.{KINDS[what][0]}.{verb}", resource)

    def _items(self, zone: str, what: str) -> list[Json]:
        here = f"{SITE}/projects/{self.service.identity.project}/zones/{zone}"
        if what == "instances":
            return [one.json() for one in self.service.machines(there_only=True) if one.zone == zone]
        if what == "disks":
            return [dict(disk) for (where, _), disk in list(self.service.disks.items()) if where == zone]
        if what == "operations":
            return [one.json() for one in list(self.service.operations.values()) if one.zone == zone]
        if what == "acceleratorTypes":
            kind = "compute#acceleratorType"
            return [{"kind": kind, "name": gpu, "zone": here} for gpu in WHERE if has_gpu(gpu, zone)]
        return [_machine_type(name, here) for name in MACHINES if has_machine(name, zone)]


def _machine_type(name: str, zone: str) -> Json:
    found: Json = {"kind": "compute#machineType", "name": name, "guestCpus": MACHINES[name], "zone": zone}
    if name in BUILT_IN:
        gpu, count = BUILT_IN[name]
        found["accelerators"] = [{"guestAcceleratorType": gpu, "guestAcceleratorCount": count}]
    return found


def _warning(zone: str, away: bool) -> Json:
    return {
        "code": "UNREACHABLE" if away else "NO_RESULTS_ON_PAGE",
        "message": f"{'The scope cannot be reached' if away else 'There are no results for scope'} 'zones/{zone}'.",
        "data": [{"key": "scope", "value": f"zones/{zone}"}],
    }
