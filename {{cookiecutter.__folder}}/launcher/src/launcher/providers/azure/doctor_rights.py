"""May the job's identity do what every job does: get its image, its data and its secrets? Only said, never forbidden.

Looked at are the roles that are made for it; a role of one's own may give the same. Who may not see roles, as GitHub's
login, is told nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...job import Job, Problem
from ...project import project
from ..errors import MissingError, RefusedError
from ..registry import Image
from . import auth, registry
from .backend import IDENTITY_API, SUBSCRIPTION, vault
from .doctor_secrets import ADDRESS

ROLES_API = "2022-04-01"
# learn.microsoft.com/azure/role-based-access-control/built-in-roles; the first of each is the least that does
OWNER_OF_BLOBS = "b7e6dc6d-f1e8-4753-8033-0f276bb0955b"
PULL = {
    "7f951dda-4ed3-4680-a7ca-43fe172d538d": "AcrPull",
    "8311e382-0749-4cb8-b61a-304f252e45ec": "AcrPush",
}
DATA = {
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": "Storage Blob Data Contributor",
    OWNER_OF_BLOBS: "Storage Blob Data Owner",
}
SECRET = {
    "4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
    "b86a8fe4-44ce-4948-aee5-eccb2c155cd7": "Key Vault Secrets Officer",
    "00482a5a-887f-4fb3-b363-3b7fe8e74483": "Key Vault Administrator",
}


@dataclass(frozen=True)
class Need:
    """What a job does, with what, and the roles of which it takes one."""

    what: str
    scope: str
    roles: Mapping[str, str]


def check(
    group: str, identity: str, job: Job, bucket: tuple[str, str], secrets: Mapping[str, str]
) -> list[Problem]:
    """Has the job's identity a role for each thing of the project's own resource group that it needs?

    Args:
        group: the id of the resource group.
        identity: the name of the job's identity there; of a client id nothing is looked up.
        bucket: storage account and container; empty where there is none.
        secrets: variable -> address.
    """
    if not (path := identity_path(group, identity)):
        return []
    try:
        principal = auth.call("GET", path, api=IDENTITY_API)["properties"]["principalId"]
        start = f"{group}/providers/Microsoft.Authorization/roleAssignments"
        # At this scope, above and below: learn.microsoft.com/rest/api/authorization/role-assignments/list-for-scope
        listed = auth.pages(f"{start}?$filter=principalId eq '{principal}'", api=ROLES_API)
        given = [_given(one["properties"]) for one in listed]
    except (MissingError, RefusedError):
        return []
    return [
        _missing(identity, principal, need)
        for need in _needs(group, job, bucket, secrets)
        if not any(role in need.roles and _within(need.scope, scope) for role, scope in given)
    ]


def identity_path(group: str, identity: str) -> str:
    """Give the id of the job's identity in Azure Resource Manager; empty where only its client id is known."""
    if SUBSCRIPTION.fullmatch(identity):
        return ""
    return f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{identity}"


def _needs(
    group: str, job: Job, bucket: tuple[str, str], secrets: Mapping[str, str]
) -> Iterator[Need]:
    """Give what is the project's own; what is named in its place may be anywhere."""
    store, start = project().bucket, f"{group}/providers"
    host = Image.parse(job.image).host
    if host == registry.host(store):
        images = f"{start}/Microsoft.ContainerRegistry/registries/{host.partition('.')[0]}"
        yield Need("pull its image", images, PULL)
    account, container = bucket
    if account == store:
        blobs = f"{start}/Microsoft.Storage/storageAccounts/{store}/blobServices/default"
        yield Need(f"read and write {container}", f"{blobs}/containers/{container}", DATA)
    for address in secrets.values():
        found = ADDRESS.fullmatch(address)
        if found and found["vault"] == vault(store):
            own = f"{start}/Microsoft.KeyVault/vaults/{found['vault']}/secrets/{found['name']}"
            yield Need(f"read the secret {found['name']}", own, SECRET)


def _given(assignment: Mapping[str, str]) -> tuple[str, str]:
    return assignment["roleDefinitionId"].rpartition("/")[2].lower(), assignment["scope"]


def _within(scope: str, above: str) -> bool:
    return f"{scope}/".lower().startswith(f"{above.rstrip('/')}/".lower())


def _missing(identity: str, principal: str, need: Need) -> Problem:
    what = f"The job's identity {identity} has no role by which it may {need.what}"
    least = next(iter(need.roles.values()))
    remedy = (
        f'run `make cloud-setup`, or `az role assignment create --role "{least}" --assignee-object-id {principal} '
        f"--assignee-principal-type ServicePrincipal --scope {need.scope}`, unless one of your own roles gives it that"
    )
    return Problem(what, remedy, fatal=False)
