"""An endpoint of Vertex AI and what is deployed to it, as its API describes them, and what it costs. Asks nobody.

Fields: google-cloud-aiplatform 2.7.0 (Endpoint, DeployedModel, DedicatedResources), which are those of
docs.cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.endpoints.
"""

from __future__ import annotations

import secrets
from typing import Any

from ...deployment import Order, hours_left, refuse_above, whole
from ...errors import UserError
from ...project import project
from .cloudrun_request import members
from .vertex_models import model_id

SETTINGS = ("traffic", "allow", "max", "machine", "max_usd", "until")
# USD an hour for online prediction in us-central1 by cloud.google.com/vertex-ai/pricing (e2-standard-2 0.0770564,
# n1-standard-2 0.1095, and in proportion to their CPUs), rounded up to a tenth of a cent.
MACHINES = {
    "e2-standard-2": 0.078,
    "e2-standard-4": 0.155,
    "e2-standard-8": 0.309,
    "n1-standard-2": 0.110,
    "n1-standard-4": 0.219,
    "n1-standard-8": 0.438,
}
MACHINE = "e2-standard-2"  # the cheapest of them: 2 CPUs and 8 GB, of which the server takes 0.1
CHEAP = ("us-central1", "us-east1", "us-west1")
# Of the same machine in the dearest region; the prices of each are not written down here.
ELSEWHERE = 1.6
MOST_MACHINES = 20
SECONDS = 60  # for one request; the server's own limits are far below
TRIAL, BEFORE = "trial", "before"  # labels


def check(order: Order) -> None:
    """Refuse settings that Vertex AI would, and what would have no end.

    Raises:
        UserError: naming the setting and what it may be.
    """
    settings = order.settings
    members(settings)
    if "until" not in settings:
        raise UserError(
            "Vertex AI costs day and night, whether anybody asks or not, so it needs a last day; "
            "give one such as until=2026-12-31."
        )
    hours_left(settings)
    whole(settings, "traffic", 100)
    whole(settings, "max", MOST_MACHINES)
    if machine(order) not in MACHINES:
        raise UserError(
            f"machine={machine(order)} is none whose price is known here; give {', '.join(MACHINES)}."
        )
    model_id(order.model)


def machine(order: Order) -> str:
    return order.settings.get("machine", MACHINE)


def most(order: Order) -> int:
    return int(order.settings.get("max", "1"))


def hourly(order: Order, region: str) -> float:
    """Give USD for an hour of one machine."""
    return MACHINES[machine(order)] * (1 if region in CHEAP else ELSEWHERE)


def costs(one: dict[str, Any], region: str) -> float:
    """Give USD for an hour of something that is deployed, on all machines that it may have.

    A machine whose price is not known here counts as the dearest of those.
    """
    size = one.get("dedicatedResources", {})
    price = MACHINES.get(size.get("machineSpec", {}).get("machineType"), max(MACHINES.values()))
    count = size.get("maxReplicaCount") or size.get("minReplicaCount") or 1
    return price * count * (1 if region in CHEAP else ELSEWHERE)


def most_usd(order: Order, region: str, former: float) -> float:
    """Give USD to its end, a month at most, of all machines; arguments as of `said_cost`."""
    return (hourly(order, region) * most(order) + former) * hours_left(order.settings)


def said_cost(order: Order, region: str, cap: float, former: float) -> str:
    """Say what it costs.

    Args:
        cap: USD a month.
        former: USD an hour of the version before, which is kept; 0 where none is.

    Raises:
        UserError: it would pass the cap.
    """
    hour, hours = hourly(order, region), hours_left(order.settings)
    month = most_usd(order, region, former)
    before = f"; {former * hours:.2f} of it for the version before" if former else ""
    refuse_above(
        order, month, cap, f"could cost about {month:.2f} USD a month (max={most(order)}{before})"
    )
    said = (
        f"It costs {hour:.3f} USD an hour for each machine, day and night, whether anybody asks or not; about "
        f"{month:.2f} USD a month at most, until {order.settings['until']}."
    )
    if former:
        said += (
            f" In that is the version before, which is kept for a rollback and costs {former:.3f} USD an hour "
            "itself; while the new one is tried, a machine more."
        )
    return said


def new_id() -> str:
    """Give what nothing that is deployed is called yet: DeployedModel.id has ten digits at most."""
    return str(secrets.randbelow(9 * 10**8) + 10**8)


def endpoint_id(order: Order) -> str:
    """Give what no endpoint was ever called: whether a name can be taken again after a deletion is not documented."""
    return f"{model_id(order.model)[:56].rstrip('-_')}-{secrets.token_hex(3)}".replace("_", "-")


def labels(order: Order, **more: str) -> dict[str, str]:
    """Give the labels by which an endpoint is found again; the last day is for whoever looks, and for the janitor."""
    found = {"project": project().slug, "model": order.model, "version": f"v{order.version}"}
    until = order.settings.get("until")
    return {**found, **({"until": until} if until else {}), **more}


def endpoint(order: Order, **more: str) -> dict[str, Any]:
    """Describe an endpoint with an address of its own, which the network of others does not slow down.

    It takes 10 MB a request in place of 1.5 (vertex-ai/docs/predictions/using-dedicated-endpoints), of which the server
    takes 1.5.
    """
    return {
        "displayName": model_id(order.model),
        "labels": labels(order, **more),
        "dedicatedEndpointEnabled": True,
        "clientConnectionConfig": {"inferenceTimeout": f"{SECONDS}s"},
    }


def deployed(order: Order, number: str, model: str, most: int) -> dict[str, Any]:
    """Describe a version on machines of its own.

    It runs as an account of Google's that reads models and nothing else: one of our own would have to be given to the
    service first (cloud.google.com/vertex-ai/docs/general/custom-service-account).

    Args:
        number: its id.
        model: the version in the model registry.
        most: machines; one is always there.
    """
    return {
        "id": number,
        "model": model,
        "displayName": name_of(order.model, order.version),
        "dedicatedResources": {
            "machineSpec": {"machineType": machine(order)},
            "minReplicaCount": 1,
            "maxReplicaCount": most,
        },
    }


def name_of(model: str, version: int) -> str:
    """Give what a version is called at an endpoint, by which its number is known again."""
    return f"{model}@v{version}"


def version_of(one: dict[str, Any]) -> int:
    """Give the version of something that is deployed; 0 where it is not of our making."""
    number = str(one.get("displayName", "")).rpartition("@v")[2]
    return int(number) if number.isdigit() else 0
