"""Roles that the deployment cannot give: to people, at a secret, and of the whole subscription."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from ...errors import MissingError, RefusedError, ServiceError
from ...steps import Steps, option
from .. import auth as azure
from .. import login
from . import names as apis
from . import template as templates
from .ground import find
from .names import CONTAINER, Names, guid

DATA = "Storage Blob Data Contributor"
KEYS = "Key Vault Secrets Officer"
KEY = "Key Vault Secrets User"
LOOKS = 24  # five seconds apart
# What a service says that has not heard of it yet (learn.microsoft.com/azure/role-based-access-control/troubleshooting).
LATE = ("PrincipalNotFound", "RoleDefinitionDoesNotExist", "RoleDefinitionHasAssignments")


def give(
    names: Names,
    who: str,
    role: str,
    scope: str,
    steps: Steps,
    kind: str | None = "ServicePrincipal",
) -> bool:
    """Give somebody a role at a scope; false where it was there already.

    Args:
        who: the id of the principal.
        role: one of Azure's by its title, or one of ours by its number.
        kind: of the principal; None leaves the service to look it up.
    """
    number = templates.roles()["azure"].get(role, role)
    definition = f"{names.whole}/providers/{templates.DEFINITIONS}/{number}"
    path = f"{scope}/providers/{templates.ASSIGNMENTS}/{guid(scope, who, number)}"
    if steps.dry:
        steps.show(
            *put(path, apis.ROLES), "--body", f"roleDefinitionId={role}", f"principalId={who}"
        )
        return False
    if find(path, apis.ROLES):
        return False
    properties = {"roleDefinitionId": definition, "principalId": who}
    body = {"properties": properties | ({"principalType": kind} if kind else {})}
    try:
        _patiently(lambda: azure.call("PUT", path, api=apis.ROLES, body=body))
    except ServiceError as error:
        if error.code != "RoleAssignmentExists":  # by another name, of whoever gave it by hand
            raise
        return False
    steps.changes += 1
    return True


def forget_role(path: str, steps: Steps) -> bool:
    """Delete one of our roles, which nobody has any more; false where it was gone."""
    if not find(path, apis.ROLES):
        return False
    _patiently(lambda: azure.call("DELETE", path, api=apis.ROLES))
    steps.changes += 1
    return True


def _patiently(call: Callable[[], object]) -> None:
    """Make a call again while what has just been done is not known everywhere."""
    for _ in range(LOOKS):
        try:
            call()
            return
        except ServiceError as error:
            if error.code not in LATE:
                raise
        time.sleep(float(option("WAIT", "5")))
    call()


def give_person(names: Names, steps: Steps) -> None:
    """Let whoever runs this read and write data, from a notebook too: an owner may not, and there are no keys."""
    who = "PERSON" if steps.dry else login.principal()
    container = f"{names.paths['storage']}/blobServices/default/containers/{CONTAINER}"
    give(names, who, DATA, container, steps, kind=None)
    steps.say("data", f"{names.project.slug}: you may read and write it")


def let_see_quotas(names: Names, who: str, steps: Steps) -> None:
    """Let GitHub read the quotas, which are the subscription's. Who may not give that away is told."""
    number, scope = guid(names.whole, names.project.slug, "quotas"), names.whole
    path = f"{scope}/providers/{templates.DEFINITIONS}/{number}"
    title = f"{names.project.slug}-quotas ({names.subscription[:8]})"
    wanted = templates.definition("quotas", title, scope)
    if steps.dry:
        steps.show(*put(path, apis.ROLES), "--body", json_of(wanted))
        give(names, who, number, scope, steps)
        return
    try:
        if not _same((find(path, apis.ROLES) or {}).get("properties"), wanted):
            azure.call("PUT", path, api=apis.ROLES, body={"properties": wanted})
            steps.changes += 1
        give(names, who, number, scope, steps)
    except RefusedError as error:
        steps.say("quotas", f"GitHub cannot see them: {error}")
        return
    steps.say("quotas", "GitHub may read them")


def forget_quotas(names: Names, steps: Steps) -> None:
    """Take back what `let_see_quotas` has made. What is gone already is no error."""
    number = guid(names.whole, names.project.slug, "quotas")
    path = f"{names.whole}/providers/{templates.DEFINITIONS}/{number}"
    if steps.dry:
        steps.show(*rest("delete", path, apis.ROLES))
        return
    try:
        take(names.whole, {number}, set(), steps)
        if forget_role(path, steps):
            steps.say("quotas", "the role of the subscription: removed")
    except RefusedError as error:
        steps.say("quotas", f"the role of the subscription: NOT REMOVED: {error}")


def take(scope: str, roles: set[str], people: set[str], steps: Steps) -> None:
    """Take back what was given at a scope and below: some roles, whoever has them, and all that some have.

    Args:
        roles: numbers.
        people: ids of principals.
    """
    path = f"{scope}/providers/{templates.ASSIGNMENTS}"
    try:
        found = list(azure.pages(path, api=apis.ROLES))
    except MissingError:
        return
    for each in found:
        of = each["properties"]
        below = str(of.get("scope", "")).lower().startswith(scope.lower())
        ours = of["roleDefinitionId"].rpartition("/")[2] in roles or of["principalId"] in people
        if below and ours:
            azure.call("DELETE", each["id"], api=apis.ROLES)
            steps.changes += 1


def forget_former(names: Names, now: set[str], steps: Steps) -> None:
    """Take back what the template gave to identities that are gone, under the names that it gives it anew.

    Args:
        now: the ids of the identities that there are.
    """
    known = templates.roles()
    container = f"{names.paths['storage']}/blobServices/default/containers/{CONTAINER}"
    paths = {**names.paths, "container": container}
    for each in known["assignments"]:
        to, role, on = (each[key] for key in ("to", "role", "on"))
        number = known["azure"].get(role) or templates.group_role(names, role)
        name = guid(paths[on], paths[to], number)
        path = f"{paths[on]}/providers/{templates.ASSIGNMENTS}/{name}"
        found = find(path, apis.ROLES)
        if found and found["properties"]["principalId"] not in now:
            azure.call("DELETE", path, api=apis.ROLES)
            steps.changes += 1


def put(path: str, api: str) -> tuple[str, ...]:
    """Give the words of a command that writes something, to be shown."""
    return rest("put", path, api)


def rest(method: str, path: str, api: str) -> tuple[str, ...]:
    """Give the words of a command of the Azure CLI that sends a request, to be shown."""
    mark = "&" if "?" in path else "?"
    return ("az", "rest", "--method", method, "--url", f"{path}{mark}api-version={api}")


def json_of(value: Any) -> str:
    """Give a body as it is shown: what it says, shortly."""
    return json.dumps({"properties": value}, separators=(",", ":"))


def _same(found: dict[str, Any] | None, wanted: dict[str, Any]) -> bool:
    """Tell whether a role is as it should be; what the service adds does not count."""
    if not found:
        return False
    permission = (found.get("permissions") or [{}])[0]
    same = {each: sorted(permission.get(each) or ()) for each in ("actions", "dataActions")}
    return same == {each: sorted(wanted["permissions"][0][each]) for each in same}
