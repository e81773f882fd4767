"""*.vault.azure.net: secrets, by roles of the data plane.

https://learn.microsoft.com/rest/api/keyvault/secrets (7.4, 7.5, 7.6, 2025-07-01) and
https://learn.microsoft.com/azure/key-vault/general/rest-error-codes
"""

import re
import uuid
from typing import Any

from stage.azure.arm_kinds import Json, Resource
from stage.azure.errors import AzureError
from stage.azure.people import People, Principal
from stage.azure.roles import Roles
from stage.azure.server import Call, Reply
from stage.azure.shapes import ANY, Each, check
from stage.azure.vault_kinds import Vaults
from stage.clock import Clock

VERSIONS = ("7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6", "2025-07-01")
DOMAIN = ".vault.azure.net"
SECRETS = "Microsoft.KeyVault/vaults/secrets"
SHAPE = {
    "value!": str,
    "contentType": str,
    "tags": Each(str),
    "attributes": {"enabled": bool, "nbf": int, "exp": int, "recoveryLevel": ANY},
}
ACTIONS = {"GET": "getSecret/action", "PUT": "setSecret/action", "DELETE": "delete", "PATCH": "update/action"}
LARGEST = 25_600  # bytes of a value


class Vault:
    """The data plane of all vaults: each secret has versions, the newest last."""

    def __init__(self, clock: Clock, people: People, roles: Roles, vaults: Vaults) -> None:
        self._clock, self._people, self._roles, self.vaults = clock, people, roles, vaults

    def exists(self, host: str) -> bool:
        """Whether a host has an address: that of a vault, deleted or not, has."""
        return self.vaults.named(host.removesuffix(DOMAIN)) is not None

    def put(self, vault: str, name: str, value: str) -> str:
        """Writes a secret as its owner would; gives its address without a version."""
        one = self.vaults.named(vault)
        assert one is not None, f"there is no vault {vault}"
        self._write(one, name, {"value": value})
        return f"https://{vault.lower()}{DOMAIN}/secrets/{name}"

    def values(self, vault: str) -> dict[str, str]:
        """The newest value of each secret."""
        one = self.vaults.named(vault)
        assert one is not None, f"there is no vault {vault}"
        known = one.private["secrets"]
        return {name: each[-1]["value"] for name, each in known.items() if not name.startswith("deleted:")}

    def __call__(self, call: Call) -> Reply:
        one = self.vaults.named(call.host.removesuffix(DOMAIN))
        assert one is not None
        principal = self._principal(call)
        if call.query.get("api-version", "") not in VERSIONS:
            code = "BadParameter" if call.query.get("api-version") else "MissingApiVersionParameter"
            raise AzureError(400, code, "api-version must be specified, and a known one")
        if gone := re.fullmatch(r"/deletedsecrets/(?P<name>[^/]+)(/(?P<verb>recover))?", call.path):
            return self._deleted(call, one, principal, gone["name"], gone["verb"])
        found = re.fullmatch(r"/secrets(/(?P<name>[^/]+))?(/(?P<version>[^/]*))?/?", call.path)
        if not found:
            raise AzureError(404, "NotFound", f"The stage does not know {call.method} {call.path}")
        name, version = found["name"], found["version"]
        if name is None:
            self._require(one, principal, "readMetadata/action", "")
            known = [key for key in one.private["secrets"] if not key.startswith("deleted:")]
            return Reply(
                200,
                {"value": [{"id": f"https://{call.host}/secrets/{key}"} for key in known], "nextLink": None},
            )
        if not re.fullmatch(r"[0-9a-zA-Z-]{1,127}", name):
            text = f"The request URI contains an invalid name: {name}"
            raise AzureError(400, "BadParameter", text)
        if version == "versions":
            self._require(one, principal, "readMetadata/action", name)
            shown = [_bundle(one, name, each) for each in self._known(one, name)]
            return Reply(200, {"value": [{k: v for k, v in each.items() if k != "value"} for each in shown]})
        if call.method not in ACTIONS or (call.method != "GET" and version):
            raise AzureError(405, "MethodNotAllowed", f"{call.method} is not allowed here")
        self._require(one, principal, ACTIONS[call.method], name)
        if call.method == "PUT":
            return Reply(200, self._write(one, name, self._body(call)))
        if call.method == "DELETE":
            return Reply(200, self._remove(one, name))
        if call.method == "PATCH":
            raise AzureError(405, "MethodNotAllowed", "The stage does not update secrets")
        return Reply(200, self._read(one, name, version or ""))

    def _deleted(
        self, call: Call, vault: Resource, principal: Principal, name: str, verb: str | None
    ) -> Reply:
        """https://learn.microsoft.com/rest/api/keyvault/secrets/recover-deleted-secret"""
        ways = {
            ("GET", None): "readMetadata/action",
            ("POST", "recover"): "recover/action",
            ("DELETE", None): "purge/action",
        }
        if (call.method, verb) not in ways:
            raise AzureError(405, "MethodNotAllowed", f"{call.method} is not allowed here")
        self._require(vault, principal, ways[call.method, verb], name)
        known = vault.private["secrets"]
        key = next((one for one in known if one.lower() == f"deleted:{name.lower()}"), "")
        if not key:
            text = f"Deleted Secret not found: {name}"
            raise AzureError(404, "SecretNotFound", text)
        shown = {**_bundle(vault, name, known[key][-1]), "value": None}
        if call.method != "GET":
            gone = known.pop(key)
            if verb:
                known[name] = gone
        return Reply(204 if call.method == "DELETE" else 200, None if call.method == "DELETE" else shown)

    def _principal(self, call: Call) -> Principal:
        """The challenge is what the clients of Azure's SDK ask for first: .../key-vault/general/authentication-requests-and-responses."""
        try:
            return self._people.require(call.headers, "https://vault.azure.net")
        except AzureError as refusal:
            text = f'authorization="https://login.microsoftonline.com/{self._people.tenant}", resource="https://vault.azure.net"'
            said = "AKV10000: Request is missing a Bearer or PoP token."
            if refusal.code == "InvalidAuthenticationTokenAudience":
                said = "AKV10022: Invalid audience. Expected https://vault.azure.net, found another one."
            elif call.headers.get("authorization"):
                said = "AKV10046: Unable to resolve the key used for signature validation, or the token is expired."
            headers = {"WWW-Authenticate": f"Bearer {text}"}
            raise AzureError(401, "Unauthorized", said, headers=headers) from refusal

    def _require(self, vault: Resource, principal: Principal, action: str, name: str) -> None:
        """https://learn.microsoft.com/azure/key-vault/general/rbac-guide, and the old access policies."""
        scope = f"{vault.id}/secrets/{name}" if name else vault.id
        if vault.properties["enableRbacAuthorization"]:
            may = self._roles.allows(principal, f"{SECRETS}/{action}", scope, data=True)
            inner, how = "ForbiddenByRbac", "Assignment: (not found)"
        else:
            wanted = {"getSecret": "get", "setSecret": "set", "readMetadata": "list"}.get(
                action.split("/")[0], action
            )
            mine = [
                one for one in vault.properties["accessPolicies"] if one["objectId"] == principal.object_id
            ]
            may = any(wanted in map(str.lower, one["permissions"].get("secrets", [])) for one in mine)
            inner, how = "AccessDenied", "No access policy"
        if not may:
            text = (
                "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role "
                "definitions were changed recently, please observe propagation time.\r\nCaller: "
                f"appid={principal.client_id};oid={principal.object_id};iss=https://sts.windows.net/{self._people.tenant}/"
                f"\r\nAction: '{SECRETS}/{action}'\r\nResource: '{scope.lower()}'\r\n{how}\r\nVault: {vault.name};"
                f"location={vault.content['location']}\r\n"
            )
            raise AzureError(403, "Forbidden", text, inner={"code": inner})

    def _body(self, call: Call) -> Json:
        body = call.json()
        check(SHAPE, body, "BadParameter")
        if len(body["value"].encode()) > LARGEST:
            raise AzureError(400, "BadParameter", "The value of a secret may have 25 kB at most.")
        return body

    def _write(self, vault: Resource, name: str, body: Json) -> Json:
        known = vault.private["secrets"]
        if f"deleted:{name.lower()}" in {key.lower() for key in known}:
            text = f"Secret {name} is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the secret can only be recovered or purged."
            raise AzureError(409, "Conflict", text, inner={"code": "ObjectIsDeletedButRecoverable"})
        made = {**body, "version": uuid.uuid4().hex, "made": int(self._clock.now())}
        known.setdefault(self._name(vault, name), []).append(made)
        return _bundle(vault, name, made)

    def _name(self, vault: Resource, name: str) -> str:
        """Names count without case."""
        return next((one for one in vault.private["secrets"] if one.lower() == name.lower()), name)

    def _known(self, vault: Resource, name: str) -> list[Json]:
        found = vault.private["secrets"].get(self._name(vault, name))
        if not found:
            text = (
                f"A secret with (name/id) {name} was not found in this key vault. If you recently deleted this secret you "
                "may be able to recover it using the correct recovery command. For help resolving this issue, please see "
                "https://go.microsoft.com/fwlink/?linkid=2125182"
            )
            raise AzureError(404, "SecretNotFound", text)
        return found

    def _read(self, vault: Resource, name: str, version: str) -> Json:
        found = [one for one in self._known(vault, name) if version in ("", one["version"])]
        if not found:
            raise AzureError(
                404,
                "SecretNotFound",
                f"A secret with (name/id) {name}/{version} was not found in this key vault.",
            )
        if found[-1].get("attributes", {}).get("enabled") is False:
            text = "Operation get is not allowed on a disabled secret."
            raise AzureError(403, "Forbidden", text, inner={"code": "SecretDisabled"})
        return _bundle(vault, name, found[-1])

    def _remove(self, vault: Resource, name: str) -> Json:
        found, known = self._known(vault, name), vault.private["secrets"]
        known[f"deleted:{name}"] = known.pop(self._name(vault, name))
        shown = _bundle(vault, name, found[-1])
        return {**shown, "recoveryId": shown["id"].replace("/secrets/", "/deletedsecrets/")}


def _bundle(vault: Resource, name: str, one: dict[str, Any]) -> Json:
    times = {
        "enabled": True,
        "created": one["made"],
        "updated": one["made"],
        "recoveryLevel": "Recoverable+Purgeable",
    }
    return {
        "value": one["value"],
        "id": f"https://{vault.name.lower()}{DOMAIN}/secrets/{name}/{one['version']}",
        "attributes": {**times, **one.get("attributes", {})},
        **({"contentType": one["contentType"]} if "contentType" in one else {}),
        **({"tags": one["tags"]} if "tags" in one else {}),
    }
