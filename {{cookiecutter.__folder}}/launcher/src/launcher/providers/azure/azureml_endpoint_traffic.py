"""Where the requests to an endpoint of Azure ML go, as the service says it. Asks nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...deployment import Deployment, Order
from ...project import project
from . import azureml_endpoint_request as asked

PLACE = "azureml"
DONE = "Succeeded"
# EndpointProvisioningState and DeploymentProvisioningState, of what is going on
BUSY = ("Creating", "Updating", "Deleting", "Scaling")
Json = Mapping[str, Any]


def is_ours(endpoint: Json) -> bool:
    """Tell whether this project made an endpoint."""
    tags = endpoint.get("tags") or {}
    return tags.get("project") == project().slug and "model" in tags


def state(resource: Json) -> str:
    """Give how far an endpoint or a deployment is."""
    return str(resource["properties"].get("provisioningState") or DONE)


def parts(endpoint: Json) -> dict[str, int]:
    """Give the part of the requests that each deployment gets, of those that get any."""
    given = endpoint["properties"].get("traffic") or {}
    return {name: int(percent) for name, percent in given.items() if percent}


def main(endpoint: Json) -> str:
    """Give the deployment that gets most of the requests; empty where none gets any."""
    found = parts(endpoint)
    return max(found, key=lambda name: found[name]) if found else ""


def mark(endpoint: Json) -> str:
    """Give what tells an endpoint from another one of its name; empty where it has none."""
    return str((endpoint.get("tags") or {}).get(asked.MARK, ""))


def before(endpoint: Json) -> str:
    """Give the deployment that a rollback leads to; empty where there is none."""
    return str((endpoint.get("tags") or {}).get(asked.BEFORE, ""))


def proven(endpoint: Json, version: int, new: str) -> str:
    """Give the deployment that a new one of a version is to be held against, and that a rollback leads to.

    As long as the requests are divided, it is the one from before: what is tried may have most of them by now. So it
    is where the same version is deployed again, or a rollback would lead to what is to be replaced.
    """
    divided = len(parts(endpoint)) > 1
    same = asked.version_of(main(endpoint)) == version
    former = before(endpoint)
    if former and former != new and (divided or same or main(endpoint) == new):
        return former
    return main(endpoint) if main(endpoint) != new else ""


def like(known: Iterable[Json], wanted: Json) -> str:
    """Give the deployment that is just what is wanted, so that no second one is paid for; empty where there is none."""
    for one in known:
        mine, of = one["properties"], wanted["properties"]
        same = all(
            str(mine.get(each, "")).lower() == str(of[each]).lower()
            for each in ("environmentId", "instanceType")
        )
        as_many = (one.get("sku") or {}).get("capacity") == wanted["sku"]["capacity"]
        if same and as_many and state(one) == DONE and asked.version_of(str(one["name"])):
            return str(one["name"])
    return ""


def perhaps(known: Iterable[Json], order: Order, kind: str) -> str:
    """Give the deployment that will do for an order, as far as is known before its image is; empty where there is none.

    Args:
        kind: of its machine, as Azure calls it.
    """
    _, made, digest = order.image.partition("@sha256:")
    for one in known:
        mine, name = one["properties"], str(one["name"])
        same = str(mine.get("instanceType", "")).lower() == kind.lower()
        same = same and (one.get("sku") or {}).get("capacity") == asked.instances(order)
        image = str(mine.get("environmentId", "")).rpartition("/versions/")[2]
        same = same and (not made or image.startswith(digest[:12]))
        if same and state(one) == DONE and asked.version_of(name) == order.version:
            return name
    return ""


def deployments(endpoint: Json, known: Iterable[Json]) -> list[Deployment]:
    """Give the versions there, with those that get no requests: they are paid for all the same.

    Args:
        known: the deployments of the endpoint.
    """
    tags, url = endpoint["tags"], str(endpoint["properties"].get("scoringUri") or "")
    given, found = parts(endpoint), []
    for one in known:
        name = str(one["name"])
        percent, said = given.get(name, 0), ""
        if state(one) != DONE:
            said = f"it is {state(one)}, and may be paid for"
        elif not percent:
            said = (
                f"no requests, and paid for{', for a rollback' if name == before(endpoint) else ''}"
            )
        found.append(
            Deployment(
                *(tags["model"], asked.version_of(name), PLACE, url, percent, said),
                tags.get("until", ""),
            )
        )
    if not found:
        number = str(tags.get("version", "")).removeprefix("v")
        said = f"nothing answers there; it is {state(endpoint)}"
        version = int(number) if number.isdecimal() else 0
        found.append(Deployment(tags["model"], version, PLACE, url, 0, said, tags.get("until", "")))
    return found
