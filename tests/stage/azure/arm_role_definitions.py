"""Microsoft.Authorization/roleDefinitions: Azure's own roles, and those that were made.

https://learn.microsoft.com/rest/api/authorization/role-definitions (2022-04-01)
"""

import re
import uuid
from typing import Any

from stage.azure.arm_kinds import Json
from stage.azure.arm_paths import parse
from stage.azure.errors import AzureError
from stage.azure.role_actions import known
from stage.azure.role_definitions import Definition
from stage.azure.roles import Roles
from stage.azure.server import Call, Reply
from stage.azure.shapes import check

SPACE = "Microsoft.Authorization"
PERMISSIONS = {"actions": [str], "notActions": [str], "dataActions": [str], "notDataActions": [str]}
DEFINITION = {
    "id": str,
    "name": str,
    "type": str,
    "properties!": {
        "roleName!": str,
        "description": str,
        "type": ("CustomRole",),
        "permissions!": [PERMISSIONS],
        "assignableScopes!": [str],
    },
}


class RoleDefinitions:
    """As Azure Resource Manager has them; who may ask has been looked at."""

    def __init__(self, roles: Roles) -> None:
        self._roles = roles

    def __call__(self, call: Call, scope: str, name: str) -> Reply:
        definitions = self._roles.definitions
        if not name:
            asked = re.search(r"roleName eq '([^']+)'", call.query.get("$filter", ""))
            found = [one for one in definitions.values() if asked is None or one.title == asked[1]]
            return Reply(200, {"value": [self._shown(one, scope) for one in found]})
        one = definitions.get(name.lower())
        if call.method == "PUT":
            return self.define(call.json(), name, scope)
        if one is None:
            text = f"The specified role definition with ID '{name.replace('-', '')}' does not exist."
            if call.method == "DELETE":
                return Reply(204)
            raise AzureError(404, "RoleDefinitionDoesNotExist", text)
        if call.method == "DELETE":
            if any(each.role == one.name for each in self._roles.assignments.values()):
                text = "There are existing role assignments referencing role. Delete them before deleting the role."
                raise AzureError(400, "RoleDefinitionHasAssignments", text)
            del definitions[one.name]
        return Reply(200, self._shown(one, scope))

    def define(self, body: Json, name: str, scope: str) -> Reply:
        """https://learn.microsoft.com/azure/role-based-access-control/custom-roles: a name of its own in the tenant."""
        check(DEFINITION, body)
        given, before = body["properties"], self._roles.definitions.get(name.lower())
        titles = {one.title: one.name for one in self._roles.definitions.values()}
        if not is_guid(name) or (before and before.kind != "CustomRole"):
            raise AzureError(400, "InvalidRoleDefinitionId", f"The role definition ID '{name}' is not valid.")
        if titles.get(given["roleName"], name.lower()) != name.lower():
            text = f"Cannot have two role definitions with the same name '{given['roleName']}'."
            raise AzureError(409, "RoleDefinitionWithSameNameExists", text)
        (may,) = given["permissions"]
        parts = [
            tuple(may.get(key, ())) for key in ("actions", "notActions", "dataActions", "notDataActions")
        ]
        for action in [one for part in parts for one in part]:
            if not known(action, action in (*parts[2], *parts[3])):
                text = f"'{action}' does not match any of the actions supported by the providers."
                raise AzureError(400, "InvalidActionOrNotAction", text)
        scopes = tuple(given["assignableScopes"])
        about = given.get("description", "")
        may, may_not, data, no_data = parts
        made = Definition(
            name.lower(), given["roleName"], may, may_not, data, no_data, scopes, "CustomRole", about
        )
        self._roles.definitions[made.name] = made
        return Reply(200 if before else 201, self._shown(made, scope))

    def _shown(self, one: Definition, scope: str) -> Json:
        where = parse(scope)
        above = f"/subscriptions/{where.subscription}" if where.subscription else ""
        return {
            "id": f"{above}/providers/{SPACE}/roleDefinitions/{one.name}",
            "name": one.name,
            "type": f"{SPACE}/roleDefinitions",
            "properties": {
                "roleName": one.title,
                "type": one.kind,
                "description": one.description,
                "assignableScopes": list(one.scopes),
                "permissions": [permission(one)],
            },
        }


def permission(one: Definition) -> dict[str, Any]:
    """What a role gives, as it is shown."""
    return {
        "actions": list(one.actions),
        "notActions": list(one.without),
        "dataActions": list(one.data),
        "notDataActions": list(one.without_data),
    }


def is_guid(text: str) -> bool:
    """Whether a name may be that of a role or of an assignment."""
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
