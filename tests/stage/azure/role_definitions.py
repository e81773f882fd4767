"""Azure's own roles, as far as a project comes near them: what each may do.

https://learn.microsoft.com/azure/role-based-access-control/built-in-roles and the pages of its categories (2026-07).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Definition:
    """A role.

    Args:
        name: its GUID.
        actions, without: of the control plane; * stands for any text.
        data, without_data: of the data plane.
        scopes: where it may be assigned.
    """

    name: str
    title: str
    actions: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    without_data: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ("/",)
    kind: str = "BuiltInRole"
    description: str = ""


ML = "Microsoft.MachineLearningServices/workspaces"
CONTAINERS = "Microsoft.Storage/storageAccounts/blobServices/containers"
DELEGATION = "Microsoft.Storage/storageAccounts/blobServices/generateUserDelegationKey/action"
IDENTITIES = "Microsoft.ManagedIdentity/userAssignedIdentities"
READ = (
    "Microsoft.Authorization/*/read",
    "Microsoft.Insights/alertRules/*",
    "Microsoft.Resources/deployments/*",
    "Microsoft.Resources/subscriptions/resourceGroups/read",
    "Microsoft.Support/*",
)
VAULTS = (
    *READ,
    "Microsoft.KeyVault/checkNameAvailability/read",
    "Microsoft.KeyVault/deletedVaults/read",
    "Microsoft.KeyVault/locations/*/read",
    "Microsoft.KeyVault/vaults/*/read",
    "Microsoft.KeyVault/operations/read",
)
PROTECTED = (
    "Microsoft.Authorization/*/Delete",
    "Microsoft.Authorization/*/Write",
    "Microsoft.Authorization/elevateAccess/Action",
)

DEFINITIONS = (
    Definition("8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "Owner", ("*",)),
    Definition("b24988ac-6180-42a0-ab88-20f7382dd24c", "Contributor", ("*",), PROTECTED),
    Definition("acdd72a7-3385-48ef-bd42-f606fba81ae7", "Reader", ("*/read",)),
    Definition(
        "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9",
        "User Access Administrator",
        ("*/read", "Microsoft.Authorization/*", "Microsoft.Support/*"),
    ),
    Definition(
        "f58310d9-a9f6-439a-9e8d-f62e7b41a168",
        "Role Based Access Control Administrator",
        (
            "Microsoft.Authorization/roleAssignments/write",
            "Microsoft.Authorization/roleAssignments/delete",
            "*/read",
            "Microsoft.Support/*",
        ),
    ),
    Definition(
        "f6c7c914-8db3-469d-8ca1-694a8f32e121",
        "AzureML Data Scientist",
        (f"{ML}/*/read", f"{ML}/*/action", f"{ML}/*/delete", f"{ML}/*/write"),
        (
            f"{ML}/delete",
            f"{ML}/write",
            f"{ML}/computes/*/write",
            f"{ML}/computes/*/delete",
            f"{ML}/computes/listKeys/action",
            f"{ML}/listKeys/action",
            f"{ML}/hubs/write",
            f"{ML}/hubs/delete",
            f"{ML}/featurestores/write",
            f"{ML}/featurestores/delete",
        ),
    ),
    Definition(
        "e503ece1-11d0-4e8e-8e2c-7a6c3bf38815",
        "AzureML Compute Operator",
        (f"{ML}/computes/*", f"{ML}/notebooks/vm/*"),
    ),
    Definition(
        "7f951dda-4ed3-4680-a7ca-43fe172d538d",
        "AcrPull",
        ("Microsoft.ContainerRegistry/registries/pull/read",),
    ),
    Definition(
        "8311e382-0749-4cb8-b61a-304f252e45ec",
        "AcrPush",
        (
            "Microsoft.ContainerRegistry/registries/pull/read",
            "Microsoft.ContainerRegistry/registries/push/write",
        ),
    ),
    Definition(
        "c2f4ef07-c644-48eb-af81-4b1b4947fb11",
        "AcrDelete",
        ("Microsoft.ContainerRegistry/registries/artifacts/delete",),
    ),
    Definition(
        "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
        "Storage Blob Data Owner",
        (f"{CONTAINERS}/*", DELEGATION),
        (),
        (f"{CONTAINERS}/blobs/*",),
    ),
    Definition(
        "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
        "Storage Blob Data Contributor",
        (f"{CONTAINERS}/delete", f"{CONTAINERS}/read", f"{CONTAINERS}/write", DELEGATION),
        (),
        tuple(
            f"{CONTAINERS}/blobs/{one}" for one in ("delete", "read", "write", "move/action", "add/action")
        ),
    ),
    Definition(
        "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
        "Storage Blob Data Reader",
        (f"{CONTAINERS}/read", DELEGATION),
        (),
        (f"{CONTAINERS}/blobs/read",),
    ),
    Definition(
        "17d1049b-9a84-46fb-8f53-869881c3d3ab",
        "Storage Account Contributor",
        (*READ, "Microsoft.Insights/diagnosticSettings/*", "Microsoft.Storage/storageAccounts/*"),
    ),
    Definition(
        "00482a5a-887f-4fb3-b363-3b7fe8e74483",
        "Key Vault Administrator",
        VAULTS,
        (),
        ("Microsoft.KeyVault/vaults/*",),
    ),
    Definition(
        "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
        "Key Vault Secrets Officer",
        VAULTS,
        (),
        ("Microsoft.KeyVault/vaults/secrets/*",),
    ),
    Definition(
        "4633458b-17de-408a-b874-0445c86b69e6",
        "Key Vault Secrets User",
        (),
        (),
        (
            "Microsoft.KeyVault/vaults/secrets/getSecret/action",
            "Microsoft.KeyVault/vaults/secrets/readMetadata/action",
        ),
    ),
    Definition(
        "21090545-7ca7-4776-b22c-e363652d74d2",
        "Key Vault Reader",
        VAULTS,
        (),
        ("Microsoft.KeyVault/vaults/*/read", "Microsoft.KeyVault/vaults/secrets/readMetadata/action"),
    ),
    Definition(
        "f25e0fa2-a7c8-4377-a976-54943a77a395",
        "Key Vault Contributor",
        (*READ, "Microsoft.KeyVault/*"),
        (
            "Microsoft.KeyVault/locations/deletedVaults/purge/action",
            "Microsoft.KeyVault/hsmPools/*",
            "Microsoft.KeyVault/managedHsms/*",
        ),
    ),
    Definition(
        "f1a07417-d97a-45cb-824c-7a7467783830",
        "Managed Identity Operator",
        (f"{IDENTITIES}/*/read", f"{IDENTITIES}/*/assign/action", *READ),
    ),
    Definition(
        "e40ec5ca-96e0-45a2-b4ff-59039f2c2b59",
        "Managed Identity Contributor",
        (f"{IDENTITIES}/read", f"{IDENTITIES}/write", f"{IDENTITIES}/delete", *READ),
    ),
    Definition(
        "72fafb9e-0641-4937-9268-a91bfd8191a3",
        "Cost Management Reader",
        (
            "Microsoft.Consumption/*/read",
            "Microsoft.CostManagement/*/read",
            "Microsoft.Billing/billingPeriods/read",
            "Microsoft.Resources/subscriptions/read",
            "Microsoft.Resources/subscriptions/resourceGroups/read",
            "Microsoft.Support/*",
        ),
    ),
)
