"""What Cloud Run refuses in a service, as its reference and its types document it.

https://docs.cloud.google.com/run/docs/reference/rest/v2/projects.locations.services, and the comments of
google.cloud.run_v2 0.16.2, of which each field is taken; what the types do not know is refused.
"""

import re
from collections.abc import Collection
from typing import Any

from google.cloud.run_v2.types import Service
from google.protobuf import json_format

from stage.google.vertex_rules import is_image
from stage.rest import RequestError

# run/docs/deploying: "49 characters or less", lower-case, letters, digits and dashes
SERVICE = re.compile(r"[a-z]([-a-z0-9]{0,47}[a-z0-9])?")
# A revision is a name of Kubernetes, and begins with that of its service: RevisionTemplate.revision
REVISION = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
TAG = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL = re.compile(r"[-_a-z0-9]{0,63}")
# ResourceRequirements.limits: "the only supported values for CPU"; run/docs/configuring/services/memory-limits
LEAST_GIB = {"1": 0.125, "2": 0.125, "4": 2, "8": 4}
UNITS = {"Mi": 1 / 1024, "Gi": 1}
MOST_GIB = 32
BY_REVISION = 2  # TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION


def need(condition: Any, field: str, text: str) -> None:
    """Refuses a request in which a field is wrong."""
    if not condition:
        raise RequestError(400, f"Violation in {field}: {text}", [(field, text)])


def parse(body: bytes) -> Any:
    """Reads a Service as protobuf; refuses what its schema does not know."""
    try:
        return json_format.Parse(body, Service.pb(Service()), ignore_unknown_fields=False)
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise RequestError(400, f"Invalid JSON payload received. {error}", [("", str(error))]) from error


def check_template(name: str, template: Any, registries: Collection[str] = ()) -> None:
    """Refuses a revision that Cloud Run does not start."""
    need(len(template.containers) == 1, "template.containers", "exactly one is part of the stand-in")
    container = template.containers[0]
    known = is_image(container.image, registries)
    need(known, "template.containers[0].image", "expected an image of Artifact Registry or Docker Hub")
    _check_resources(container.resources)
    need(len(container.ports) <= 1, "template.containers[0].ports", "one port at most")
    if container.HasField("startup_probe"):
        _check_probe(container.startup_probe)
    scaling = template.scaling
    least, most = scaling.min_instance_count, scaling.max_instance_count
    need(0 <= least <= (most or 100), "template.scaling", "the least is above the most")
    # RevisionTemplate.max_instance_request_concurrency; run/quotas: 1000
    need(0 <= template.max_instance_request_concurrency <= 1000, "template", "0 to 1000 requests at a time")
    need(0 <= template.timeout.seconds <= 3600, "template.timeout", "an hour at most")
    if template.revision:
        fits = REVISION.fullmatch(template.revision) and template.revision.startswith(f"{name}-")
        need(fits, "template.revision", "it begins with the name of the service")


def _check_resources(resources: Any) -> None:
    limits = dict(resources.limits)
    need(set(limits) <= {"cpu", "memory"}, "resources.limits", "only cpu and memory are part of the stand-in")
    cpu, memory = limits.get("cpu", "1"), limits.get("memory", "512Mi")
    need(cpu in LEAST_GIB, "resources.limits.cpu", "the only supported values are 1, 2, 4 and 8")
    found = re.fullmatch(r"([0-9]+)(Mi|Gi)", memory)
    need(found, "resources.limits.memory", "no such size")
    gib = int(found[1]) * UNITS[found[2]] if found else 0
    need(LEAST_GIB[cpu] <= gib <= MOST_GIB, "resources.limits.memory", f"not with {cpu} CPUs")


def _check_probe(probe: Any) -> None:
    """Probe's own comments."""
    period, seconds = probe.period_seconds or 10, probe.timeout_seconds or 1
    need(1 <= period <= 240, "startupProbe.periodSeconds", "1 to 240")
    need(1 <= seconds <= period, "startupProbe.timeoutSeconds", "not above the period")
    need(probe.WhichOneof("probe_type"), "startupProbe", "a kind of probe is needed")


def check_traffic(traffic: Any, revisions: set[str]) -> None:
    """Refuses parts that are not all, and revisions that are not there."""
    total = sum(one.percent for one in traffic)
    need(total == 100, "traffic", f"the percents add up to {total}, not to 100")
    tags = [one.tag for one in traffic if one.tag]
    need(len(tags) == len(set(tags)), "traffic", "a tag stands twice")
    for one in traffic:
        need(not one.tag or TAG.fullmatch(one.tag), "traffic.tag", "lower-case letters, digits and dashes")
        by_name = one.type_ == BY_REVISION
        need(
            by_name == bool(one.revision),
            "traffic.revision",
            "a revision goes with its type, and with no other",
        )
        if one.revision:
            need(one.revision in revisions, "traffic.revision", f"there is no revision {one.revision}")


def check_labels(labels: Any) -> None:
    """https://docs.cloud.google.com/run/docs/configuring/services/labels"""
    for key, value in labels.items():
        need(LABEL.fullmatch(key) and LABEL.fullmatch(value), "labels", f"{key}={value} is no label")
