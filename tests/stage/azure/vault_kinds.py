"""Microsoft.KeyVault/vaults as resources: what is deleted stays for a while, and its name with it.

https://learn.microsoft.com/rest/api/keyvault/keyvault/vaults and https://learn.microsoft.com/azure/key-vault/general/soft-delete-overview
"""

import re
from collections.abc import Mapping

from stage.azure.arm import Arm
from stage.azure.arm_kinds import Json, Kind, Resource, Writing
from stage.azure.arm_paths import Address
from stage.azure.errors import AzureError
from stage.azure.people import Principal
from stage.azure.server import Call, Reply
from stage.azure.shapes import ANY

VERSIONS = (
    "2019-09-01",
    "2021-10-01",
    "2022-07-01",
    "2023-02-01",
    "2023-07-01",
    "2024-11-01",
    "2025-05-01",
    "2026-02-01",
)
RBAC_SINCE = "2026-02-01"  # from this version on a new vault's access is by roles where nothing is said
VAULTS = "Microsoft.KeyVault/vaults"
DAY = 86400.0
SECRET = re.compile(
    r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.KeyVault/vaults/[^/]+/secrets(/(?P<name>[^/]+))?",
    re.IGNORECASE,
)
SHAPE = {
    "tenantId!": str,
    "sku!": {"family!": ("A",), "name!": ("standard", "premium")},
    "accessPolicies": [{"tenantId!": str, "objectId!": str, "applicationId": str, "permissions!": dict}],
    "createMode": ("default", "recover"),
    "enabledForDeployment": bool,
    "enabledForDiskEncryption": bool,
    "enabledForTemplateDeployment": bool,
    "enablePurgeProtection": bool,
    "enableRbacAuthorization": bool,
    "enableSoftDelete": bool,
    "networkAcls": ANY,
    "publicNetworkAccess": ("Enabled", "enabled", "Disabled", "disabled"),
    "softDeleteRetentionInDays": int,
    "vaultUri": str,
}


class Vaults:
    """The vaults, and those that are deleted and can be recovered.

    Attributes:
        taken: names of other people's vaults.
    """

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self.taken: set[str] = set()
        self._deleted: dict[str, tuple[Resource, float]] = {}
        arm.extra.append(self)
        arm.kinds[VAULTS.lower()] = Kind(
            VAULTS,
            VERSIONS,
            r"(?!.*--)[a-zA-Z][a-zA-Z0-9-]{1,22}[a-zA-Z0-9]",
            (
                "VaultNameNotValid",
                (
                    "The vault name '{0}' is invalid. A vault's name must be between 3-24 alphanumeric characters. The name "
                    "must begin with a letter, end with a letter or digit, and not contain consecutive hyphens. Follow this "
                    "link for more information: https://go.microsoft.com/fwlink/?linkid=2147742"
                ),
            ),
            SHAPE,
            {"identity": ANY},
            check=self._check,
            properties_of=_properties,
            put=self._put,
            removed=self._removed,
        )

    def named(self, name: str) -> Resource | None:
        """The vault of a name, in any case."""
        found = [one for one in self._arm.resources.values() if one.kind.type == VAULTS]
        return next((one for one in found if one.name.lower() == name.lower()), None)

    def deleted(self) -> dict[str, Resource]:
        """Deleted vaults by name, which are kept for as many days as they say."""
        now = self._arm.clock.now()
        for name, (one, when) in list(self._deleted.items()):
            if when + DAY * one.properties["softDeleteRetentionInDays"] <= now:
                del self._deleted[name]
        return {name: one for name, (one, _) in self._deleted.items()}

    def available(self, name: str) -> tuple[str, str]:
        """Why a name cannot be had: https://learn.microsoft.com/rest/api/keyvault/keyvault/vaults/check-name-availability."""
        if self.named(name) or name.lower() in self.taken or name.lower() in self.deleted():
            return (
                "AlreadyExists",
                f"The vault name '{name}' is already in use. Vault names are globally unique.",
            )
        return "", ""

    def __call__(self, call: Call, address: Address, principal: Principal) -> Reply | None:
        """Answers for deleted vaults, and for the secrets that Resource Manager knows of, without their values."""
        if secret := SECRET.fullmatch(address.path):
            return self._secret(call, address, principal, secret["name"])
        found = re.fullmatch(
            r"/subscriptions/[^/]+/providers/Microsoft\.KeyVault(/locations/(?P<place>[^/]+))?/deletedVaults"
            r"(/(?P<name>[^/]+))?(/(?P<verb>purge))?",
            address.path,
            re.IGNORECASE,
        )
        if not found:
            return None
        arm = self._arm
        arm.version(arm.kinds[VAULTS.lower()], call.query["api-version"])
        scope = f"/subscriptions/{arm.subscription}"
        right = "locations/deletedVaults/purge/action" if found["verb"] else "deletedVaults/read"
        if found["name"] and not found["verb"]:
            right = "locations/deletedVaults/read"
        arm.roles.require(principal, f"Microsoft.KeyVault/{right}", scope)
        if not found["name"]:
            return Reply(200, {"value": [self._shown(one) for one in self.deleted().values()]})
        one = self.deleted().get(found["name"].lower())
        if one is None or one.content["location"] != found["place"]:
            text = f"The specified deleted vault '{found['name']}' does not exist."
            raise AzureError(404, "DeletedVaultNotFound", text)
        if not found["verb"]:
            return Reply(200, self._shown(one))
        if one.properties.get("enablePurgeProtection"):
            text = (
                'Operation "DeletedVaultPurge" is not allowed because purge protection is enabled for this vault. Key '
                "Vault service will automatically purge it after the retention period has passed."
            )
            raise AzureError(405, "MethodNotAllowed", text)
        del self._deleted[found["name"].lower()]
        return Reply(202, None, arm.operation(one.id, "Microsoft.KeyVault"))

    def _secret(self, call: Call, address: Address, principal: Principal, name: str | None) -> Reply:
        """https://learn.microsoft.com/rest/api/keyvault/keyvault/secrets/get (of the control plane)"""
        arm = self._arm
        arm.version(arm.kinds[VAULTS.lower()], call.query["api-version"])
        if call.method != "GET":
            raise NotImplementedError("secrets are written at their vault")
        arm.roles.require(principal, f"{VAULTS}/secrets/read", address.path)
        vault = arm.get("/".join(address.path.split("/")[:9]))
        names = [one for one in vault.private["secrets"] if not one.startswith("deleted:")]
        found = [_known(vault, one) for one in names if name is None or one.lower() == name.lower()]
        if name is None:
            return Reply(200, {"value": found})
        if not found:
            text = f"The secret {name} was not found in the vault {vault.name}."
            raise AzureError(404, "SecretNotFound", text)
        return Reply(200, found[0])

    def _shown(self, one: Resource) -> Json:
        place = f"/subscriptions/{self._arm.subscription}/providers/Microsoft.KeyVault/locations/{one.content['location']}"
        properties = {
            "vaultId": one.id,
            "location": one.content["location"],
            "tags": one.content.get("tags", {}),
        }
        return {
            "id": f"{place}/deletedVaults/{one.name}",
            "name": one.name,
            "type": "Microsoft.KeyVault/deletedVaults",
            "properties": properties,
        }

    def _check(self, writing: Writing) -> None:
        given = writing.body.get("properties") or {}
        mode = given.get("createMode", "default")
        if mode == "recover":
            if writing.name.lower() not in self.deleted():
                raise AzureError(404, "DeletedVaultNotFound", f"There is no deleted vault '{writing.name}'.")
        elif writing.name.lower() in self.deleted():
            text = (
                "A vault with the same name already exists in deleted state. You need to either recover or purge existing "
                "key vault. Follow this link https://go.microsoft.com/fwlink/?linkid=2149745 for more information on soft "
                "delete."
            )
            raise AzureError(409, "ConflictError", text)
        if writing.name.lower() in self.taken or (writing.old is None and self.named(writing.name)):
            text = (
                f"The vault name '{writing.name}' is already in use. Vault names are globaly unique so it is possible that "
                "the name is already taken."
            )
            raise AzureError(409, "VaultAlreadyExists", text)
        if given.get("tenantId", "").lower() != self._arm.people.tenant:
            raise AzureError(400, "BadRequest", "An invalid value was provided for 'tenantId'.")
        if given.get("enableSoftDelete") is False:
            text = (
                'The property "enableSoftDelete" can be set to false only for creating new vault. Enabling the "soft '
                'delete" functionality is irreversible.'
            )
            raise AzureError(400, "BadRequest", text)
        if given.get("enablePurgeProtection") is False:
            text = (
                'The property "enablePurgeProtection" cannot be set to false. Enabling the purge protection for a vault is '
                "an irreversible action."
            )
            raise AzureError(400, "BadRequest", text)
        _retention(writing, given)
        by_roles = given.get("enableRbacAuthorization") or writing.arm_version >= RBAC_SINCE
        if not by_roles and "accessPolicies" not in given and mode != "recover":
            raise AzureError(400, "BadRequest", "The parameter accessPolicies is required.")

    def _put(self, writing: Writing, made: Resource) -> None:
        made.private["given"] = {**(writing.body.get("properties") or {})}
        if back := self._deleted.pop(writing.name.lower(), None):
            made.private["secrets"] = back[0].private.get("secrets", {})
            made.content["properties"] = {**back[0].properties}
        made.private.setdefault("secrets", {})

    def _removed(self, arm: Arm, one: Resource, _: Mapping[str, str]) -> None:
        self._deleted[one.name.lower()] = (one, arm.clock.now())


def _known(vault: Resource, name: str) -> Json:
    return {
        "id": f"{vault.id}/secrets/{name}",
        "name": name,
        "type": f"{VAULTS}/secrets",
        "location": vault.content["location"],
        "properties": {
            "attributes": {"enabled": True},
            "secretUri": f"{vault.properties['vaultUri']}secrets/{name}",
        },
    }


def _retention(writing: Writing, given: Json) -> None:
    days = given.get("softDeleteRetentionInDays")
    if days is None:
        return
    if not 7 <= days <= 90:
        text = "The property 'softDeleteRetentionInDays' must be between 7 and 90."
        raise AzureError(400, "BadRequest", text)
    if writing.old and writing.old.properties["softDeleteRetentionInDays"] != days:
        text = 'The property "softDeleteRetentionInDays" has been set already and it can\'t be modified.'
        raise AzureError(400, "BadRequest", text)


def _properties(writing: Writing) -> Json:
    before = writing.old.properties if writing.old else {}
    usual = {
        "accessPolicies": [],
        "enableSoftDelete": True,
        "softDeleteRetentionInDays": 90,
        "enableRbacAuthorization": writing.arm_version >= RBAC_SINCE,
        "publicNetworkAccess": "Enabled",
    }
    given = {key: one for key, one in writing.body["properties"].items() if key != "createMode"}
    return {**usual, **before, **given, "vaultUri": f"https://{writing.name.lower()}.vault.azure.net/"}
