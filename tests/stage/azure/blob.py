"""*.blob.core.windows.net: who may do what with blobs, before an Azurite that keeps them.

https://learn.microsoft.com/rest/api/storageservices/authorize-with-azure-active-directory#permissions-for-calling-data-operations
"""

import http.client
import urllib.parse
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from stage.azure.azurite import Azurite
from stage.azure.errors import AzureError
from stage.azure.people import People, Principal
from stage.azure.roles import Roles
from stage.azure.server import Call, Reply, Service
from stage.azure.storage_kinds import Storage

DOMAIN = ".blob.core.windows.net"
LOGS = "/azureml/ExperimentRun/dcid."  # begins the paths of runs' logs, in a workspace's own account
CONTAINERS = "Microsoft.Storage/storageAccounts/blobServices/containers"
SERVICE = "Microsoft.Storage/storageAccounts/blobServices"
# What may stand in `comp` of a blob's address, when it is written.
WRITES = {
    "block",
    "blocklist",
    "page",
    "appendblock",
    "metadata",
    "properties",
    "lease",
    "snapshot",
    "tier",
    "copy",
    "undelete",
}


class Blob:
    """All storage accounts: one Azurite for each, which is started when it is first needed.

    Attributes:
        logs: gives those of Azure ML's runs, which no Azurite has; it looks at signatures itself.
    """

    def __init__(self, folder: Path, people: People, roles: Roles, storage: Storage, lock: Any) -> None:
        self._lock = lock  # of the world: roles and resources do not change meanwhile
        self._folder, self._people, self._roles, self._storage = folder, people, roles, storage
        self.logs: Service | None = None
        self._running = ExitStack()
        self._azurites: dict[str, Azurite] = {}
        storage.made, storage.gone = self._made, self._gone

    def close(self) -> None:
        self._running.close()

    def exists(self, host: str) -> bool:
        """Whether a host has an address."""
        return self._storage.account(host.removesuffix(DOMAIN)) is not None

    def refuse(self, refusal: AzureError) -> Reply:
        """https://learn.microsoft.com/rest/api/storageservices/status-and-error-codes2"""
        text = f"<Error><Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message></Error>"
        headers = {
            "Content-Type": "application/xml",
            "x-ms-error-code": refusal.code,
            "x-ms-version": "2026-02-06",
        }
        body = b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?>' + text.encode()
        return Reply(refusal.status, body, headers | refusal.headers)

    def azurite(self, account: str) -> Azurite:
        """Where an account's bytes are."""
        if account not in self._azurites:
            one = self._storage.account(account)
            assert one is not None, f"there is no storage account {account}"
            keys = one.private["keys"]
            made = self._running.enter_context(Azurite(self._folder / account, account, keys))
            for container in self._storage.containers(account):
                made.make(container)
            self._azurites[account] = made
        return self._azurites[account]

    def names(self, account: str, container: str, prefix: str = "") -> list[str]:
        """Names of the blobs of a container, as a test looks at them."""
        return sorted(self.azurite(account).client(container).list_blob_names(name_starts_with=prefix))

    def read(self, account: str, container: str, name: str) -> bytes:
        """The content of a blob."""
        return self.azurite(account).client(container).download_blob(name).readall()

    def write(self, account: str, container: str, name: str, content: bytes) -> None:
        """Puts a blob there, whoever may."""
        self.azurite(account).client(container).upload_blob(name, content, overwrite=True)

    def delete(self, account: str, container: str, name: str) -> None:
        """Takes a blob away, whoever may."""
        self.azurite(account).client(container).delete_blob(name)

    def signed(
        self, account: str, container: str, name: str, seconds: float = 3600, rights: str = "r"
    ) -> str:
        """An address with a signature (SAS) that holds for so many seconds of this machine's clock."""
        given = self.azurite(account).signature(container, name, seconds, rights)
        return f"https://{account}{DOMAIN}/{container}/{urllib.parse.quote(name)}?{given}"

    def _made(self, account: str, container: str) -> None:
        if account in self._azurites:
            self._azurites[account].make(container)

    def _gone(self, account: str, container: str) -> None:
        if container and account in self._azurites:
            self._azurites[account].drop(container)
        elif one := self._azurites.pop(account, None):
            one.clear()

    def __call__(self, call: Call) -> Reply:
        account = call.host.removesuffix(DOMAIN)
        container, _, name = call.path.lstrip("/").partition("/")
        with self._lock:
            as_is = self._allow(call, account, container, name)
            if as_is and self.logs and call.path.startswith(LOGS):
                return self.logs(call)
            self.azurite(account)
        reply = self._passed_on(call, account, as_is)
        if (
            reply.status < 300
            and not name
            and call.query.get("restype") == "container"
            and "comp" not in call.query
        ):
            with self._lock:
                self._follow(call.method, account, container)
        return reply

    def _follow(self, method: str, account: str, container: str) -> None:
        """Has Resource Manager know what became of containers."""
        if method == "PUT":
            self._storage.add(account, container)
        elif method == "DELETE":
            self._storage.drop(account, container)

    def _allow(self, call: Call, account: str, container: str, name: str) -> bool:
        """Refuses what is not allowed; tells whether a request is passed on with the signature that it has."""
        one = self._storage.account(account)
        assert one is not None
        if one.properties.get("publicNetworkAccess") == "Disabled":
            raise AzureError(
                403, "AuthorizationFailure", "This request is not authorized to perform this operation."
            )
        kind = call.headers.get("authorization", "").partition(" ")[0].lower()
        if kind == "bearer":
            principal = self._principal(call, account)
            for action, data, where in _wanted(call, container, name):
                self._require(principal, action, data, account, where)
        elif kind.startswith("sharedkey") or "sig" in call.query:
            # https://learn.microsoft.com/azure/storage/common/shared-key-authorization-prevent
            delegated = "skoid" in call.query
            if (
                one.properties.get("allowSharedKeyAccess") is False
                and not delegated
                and not self._own(call, account)
            ):
                text = "Key based authentication is not permitted on this storage account."
                raise AzureError(403, "KeyBasedAuthenticationNotPermitted", text)
            return True
        else:
            raise self._anonymous()
        return False

    def _own(self, call: Call, account: str) -> bool:
        """Whether the stage signed an address itself, as somebody who may delegate does."""
        return account in self._azurites and call.query.get("sig") in self._azurites[account].signatures

    def _anonymous(self) -> AzureError:
        """https://learn.microsoft.com/rest/api/storageservices/authorize-with-azure-active-directory#bearer-challenge"""
        text = "Server failed to authenticate the request. Please refer to the information in the www-authenticate header."
        headers = {
            "WWW-Authenticate": f"Bearer authorization_uri=https://login.microsoftonline.com/{self._people.tenant}/oauth2/authorize "
            "resource_id=https://storage.azure.com"
        }
        return AzureError(401, "NoAuthenticationInformation", text, headers=headers)

    def _principal(self, call: Call, account: str) -> Principal:
        audiences = ("https://storage.azure.com", f"https://{account}{DOMAIN}")
        try:
            principal = self._people.require(call.headers, *audiences)
        except AzureError as refusal:
            text = "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature."
            code = "InvalidAuthenticationInfo"
            raise AzureError(401, code, text, headers=self._anonymous().headers) from refusal
        if call.headers.get("x-ms-version", "") < "2017-11-09":  # the first that takes tokens
            text = "The value for one of the HTTP headers is not in the correct format: x-ms-version."
            raise AzureError(400, "InvalidHeaderValue", text)
        return principal

    def _require(self, principal: Principal, action: str, data: bool, account: str, container: str) -> None:
        one = self._storage.account(account)
        assert one is not None
        scope = self._storage.container(account, container) if container else one.id
        if not self._roles.allows(principal, action, scope, data):
            text = "This request is not authorized to perform this operation using this permission."
            raise AzureError(403, "AuthorizationPermissionMismatch", text)

    def _passed_on(self, call: Call, account: str, as_is: bool) -> Reply:
        """What Azurite says, which is asked by the account's own name; a bearer's rights are those of a signature."""
        azurite = self.azurite(account)
        skipped = {
            "connection",
            "proxy-connection",
            "transfer-encoding",
            "accept-encoding",
            "expect",
            "content-length",
        }
        headers = {name: value for name, value in call.headers.items() if name not in skipped}
        target = call.target
        if not as_is:
            del headers["authorization"]
            target += ("&" if "?" in target else "?") + azurite.everything
        headers["host"] = call.host
        if source := headers.get("x-ms-copy-source"):
            headers["x-ms-copy-source"] = self._source(source, call, azurite)
            headers["host"], target = f"127.0.0.1:{azurite.port}", f"/{account}{target}"
        if call.method in ("PUT", "POST", "PATCH") or call.content:
            headers["content-length"] = str(len(call.content))
        connection = http.client.HTTPConnection("127.0.0.1", azurite.port, timeout=120)
        try:
            connection.putrequest(call.method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(call.content or None)
            answer = connection.getresponse()
            dropped = ("connection", "keep-alive", "transfer-encoding", "date", "server")
            given: dict[str, Any] = {
                name: value for name, value in answer.headers.items() if name.lower() not in dropped
            }
            content = answer.read()
        finally:
            connection.close()
        if call.method != "HEAD":
            given.pop("Content-Length", None)
            given.pop("content-length", None)
        return Reply(
            answer.status, content.replace(azurite.url.encode(), f"https://{call.host}".encode()), given
        )

    def _source(self, address: str, call: Call, azurite: Azurite) -> str:
        """An address to copy from, by which Azurite finds itself: it asks whether it is there."""
        parts = urllib.parse.urlsplit(address)
        if parts.hostname != call.host or "authorization" not in call.headers:
            raise NotImplementedError("copies from other accounts, and with other rights, are not modelled")
        query = parts.query if "sig=" in parts.query else azurite.everything
        return f"http://127.0.0.1:{azurite.port}/{call.host.removesuffix(DOMAIN)}{parts.path}?{query}"


def _wanted(call: Call, container: str, name: str) -> list[tuple[str, bool, str]]:
    """(action, whether of the data plane, container) of each right that a request takes."""
    comp, method = call.query.get("comp", ""), call.method
    if not container:
        if comp == "list":
            return [(f"{CONTAINERS}/read", False, "")]
        if comp == "userdelegationkey":
            return [(f"{SERVICE}/generateUserDelegationKey/action", False, "")]
        if comp == "batch":
            raise NotImplementedError("batches of requests are not modelled")
        return [(f"{SERVICE}/{'read' if method == 'GET' else 'write'}", False, "")]
    if not name:
        if comp == "list":
            return [(f"{CONTAINERS}/blobs/read", True, container)]
        if comp == "batch":
            raise NotImplementedError("batches of requests are not modelled")
        if comp == "acl":
            raise AzureError(403, "AuthorizationFailure", "Container ACLs are not for tokens of Entra.")
        verb = {"GET": "read", "HEAD": "read", "PUT": "write", "DELETE": "delete"}[method]
        return [(f"{CONTAINERS}/{verb}", False, container)]
    if method in ("GET", "HEAD"):
        return [(f"{CONTAINERS}/blobs/read", True, container)]
    if method == "DELETE":
        return [(f"{CONTAINERS}/blobs/delete", True, container)]
    if comp and comp not in WRITES:
        raise AzureError(
            400, "InvalidQueryParameterValue", f"Value for one of the query parameters is invalid: {comp}"
        )
    wanted = [(f"{CONTAINERS}/blobs/write", True, container)]
    if source := call.headers.get("x-ms-copy-source", ""):
        parts = urllib.parse.urlsplit(source)
        if parts.hostname == call.host and "sig=" not in parts.query:
            other = urllib.parse.unquote(parts.path).lstrip("/").partition("/")[0]
            wanted.append((f"{CONTAINERS}/blobs/read", True, other))
    return wanted
