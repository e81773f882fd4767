"""*.azurecr.io: ACR's exchange of tokens, and the registry's own interface before one of this machine.

https://azure.github.io/acr/AAD-OAuth.html (Azure/acr docs/AAD-OAuth.md) and
https://learn.microsoft.com/azure/container-registry/container-registry-roles. Which rights a token has is decided when it is
given: one that lacks them is given none for that repository, and is refused at the registry.
"""

import base64
import http.client
import re
import secrets
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stage.azure.arm import AUDIENCES, Arm
from stage.azure.arm_kinds import Resource
from stage.azure.errors import AzureError
from stage.azure.other_kinds import REGISTRIES
from stage.azure.people import People, Principal
from stage.azure.server import Call, Reply

DOMAIN = ".azurecr.io"
BYTES_HOST = "stagemanaged0.blob.core.windows.net"
NOBODY = "00000000-0000-0000-0000-000000000000"
PATH = re.compile(r"/v2/(?P<name>.+?)/(?P<kind>manifests|blobs|tags)(/(?P<rest>.*))?")
SCOPE = re.compile(r"repository:(?P<name>[^:]+):(?P<actions>[a-z,*_]+)|registry:catalog:\*")
RIGHTS = {
    "pull": f"{REGISTRIES}/pull/read",
    "push": f"{REGISTRIES}/push/write",
    "delete": f"{REGISTRIES}/artifacts/delete",
    "metadata_read": f"{REGISTRIES}/pull/read",
}
REFRESH, ACCESS = 3 * 3600, 75 * 60  # seconds that the two kinds of token last
SAID = "authentication required, visit https://aka.ms/acr/authorization for more information."


class Acr:
    """All registries of the subscription.

    Attributes:
        registry: host of the one on this machine that holds the bytes, such as 127.0.0.1:5000; "" where there is none.
    """

    def __init__(self, arm: Arm, people: People) -> None:
        self._arm, self._people, self.registry = arm, people, ""
        self._signed: set[str] = set()

    @property
    def host(self) -> str:
        """The host of the only registry."""
        (one,) = self._all()
        return f"{one.name.lower()}{DOMAIN}"

    def exists(self, host: str) -> bool:
        return self._named(host) is not None

    def refuse(self, refusal: AzureError) -> Reply:
        """As registries write it: https://distribution.github.io/distribution/spec/api/#errors-2."""
        body = {"errors": [{"code": refusal.code, "message": refusal.message, "detail": refusal.inner}]}
        return Reply(refusal.status, body, refusal.headers)

    def __call__(self, call: Call) -> Reply:
        with self._arm.clock.lock:
            answer = self._answer(call)
        return answer or self._passed_on(call)

    def bytes_of(self, call: Call) -> Reply:
        """The storage that layers are fetched from: it takes a signature in the address, and no header beside it.

        https://github.com/Azure/acr/blob/main/docs/FAQ.md, https://github.com/Azure/acr/issues/217
        """
        if "authorization" in call.headers:
            text = "Authentication information is not given in the correct format. Check the value of Authorization header."
            raise AzureError(400, "InvalidAuthenticationInfo", text)
        if call.query.get("sig") not in self._signed or call.method not in ("GET", "HEAD"):
            raise AzureError(403, "AuthenticationFailed", "Server failed to authenticate the request.")
        return self._passed_on(replace(call, target=call.path, headers={"accept": "*/*"}))

    def _answer(self, call: Call) -> Reply | None:
        """None where the registry behind has the word."""
        if call.path == "/oauth2/exchange" and call.method == "POST":
            return self._exchange(call)
        if call.path == "/oauth2/token" and call.method in ("GET", "POST"):
            return self._token(call)
        if call.path.startswith("/v2"):
            return self._registry(call)
        raise AzureError(404, "NOT_FOUND", f"404 page not found: {call.path}")

    def _all(self) -> list[Resource]:
        return [one for one in self._arm.resources.values() if one.kind.type == REGISTRIES]

    def _named(self, host: str) -> Resource | None:
        return next((one for one in self._all() if f"{one.name.lower()}{DOMAIN}" == host), None)

    def _exchange(self, call: Call) -> Reply:
        """An Entra token for Resource Manager or ACR becomes a refresh token of this registry."""
        form = self._form(call, "grant_type", "service", "access_token")
        if form["grant_type"] != "access_token" or form["service"].lower() != call.host:
            raise AzureError(
                400,
                "UNSUPPORTED",
                f"grant_type or service is not known: {form['grant_type']}, {form['service']}",
            )
        if form.get("tenant", self._people.tenant).lower() != self._people.tenant:
            raise self._unauthorized("the tenant is another one")
        bearer = {"authorization": f"Bearer {form['access_token']}"}
        try:
            principal = self._people.require(bearer, *AUDIENCES, "https://containerregistry.azure.net")
        except AzureError as refusal:
            raise self._unauthorized(refusal.message) from refusal
        one = self._named(call.host)
        assert one is not None
        if not any(self._may(principal, right, one) for right in (*RIGHTS.values(), f"{REGISTRIES}/read")):
            raise self._unauthorized("no role at this registry")
        return Reply(200, {"refresh_token": self._sign(call.host, principal, REFRESH, "refresh_token", [])})

    def _may(self, principal: Principal, right: str, one: Resource) -> bool:
        """Where a registry's roles are those of its repositories, the others do not count: those are not modelled.

        https://learn.microsoft.com/azure/container-registry/container-registry-rbac-abac-repository-permissions
        """
        by_registry = one.properties["roleAssignmentMode"] == "LegacyRegistryPermissions"
        return by_registry and self._arm.roles.allows(principal, right, one.id)

    def _form(self, call: Call, *needed: str) -> dict[str, str]:
        form = call.body if isinstance(call.body, dict) else {}
        for name in needed:
            if not form.get(name):
                raise AzureError(400, "BAD_REQUEST", f"{name} is missing in the form")
        return form

    def _sign(self, host: str, principal: Principal, seconds: float, grant: str, access: list[Any]) -> str:
        now = time.time()
        claims = {
            "iss": "Azure Container Registry",
            "aud": host,
            "sub": principal.object_id,
            "grant_type": grant,
        }
        return self._people.sign({**claims, "iat": int(now), "exp": int(now + seconds), "access": access})

    def _read(self, host: str, token: str, grant: str) -> tuple[Principal, dict[str, Any]]:
        claims = self._people.read(token)
        if claims is None or (claims.get("aud"), claims.get("grant_type")) != (host, grant):
            raise self._unauthorized("the token is not valid here")
        principal = self._people.by_object(claims["sub"])
        if principal is None:
            raise self._unauthorized("the token's owner is gone")
        return principal, claims

    def _token(self, call: Call) -> Reply:
        """A refresh token becomes an access token for what was asked, as far as roles give it.

        The Docker client sends it as a password of the user of zeros, by GET.
        """
        if call.method == "GET":
            asked = dict(call.query)
            user, _, refresh = _basic(call.headers).partition(":")
            if user != NOBODY:
                raise self._unauthorized("the admin user is off, and a login by Entra is that of zeros")
        else:
            asked = self._form(call, "grant_type", "service", "refresh_token", "scope")
            refresh = asked["refresh_token"]
            if asked["grant_type"] != "refresh_token":
                raise AzureError(400, "UNSUPPORTED", f"unsupported grant_type {asked['grant_type']}")
        if asked.get("service", "").lower() != call.host:
            raise AzureError(400, "UNSUPPORTED", f"service {asked.get('service')} is not {call.host}")
        principal, _ = self._read(call.host, refresh, "refresh_token")
        one = self._named(call.host)
        assert one is not None
        access = []
        for scope in asked.get("scope", "").split():
            found = SCOPE.fullmatch(scope)
            if not found:
                raise AzureError(400, "BAD_REQUEST", f"invalid scope {scope}")
            kind, name, actions = scope.split(":") if found["name"] else ("registry", "catalog", "*")
            wanted = [*RIGHTS] if actions == "*" else actions.split(",")
            may = [each for each in wanted if each in RIGHTS and self._may(principal, RIGHTS[each], one)]
            access.append({"type": kind, "name": name, "actions": may})
        return Reply(200, {"access_token": self._sign(call.host, principal, ACCESS, "access_token", access)})

    def _unauthorized(self, why: str, challenge: str = "") -> AzureError:
        headers = {"Www-Authenticate": challenge} if challenge else {}
        return AzureError(401, "UNAUTHORIZED", SAID, inner={"reason": why}, headers=headers)

    def _registry(self, call: Call) -> Reply | None:
        found = PATH.fullmatch(call.path)
        bare = call.path in ("/v2", "/v2/")
        if not found and not bare:
            raise AzureError(404, "NAME_UNKNOWN", f"The stage does not know {call.method} {call.path}")
        action = (
            "push"
            if call.method in ("POST", "PUT", "PATCH")
            else "delete"
            if call.method == "DELETE"
            else "pull"
        )
        if found and found["kind"] == "tags":
            action = "metadata_read"
        challenge = f'Bearer realm="https://{call.host}/oauth2/token",service="{call.host}"'
        if found:
            scope = "pull,push" if action == "push" else action
            challenge += f',scope="repository:{found["name"]}:{scope}"'
        kind, _, token = call.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            raise self._unauthorized("no token", challenge)
        try:
            _, claims = self._read(call.host, token.strip(), "access_token")
        except AzureError as refusal:
            refusal.headers["Www-Authenticate"] = challenge
            raise
        if bare:
            return Reply(200, {})
        assert found is not None
        given = [one["actions"] for one in claims["access"] if one["name"] == found["name"]]
        mine = {each for actions in given for each in actions}
        if action not in mine and not (action == "metadata_read" and "pull" in mine):
            raise self._unauthorized(
                f"the token does not give {action}", challenge + ',error="insufficient_scope"'
            )
        if call.method == "GET" and found["kind"] == "blobs" and not found["rest"].startswith("uploads"):
            signature = secrets.token_urlsafe(12)
            self._signed.add(signature)
            return Reply(307, None, {"Location": f"https://{BYTES_HOST}{call.path}?sig={signature}"})
        return None

    def _passed_on(self, call: Call) -> Reply:
        """What the registry of this machine says; addresses in it are made ACR's."""
        assert self.registry, "a registry of this machine has to hold the bytes: set World.acr.registry"
        connection = http.client.HTTPConnection(self.registry, timeout=300)
        kept = ("accept", "content-type", "content-range", "range", "content-length")
        try:
            headers = {name: value for name, value in call.headers.items() if name in kept}
            headers["Content-Length"] = str(len(call.content))
            headers.pop("content-length", None)
            connection.request(call.method, call.target, call.content, headers)
            answer = connection.getresponse()
            given = {
                name: value
                for name, value in answer.headers.items()
                if name.lower() not in ("date", "content-length", "transfer-encoding", "connection")
            }
            if "Location" in given:
                parts = urllib.parse.urlsplit(given["Location"])
                given["Location"] = urllib.parse.urlunsplit(("https", call.host, parts.path, parts.query, ""))
            if call.method == "HEAD" and "Content-Length" in answer.headers:
                given["Content-Length"] = answer.headers["Content-Length"]
            return Reply(answer.status, answer.read(), given)
        finally:
            connection.close()


def _basic(headers: Mapping[str, str]) -> str:
    kind, _, text = headers.get("authorization", "").partition(" ")
    try:
        return base64.b64decode(text).decode() if kind.lower() == "basic" else ""
    except ValueError:
        return ""
