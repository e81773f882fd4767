"""Microsoft.MachineLearningServices/workspaces as resources; what is in them is Azure ML's own (`ml.py`)."""

import uuid
from collections.abc import Mapping

from stage.azure import ml_shapes
from stage.azure.arm import Arm
from stage.azure.arm_kinds import Json, Kind, Resource, Writing
from stage.azure.errors import AzureError
from stage.azure.identity_kinds import IDENTITIES
from stage.azure.other_kinds import REGISTRIES, require
from stage.azure.shapes import ANY

WORKSPACES = "Microsoft.MachineLearningServices/workspaces"
KEPT = 14 * 86400.0  # seconds that a deleted workspace keeps its name
NEEDED = {
    "storageAccount": "Microsoft.Storage/storageAccounts",
    "keyVault": "Microsoft.KeyVault/vaults",
    "applicationInsights": "microsoft.insights/components",
}


def workspace() -> Kind:
    """https://learn.microsoft.com/rest/api/azureml/workspaces (2025-12-01); its model is Azure ML's own, see `ml_shapes`."""

    def check(writing: Writing) -> None:
        body = {
            key: one for key, one in writing.body.items() if key not in ("id", "name", "type", "systemData")
        }
        ml_shapes.check("Workspace", body)
        given = body.get("properties") or {}
        # All three: https://github.com/Azure/azure-cli/issues/28980, azure-service-operator/issues/5696.
        if any(not given.get(name) for name in NEEDED):
            text = "Missing dependent resources in workspace json"
            raise AzureError(400, "ValidationError", text, details=[("Invalid", text)])
        for name, kind in {**NEEDED, "containerRegistry": REGISTRIES}.items():
            require(writing, given.get(name), kind)
        _check_storage(writing, given)
        before = writing.old.properties["storageAccount"] if writing.old else given["storageAccount"]
        if given["storageAccount"].lower() != before.lower():
            # As seen: https://github.com/Azure-Samples/get-started-with-ai-chat/issues/65.
            raise AzureError(400, "BadRequest", "Storage Account update is not supported yet")
        if "identity" not in body:
            raise AzureError(400, "ValidationError", "Missing identity in workspace json")
        own = body["identity"].get("userAssignedIdentities") or {}
        primary = given.get("primaryUserAssignedIdentity")
        if "SystemAssigned" not in body["identity"]["type"] and not primary:
            text = "primaryUserAssignedIdentity is required where there is no system-assigned identity."
            raise AzureError(400, "ValidationError", text)
        for one in {*own, *([primary] if primary else [])}:
            require(writing, one, IDENTITIES)
            _assign(writing, one)
        if writing.arm.vanished_workspaces.get(writing.id.lower(), -1.0) > writing.arm.clock.now():
            text = "Soft-deleted workspace exists. Please purge or recover it. https://aka.ms/wsoftdelete"
            raise AzureError(400, "BadRequest", text)

    def put(writing: Writing, made: Resource) -> None:
        made.private["given"] = writing.body.get("properties") or {}
        identity = made.content["identity"]
        for path in identity.get("userAssignedIdentities") or {}:
            one = writing.arm.get(path).properties
            identity["userAssignedIdentities"][path] = {key: one[key] for key in ("principalId", "clientId")}
        if "SystemAssigned" in identity["type"]:
            made.private.setdefault("system", writing.arm.people.add(made.name, resource=made.id))
            identity["principalId"] = made.private["system"].object_id
            identity["tenantId"] = writing.arm.people.tenant

    def properties(writing: Writing) -> Json:
        place = writing.body["location"].replace(" ", "").lower()
        host = f"{place}.api.azureml.ms"
        return {
            "publicNetworkAccess": "Enabled",
            "systemDatastoresAuthMode": "AccessKey",
            "v1LegacyMode": False,
            "hbiWorkspace": False,
            **(writing.body.get("properties") or {}),
            "workspaceId": str(uuid.uuid5(uuid.NAMESPACE_URL, writing.id.lower())),
            "tenantId": writing.arm.people.tenant,
            "discoveryUrl": f"https://{host}/discovery",
            "mlFlowTrackingUri": f"azureml://{host}/mlflow/v1.0{writing.id}",
        }

    return Kind(
        WORKSPACES,
        ml_versions(),
        r"[a-zA-Z0-9][a-zA-Z0-9_-]{2,32}",
        (
            "ValidationError",
            "Workspace name {0} is invalid. It must have 3 to 33 letters, digits, - and _.",
        ),
        ANY,
        {"identity": ANY, "sku": ANY, "kind": str},
        waits=True,
        leaves=True,
        removed=_removed,
        purge=_purge,
        check=check,
        put=put,
        properties_of=properties,
    )


def _check_storage(writing: Writing, given: Json) -> None:
    """No premium or blob storage, no hierarchical namespace, and no keys where the account takes none.

    https://learn.microsoft.com/azure/machine-learning/concept-workspace#associated-resources,
    https://github.com/MicrosoftDocs/azure-docs/pull/73788 (of kind BlobStorage) and
    https://learn.microsoft.com/azure/machine-learning/how-to-disable-local-auth-storage
    """
    account = writing.arm.get(given["storageAccount"])
    wrong = account.content["sku"]["name"].startswith("Premium") or account.content["kind"] == "BlobStorage"
    if wrong or account.properties.get("isHnsEnabled"):
        text = "Premium and BlobStorage accounts, and those with a hierarchical namespace, are not supported as a workspace's own."
        raise AzureError(400, "ValidationError", text)
    by_key = given.get("systemDatastoresAuthMode", "AccessKey").lower() == "accesskey"
    if by_key and account.properties.get("allowSharedKeyAccess") is False:
        text = "Key based authentication is not permitted on this storage account."
        raise AzureError(400, "KeyBasedAuthenticationNotPermitted", text)


def _removed(arm: Arm, one: Resource, query: Mapping[str, str]) -> None:
    """Deleted, a workspace keeps its name for 14 days, unless it is purged at once.

    https://learn.microsoft.com/azure/machine-learning/concept-soft-delete
    """
    if query.get("forceToPurge", "").lower() != "true":
        arm.vanished_workspaces[one.id.lower()] = arm.clock.now() + KEPT
    if principal := one.private.get("system"):
        arm.people.remove(principal)


def _purge(arm: Arm, path: str, query: Mapping[str, str]) -> bool:
    """Gone for good, where it was deleted before. What is not seen of it (issues/33756 of Azure/azure-cli) is GET."""
    return (
        query.get("forceToPurge", "").lower() == "true" and arm.vanished_workspaces.pop(path.lower(), 0) > 0
    )


def ml_versions() -> tuple[str, ...]:
    """Of Azure ML's API: https://learn.microsoft.com/azure/templates/microsoft.machinelearningservices/change-log/summary."""
    years = "2023-04-01 2023-10-01 2024-04-01 2024-10-01 2025-04-01 2025-06-01 2025-09-01 2025-12-01"
    # Those by which azure-ai-ml still asks; what they take is what the newest version takes.
    previews = "2023-04-01 2023-08-01 2024-01-01 2024-04-01 2024-07-01 2024-10-01 2025-01-01"
    return (*years.split(), *(f"{one}-preview" for one in previews.split()))


def _assign(writing: Writing, path: str) -> None:
    """Who gives a resource an identity needs a right at that: .../managed-identities-azure-resources/how-to-assign-..."""
    action = f"{IDENTITIES}/assign/action"
    if not writing.arm.roles.allows(writing.principal, action, path):
        who = writing.principal
        text = (
            f"The client '{who.client_id}' with object id '{who.object_id}' has permission to perform action "
            f"'{writing.address.action('PUT')}' on scope '{writing.id}'; however, it does not have permission to perform "
            f"action(s) '{action}' on the linked scope(s) '{path}' (respectively) or the linked scope(s) are invalid."
        )
        raise AzureError(403, "LinkedAuthorizationFailed", text)
