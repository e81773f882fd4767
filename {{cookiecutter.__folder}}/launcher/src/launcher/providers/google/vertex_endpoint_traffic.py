"""Where the requests to an endpoint of Vertex AI go, as the endpoint says it. Asks nobody.

What a rollback leads to is the label `before`: it and the parts of the requests are changed by one request.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from ...deployment import Deployment, Order
from ...project import project
from . import vertex_endpoint_request as asked

PLACE = "vertex"
TIMES = ("createTime", "updateTime")


def condition(model: str = "") -> str:
    """Give the filter that finds this project's endpoints, those of one model where it is given."""
    found = f'labels.project="{project().slug}"'
    return f'{found} AND labels.model="{model}"' if model else found


def is_trial(endpoint: dict[str, Any]) -> bool:
    """Tell whether an endpoint was only made to ask a version before others do."""
    return asked.TRIAL in endpoint.get("labels", {})


def there(endpoint: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Give what is deployed, by its id."""
    return {one["id"]: one for one in endpoint.get("deployedModels", ())}


def parts(endpoint: dict[str, Any]) -> dict[str, int]:
    """Give the percent of the requests for each that gets any."""
    return {key: one for key, one in endpoint.get("trafficSplit", {}).items() if one}


def main(endpoint: dict[str, Any]) -> str:
    """Give the id of what gets most of the requests; empty where nothing does."""
    found = parts(endpoint)
    return max(found, key=lambda key: found[key], default="")


def before(endpoint: dict[str, Any]) -> str:
    """Give the id that a rollback leads to; empty where there is none."""
    found = endpoint.get("labels", {}).get(asked.BEFORE, "")
    return found if found in there(endpoint) else ""


def proven(endpoint: dict[str, Any], number: str) -> str:
    """Give the id that what is ordered is held against, and that a rollback leads to; empty where there is none.

    As long as the requests are divided it is the one from before, and so it is where just the same is ordered again.
    The same version on other machines is held against what answers, as any other is.

    Args:
        number: the id of just this that is deployed already; empty where nothing is.
    """
    first = main(endpoint)
    if len(parts(endpoint)) > 1 or first == number:
        first = before(endpoint) or first
    return "" if first == number else first


def kept(endpoint: dict[str, Any], order: Order) -> list[dict[str, Any]]:
    """Give what may be kept beside what is ordered: if its image is there already, only the registry of models knows."""
    found = there(endpoint)
    numbers = [proven(endpoint, number) for number in (same(endpoint, order), "")]
    return [found[number] for number in numbers if number in found]


def same(endpoint: dict[str, Any], order: Order, model: str = "") -> str:
    """Give the id of what is just what is ordered, so that nothing has to be started; empty where there is none.

    Args:
        model: the version in the registry of models; where nothing is said, any of the ordered version is it.
    """
    for key, one in there(endpoint).items():
        size = one.get("dedicatedResources", {})
        machine = size.get("machineSpec", {}).get("machineType")
        as_ordered = (machine, size.get("maxReplicaCount")) == (
            asked.machine(order),
            asked.most(order),
        )
        # The service names the project by its number.
        name = one["model"].rpartition("/")[2].partition("@")[0]
        is_it = (
            f"{name}@{one.get('modelVersionId')}" == model.rpartition("/")[2]
            if model
            else asked.version_of(one) == order.version
        )
        if as_ordered and is_it:
            return key
    return ""


def split(number: str, percent: int, old: str) -> dict[str, int]:
    """Give the parts of the requests: all that is not the new one's is the old one's."""
    return {number: percent, **({old: 100 - percent} if old and percent < 100 else {})}


def address(endpoint: dict[str, Any]) -> str:
    """Give where an endpoint answers: on its own name only, which comes with a scheme or without."""
    name = endpoint.get("dedicatedEndpointDns", "")
    if not name:
        return ""
    return f"{name if '://' in name else f'https://{name}'}/v1/{endpoint['name']}"


def url(endpoint: dict[str, Any]) -> str:
    """Give where it is asked; empty where it does not say its name yet."""
    base = address(endpoint)
    return f"{base}:predict" if base else ""


def age(endpoint: dict[str, Any], now: datetime) -> float:
    """Give the seconds since an endpoint was made or changed."""
    told = [datetime.fromisoformat(endpoint[key]) for key in TIMES if key in endpoint]
    return (now - max(told)).total_seconds() if told else math.inf


def deployments(endpoint: dict[str, Any]) -> list[Deployment]:
    """Give all of an endpoint that costs: also what gets no requests."""
    marks = endpoint.get("labels", {})
    model, until = marks["model"], marks.get("until", "")
    where, shares = url(endpoint), parts(endpoint)
    if not there(endpoint):
        state = "nothing is deployed; undeploy it"
        version = asked.version_of({"displayName": f"@{marks.get('version', '')}"})
        return [Deployment(model, version, PLACE, where, 0, state, until)]
    return [
        Deployment(
            model,
            asked.version_of(one),
            PLACE,
            where,
            0 if is_trial(endpoint) else shares.get(key, 0),
            _state(endpoint, key),
            until,
        )
        for key, one in there(endpoint).items()
    ]


def _state(endpoint: dict[str, Any], key: str) -> str:
    if is_trial(endpoint):
        return "tried, and paid for; if nobody is at it, undeploy"
    if parts(endpoint).get(key):
        return ""
    return "kept for a rollback, and paid for" if key == before(endpoint) else "paid for"
