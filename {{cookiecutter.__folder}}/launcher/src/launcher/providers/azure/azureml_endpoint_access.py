"""Who may ask an endpoint of Azure ML: whoever has our role `caller` there, which gives that one right and no other.

Beside them those whose roles at the workspace, or above it, have it anyway: Owner, Contributor, AzureML Data Scientist.
https://learn.microsoft.com/azure/machine-learning/concept-endpoints-online-auth
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import MissingError, ServiceError
from . import auth as azure
from .setup.names import ROLES, guid

ASSIGNMENTS = "providers/Microsoft.Authorization/roleAssignments"
CALLER = "caller"  # of setup/roles.json


def allow(endpoint: str, members: Mapping[str, str] | None) -> bool:
    """Let those ask an endpoint who are named, and nobody else; where nothing is said it stays as it is.

    Args:
        endpoint: its path in Azure Resource Manager.
        members: by object id, each with what it is: User, Group, ServicePrincipal.

    Returns:
        Whether anything has changed.

    Raises:
        ServiceError: who asks may not give or take roles, or there is no such role or member.
    """
    if members is None:
        return False
    found = _assignments(endpoint)
    for who in members.keys() - found.keys():
        _give(endpoint, who, members[who])
    for who in found.keys() - members.keys():
        azure.call("DELETE", str(found[who]["id"]), api=ROLES)
    return found.keys() != members.keys()


def holders(endpoint: str) -> dict[str, str]:
    """Give who is allowed, by object id, and what each is: to allow them again undoes a change."""
    found = _assignments(endpoint)
    return {who: str(one["properties"].get("principalType") or "") for who, one in found.items()}


def _give(endpoint: str, who: str, kind: str) -> None:
    role = _role(endpoint)
    path = f"{endpoint}/{ASSIGNMENTS}/{guid(endpoint, who, role.rpartition('/')[2])}"
    properties = {"roleDefinitionId": role, "principalId": who, "principalType": kind}
    try:
        azure.call("PUT", path, api=ROLES, body={"properties": properties})
    except ServiceError as error:
        if error.code == "RoleAssignmentExists":  # by another name, of whoever gave it by hand
            return
        if error.code == "RoleDefinitionDoesNotExist":
            raise MissingError(
                "There is no role for those who may ask an endpoint",
                "run `make cloud-setup` again, which makes it",
            ) from error
        raise


def _assignments(endpoint: str) -> dict[str, dict[str, Any]]:
    """Give who has the role just there, and its assignment."""
    number, found = _role(endpoint).rpartition("/")[2], {}
    for one in azure.pages(f"{endpoint}/{ASSIGNMENTS}", api=ROLES):
        of = one["properties"]
        here = str(of.get("scope", "")).lower() == endpoint.lower()
        if here and str(of["roleDefinitionId"]).lower().endswith(f"/{number}"):
            found[str(of["principalId"]).lower()] = one
    return found


def _role(endpoint: str) -> str:
    """Give the path of the role, which setup has made in the endpoint's resource group."""
    group = "/".join(endpoint.split("/")[:5])
    whole = "/".join(endpoint.split("/")[:3])
    return f"{whole}/providers/Microsoft.Authorization/roleDefinitions/{guid(group, CALLER)}"
