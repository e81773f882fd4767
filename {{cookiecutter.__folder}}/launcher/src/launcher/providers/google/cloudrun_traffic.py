"""Where the requests to a service of Cloud Run go, as the service says it. Asks nobody."""

from __future__ import annotations

from typing import Any

from ...deployment import Deployment
from ...project import project
from . import cloudrun_request as asked

PLACE = "cloudrun"


def is_ours(service: dict[str, Any]) -> bool:
    """Tell whether this project made a service."""
    labels = service.get("labels") or {}
    return labels.get("project") == project().slug and "model" in labels


def latest(service: dict[str, Any]) -> str:
    """Give the newest revision that has ever started; empty where none has."""
    return str(service.get("latestReadyRevision") or "").rpartition("/")[2]


def parts(service: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the parts of the traffic, each with its revision, percent and tag.

    Somebody may have let a part go to the latest revision, which a new one would change: it is named here.
    """
    whole: dict[str, Any] = {"percent": 100}  # what Cloud Run does where nothing is said
    found = service.get("traffic") or [whole]
    return [
        asked.target(
            one.get("revision") or latest(service), one.get("percent", 0), one.get("tag", "")
        )
        for one in found
    ]


def main(service: dict[str, Any]) -> str:
    """Give the revision that gets most of the requests."""
    return str(max(parts(service), key=lambda one: one["percent"])["revision"])


def before(service: dict[str, Any]) -> str:
    """Give the revision that a rollback leads to; empty where there is none."""
    found = (one["revision"] for one in parts(service) if one.get("tag") == asked.BEFORE)
    return str(next(found, ""))


def proven(service: dict[str, Any], version: int) -> str:
    """Give the revision that a new one of a version is to be held against, and that a rollback leads to.

    As long as the requests are divided, it is the one from before: what is tried may have most of them by now. So it
    is where the same version is deployed again, or a rollback would lead to what is to be replaced.
    """
    divided = sum(one["percent"] > 0 for one in parts(service)) > 1
    same = asked.version_of(main(service)) == version
    return ((divided or same) and before(service)) or main(service)


def with_candidate(service: dict[str, Any], revision: str, tag: str) -> list[dict[str, Any]]:
    """Give the traffic as it is, and a revision with an address and no requests."""
    kept = []
    for one in parts(service):
        keep = one.get("tag") == asked.BEFORE
        if keep or one["percent"]:  # another tag may be the very one
            kept.append(asked.target(one["revision"], one["percent"], asked.BEFORE if keep else ""))
    return [asked.target(revision, 0, tag), *kept]


def percent(service: dict[str, Any], revision: str) -> int:
    """Give the part of the requests that a revision really gets."""
    statuses = service.get("trafficStatuses") or ()
    return sum(one.get("percent", 0) for one in statuses if one.get("revision") == revision)


def deployments(service: dict[str, Any]) -> list[Deployment]:
    """Give the versions that get requests."""
    model, state = service["labels"]["model"], ""
    until = service["labels"].get("until", "")
    if (condition := service.get("terminalCondition") or {}).get("state") == "CONDITION_FAILED":
        state = str(condition.get("message", "failed"))
    url = service.get("uri", "")  # which a service has only once it has started
    return [
        Deployment(
            model, asked.version_of(one["revision"]), PLACE, url, one["percent"], state, until
        )
        for one in parts(service)
        if one["percent"]
    ]
