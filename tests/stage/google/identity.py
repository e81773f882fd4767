"""Who may do what: stand-ins for GitHub's identity tokens, Google's token services, metadata server and secrets.

Every token is opaque and known by this process only, so that each stand-in can ask whom it stands for.
"""

import json
import secrets
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt, jwt

from stage.google.grants import Account
from stage.google.services import ISSUER, JWT, Services
from stage.rest import Request, RequestError, serve

Claims = dict[str, Any]


@dataclass
class Secret:
    """Values by version, 1 first; the numbers of the disabled ones."""

    values: list[str]
    disabled: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Token:
    """Whom a token stands for: an account's e-mail, or the claims of a federated one."""

    email: str | None
    claims: Mapping[str, Any]
    expires: float


class Identity:
    """The identities of one stage; tests change its fields at any time.

    Args:
        project: id of the project.
        number: its number.
        repository_id: numeric id of the one GitHub repository that may come in.
        owner_id: numeric id of its owner.
        condition: the identity provider's attribute condition; None wants the two ids above.
        subject: what the provider maps `google.subject` from.
    """

    def __init__(
        self,
        project: str,
        number: str,
        repository_id: str,
        owner_id: str,
        pool: str,
        provider: str,
        condition: Callable[[Claims], bool] | None,
        subject: str,
    ) -> None:
        self.project, self.number, self.subject = project, number, subject
        self.repository_id, self.owner_id = repository_id, owner_id
        self.provider = (
            f"projects/{number}/locations/global/workloadIdentityPools/{pool}/providers/{provider}"
        )
        self.condition = condition or self._same_repository
        self.accounts: dict[str, Account] = {}
        self.secrets: dict[str, Secret] = {}
        self.quotas: dict[str, dict[str, int]] = {}  # metric -> region -> limit
        self.disabled_services: set[str] = set()
        self.requests: list[Request] = []
        self.url = ""
        self._tokens: dict[str, Token] = {}
        self.workflow_jobs: dict[str, Claims] = {}  # request tokens of workflow jobs
        self.services = Services(self)
        self._servers = ExitStack()
        key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # is made in no time
        plain = serialization.NoEncryption()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain
        )
        public = serialization.PublicFormat.SubjectPublicKeyInfo
        self.public_key = key.public_key().public_bytes(serialization.Encoding.PEM, public)
        self._signer = crypt.RSASigner.from_string(pem, key_id="stage")

    # What a test sets up

    def account(self, name: str, *roles: str, repository: bool = False) -> Account:
        """Adds a service account (its name or e-mail) with roles in the project.

        Args:
            repository: whether the repository's workflows may impersonate it.
        """
        email = name if "@" in name else f"{name}@{self.project}.iam.gserviceaccount.com"
        self.accounts[email] = Account(
            email, set(roles), repository_id=self.repository_id if repository else None
        )
        return self.accounts[email]

    def secret(self, name: str, *values: str, readers: tuple[Account, ...] = ()) -> Secret:
        """Adds a secret with its versions; `readers` may access it, as a binding on the secret says."""
        self.secrets[name] = Secret(list(values))
        for reader in readers:
            reader.granted.setdefault(name, set()).add("roles/secretmanager.secretAccessor")
        return self.secrets[name]

    def token(self, account: Account | str, seconds: float = 3600) -> str:
        """Gives an access token of an account, as its login would."""
        email = account if isinstance(account, str) else account.email
        return self._issue(Token(email, {}, time.time() + seconds))

    def github(self, **claims: Any) -> dict[str, str]:
        """Gives the environment of a workflow job with `id-token: write`; claims replace those of a push to main."""
        name = "ya.actions." + secrets.token_urlsafe(16)
        usual = {
            "repository": "octo-org/octo-repo",
            "repository_id": self.repository_id,
            "repository_owner": "octo-org",
            "repository_owner_id": self.owner_id,
            "ref": "refs/heads/main",
            "run_id": "1",
            "event_name": "push",
            "environment": "cloud",
        }
        self.workflow_jobs[name] = usual | claims
        return {
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/oidc/token?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": name,
        }

    def sign(self, claims: Claims, lifetime: float = 300) -> str:
        """Gives a JWT as GitHub's issuer signs it; a negative lifetime gives an expired one.

        Its subject is that of repositories made after 2026-07-15, which has numbers besides the names:
        https://docs.github.com/en/actions/reference/security/oidc.
        """
        now = int(time.time())
        owner, _, name = str(claims.get("repository")).partition("/")
        subject = f"repo:{owner}@{claims.get('repository_owner_id')}/{name}@{claims.get('repository_id')}"
        where = (
            f"environment:{claims['environment']}"
            if claims.get("environment")
            else f"ref:{claims.get('ref')}"
        )
        subject = f"{subject}:{where}"
        times = {"iat": now + min(0, int(lifetime) - 60), "nbf": now - 600, "exp": now + int(lifetime)}
        body = {"iss": ISSUER, "sub": subject, "jti": secrets.token_hex(8), **times, **claims}
        return jwt.encode(self._signer, body).decode()

    def credentials(self, path: Path, account: Account | str, **claims: Any) -> Path:
        """Writes the external_account file that a keyless login leaves, for GOOGLE_APPLICATION_CREDENTIALS."""
        email = account if isinstance(account, str) else account.email
        job = self.github(**claims)
        audience = urllib.parse.quote(f"https://iam.googleapis.com/{self.provider}", safe="")
        content = {
            "type": "external_account",
            "audience": f"//iam.googleapis.com/{self.provider}",
            "subject_token_type": JWT,
            "token_url": f"{self.url}/v1/token",
            "service_account_impersonation_url": f"{self.url}/v1/projects/-/serviceAccounts/{email}:generateAccessToken",
            "credential_source": {
                "url": f"{job['ACTIONS_ID_TOKEN_REQUEST_URL']}&audience={audience}",
                "headers": {"Authorization": f"Bearer {job['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"},
                "format": {"type": "json", "subject_token_field_name": "value"},
            },
        }
        path.write_text(json.dumps(content))
        return path

    @property
    def env(self) -> dict[str, str]:
        """Leads clients of Secret Manager and of quotas here."""
        names = ("SECRETMANAGER", "SERVICEUSAGE", "IAMCREDENTIALS", "STS")
        return {f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{name}": f"{self.url}/" for name in names}

    def metadata(self, account: Account | str) -> dict[str, str]:
        """Starts the metadata server of a machine that runs as an account; gives the environment that leads to it."""
        email = account if isinstance(account, str) else account.email
        host = self._servers.enter_context(
            serve(lambda request: self.services.metadata(request, email))
        ).removeprefix("http://")
        return {"GCE_METADATA_HOST": host, "GCE_METADATA_IP": host, "GCE_METADATA_ROOT": host}

    # What the other stand-ins ask

    def caller(self, request: Request) -> Account:
        """The account that a request's bearer token stands for.

        Raises:
            RequestError: 401 without a token that is known and not expired; 403 for a federated one.
        """
        token = self.bearer(request)
        if token.email is None:
            raise RequestError(403, "Federated tokens have no role here: impersonate a service account.")
        return self.accounts.get(token.email) or Account(token.email)

    def require(self, request: Request, permission: str, resource: str = "") -> Account:
        """`caller`, and 403 when it lacks a permission in the project and on the resource."""
        account = self.caller(request)
        if not account.allows(permission, resource):
            named = f"projects/{self.project}{'/' + resource if resource else ''}"
            text = f"Permission '{permission}' denied on resource '{named}' (or it may not exist)."
            raise RequestError(403, text)
        return account

    def is_project(self, name: str) -> bool:
        return name in (self.project, self.number)

    def close(self) -> None:
        self._servers.close()

    def _same_repository(self, claims: Claims) -> bool:
        return (
            claims.get("repository_id") == self.repository_id
            and claims.get("repository_owner_id") == self.owner_id
        )

    def federated(self, claims: Claims) -> str:
        """Gives the token of a workflow job that the identity pool has let in."""
        return self._issue(Token(None, claims, time.time() + 3600))

    def _issue(self, token: Token) -> str:
        name = "ya29." + secrets.token_urlsafe(24)
        self._tokens[name] = token
        return name

    def bearer(self, request: Request) -> Token:
        """The token that a request carries; raises RequestError, 401, without one that is known and not expired."""
        kind, _, name = (request.headers.get("Authorization") or "").partition(" ")
        token = self._tokens.get(name)
        if kind.lower() != "bearer" or token is None or token.expires < time.time():
            raise RequestError(
                401, "Request had invalid authentication credentials. Expected OAuth 2 access token."
            )
        return token


@contextmanager
def identity(
    project: str = "stage-project",
    number: str = "123456789012",
    *,
    repository_id: str = "1001",
    owner_id: str = "2002",
    pool: str = "cloud-training-github",
    provider: str = "github",
    condition: Callable[[Claims], bool] | None = None,
    subject: str = "assertion.sub",
    port: int = 0,
) -> Iterator[Identity]:
    """Runs all of these services on one address, and metadata servers on others, while the block lasts."""
    here = Identity(project, number, repository_id, owner_id, pool, provider, condition, subject)
    with serve(here.services.handle, port) as here.url:
        try:
            yield here
        finally:
            here.close()
