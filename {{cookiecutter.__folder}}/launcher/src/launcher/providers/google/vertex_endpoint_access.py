"""Who may ask an endpoint of Vertex AI: its own policy, with a role that allows nothing else.

Google has no role for asking alone: `roles/aiplatform.user` on an endpoint would let its holder delete it. So `make
cloud-setup` makes one with `aiplatform.endpoints.predict`, as cloud.google.com/vertex-ai/docs/general/access-control
says. The policy is of v1beta1: cloud.google.com/vertex-ai/docs/general/endpoint-access-control.
"""

from __future__ import annotations

from typing import Any

from ...project import project
from ..errors import QuotaError, RefusedError, ServiceError, UnreachableError
from . import auth as google
from .cloudrun_access import with_members
from .vertex_api import Region

BETA = "v1beta1"


def role(region: Region) -> str:
    """Give the role for asking, of the project's own."""
    name = project().account.replace("-", "_")
    return f"projects/{region.backend.project}/roles/{name}_predict"


def allow(region: Region, endpoint: str, members: list[str] | None) -> dict[str, Any] | None:
    """Let those ask an endpoint who are named, and nobody else by its policy; where nothing is said it stays as it is.

    Who may by a role in the project can do so still.

    Returns:
        What `restore` takes to undo it; None where nothing has changed.

    Raises:
        ServiceError: there is no such role, or this login may not change policies.
    """
    if members is None:
        return None
    url, given = region.url(endpoint, BETA), role(region)
    try:
        # Of the first version, a binding with a condition would look like a role of another name.
        query = {"options.requestedPolicyVersion": "3"}
        policy = google.call("POST", f"{url}:getIamPolicy", {}, params=query, retry=True)
        body = {"policy": with_members(policy, given, members)}
        now = google.call("POST", f"{url}:setIamPolicy", body, retry=True)
    except (UnreachableError, QuotaError):
        raise
    except RefusedError as error:
        raise RefusedError(
            f"allow= cannot be done: {error.what}",
            "it takes roles/aiplatform.admin; an owner can deploy, or leave allow= out",
        ) from error
    except ServiceError as error:
        raise RefusedError(
            f"allow= cannot be done: {error.what}",
            f"`make cloud-setup` makes the role {given}, with aiplatform.endpoints.predict",
        ) from error
    return {**policy, "etag": now.get("etag", "")}


def restore(region: Region, endpoint: str, policy: dict[str, Any] | None) -> None:
    """Undo `allow`, unless somebody has changed it since."""
    if policy is not None:
        google.call("POST", f"{region.url(endpoint, BETA)}:setIamPolicy", {"policy": policy})
