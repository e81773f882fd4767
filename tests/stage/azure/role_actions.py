"""Actions that roles of one's own may name: whoever names one that no provider has is refused.

https://learn.microsoft.com/azure/role-based-access-control/resource-provider-operations and its pages (2026-09), of the providers
that a project comes near; "the string does not match any of the actions" is https://learn.microsoft.com/azure/role-based-access-control/troubleshooting.
"""

from stage.azure.roles import matches

ML = "Microsoft.MachineLearningServices"
VAULTS = "Microsoft.KeyVault/vaults"
REGISTRIES = "Microsoft.ContainerRegistry/registries"
IDENTITIES = "Microsoft.ManagedIdentity/userAssignedIdentities"
ACCOUNTS = "Microsoft.Storage/storageAccounts"
GROUPS = "Microsoft.Resources/subscriptions/resourceGroups"
ALL = "read write delete"
# A thing of a provider, and what can be done with it; as "what/action" where it is neither of the three.
CONTROL = {
    f"{ML}": "register/action",
    f"{ML}/locations/computeoperationsstatus": "read",
    f"{ML}/locations/mfeOperationResults": "read",
    f"{ML}/locations/mfeOperationsStatus": "read",
    f"{ML}/locations/quotas": "read",
    f"{ML}/locations/usages": "read",
    f"{ML}/locations/vmsizes": "read",
    f"{ML}/locations/workspaceOperationsStatus": "read",
    f"{ML}/locations/updateQuotas": "action",
    f"{ML}/workspaces": f"{ALL} listKeys/action resynckeys/action listStorageAccountKeys/action diagnose/read",
    f"{ML}/workspaces/codes": ALL,
    f"{ML}/workspaces/codes/versions": ALL,
    f"{ML}/workspaces/components": ALL,
    f"{ML}/workspaces/components/versions": ALL,
    f"{ML}/workspaces/computes": (
        f"{ALL} listKeys/action listNodes/action start/action stop/action restart/action updateDataMounts/action "
        "updateIdleShutdownSetting/action applicationaccess/action updateSchedules/action reimage/action"
    ),
    f"{ML}/workspaces/connections": f"{ALL} listsecrets/action",
    f"{ML}/workspaces/data": ALL,
    f"{ML}/workspaces/data/versions": ALL,
    f"{ML}/workspaces/datastores": f"{ALL} listsecrets/action",
    f"{ML}/workspaces/environments": "read readSecrets/action write build/action",
    f"{ML}/workspaces/environments/versions": ALL,
    f"{ML}/workspaces/experiments": ALL,
    f"{ML}/workspaces/experiments/runs": f"{ALL} submit/action",
    f"{ML}/workspaces/jobs": f"{ALL} cancel/action operationresults/read",
    f"{ML}/workspaces/metadata/artifacts": ALL,
    f"{ML}/workspaces/models": f"{ALL} download/action package/action",
    f"{ML}/workspaces/models/versions": ALL,
    # Those of deployments as public programs name them: https://github.com/cloud-custodian/cloud-custodian and others.
    f"{ML}/workspaces/onlineEndpoints": f"{ALL} score/action token/action listKeys/action regenerateKeys/action",
    f"{ML}/workspaces/onlineEndpoints/deployments": ALL,
    f"{ML}/workspaces/schedules": ALL,
    VAULTS: f"{ALL} deploy/action",
    f"{VAULTS}/secrets": "read write",
    "Microsoft.KeyVault": "register/action deletedVaults/read checkNameAvailability/read",
    "Microsoft.KeyVault/locations/deletedVaults": "read purge/action",
    REGISTRIES: f"{ALL} pull/read push/write artifacts/delete listCredentials/action importImage/action",
    IDENTITIES: f"{ALL} assign/action",
    f"{IDENTITIES}/federatedIdentityCredentials": ALL,
    ACCOUNTS: f"{ALL} listkeys/action listAccountSas/action",
    f"{ACCOUNTS}/blobServices": "read write generateUserDelegationKey/action",
    f"{ACCOUNTS}/blobServices/containers": ALL,
    GROUPS: ALL,
    "Microsoft.Resources/subscriptions": "read resources/read providers/read",
    "Microsoft.Resources/deployments": f"{ALL} validate/action cancel/action",
    "Microsoft.Authorization/roleAssignments": ALL,
    "Microsoft.Authorization/roleDefinitions": ALL,
    "Microsoft.Authorization/permissions": "read",
    "Microsoft.Consumption/budgets": ALL,
}
DATA = {
    f"{VAULTS}/secrets": (
        "delete backup/action purge/action update/action recover/action restore/action readMetadata/action "
        "getSecret/action setSecret/action"
    ),
    f"{ACCOUNTS}/blobServices/containers/blobs": f"{ALL} add/action move/action tags/read tags/write",
}


def _names(table: dict[str, str]) -> set[str]:
    return {f"{thing}/{what}".lower() for thing, does in table.items() for what in does.split()}


KNOWN, KNOWN_DATA = _names(CONTROL), _names(DATA)


def known(action: str, data: bool) -> bool:
    """Whether a provider has an action, or one that a pattern finds; every namespace has read."""
    if action in ("*", "*/read"):
        return True
    return any(matches(action, one) for one in (KNOWN_DATA if data else KNOWN))
