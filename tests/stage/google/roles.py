"""Roles of a project's own, and the conditions under which roles are granted: what Google refuses, and what they come to."""

import re
from collections.abc import Callable

from stage.google.grants import Grant
from stage.google.project import PROJECT, Match, Project, Resource, need
from stage.rest import Request, RequestError

# The permissions that there are for machines, as far as anybody here could want them: kind -> verbs.
PERMISSIONS = {
    "acceleratorTypes": "get list",
    "disks": "create delete get list resize setLabels update use useReadOnly",
    "diskTypes": "get list",
    "globalOperations": "get list",
    "images": "get getFromFamily list useReadOnly",
    "instances": "create delete get getGuestAttributes getSerialPortOutput list reset resume setDeletionProtection "
    "setLabels setMachineResources setMetadata setScheduling setServiceAccount setTags start stop suspend update "
    "updateShieldedVmConfig use",
    "machineTypes": "get list",
    "networks": "get list use useExternalIp",
    "projects": "get setCommonInstanceMetadata",
    "regionOperations": "get list",
    "regions": "get list",
    "reservations": "get list",
    "subnetworks": "get list use useExternalIp",
    "zoneOperations": "get list",
    "zones": "get list",
}
KNOWN = {f"compute.{kind}.{verb}" for kind, verbs in PERMISSIONS.items() for verb in verbs.split()}
# Of https://docs.cloud.google.com/iam/docs/roles-permissions/run and .../aiplatform
KNOWN |= {f"run.services.{verb}" for verb in ("create", "delete", "get", "list", "update")}
KNOWN |= {"run.operations.get", "run.operations.list", "run.routes.invoke", "aiplatform.endpoints.predict"}
STAGES = {"ALPHA", "BETA", "GA", "DEPRECATED", "DISABLED", "EAP"}
STARTS_WITH = re.compile(
    r'resource\.name\.extract\("(?P<before>[^"{}]*)\{[a-z_]+\}(?P<after>[^"{}]*)"\)\.startsWith\("(?P<start>[^"]+)"\)'
)


def make_role(project: Project, match: Match, request: Request) -> Resource:
    name, role = request.json()["roleId"], request.json()["role"]
    need(re.fullmatch(r"[A-Za-z0-9_.]{3,64}", name), f"The role id {name} is not valid.")
    _check_role(role)
    if project.resources.get(("role", name), {}).get("deleted"):
        message = f"You can't create a role_id ({name}) which has been marked for deletion."
        raise RequestError(400, message, status="FAILED_PRECONDITION")
    return project.add("role", name, {**role, "name": f"projects/{PROJECT}/roles/{name}", "etag": "BwAA"})


def show_role(project: Project, match: Match, request: Request) -> Resource:
    """A role; a deleted one too, until it has been purged after a week, when only its name is still taken."""
    role = project.get("role", match["name"])
    if role.get("purged"):
        raise RequestError(404, f"The role named {role['name']} was not found.")
    return role


def list_roles(project: Project, match: Match, request: Request) -> Resource:
    roles = [project.get("role", name) for name in sorted(project.names("role"))]
    found = [{**role, "includedPermissions": []} for role in roles if not role.get("deleted")]
    return {"roles": found}


def change_role(project: Project, match: Match, request: Request) -> Resource:
    role = _undeleted(show_role(project, match, request))
    _check_role(role | request.json())
    role.update(request.json())
    return role


def delete_role(project: Project, match: Match, request: Request) -> Resource:
    role = _undeleted(show_role(project, match, request))
    role["deleted"] = True
    return role


def undelete_role(project: Project, match: Match, request: Request) -> Resource:
    role = show_role(project, match, request)
    if not role.pop("deleted", False):
        raise RequestError(400, "The role is not deleted.", status="FAILED_PRECONDITION")
    return role


def _undeleted(role: Resource) -> Resource:
    if role.get("deleted"):
        raise RequestError(400, f"The role {role['name']} is deleted.", status="FAILED_PRECONDITION")
    return role


def _check_role(role: Resource) -> None:
    need(role.get("title") and len(role["title"]) <= 100, "A title of 1 to 100 characters is needed.")
    need(len(role.get("description", "")) <= 300, "The description is too long.")
    need(role.get("stage") in STAGES, "Unknown launch stage.")
    permissions = role.get("includedPermissions", [])
    need(permissions and len(set(permissions)) == len(permissions), "Permissions are missing or stand twice.")
    for permission in permissions:
        need(permission in KNOWN, f"Permission {permission} is not valid.")


def grants(project: Project, email: str) -> list[Grant]:
    """What the project's own roles allow a service account, each with the condition of its binding."""
    found = []
    for binding in project.policies.get(("project", PROJECT), {}).get("bindings", []):
        name = binding["role"].partition(f"projects/{PROJECT}/roles/")[2]
        role = project.resources.get(("role", name), {"deleted": True})
        if f"serviceAccount:{email}" in binding["members"] and not role.get("deleted"):
            condition = binding.get("condition")
            holds = starts_with(condition["expression"]) if condition else always
            found.append(Grant(frozenset(role["includedPermissions"]), holds))
    return found


def always(resource: str) -> bool:
    return True


def starts_with(expression: str) -> Callable[[str], bool]:
    """What a condition says of a resource's name, for the one form that is used here.

    Raises:
        RequestError: 400 for any other form.
    """
    match = STARTS_WITH.fullmatch(expression.strip())
    if match is None:
        raise RequestError(400, f"Condition expression compilation failed: {expression}")
    before, after, start = match["before"], match["after"], match["start"]

    def holds(resource: str) -> bool:
        # `extract` gives nothing where the template does not fit; at its end stands all the rest.
        rest = resource.partition(before)[2]
        found = rest.partition(after)[0] if after else rest
        return found.startswith(start)

    return holds
