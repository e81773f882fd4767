"""Microsoft.Storage as resources: accounts, their containers, and rules of the life of blobs.

https://learn.microsoft.com/rest/api/storagerp and https://learn.microsoft.com/azure/templates/microsoft.storage/storageaccounts
"""

import base64
import secrets
from collections.abc import Callable
from typing import Any

from stage.azure.arm import Arm
from stage.azure.arm_kinds import Json, Kind, Resource, Writing
from stage.azure.arm_paths import parse
from stage.azure.errors import AzureError
from stage.azure.shapes import ANY, Each

VERSIONS = (
    "2019-06-01",
    "2021-09-01",
    "2022-09-01",
    "2023-01-01",
    "2023-05-01",
    "2024-01-01",
    "2025-01-01",
    "2025-06-01",
)
ACCOUNTS = "Microsoft.Storage/storageAccounts"
SKUS = ("Standard_LRS", "Standard_GRS", "Standard_RAGRS", "Standard_ZRS", "Premium_LRS", "Premium_ZRS")
SKUS += ("Standard_GZRS", "Standard_RAGZRS")
KINDS = ("StorageV2", "Storage", "BlobStorage", "BlockBlobStorage", "FileStorage")
ACCOUNT = {
    "accessTier": ("Hot", "Cool", "Cold", "Premium"),
    "allowBlobPublicAccess": bool,
    "allowSharedKeyAccess": bool,
    "allowCrossTenantReplication": bool,
    "allowedCopyScope": ("PrivateLink", "AAD"),
    "defaultToOAuthAuthentication": bool,
    "dnsEndpointType": ("Standard", "AzureDnsZone"),
    "encryption": dict,
    "isHnsEnabled": bool,
    "isLocalUserEnabled": bool,
    "isSftpEnabled": bool,
    "minimumTlsVersion": ("TLS1_0", "TLS1_1", "TLS1_2", "TLS1_3"),
    "networkAcls": ANY,
    "publicNetworkAccess": ("Enabled", "Disabled", "SecuredByPerimeter"),
    "supportsHttpsTrafficOnly": bool,
    "sasPolicy": dict,
    "keyPolicy": dict,
}
DAYS = {"daysAfterModificationGreaterThan": float | int, "daysAfterCreationGreaterThan": float | int}
DAYS |= {"daysAfterLastAccessTimeGreaterThan": float | int, "daysAfterLastTierChangeGreaterThan": float | int}
TIERS = {"delete": DAYS, "tierToCool": DAYS, "tierToCold": DAYS, "tierToArchive": DAYS}
RULE = {
    "enabled": bool,
    "name!": str,
    "type!": ("Lifecycle",),
    "definition!": {
        "actions!": {
            "baseBlob": {**TIERS, "enableAutoTierToHotFromCool": bool},
            "snapshot": TIERS,
            "version": TIERS,
        },
        "filters": {
            "prefixMatch": [str],
            "blobTypes!": [("blockBlob", "appendBlob")],
            "blobIndexMatch": [ANY],
        },
    },
}
CONTAINER = {
    "publicAccess": ("None", "Blob", "Container"),
    "metadata": Each(str),
    "defaultEncryptionScope": str,
    "denyEncryptionScopeOverride": bool,
    "immutableStorageWithVersioning": dict,
}


class Storage:
    """The accounts.

    Attributes:
        taken: names of other people's accounts: there is one account of a name in the world.
        made, gone: called with the names of account and container, when one came or went.
    """

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self.taken: set[str] = set()
        self.made: Callable[[str, str], None] = lambda *_: None
        self.gone: Callable[[str, str], None] = lambda *_: None
        for kind in self._kinds():
            arm.kinds[kind.type.lower()] = kind

    def account(self, name: str) -> Resource | None:
        """The account of a name."""
        found = [one for one in self._arm.resources.values() if one.kind.type == ACCOUNTS]
        return next((one for one in found if one.name == name), None)

    def container(self, account: str, name: str) -> str:
        """The id of a container, whether there is one or not."""
        found = self.account(account)
        assert found is not None
        return f"{found.id}/blobServices/default/containers/{name}"

    def containers(self, account: str) -> list[str]:
        """Names of the containers of an account."""
        above = self.container(account, "").lower()
        return [one.name for key, one in self._arm.resources.items() if key.startswith(above)]

    def add(self, account: str, name: str) -> None:
        """Has Resource Manager know of a container that was made without it."""
        path = self.container(account, name)
        kind = self._arm.kinds[f"{ACCOUNTS}/blobServices/containers".lower()]
        self._arm.resources[path.lower()] = Resource(path, kind, {"properties": {}}, self._arm.clock.now())

    def drop(self, account: str, name: str) -> None:
        """The same of one that was deleted."""
        self._arm.resources.pop(self.container(account, name).lower(), None)

    def available(self, name: str) -> tuple[str, str]:
        """Why a name cannot be had, and the text of it; empty texts where it can.

        https://learn.microsoft.com/rest/api/storagerp/storage-accounts/check-name-availability
        """
        if name in self.taken or self.account(name):
            return "AlreadyExists", f"The storage account named {name} is already taken."
        return "", ""

    def _kinds(self) -> list[Kind]:
        account = Kind(
            ACCOUNTS,
            VERSIONS,
            r"[a-z0-9]{3,24}",
            (
                "AccountNameInvalid",
                (
                    "{0} is not a valid storage account name. Storage account name must be between 3 and 24 characters in "
                    "length and use numbers and lower-case letters only."
                ),
            ),
            ACCOUNT,
            {"sku!": {"name!": SKUS, "tier": str}, "kind!": KINDS, "identity": ANY},
            waits=True,
            check=self._check,
            properties_of=_account,
            put=self._put,
            removed=lambda _, one, __: self.gone(one.name, ""),
            actions={"listKeys": lambda _, one, __: {"keys": _keys(one)}},
        )
        service = Kind(
            f"{ACCOUNTS}/blobServices",
            VERSIONS,
            "default",
            ("InvalidResourceName", "The name {0} is not 'default'."),
            {
                "deleteRetentionPolicy": {"enabled": bool, "days": int, "allowPermanentDelete": bool},
                "containerDeleteRetentionPolicy": {"enabled": bool, "days": int},
                "isVersioningEnabled": bool,
                "changeFeed": dict,
                "restorePolicy": dict,
                "cors": dict,
                "lastAccessTimeTrackingPolicy": dict,
            },
            located=False,
            stateful=False,
        )
        container = Kind(
            f"{ACCOUNTS}/blobServices/containers",
            VERSIONS,
            r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]",
            ("InvalidResourceName", "The specifed resource name contains invalid characters: {0}"),
            CONTAINER,
            located=False,
            stateful=False,
            put=lambda writing, one: self.made(*_parts(one.id)),
            removed=lambda _, one, __: self.gone(*_parts(one.id)),
            refuse_gone=(404, "ContainerNotFound", "The specified container does not exist: {0}"),
        )
        policy = Kind(
            f"{ACCOUNTS}/managementPolicies",
            VERSIONS,
            "default",
            ("InvalidResourceName", "The name {0} is not 'default'."),
            {"policy!": {"rules!": [RULE]}},
            located=False,
            stateful=False,
            check=_policy,
            refuse_gone=(404, "ManagementPolicyNotFound", "No ManagementPolicy found for account: {0}"),
        )
        return [account, service, container, policy]

    def _check(self, writing: Writing) -> None:
        if writing.name in self.taken or (writing.old is None and self.account(writing.name)):
            text = f"The storage account named {writing.name} is already taken."
            raise AzureError(409, "StorageAccountAlreadyTaken", text)
        if writing.old and writing.body["kind"] != writing.old.content["kind"]:
            text = "The property 'kind' was specified in the input, but it cannot be updated."
            raise AzureError(400, "StorageAccountCannotBeUpdated", text)

    def _put(self, writing: Writing, made: Resource) -> None:
        made.private.setdefault("keys", [base64.b64encode(secrets.token_bytes(64)).decode() for _ in "12"])
        made.private["given"] = writing.body.get("properties") or {}
        made.content["sku"] = {**writing.body["sku"], "tier": writing.body["sku"]["name"].partition("_")[0]}
        path = f"{made.id}/blobServices/default"
        kind = self._arm.kinds[f"{ACCOUNTS}/blobServices".lower()]
        self._arm.resources.setdefault(path.lower(), Resource(path, kind, {"properties": {}}, made.made))


def _account(writing: Writing) -> Json:
    """What an account is where nothing is said: https://learn.microsoft.com/azure/storage/common/storage-account-create."""
    usual: Json = {"accessTier": "Hot", "allowBlobPublicAccess": False, "supportsHttpsTrafficOnly": True}
    usual["minimumTlsVersion"] = "TLS1_0"
    services = ("blob", "dfs", "file", "queue", "table")
    ends = {one: f"https://{writing.name}.{one}.core.windows.net/" for one in services}
    before = writing.old.private.get("given", {}) if writing.old else {}
    return {**usual, **before, **(writing.body.get("properties") or {}), "primaryEndpoints": ends}


def _keys(one: Resource) -> list[Any]:
    return [
        {"keyName": f"key{number}", "value": key, "permissions": "FULL"}
        for number, key in enumerate(one.private["keys"], 1)
    ]


def _policy(writing: Writing) -> None:
    """https://learn.microsoft.com/azure/storage/blobs/lifecycle-management-policy-structure"""
    rules = writing.body["properties"]["policy"]["rules"]
    if not rules or len(rules) > 100 or len({rule["name"] for rule in rules}) < len(rules):
        raise AzureError(
            400, "InvalidRequestPropertyValue", "There must be 1 to 100 rules with names of their own."
        )
    containers = [one.name for one in writing.arm.resources.values() if one.kind.type.endswith("/containers")]
    for rule in rules:
        if not any(rule["definition"]["actions"].values()):
            raise AzureError(400, "InvalidRequestPropertyValue", f"The rule {rule['name']} has no action.")
        for prefix in rule["definition"].get("filters", {}).get("prefixMatch", []):
            # "A prefix string must start with a container name": one that does not meets nothing.
            if not any(prefix.partition("/")[0] == one for one in containers):
                text = f"The prefix {prefix} of the rule {rule['name']} does not begin with the name of a container."
                raise AzureError(400, "InvalidRequestPropertyValue", text)


def _parts(path: str) -> tuple[str, str]:
    names = parse(path).names
    return names[0], names[-1]
