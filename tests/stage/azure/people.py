"""Who may ask: service principals, managed identities and users of one tenant, and the tokens that speak for them."""

import base64
import json
import secrets
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from stage.azure.errors import AzureError
from stage.clock import Clock

LIFETIME = 4199  # seconds of an access token: 60 to 90 minutes at random, 75 on average
AZ = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"  # the Azure CLI's own client id, which all of its users' tokens carry


@dataclass
class Principal:
    """One that may have roles.

    Args:
        client_id: of an application; of a user, the Azure CLI's.
        kind: ServicePrincipal or User, as role assignments call them.
        made: when, in the world's seconds.
        resource: ARM id of a managed identity, "" for others.
        passwords: client secrets, or refresh tokens of a user.
    """

    name: str
    object_id: str
    client_id: str
    kind: str
    made: float
    resource: str = ""
    passwords: set[str] = field(default_factory=set)


class People:
    """The directory of a tenant.

    Tokens are measured by this machine's clock: the clients that keep them know no other.
    """

    def __init__(self, clock: Clock, tenant: str) -> None:
        self.tenant = tenant
        self._clock = clock
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # is made in no time
        self._known: dict[str, Principal] = {}

    def add(self, name: str, kind: str = "ServicePrincipal", resource: str = "") -> Principal:
        """Makes a principal; a managed identity where it has a resource, which has no password."""
        client = AZ if kind == "User" else str(uuid.uuid4())
        made = Principal(name, str(uuid.uuid4()), client, kind, self._clock.now(), resource)
        if not resource:
            made.passwords.add(secrets.token_urlsafe(30))
        self._known[made.object_id] = made
        return made

    def remove(self, principal: Principal) -> None:
        """Takes one away; its tokens are void at once, which the service may take a while for."""
        del self._known[principal.object_id]

    def named(self, name: str) -> Principal:
        """The newest of a name."""
        return [one for one in self._known.values() if one.name == name][-1]

    def by_object(self, object_id: str) -> Principal | None:
        return self._known.get(object_id.lower())

    def by_client(self, client_id: str) -> Principal | None:
        found = [one for one in self._known.values() if one.kind != "User"]
        return next((one for one in found if one.client_id == client_id.lower()), None)

    def by_refresh(self, token: str) -> Principal | None:
        """The user whose refresh token this is."""
        users = [one for one in self._known.values() if one.kind == "User"]
        return next((one for one in users if token in one.passwords), None)

    def token(self, principal: Principal, audience: str, lifetime: float = LIFETIME) -> str:
        """An access token for a resource; a negative lifetime, in seconds, gives an expired one.

        https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference, version 1.0 as ARM has it.
        """
        now = time.time()
        claims: dict[str, Any] = {
            "aud": audience,
            "iss": f"https://sts.windows.net/{self.tenant}/",
            "iat": int(now),
            "nbf": int(now) - 300,
            "exp": int(now + lifetime),
            "appid": principal.client_id,
            "appidacr": "2" if principal.resource else "1",
            "idtyp": "user" if principal.kind == "User" else "app",
            "oid": principal.object_id,
            "sub": principal.object_id,
            "tid": self.tenant,
            "ver": "1.0",
        }
        if principal.kind == "User":
            claims |= {"unique_name": principal.name, "upn": principal.name, "name": principal.name}
        if principal.resource:
            claims["xms_mirid"] = principal.resource
        return self.sign(claims)

    def sign(self, claims: Mapping[str, Any]) -> str:
        head = {"alg": "RS256", "typ": "JWT", "kid": "stage", "x5t": "stage"}
        body = f"{_text(json.dumps(head).encode())}.{_text(json.dumps(claims).encode())}"
        signature = self._key.sign(body.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{body}.{_text(signature)}"

    def read(self, token: str) -> dict[str, Any] | None:
        """The claims of a token that is valid now; None for any other."""
        try:
            body, _, signature = token.rpartition(".")
            self._key.public_key().verify(
                _bytes(signature), body.encode(), padding.PKCS1v15(), hashes.SHA256()
            )
            claims = json.loads(_bytes(body.partition(".")[2]))
        except (InvalidSignature, ValueError):
            return None
        return claims if claims["exp"] > time.time() else None

    def whose(self, headers: Mapping[str, str]) -> Principal | None:
        """Whose valid token, for whatever resource, came with a request."""
        claims = self.read(_bearer(headers))
        return self.by_object(claims.get("oid", "")) if claims else None

    def require(self, headers: Mapping[str, str], *audiences: str) -> Principal:
        """The principal of a request whose token is for one of these resources.

        Raises:
            AzureError: 401 as Azure Resource Manager says it; other services say it otherwise.
        """
        token = _bearer(headers)
        if not token:
            text = "Authentication failed. The 'Authorization' header is missing."
            raise AzureError(401, "AuthenticationFailed", text, headers=self.challenge())
        claims, principal = self.read(token), self.whose(headers)
        if claims is None or principal is None:
            text = (
                "The access token expiry UTC time is earlier than current UTC time, or it is not a valid one."
            )
            code = "ExpiredAuthenticationToken" if token.count(".") == 2 else "InvalidAuthenticationToken"
            raise AzureError(401, code, text, headers=self.challenge("invalid_token"))
        if claims["aud"].rstrip("/") not in audiences:
            text = (
                "The access token has been obtained for wrong audience or resource "
                f"'{claims['aud']}'. It should exactly match with one of the allowed audiences "
                + ",".join(f"'{one}'" for one in audiences)
                + "."
            )
            raise AzureError(
                401, "InvalidAuthenticationTokenAudience", text, headers=self.challenge("invalid_token")
            )
        return principal

    def challenge(self, error: str = "") -> dict[str, str]:
        """What a 401 names as the place to get a token from."""
        text = f'Bearer authorization_uri="https://login.microsoftonline.com/{self.tenant}"'
        return {"WWW-Authenticate": text + (f', error="{error}"' if error else "")}


def _bearer(headers: Mapping[str, str]) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
