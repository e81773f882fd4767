"""Microsoft.Authorization: role assignments and definitions, at any scope.

https://learn.microsoft.com/rest/api/authorization/role-assignments (2022-04-01) and
https://learn.microsoft.com/azure/role-based-access-control/troubleshooting
"""

import re

from stage.azure.arm import Arm
from stage.azure.arm_kinds import Json
from stage.azure.arm_paths import Address, parse
from stage.azure.arm_role_definitions import RoleDefinitions, is_guid, permission
from stage.azure.errors import AzureError
from stage.azure.people import Principal
from stage.azure.role_definitions import Definition
from stage.azure.roles import Assignment, within
from stage.azure.server import Call, Reply
from stage.azure.shapes import ANY, check

SPACE = "Microsoft.Authorization"
VERSIONS = ("2015-07-01", "2018-01-01-preview", "2018-07-01", "2020-04-01-preview", "2022-04-01")
PLACE = re.compile(
    r"(?P<scope>.*)/providers/Microsoft\.Authorization/(?P<kind>roleAssignments|roleDefinitions|permissions)(/(?P<name>[^/]+))?",
    re.IGNORECASE,
)
TYPES = ("User", "Group", "ServicePrincipal", "ForeignGroup", "Device")
ASSIGNMENT = {
    "id": str,
    "name": str,
    "type": str,
    "properties!": {
        "roleDefinitionId!": str,
        "principalId!": str,
        "principalType": TYPES,
        "description": str,
        "scope": str,
        "condition": ANY,
        "conditionVersion": ANY,
        "delegatedManagedIdentityResourceId": ANY,
    },
}


class Authorization:
    """Role assignments and definitions, as Azure Resource Manager has them."""

    def __init__(self, arm: Arm) -> None:
        self._arm, self._roles = arm, arm.roles
        self.definitions = RoleDefinitions(arm.roles)
        arm.extra.append(self)

    def __call__(self, call: Call, address: Address, principal: Principal) -> Reply | None:
        found = PLACE.fullmatch(address.path)
        if not found:
            return None
        if found["kind"].lower() == "permissions":
            return self._permissions(found["scope"], principal)
        scope, name = found["scope"] or "/", found["name"] or ""
        if call.query["api-version"] not in VERSIONS:
            text = f"The api-version '{call.query['api-version']}' is not one of '{','.join(VERSIONS)}'."
            raise AzureError(400, "InvalidApiVersionParameter", text)
        verb = {"GET": "read", "PUT": "write", "DELETE": "delete"}.get(call.method)
        if verb is None:
            raise AzureError(405, "MethodNotAllowed", f"{call.method} is not allowed here: {call.path}")
        kind = "roleAssignments" if found["kind"].lower() == "roleassignments" else "roleDefinitions"
        self._roles.require(principal, f"{SPACE}/{kind}/{verb}", address.path)
        self._require_scope(scope)
        if kind == "roleDefinitions":
            return self.definitions(call, scope, name)
        if not name:
            return self._list(call, scope)
        if call.method == "PUT":
            before = f"{scope}/providers/{SPACE}/roleAssignments/{name}".lower() in self._roles.assignments
            made = self.write(scope, name, call.json())
            return Reply(200 if before else 201, _assignment(made))
        key = f"{scope.rstrip('/')}/providers/{SPACE}/roleAssignments/{name}".lower()
        known = self._roles.assignments.get(key)
        if call.method == "DELETE":
            if known is None:
                return Reply(204)
            del self._roles.assignments[key]
            return Reply(200, _assignment(known))
        if known is None:
            text = f"The role assignment '{name}' is not found."
            raise AzureError(404, "RoleAssignmentNotFound", text)
        return Reply(200, _assignment(known))

    def _permissions(self, scope: str, principal: Principal) -> Reply:
        """All that somebody's roles give at a scope: https://learn.microsoft.com/rest/api/authorization/permissions."""
        self._roles.require(principal, f"{SPACE}/permissions/read", scope)
        self._require_scope(scope)
        return Reply(200, {"value": [permission(one) for one in self._roles.at(principal, scope)]})

    def _require_scope(self, scope: str) -> None:
        """What is named must exist, as far as it is a resource: a secret need not."""
        where = parse(scope)
        if where.group and where.group.lower() not in self._arm.groups:
            raise AzureError(
                404, "ResourceGroupNotFound", f"Resource group '{where.group}' could not be found."
            )
        for depth in range(1, len(where.names) + 1):
            path = "/".join(scope.split("/")[: 7 + 2 * depth])
            if "/".join((where.namespace, *where.kinds[:depth])).lower() in self._arm.kinds:
                self._arm.get(path)

    def write(self, scope: str, name: str, body: Json) -> Assignment:
        """Writes an assignment; a second one of the same role and principal at a scope is refused."""
        check(ASSIGNMENT, body)
        self._require_scope(scope)
        given = body["properties"]
        if not is_guid(name):
            text = f"The role assignment ID '{name}' is not valid. The role assignment ID must be a GUID."
            raise AzureError(400, "InvalidRoleAssignmentId", text)
        if given.get("condition") is not None or given.get("delegatedManagedIdentityResourceId") is not None:
            raise NotImplementedError("conditions of role assignments are not modelled")
        role = self._role(given["roleDefinitionId"])
        if not any(within(scope, one) for one in role.scopes):
            text = f"The role definition '{role.title}' is not assignable at the scope '{scope}'."
            raise AzureError(400, "RoleAssignmentScopeNotAssignableToRoleDefinition", text)
        who = self._principal(given)
        made = Assignment(
            name,
            who.object_id,
            who.kind,
            role.name,
            scope,
            self._arm.clock.now(),
            given.get("description") or "",
        )
        known = self._roles.assignments
        same = [
            one
            for one in known.values()
            if (one.principal_id, one.role, one.scope.lower())
            == (made.principal_id, role.name, scope.lower())
        ]
        if same and same[0].name != name:
            text = f"The role assignment already exists. The ID of the conflicting role assignment is {same[0].name.replace('-', '')}."
            raise AzureError(409, "RoleAssignmentExists", text)
        before = known.get(made.id.lower())
        if before and (before.principal_id, before.role) != (made.principal_id, made.role):
            text = "Tenant ID, application ID, principal ID, and scope are not allowed to be updated."
            raise AzureError(400, "RoleAssignmentUpdateNotPermitted", text)
        known[made.id.lower()] = before or made
        return known[made.id.lower()]

    def _role(self, path: str) -> Definition:
        found = re.fullmatch(
            r"(/subscriptions/(?P<sub>[^/]+))?/providers/Microsoft\.Authorization/roleDefinitions/(?P<name>[^/]+)",
            path,
            re.IGNORECASE,
        )
        if not found or (found["sub"] and found["sub"].lower() != self._arm.subscription):
            text = f"The role definition id '{path}' is not valid."
            raise AzureError(400, "InvalidRoleDefinitionId", text)
        role = self._roles.definitions.get(found["name"].lower())
        if role is None:
            text = f"The specified role definition with ID '{found['name'].replace('-', '')}' does not exist."
            raise AzureError(400, "RoleDefinitionDoesNotExist", text)
        return role

    def _principal(self, given: Json) -> Principal:
        """Who is meant. A new one is not seen everywhere at once, so its type has to be told.

        .../role-based-access-control/role-assignments-template#new-service-principal: without it an identity of just now
        is not found.
        """
        who = self._arm.people.by_object(given["principalId"])
        kind = given.get("principalType")
        new = who is not None and who.made >= self._arm.clock.now() and kind is None and who.resource
        if who is None or new:
            text = f"Principal {given['principalId'].replace('-', '')} does not exist in the directory {self._arm.people.tenant}."
            if who:
                text += (
                    " Check that you have the correct principal ID. If you are creating this principal and then immediately "
                    "assigning a role, this error might be related to a replication delay. In this case, set the role "
                    "assignment principalType property to a value, such as ServicePrincipal, User, or Group."
                )
            raise AzureError(400, "PrincipalNotFound", text)
        if kind not in (None, who.kind):
            text = f"The principal with id '{given['principalId']}' has type '{who.kind}', which is different from '{kind}'."
            raise AzureError(400, "UnmatchedPrincipalType", text)
        return who

    def _list(self, call: Call, scope: str) -> Reply:
        """At, above and below a scope; $filter: https://learn.microsoft.com/azure/role-based-access-control/role-assignments-list-rest."""
        where, asked = scope.lower().rstrip("/"), call.query.get("$filter", "")
        found = [
            one
            for one in self._roles.assignments.values()
            if f"{where}/".startswith(one.scope.lower().rstrip("/") + "/")
            or ("atScope()" not in asked and one.scope.lower().startswith(where + "/"))
        ]
        for term in asked.split(" and ") if asked else []:
            known = re.fullmatch(r"(principalId|assignedTo) ?(eq '|\(')([^']+)'\)?", term.strip())
            if known:
                found = [one for one in found if one.principal_id == known[3].lower()]
            elif term.strip() != "atScope()":
                raise AzureError(400, "BadRequestFormat", f"The filter '{asked}' is not supported.")
        return Reply(200, {"value": [_assignment(one) for one in found]})


def _assignment(one: Assignment) -> Json:
    where = parse(one.scope)
    above = f"/subscriptions/{where.subscription}" if where.subscription else ""
    return {
        "id": one.id,
        "name": one.name,
        "type": f"{SPACE}/roleAssignments",
        "properties": {
            "roleDefinitionId": f"{above}/providers/{SPACE}/roleDefinitions/{one.role}",
            "principalId": one.principal_id,
            "principalType": one.principal_type,
            "scope": one.scope,
            "description": one.description or None,
            "condition": None,
        },
    }
