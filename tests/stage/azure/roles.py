"""Who may do what: roles that are assigned at a scope count there and for all that is below it.

https://learn.microsoft.com/azure/role-based-access-control/role-definitions and .../scope-overview. The service may take ten
minutes until an assignment counts (.../troubleshooting#symptom---role-assignment-changes-are-not-being-detected); here it
counts at once, unless a test says otherwise (`Roles.delayed`).
"""

import functools
import re
import uuid
from dataclasses import dataclass

from stage.azure.errors import AzureError
from stage.azure.people import Principal
from stage.azure.role_definitions import DEFINITIONS, Definition
from stage.clock import Clock


@dataclass(frozen=True)
class Assignment:
    """A role of a principal at a scope; `name` is a GUID that the writer chose."""

    name: str
    principal_id: str
    principal_type: str
    role: str
    scope: str
    made: float
    description: str = ""

    @property
    def id(self) -> str:
        scope = "" if self.scope == "/" else self.scope
        return f"{scope}/providers/Microsoft.Authorization/roleAssignments/{self.name}"


class Roles:
    """All roles and their assignments.

    Attributes:
        delayed: seconds until an assignment counts.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock, self.delayed = clock, 0.0
        self.definitions = {one.name: one for one in DEFINITIONS}
        self.assignments: dict[str, Assignment] = {}

    def named(self, role: str) -> Definition:
        """The role of a title or GUID; KeyError where there is none."""
        found = self.definitions.get(role.lower())
        return found or {one.title: one for one in self.definitions.values()}[role]

    def assign(self, principal: Principal, role: str, scope: str, name: str = "") -> Assignment:
        """Gives a role by its title or GUID, as if it had been given long ago."""
        definition = self.named(role)
        assignment = Assignment(
            name or str(uuid.uuid4()),
            principal.object_id,
            principal.kind,
            definition.name,
            scope,
            0.0,
        )
        self.assignments[assignment.id.lower()] = assignment
        return assignment

    def revoke(self, principal: Principal, role: str, scope: str) -> None:
        """Takes a role away that was given at just this scope."""
        definition, before = self.named(role), len(self.assignments)
        kept = {
            key: one
            for key, one in self.assignments.items()
            if (one.principal_id, one.role) != (principal.object_id, definition.name)
            or one.scope.lower() != scope.lower()
        }
        assert len(kept) < before, f"{principal.name} has no role {role} at {scope}"
        self.assignments = kept

    def of(self, principal: Principal) -> list[tuple[str, str]]:
        """(title of the role, scope) of all that a principal has, in order."""
        found = [one for one in self.assignments.values() if one.principal_id == principal.object_id]
        return sorted((self.definitions[one.role].title, one.scope) for one in found)

    def allows(self, principal: Principal, action: str, scope: str, data: bool = False) -> bool:
        """Whether any role of a principal has an action there: what one role leaves out another may give."""
        for role in self.at(principal, scope):
            may, may_not = (role.data, role.without_data) if data else (role.actions, role.without)
            if _any(action, may) and not _any(action, may_not):
                return True
        return False

    def at(self, principal: Principal, scope: str) -> list[Definition]:
        """The roles that count for a principal at a scope."""
        now = self._clock.now()
        return [
            self.definitions[one.role]
            for one in self.assignments.values()
            if one.principal_id == principal.object_id
            and within(scope, one.scope)
            and one.made + self.delayed <= now
        ]

    def require(self, principal: Principal, action: str, scope: str, data: bool = False) -> None:
        """Refuses what a principal's roles do not give.

        Raises:
            AzureError: 403 as Azure Resource Manager says it.
        """
        if self.allows(principal, action, scope, data):
            return
        text = (
            f"The client '{principal.client_id}' with object id '{principal.object_id}' does not have authorization to "
            f"perform action '{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, "
            "please refresh your credentials."
        )
        raise AzureError(403, "AuthorizationFailed", text)


def within(scope: str, above: str) -> bool:
    """Whether a scope is another one, or below it."""
    scope, above = scope.lower().rstrip("/"), above.lower().rstrip("/")
    return scope == above or scope.startswith(above + "/")


def _any(action: str, patterns: tuple[str, ...]) -> bool:
    return any(matches(one, action) for one in patterns)


def matches(pattern: str, action: str) -> bool:
    """Whether a pattern finds an action: * is any text, and between two slashes nothing at all too.

    So the services' own roles show: what "Managed Identity Operator" is for, userAssignedIdentities/assign/action, it has as
    userAssignedIdentities/*/assign/action, and "AzureML Data Scientist", with workspaces/*/write, leaves out workspaces/write.
    """
    return _expression(pattern).fullmatch(action) is not None


@functools.cache
def _expression(pattern: str) -> re.Pattern[str]:
    text = re.escape(pattern).replace(r"/\*/", "/(.*/)?").replace(r"\*", ".*")
    return re.compile(text, re.IGNORECASE)
