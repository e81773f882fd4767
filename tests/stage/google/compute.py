"""Compute Engine as `make cloud-setup` and `make cloud-destroy` meet it: firewall rules, and machines and disks to end."""

import ipaddress
import re

from stage.google.project import PROJECT, Match, Project, Resource, need
from stage.google.storage import merge
from stage.rest import Request, RequestError

SITE = "https://www.googleapis.com/compute/v1"
NAME = r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"


def show_network(project: Project, match: Match, request: Request) -> Resource:
    if match["name"] not in project.networks:
        raise RequestError(
            404, f"The resource 'projects/{PROJECT}/global/networks/{match['name']}' was not found"
        )
    return {"kind": "compute#network", "name": match["name"], "autoCreateSubnetworks": True}


def list_firewalls(project: Project, match: Match, request: Request) -> Resource:
    items = [project.get("firewall", name) for name in sorted(project.names("firewall"))]
    return {"kind": "compute#firewallList", "items": items}


def make_firewall(project: Project, match: Match, request: Request) -> Resource:
    rule = request.json()
    need(re.fullmatch(NAME, rule["name"]), "Invalid value for field 'resource.name'.")
    network = rule["network"].rpartition("/")[2]
    need(network in project.networks, f"The network {network} was not found.")
    rule = {"direction": "INGRESS", "priority": 1000, "disabled": False, **rule}
    _check_firewall(rule)
    project.add("firewall", rule["name"], rule)
    return _operation("insert", f"global/firewalls/{rule['name']}")


def change_firewall(project: Project, match: Match, request: Request) -> Resource:
    rule = project.get("firewall", match["name"])
    changed = merge(dict(rule), request.json())
    _check_firewall(changed)
    rule.update(changed)
    return _operation("patch", f"global/firewalls/{rule['name']}")


def delete_firewall(project: Project, match: Match, request: Request) -> Resource:
    project.remove("firewall", match["name"])
    return _operation("delete", f"global/firewalls/{match['name']}")


def _check_firewall(rule: Resource) -> None:
    need(("allowed" in rule) != ("denied" in rule), "A firewall rule either allows or denies.")
    need(0 <= rule["priority"] <= 65535, "The priority must be between 0 and 65535.")
    need(rule["direction"] == "INGRESS" and rule.get("sourceRanges"), "Source ranges are needed.")
    for each in rule["sourceRanges"]:
        ipaddress.ip_network(each)
    for tag in rule.get("targetTags", []):
        need(re.fullmatch(NAME, tag), f"Invalid target tag {tag}.")
    for what in rule.get("allowed", []) + rule.get("denied", []):
        need(what["IPProtocol"] in ("tcp", "udp", "icmp", "all"), "Unknown protocol.")
        need("ports" not in what or what["IPProtocol"] in ("tcp", "udp"), "This protocol has no ports.")


def list_all(project: Project, match: Match, request: Request) -> Resource:
    """What is in all zones, as an aggregated list gives it: zones with nothing in them have a warning."""
    what = match["what"]
    items: dict[str, Resource] = {}
    for name in sorted(project.names(what)):
        resource = project.get(what, name)
        zone = resource["zone"].rpartition("/")[2]
        items.setdefault(f"zones/{zone}", {what: []})[what].append(resource)
    empty = {"code": "NO_RESULTS_ON_PAGE", "message": "There are no results for scope on this page."}
    items.setdefault("zones/us-central1-f", {"warning": empty})
    return {"kind": f"compute#{what[:-1]}AggregatedList", "items": items}


def delete(project: Project, match: Match, request: Request) -> Resource:
    """Deletes a machine or a disk; with a machine go the disks that are to."""
    what, name = match["what"], match["name"]
    path = f"zones/{match['zone']}/{what}/{name}"
    if (what, name) not in project.resources or not project.get(what, name)["zone"].endswith(match["zone"]):
        raise RequestError(404, f"The resource 'projects/{PROJECT}/{path}' was not found")
    resource = project.remove(what, name)
    need(not resource.get("users"), f"The disk resource '{name}' is already being used.")
    for disk in resource.get("disks", []):
        if disk["autoDelete"]:
            project.remove("disks", disk["source"].rpartition("/")[2])
    return _operation("delete", path)


def show_operation(project: Project, match: Match, request: Request) -> Resource:
    return _operation("delete", "over", match["where"])


def _operation(kind: str, target: str, where: str = "") -> Resource:
    """One that is over at once."""
    where = where or target.rsplit("/", 2)[0]
    place = {"zone": f"{SITE}/projects/{PROJECT}/{where}"} if where.startswith("zones/") else {}
    return {
        "kind": "compute#operation",
        "name": "operation-1",
        "operationType": kind,
        "status": "DONE",
        "progress": 100,
        "selfLink": f"{SITE}/projects/{PROJECT}/{where}/operations/operation-1",
        "targetLink": f"{SITE}/projects/{PROJECT}/{target}",
        **place,
    }


def machine(name: str, slug: str, zone: str = "us-central1-a", *, disks: tuple[str, ...] = ()) -> Resource:
    """A running machine as it is listed, with disks that go with it."""
    attached = [{"source": f"{SITE}/projects/{PROJECT}/zones/{zone}/disks/{disk}"} for disk in disks]
    return {
        "kind": "compute#instance",
        "name": name,
        "zone": f"{SITE}/projects/{PROJECT}/zones/{zone}",
        "machineType": f"{SITE}/projects/{PROJECT}/zones/{zone}/machineTypes/n1-standard-8",
        "status": "RUNNING",
        "labels": {"project": slug},
        "disks": [{**each, "autoDelete": True} for each in attached],
        "networkInterfaces": [],
        "scheduling": {},
    }


def disk(name: str, slug: str, zone: str = "us-central1-a") -> Resource:
    """A disk as it is listed."""
    place = f"{SITE}/projects/{PROJECT}/zones/{zone}"
    return {
        "kind": "compute#disk",
        "name": name,
        "zone": place,
        "sizeGb": "100",
        "type": f"{place}/diskTypes/pd-balanced",
        "status": "READY",
        "labels": {"project": slug},
    }
