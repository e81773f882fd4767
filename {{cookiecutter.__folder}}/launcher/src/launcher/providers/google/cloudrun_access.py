"""Who may ask a service of Cloud Run, and the account as which it runs."""

from __future__ import annotations

from typing import Any

from ...project import project
from ..errors import MissingError
from . import auth as google

INVOKER = "roles/run.invoker"
EVERYBODY = frozenset(("allUsers", "allAuthenticatedUsers"))


def with_members(policy: dict[str, Any], role: str, members: list[str]) -> dict[str, Any]:
    """Give a policy in which those have a role and nobody else has it, and in which everybody has none."""
    bindings = []
    for one in policy.get("bindings", ()):
        named = [each for each in one["members"] if each not in EVERYBODY]
        if named and one["role"] != role:
            bindings.append({**one, "members": named})
    if members:
        bindings.append({"role": role, "members": members})
    return {**policy, "bindings": bindings}


def allow(url: str, members: list[str] | None) -> dict[str, Any] | None:
    """Let those invoke a service who are named, and nobody else; where nothing is said it stays as it is.

    Args:
        url: of the service.

    Returns:
        What `restore` takes to undo it; None where nothing has changed.
    """
    if members is None:
        return None
    # Of the first version, a binding with a condition would look like a role of another name.
    query = {"options.requestedPolicyVersion": "3"}
    policy = google.call("GET", f"{url}:getIamPolicy", params=query)
    body = {"policy": with_members(policy, INVOKER, members)}
    now = google.call("POST", f"{url}:setIamPolicy", body, retry=True)
    return {**policy, "etag": now.get("etag", "")}


def restore(url: str, policy: dict[str, Any] | None) -> None:
    """Undo `allow`, unless somebody has changed it since."""
    if policy is not None:
        google.call("POST", f"{url}:setIamPolicy", {"policy": policy})


def account(cloud_project: str) -> tuple[str, bool]:
    """Give the services' own account, which has no role; made where there is none.

    Returns:
        Its address, and whether it was made just now, so that not all of Google knows it yet.
    """
    name = f"{project().account}-server"
    email = f"{name}@{cloud_project}.iam.gserviceaccount.com"
    accounts = f"{google.endpoint('iam')}/v1/projects/{cloud_project}/serviceAccounts"
    try:
        google.call("GET", f"{accounts}/{email}")
    except MissingError:
        about = {"displayName": f"What serves models of {project().slug}; has no rights"}
        google.call("POST", accounts, {"accountId": name, "serviceAccount": about})
        return email, True
    return email, False
