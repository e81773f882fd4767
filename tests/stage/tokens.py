"""GitHub's identity tokens: what its issuer signs for a workflow job."""

import base64
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from stage.clock import Clock

ISSUER = "https://token.actions.githubusercontent.com"


class Issuer:
    """One issuer; another one's tokens have another signature."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # is made in no time

    def token(self, lifetime: float = 300, **claims: Any) -> str:
        """A token of a push to main of octo-org/octo-repo; claims replace those, None takes one away.

        Its subject is that of repositories made after 2026-07-15, which has numbers beside the names:
        https://docs.github.com/actions/reference/security/oidc.

        Args:
            lifetime: in seconds; a negative one gives an expired token.
        """
        now = self._clock.now()
        usual = {"repository": "octo-org/octo-repo", "repository_id": "74", "repository_owner_id": "65"}
        usual |= {"ref": "refs/heads/main", "environment": "cloud", "actor": "octocat"} | claims
        owner, _, name = usual["repository"].partition("/")
        place = f"{owner}@{usual['repository_owner_id']}/{name}@{usual['repository_id']}"
        where = f"environment:{usual['environment']}" if usual["environment"] else f"ref:{usual['ref']}"
        fixed = {"iss": ISSUER, "aud": "sts.amazonaws.com", "sub": f"repo:{place}:{where}"}
        times = {"iat": int(now), "nbf": int(now) - 5, "exp": int(now + lifetime)}
        return self.sign({key: one for key, one in (fixed | times | usual).items() if one is not None})

    def sign(self, claims: dict[str, Any]) -> str:
        head = _text(json.dumps({"alg": "RS256", "typ": "JWT", "kid": "stage"}).encode())
        body = f"{head}.{_text(json.dumps(claims).encode())}"
        signature = self._key.sign(body.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{body}.{_text(signature)}"

    def read(self, token: str) -> dict[str, Any] | None:
        """The claims of a token; None where this issuer did not sign it."""
        try:
            body, _, signature = token.rpartition(".")
            self._key.public_key().verify(
                _bytes(signature), body.encode(), padding.PKCS1v15(), hashes.SHA256()
            )
            return json.loads(_bytes(body.partition(".")[2]))
        except (InvalidSignature, ValueError):
            return None


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
