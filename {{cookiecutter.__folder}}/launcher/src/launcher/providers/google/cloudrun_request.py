"""A service of Cloud Run as its Admin API v2 describes it, and what it costs. Asks nobody.

Fields: google.cloud.run_v2 0.16.2 (Service, RevisionTemplate, TrafficTarget, Probe), which are those of
cloud.google.com/run/docs/reference/rest/v2/projects.locations.services.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from typing import Any

from ...deployment import Order, hours_left, refuse_above, whole
from ...errors import UserError
from ...project import project

SETTINGS = ("traffic", "allow", "max", "cpu", "memory", "max_usd", "until")
# The name and a tag are parts of one host name; cloud.google.com/run/docs/deploying: 49 characters.
NAME = re.compile(r"[a-z]([-a-z0-9]{0,47}[a-z0-9])?")
REVISION = re.compile(
    r".*-v([0-9]+)-[a-z0-9]{5}"
)  # of our own making, at the end of a service's name
BEFORE = "before"  # the tag of the revision that a rollback leads to
MEMBER = re.compile(r"(user|group|serviceAccount):[^@\s,:]+@[^@\s,:]+\.[^@\s,:]+")
NOBODY = "nobody"
CPUS = ("1", "2", "4", "8")  # ResourceRequirements.limits
MEMORY = re.compile(r"([0-9]+)(Mi|Gi)")
LEAST_MEMORY = {
    "1": 0.5,
    "2": 0.5,
    "4": 2,
    "8": 4,
}  # GiB; run/docs/configuring/services/memory-limits
MOST_INSTANCES = 100  # more of them need a quota of their own
SECONDS = 60  # for one request; the server's own limits are far below
# Registries that Cloud Run takes images of: run/docs/deploying#images.
REGISTRIES = re.compile(r"[a-z0-9-]+-docker\.pkg\.dev|([a-z]+\.)?gcr\.io")
OVERRIDE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_RUN"

# USD for a vCPU and second, a GiB and second, and a million requests, billed by request, without the free tier
# (cloud.google.com/run/pricing). Regions that cloud.google.com/run/docs/locations does not list as tier 1 are counted
# as the dearer tier 2.
TIER_1 = (0.000024, 0.0000025, 0.40)
TIER_2 = (0.0000336, 0.0000035, 0.40)
CHEAP = frozenset(
    (
        *("asia-east1", "asia-northeast1", "asia-northeast2", "europe-north1"),
        *(
            "europe-southwest1",
            "europe-west1",
            "europe-west4",
            "europe-west8",
            "europe-west9",
            "me-west1",
        ),
        *("us-central1", "us-east1", "us-east4", "us-east5", "us-south1", "us-west1"),
    )
)


def service_name(model: str) -> str:
    """Give what the service of a model is called.

    Raises:
        UserError: it would be too long.
    """
    name = f"{project().slug}-{model}"
    if not NAME.fullmatch(name):
        raise UserError(
            f"{name} cannot name a service, which has at most 49 characters; register {model} by a shorter name=..."
        )
    return name


def revision_name(order: Order) -> str:
    """Give a name that no revision has yet, and that tells the version."""
    return f"{service_name(order.model)}-v{order.version}-{secrets.token_hex(3)[:5]}"


def version_of(revision: str) -> int:
    """Give the version that a revision's name tells; 0 where it is not of our making."""
    found = REVISION.fullmatch(revision)
    return int(found[1]) if found else 0


def check(order: Order) -> None:
    """Refuse settings that Cloud Run would, and what would open the service to everybody.

    Raises:
        UserError: naming the setting and what it may be.
    """
    settings = order.settings
    members(settings)
    hours_left(settings)
    whole(settings, "traffic", 100)
    whole(settings, "max", MOST_INSTANCES)
    cpu, memory = settings.get("cpu", "1"), settings.get("memory", "512Mi")
    if cpu not in CPUS:
        raise UserError(f"cpu={cpu} is none that Cloud Run has; give {', '.join(CPUS)}.")
    if not LEAST_MEMORY[cpu] <= _gib(memory) <= 32:
        raise UserError(
            f"memory={memory} does not go with cpu={cpu}; give {LEAST_MEMORY[cpu]:g} to 32 GiB, such as memory=2Gi."
        )
    service_name(order.model)
    host = order.image.partition("/")[0]
    elsewhere = (
        OVERRIDE in os.environ
    )  # which is not Google's service, and says itself what it takes
    if order.image and not elsewhere and not REGISTRIES.fullmatch(host):
        raise UserError(
            f"Cloud Run takes no image of {host}; set CLOUD_IMAGE or cloud.repository to one in Artifact Registry."
        )


def members(settings: Mapping[str, str]) -> list[str] | None:
    """Give who may ask, which may be nobody; None where nothing is said of it.

    Raises:
        UserError: it is nobody in particular.
    """
    if "allow" not in settings:
        return None
    if settings["allow"] == NOBODY:
        return []
    found = settings["allow"].split(",")
    for member in found:
        if not MEMBER.fullmatch(member):
            raise UserError(
                f"allow={member} names nobody; give allow=user:somebody@example.com, group:..., serviceAccount:... or nobody; "
                "a model is never opened to everybody here."
            )
    return found


def hourly(settings: Mapping[str, str], region: str) -> tuple[float, float]:
    """Give USD for an hour in which one instance answers, and for a million requests."""
    cpu, memory, requests = TIER_1 if region in CHEAP else TIER_2
    size = _gib(settings.get("memory", "512Mi"))
    return 3600 * (cpu * int(settings.get("cpu", "1")) + memory * size), requests


def most_usd(order: Order, region: str) -> float:
    """Give USD to its end, a month at most, of all instances, busy day and night."""
    hour, _ = hourly(order.settings, region)
    # While the requests are divided, the old revision has instances of its own.
    revisions = 2 if int(order.settings.get("traffic", "100")) < 100 else 1
    return hour * int(order.settings.get("max", "1")) * revisions * hours_left(order.settings)


def said_cost(order: Order, region: str, cap: float) -> str:
    """Say what it costs.

    Args:
        cap: USD a month.

    Raises:
        UserError: all instances, busy day and night, would pass the cap.
    """
    hour, requests = hourly(order.settings, region)
    month, most = most_usd(order, region), int(order.settings.get("max", "1"))
    said = f"could cost about {month:.2f} USD a month, were its instances (max={most}) busy day and night"
    refuse_above(order, month, cap, said)
    return (
        f"It costs {hour:.3f} USD for each hour in which an instance answers and {requests:.2f} USD for a million requests, "
        f"nothing while nobody asks, and about {month:.2f} USD a month busy day and night, without requests and traffic out."
    )


def template(order: Order, revision: str, account: str) -> dict[str, Any]:
    """Describe a revision."""
    settings = order.settings
    limits = {"cpu": settings.get("cpu", "1"), "memory": settings.get("memory", "512Mi")}
    container = {
        "image": order.image,
        "ports": [{"containerPort": 8080}],
        # Cloud Run sends nothing more before SIGTERM, and kills ten seconds after it.
        "env": [{"name": "SERVE_DRAIN_SECONDS", "value": "0"}],
        # With resources given, CPU would be paid for all the time unless this is true.
        "resources": {"limits": limits, "cpuIdle": True, "startupCpuBoost": True},
        "startupProbe": {
            "httpGet": {"path": "/health", "port": 8080},
            "periodSeconds": 2,
            "timeoutSeconds": 1,
            "failureThreshold": 30,
        },
    }
    return {
        "revision": revision,
        "labels": labels(order),
        "serviceAccount": account,
        "containers": [container],
        "scaling": {"minInstanceCount": 0, "maxInstanceCount": int(settings.get("max", "1"))},
        # What waits in the server's own queue, and what is computed, with room to say 503 itself.
        "maxInstanceRequestConcurrency": 80,
        "timeout": f"{SECONDS}s",
    }


def service(
    order: Order, revision: str, account: str, traffic: list[dict[str, Any]]
) -> dict[str, Any]:
    """Describe a service: on the net, and for nobody who may not invoke it."""
    return {
        "labels": labels(order),
        "ingress": "INGRESS_TRAFFIC_ALL",
        "invokerIamDisabled": False,
        # That of the template is for each revision; this one is for all of them together.
        "scaling": {"maxInstanceCount": int(order.settings.get("max", "1"))},
        "template": template(order, revision, account),
        "traffic": traffic,
    }


def target(revision: str, percent: int, tag: str) -> dict[str, Any]:
    """Describe a part of the traffic; with a tag it has an address of its own."""
    kind = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"
    found = {"type": kind, "revision": revision, "percent": percent}
    return {**found, "tag": tag} if tag else found


def labels(order: Order) -> dict[str, str]:
    """Give the labels by which it is found again, and told apart on the bill."""
    found = {"project": project().slug, "model": order.model, "version": f"v{order.version}"}
    until = order.settings.get("until")  # the janitor ends it only where its note says so, too
    return {**found, "until": until} if until else found


def _gib(memory: str) -> float:
    found = MEMORY.fullmatch(memory)
    if not found:
        raise UserError(f"memory={memory} is no size; give one such as memory=512Mi or memory=2Gi.")
    return int(found[1]) / (1024 if found[2] == "Mi" else 1)
