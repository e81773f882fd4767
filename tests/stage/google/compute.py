"""Compute Engine as `make cloud-setup` and `make cloud-destroy` meet it: the network and its firewall rules."""

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


def show_operation(project: Project, match: Match, request: Request) -> Resource:
    return _operation("delete", "global/over")


def _operation(kind: str, target: str) -> Resource:
    """One that is over at once."""
    return {
        "kind": "compute#operation",
        "name": "operation-1",
        "operationType": kind,
        "status": "DONE",
        "progress": 100,
        "selfLink": f"{SITE}/projects/{PROJECT}/global/operations/operation-1",
        "targetLink": f"{SITE}/projects/{PROJECT}/{target}",
    }
