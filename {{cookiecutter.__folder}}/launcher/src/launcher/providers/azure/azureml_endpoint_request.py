"""An online endpoint of Azure Machine Learning and its deployments as REST (2025-12-01) has them, and what they cost. Asks nobody.

https://learn.microsoft.com/rest/api/azureml/online-endpoints and .../online-deployments; names, limits and the machines:
learn.microsoft.com/azure/machine-learning/how-to-manage-quotas and .../reference-managed-online-endpoints-vm-sku-list.
"""

from __future__ import annotations

import hashlib
import math
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ...deployment import Order, hours_left, refuse_above, whole
from ...errors import UserError
from ...money.prices import Price, machines, price
from ...project import project
from .azureml_request import duration, environment_version

SETTINGS = ("traffic", "allow", "max", "machine", "max_usd", "until")
ONLINE = "online"  # in the table of prices: what has deployments of endpoints
# The cheapest that Azure lists, of a family that new subscriptions have quota for; the image takes 84 MB of memory.
MACHINE = "cpu-tiny"
MOST_INSTANCES = 50
LONGEST_NAME = 32  # of endpoints and deployments: letters, digits and single dashes, a letter first
DEPLOYMENT = re.compile(r"v([0-9]+)-[0-9a-f]{5}")  # of our own making
OBJECT = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
MEMBER = re.compile(rf"(?P<kind>user|group|servicePrincipal):(?P<id>{OBJECT})")
KINDS = {"user": "User", "group": "Group", "servicePrincipal": "ServicePrincipal"}
NOBODY = "nobody"
PORT = 8080
SECONDS = 60  # for one request; the service's own default is 5, and 180 the most
# Twice as many are let in for each instance (.../how-to-troubleshoot-online-endpoints, status 429): what the server's own
# threads and queue take, so that it says itself when it is full.
CONCURRENT = 34
MARK = "mark"  # the tag by which whoever has made an endpoint knows it from another one of its name
BEFORE = "before"  # the tag that names the deployment which a rollback leads to


def endpoint_name(workspace: str, model: str) -> str:
    """Give what the endpoint of a model is called: a name that is one in its region, whoever else has a model of that name.

    Args:
        workspace: its path in Azure Resource Manager.
    """
    which = hashlib.sha256(f"{workspace.lower()}/{model}".encode()).hexdigest()[:6]
    stem = re.sub(r"[^a-z0-9]+", "-", f"{project().slug}-{model}".lower()).strip("-")
    if not stem[:1].isalpha():
        stem = f"m-{stem}"
    return f"{stem[: LONGEST_NAME - len(which) - 1].rstrip('-')}-{which}"


def deployment_name(order: Order) -> str:
    """Give a name that no deployment has yet, and that tells the version."""
    return f"v{order.version}-{secrets.token_hex(3)[:5]}"


def version_of(deployment: str) -> int:
    """Give the version that a deployment's name tells; 0 where it is not of our making."""
    found = DEPLOYMENT.fullmatch(deployment)
    return int(found[1]) if found else 0


def check(order: Order) -> None:
    """Refuse settings that the service would, and what would cost without an end.

    Raises:
        UserError: naming the setting and what it may be.
    """
    settings = order.settings
    members(settings)
    if "until" not in settings:
        raise UserError(
            "An endpoint of Azure ML costs day and night: give until=DATE, such as until=2026-12-31, after which the janitor "
            "removes it; a bucket keeps that day."
        )
    hours_left(settings)
    whole(settings, "traffic", 100)
    whole(settings, "max", MOST_INSTANCES)
    known = machines(ONLINE)
    if (machine := settings.get("machine", MACHINE)) not in known:
        raise UserError(
            f"machine={machine} is none of those for endpoints; give {', '.join(known)}."
        )
    if order.image and not order.image.partition("/")[0].endswith(".azurecr.io"):
        raise UserError(
            f"The endpoint's identity cannot fetch {order.image.partition('@')[0]}; set CLOUD_IMAGE or cloud.repository to the "
            "project's registry in Azure."
        )


def members(settings: Mapping[str, str]) -> dict[str, str] | None:
    """Give who may ask, by object id, and what each is; None where nothing is said of it.

    Raises:
        UserError: it is nobody in particular, or a mail, which only the directory could resolve.
    """
    if "allow" not in settings:
        return None
    if settings["allow"] == NOBODY:
        return {}
    found = {}
    for member in settings["allow"].split(","):
        if not (one := MEMBER.fullmatch(member)):
            raise UserError(
                f"allow={member} is nobody's object id; give allow=user:ID (`az ad user show --id MAIL --query id -o tsv`), group:ID, "
                "servicePrincipal:ID, or nobody; a model is never opened to everybody here."
            )
        found[one["id"].lower()] = KINDS[one["kind"]]
    return found


def instances(order: Order) -> int:
    """Give how many instances a deployment has, all the time."""
    return int(order.settings.get("max", "1"))


def machine(order: Order, region: str) -> Price:
    """Give what an instance is, and what it costs.

    Raises:
        UserError: there is none in this region.
    """
    return price(ONLINE, order.settings.get("machine", MACHINE), region)


def reserved(count: int) -> int:
    """Give how many machines the quota must have room for: a fifth more, for upgrades (.../how-to-manage-quotas)."""
    return math.ceil(round(1.2 * count, 6))


def hourly(order: Order, region: str) -> float:
    """Give USD an hour for all instances of one deployment."""
    return machine(order, region).hourly(False) * instances(order)


def hourly_of(deployment: Mapping[str, Any], order: Order, region: str) -> float:
    """Give USD an hour of a deployment that is there; as of the order's where its machine is none of those known."""
    kind = str(deployment["properties"].get("instanceType", "")).lower()
    count = int((deployment.get("sku") or {}).get("capacity") or 1)
    for name in machines(ONLINE):
        with suppress(UserError):  # not in this region
            one = price(ONLINE, name, region)
            if one.machine.type.lower() == kind:
                return one.hourly(False) * count
    return hourly(order, region)


def most_usd(order: Order, region: str, kept: float | None) -> float:
    """Give USD to its end, a month at most; arguments as of `said_cost`."""
    return (hourly(order, region) + (kept or 0)) * hours_left(order.settings)


def said_cost(order: Order, region: str, cap: float, kept: float | None) -> str:
    """Say what it costs.

    Args:
        cap: USD a month.
        kept: USD an hour of the version before, which stays for a rollback and costs as before; None where none does.

    Raises:
        UserError: it would pass the cap.
    """
    hour, left = hourly(order, region), hours_left(order.settings)
    month = most_usd(order, region, kept)
    both = "" if kept is None else ", with the version before"
    refuse_above(
        order, month, cap, f"would cost about {month:.2f} USD in {left / 24:.0f} days{both}"
    )
    also = ""
    if kept is not None:
        also = f", and {kept:.3f} USD for the version before, which stays for a rollback until the next deployment or rollback"
    return (
        f"It costs {hour:.3f} USD for each hour, day and night, also while nobody asks{also}: about {month:.2f} USD in the "
        f"{left / 24:.0f} days to come, without traffic out."
    )


def environment(order: Order) -> tuple[str, dict[str, Any]]:
    """Give the environment's path below the workspace, and what it is: the image as it is, and where it answers.

    As the route for requests is /, all paths lead to the server, the one for its health too: so Azure's own example has it,
    github.com/Azure/azureml-examples, cli/endpoints/online/custom-container/triton/single-model.
    """
    name, version = environment_version(order.image, environment_name(order.model))
    routes = {"liveness": "/health", "readiness": "/health", "scoring": "/"}
    config = {f"{each}Route": {"path": path, "port": PORT} for each, path in routes.items()}
    properties = {"image": order.image, "osType": "Linux", "inferenceConfig": config}
    return f"environments/{name}/versions/{version}", {"properties": properties}


def environment_name(model: str) -> str:
    """Give the name that all environments of a model's versions have."""
    return f"{project().slug}-serve-{model}"


def endpoint(order: Order, region: str, identity: str, mark: str) -> dict[str, Any]:
    """Describe an endpoint that nothing answers at yet: it is on the net, and for nobody whose role does not let them ask.

    Args:
        identity: path of the one as which images are fetched.
        mark: that no other endpoint has.
    """
    return {
        "location": region,
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {identity: {}}},
        "tags": {**labels(order), MARK: mark},
        "properties": {"authMode": "AADToken", "publicNetworkAccess": "Enabled"},
    }


def changed(
    found: Mapping[str, Any], parts: Mapping[str, int], tags: Mapping[str, str]
) -> dict[str, Any]:
    """Describe an endpoint as it was found, with other parts of the requests and other tags.

    What is not said again is taken away; properties can only be added.
    """
    of, identity = found["properties"], found.get("identity") or {}
    ids: dict[str, Any] = {path: {} for path in identity.get("userAssignedIdentities") or {}}
    properties = {
        key: of[key] for key in ("authMode", "publicNetworkAccess", "description") if of.get(key)
    }
    if of.get("properties"):
        properties["properties"] = dict(of["properties"])
    return {
        "location": found["location"],
        "identity": {
            "type": identity.get("type", "None"),
            **({"userAssignedIdentities": ids} if ids else {}),
        },
        "tags": dict(tags),
        "properties": {**properties, "traffic": dict(parts)},
    }


def deployment(order: Order, region: str, environment_id: str) -> dict[str, Any]:
    """Describe a deployment: so many instances of one version's image, all the time."""
    probe = {"initialDelay": "PT5S", "timeout": "PT2S", "successThreshold": 1}
    return {
        "location": region,
        "tags": labels(order),
        "sku": {"name": "Default", "capacity": instances(order)},
        "properties": {
            "endpointComputeType": "Managed",
            "environmentId": environment_id,
            "instanceType": machine(order, region).machine.type,
            # The endpoint's own address gives predictions too, as `az ml online-endpoint invoke` wants it.
            "environmentVariables": {"AIP_PREDICT_ROUTE": "/"},
            "requestSettings": {
                "requestTimeout": duration(SECONDS),
                "maxConcurrentRequestsPerInstance": CONCURRENT,
            },
            "livenessProbe": {**probe, "period": "PT10S", "failureThreshold": 30},
            "readinessProbe": {**probe, "period": "PT5S", "failureThreshold": 60},
            "scaleSettings": {"scaleType": "Default"},
            "appInsightsEnabled": False,
            # Off, it would need a registry with a private link; the container's identity has no right to the project's data.
            "egressPublicNetworkAccess": "Enabled",
        },
    }


def larger(deployment: Mapping[str, Any], code: str) -> str:
    """Give what to try beside where the smallest machine may be why a deployment did not come up; "" for nothing.

    Of its size Azure's list of machines warns that containers may be ended there.
    """
    small = deployment["properties"]["instanceType"] == "Standard_F2s_v2"
    if small and code in ("ResourceNotReady", "OutOfQuota"):
        return ", or give machine=cpu-small, as Azure warns that this size may be too small"
    return ""


def labels(order: Order) -> dict[str, str]:
    """Give the tags by which it is found again, and told apart on the bill."""
    found = {"project": project().slug, "model": order.model, "version": f"v{order.version}"}
    until = order.settings.get("until")  # the janitor ends it only where its note says so, too
    return {**found, "until": until} if until else found
