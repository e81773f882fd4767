"""Who may do what: stand-ins for GitHub's identity tokens, Google's token services, metadata server and secrets.

Every token is opaque and known by this process only, so that each stand-in can ask whom it stands for.
"""

import base64
import json
import re
import secrets
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import google_crc32c
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt, jwt

from stage.rest import Answer, Request, RequestError, serve

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
ISSUER = "https://token.actions.githubusercontent.com"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"
Claims = dict[str, Any]

# What Google's predefined roles allow, as far as the stand-ins ask.
ROLES = {
    "roles/aiplatform.user": {
        f"aiplatform.customJobs.{verb}" for verb in ("create", "get", "list", "cancel", "delete")
    },
    "roles/aiplatform.viewer": {"aiplatform.customJobs.get", "aiplatform.customJobs.list"},
    "roles/logging.viewer": {"logging.logEntries.list"},
    "roles/logging.logWriter": {"logging.logEntries.create"},
    "roles/secretmanager.viewer": {"secretmanager.secrets.get", "secretmanager.versions.get"},
    "roles/secretmanager.secretAccessor": {"secretmanager.versions.access"},
    "roles/serviceusage.serviceUsageViewer": {"serviceusage.quotas.get", "serviceusage.services.get"},
    "roles/serviceusage.serviceUsageConsumer": {
        *("serviceusage.quotas.get", "serviceusage.services.get", "serviceusage.services.use"),
    },
    "roles/iam.serviceAccountUser": {"iam.serviceAccounts.actAs"},
    "roles/artifactregistry.writer": {"artifactregistry.repositories.uploadArtifacts"},
    "roles/viewer": {
        *("aiplatform.customJobs.get", "aiplatform.customJobs.list", "logging.logEntries.list"),
        *("secretmanager.secrets.get", "secretmanager.versions.get"),
        *("serviceusage.quotas.get", "serviceusage.services.get"),
    },
}
ROLES["roles/owner"] = set().union(*ROLES.values())


@dataclass
class Account:
    """One identity: a service account, or a person.

    Args:
        roles: granted in the project.
        granted: roles on one resource: name of a secret or e-mail of a service account -> roles.
        repository_id: GitHub repository whose workflows may impersonate it.
    """

    email: str
    roles: set[str] = field(default_factory=set)
    granted: dict[str, set[str]] = field(default_factory=dict)
    repository_id: str | None = None

    def allows(self, permission: str, resource: str = "") -> bool:
        roles = self.roles | self.granted.get(resource, set())
        return any(permission in ROLES.get(role, ()) for role in roles)


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
    ) -> None:
        self.project, self.number, self.repository_id, self.owner_id = (
            project,
            number,
            repository_id,
            owner_id,
        )
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
        self._jobs: dict[str, Claims] = {}  # request tokens of workflow jobs
        self._servers = ExitStack()
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        plain = serialization.NoEncryption()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain
        )
        public = serialization.PublicFormat.SubjectPublicKeyInfo
        self._public = key.public_key().public_bytes(serialization.Encoding.PEM, public)
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
            "event_name": "push",
            "environment": "cloud",
        }
        self._jobs[name] = usual | claims
        return {
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/oidc/token?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": name,
        }

    def sign(self, claims: Claims, lifetime: float = 300) -> str:
        """Gives a JWT as GitHub's issuer signs it; a negative lifetime gives an expired one."""
        now = int(time.time())
        subject = f"repo:{claims.get('repository')}:ref:{claims.get('ref')}"
        if claims.get("environment"):
            subject = f"repo:{claims.get('repository')}:environment:{claims['environment']}"
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
            serve(lambda request: self._metadata(request, email))
        ).removeprefix("http://")
        return {"GCE_METADATA_HOST": host, "GCE_METADATA_IP": host, "GCE_METADATA_ROOT": host}

    # What the other stand-ins ask

    def caller(self, request: Request) -> Account:
        """The account that a request's bearer token stands for.

        Raises:
            RequestError: 401 without a token that is known and not expired; 403 for a federated one.
        """
        token = self._bearer(request)
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

    # The services

    def handle(self, request: Request) -> Answer:
        self.requests.append(request)
        for method, pattern, service in (
            ("GET", r"/oidc/token", self._oidc),
            ("POST", r"/v1/token", self._sts),
            ("POST", r"/v1/projects/-/serviceAccounts/([^/:]+):generateAccessToken", self._impersonate),
            ("GET", r"/v1/projects/([^/]+)/secrets/([^/:]+)", self._secret),
            ("GET", r"/v1/projects/([^/]+)/secrets/([^/:]+)/versions/([^/:]+)(:access)?", self._version),
            ("GET", r"/v1/projects/([^/]+)/services/([^/:]+)", self._service),
            (
                "GET",
                r"/v1beta1/projects/([^/]+)/services/([^/]+)/consumerQuotaMetrics(?:/(.+))?",
                self._quota,
            ),
        ):
            found = re.fullmatch(pattern, request.path)
            if found and request.method == method:
                return service(request, *(urllib.parse.unquote(part or "") for part in found.groups()))
        raise RequestError(404, f"The requested URL {request.path} was not found on this server.")

    def close(self) -> None:
        self._servers.close()

    def _same_repository(self, claims: Claims) -> bool:
        return (
            claims.get("repository_id") == self.repository_id
            and claims.get("repository_owner_id") == self.owner_id
        )

    def _issue(self, token: Token) -> str:
        name = "ya29." + secrets.token_urlsafe(24)
        self._tokens[name] = token
        return name

    def _bearer(self, request: Request) -> Token:
        kind, _, name = (request.headers.get("Authorization") or "").partition(" ")
        token = self._tokens.get(name)
        if kind.lower() != "bearer" or token is None or token.expires < time.time():
            raise RequestError(
                401, "Request had invalid authentication credentials. Expected OAuth 2 access token."
            )
        return token

    def _oidc(self, request: Request) -> Answer:
        query = request.only("api-version", "audience")
        name = (request.headers.get("Authorization") or "").removeprefix("Bearer ").removeprefix("bearer ")
        if name not in self._jobs:
            raise RequestError(
                401, "No workflow job has this token: `id-token: write` is missing, or it is over."
            )
        claims = self._jobs[name]
        audience = query.get("audience") or f"https://github.com/{claims['repository_owner']}"
        value = self.sign({**claims, "aud": audience})
        return Answer({"count": len(value), "value": value})

    def _sts(self, request: Request) -> Answer:
        fields = _form(request)
        known = (
            "grant_type",
            "audience",
            "scope",
            "requested_token_type",
            "subject_token",
            "subject_token_type",
            "options",
        )
        for name in fields:
            if name not in known:
                return _oauth_error("invalid_request", f"Unknown field {name}")
        if fields.get("grant_type") != EXCHANGE:
            return _oauth_error("unsupported_grant_type", "grant_type must be a token exchange")
        if fields.get("requested_token_type") != ACCESS_TOKEN or fields.get("subject_token_type") != JWT:
            return _oauth_error("invalid_request", "Invalid requested_token_type or subject_token_type")
        if fields.get("audience") != f"//iam.googleapis.com/{self.provider}":
            return _oauth_error("invalid_target", "The target service indicated by the audience is invalid.")
        if not fields.get("scope"):
            return _oauth_error("invalid_scope", "scope is required")
        try:
            # The provider's own name, with and without the scheme, is what a token must be made for.
            audiences = [f"{scheme}//iam.googleapis.com/{self.provider}" for scheme in ("https:", "")]
            claims = dict(jwt.decode(fields.get("subject_token", ""), certs=self._public, audience=audiences))
        except ValueError as error:
            return _oauth_error("invalid_grant", f"The subject token is not valid: {error}")
        if claims.get("iss") != ISSUER:
            return _oauth_error(
                "invalid_grant", "The issuer in the subject token is not that of the provider."
            )
        if not self.condition(claims):
            return _oauth_error(
                "unauthorized_client", "The given credential is rejected by the attribute condition."
            )
        token = self._issue(Token(None, claims, time.time() + 3600))
        answer = {
            "access_token": token,
            "issued_token_type": ACCESS_TOKEN,
            "token_type": "Bearer",
            "expires_in": 3599,
        }
        return Answer(answer)

    def _impersonate(self, request: Request, email: str) -> Answer:
        federated = self._bearer(request)
        body = request.json()
        unknown = set(body) - {"scope", "lifetime", "delegates"}
        if unknown:
            raise RequestError(400, f"Invalid JSON payload received. Unknown name {min(unknown)!r}")
        scope = body.get("scope")
        if not isinstance(scope, list) or not scope or not all(_is_scope(one) for one in scope):
            raise RequestError(
                400, "The scope field must be a list of OAuth 2.0 scopes.", [("scope", "is required")]
            )
        lifetime = re.fullmatch(r"(\d+)s", str(body.get("lifetime") or "3600s"))
        if not lifetime or not 0 < int(lifetime[1]) <= 3600:
            raise RequestError(
                400, "The lifetime must be between 1s and 3600s.", [("lifetime", "out of range")]
            )
        account = self.accounts.get(email)
        bound = account and account.repository_id
        if not bound or federated.claims.get("repository_id") != bound:
            text = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."
            raise RequestError(403, text)
        seconds = int(lifetime[1])
        expires = datetime.fromtimestamp(time.time() + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Answer({"accessToken": self.token(email, seconds), "expireTime": expires})

    def _metadata(self, request: Request, email: str) -> Answer:
        self.requests.append(request)
        flavor = {"Metadata-Flavor": "Google"}
        if request.path != "/" and request.headers.get("Metadata-Flavor") != "Google":
            return Answer("Missing Metadata-Flavor:Google header.", 403, flavor)
        if request.headers.get("X-Forwarded-For"):
            return Answer("Forwarded requests are refused.", 403, flavor)
        account = {"aliases": ["default"], "email": email, "scopes": [CLOUD_PLATFORM]}
        root, path = "/computeMetadata/v1", request.path.rstrip("/")
        for name in ("default", email):
            here = f"{root}/instance/service-accounts/{name}"
            if path == f"{here}/token":
                token = {"access_token": self.token(email), "expires_in": 3599, "token_type": "Bearer"}
                return Answer(token, headers=flavor)
            if path == f"{here}/email":
                return Answer(email, headers=flavor)
            if path == f"{here}/scopes":
                return Answer(CLOUD_PLATFORM, headers=flavor)
            if path == here:
                recursive = request.query.get("recursive", [""])[0].lower() == "true"
                return Answer(
                    account if recursive else "aliases\nemail\nidentity\nscopes\ntoken\n", headers=flavor
                )
        plain: dict[str, Any] = {
            "": "computeMetadata/\n",
            root: "instance/\nproject/\n",
            f"{root}/instance/service-accounts": f"default/\n{email}/\n",
            f"{root}/project/project-id": self.project,
            f"{root}/project/numeric-project-id": self.number,
            f"{root}/universe/universe-domain": "googleapis.com",
        }
        if path in plain:
            return Answer(plain[path], headers=flavor)
        return Answer("Not found", 404, flavor)

    def _secret(self, request: Request, project: str, name: str) -> Answer:
        self.require(request, "secretmanager.secrets.get", name)
        self._found(project, name)
        return Answer({"name": f"projects/{self.number}/secrets/{name}", "replication": {"automatic": {}}})

    def _version(self, request: Request, project: str, name: str, version: str, access: str) -> Answer:
        self.require(request, f"secretmanager.versions.{'access' if access else 'get'}", name)
        secret = self._found(project, name)
        number = len(secret.values) if version == "latest" else int(version) if version.isdigit() else 0
        path = f"projects/{self.number}/secrets/{name}/versions/{number}"
        if not 1 <= number <= len(secret.values):
            raise RequestError(
                404, f"Secret Version [{path.replace('/0', '/' + version)}] not found or has no versions."
            )
        if not access:
            return Answer({"name": path, "state": "DISABLED" if number in secret.disabled else "ENABLED"})
        if number in secret.disabled:
            raise RequestError(
                400, f"Secret Version [{path}] is in DISABLED state.", status="FAILED_PRECONDITION"
            )
        data = secret.values[number - 1].encode()
        payload = {"data": base64.b64encode(data).decode(), "dataCrc32c": str(google_crc32c.value(data))}
        return Answer({"name": path, "payload": payload})

    def _found(self, project: str, name: str) -> Secret:
        if not self.is_project(project) or name not in self.secrets:
            raise RequestError(404, f"Secret [projects/{project}/secrets/{name}] not found.")
        return self.secrets[name]

    def _service(self, request: Request, project: str, service: str) -> Answer:
        self._used(request, project, "serviceusage.services.get")
        state = "DISABLED" if service in self.disabled_services else "ENABLED"
        return Answer({"name": f"projects/{self.number}/services/{service}", "state": state})

    def _quota(self, request: Request, project: str, service: str, metric: str) -> Answer:
        query = request.only("pageSize", "pageToken", "view")
        self._used(request, project, "serviceusage.quotas.get")
        if query.get("view") not in (None, "BASIC", "FULL"):
            raise RequestError(400, f"Invalid value at 'view': {query['view']}", [("view", "BASIC or FULL")])
        parent = f"projects/{self.number}/services/{service}/consumerQuotaMetrics"
        found = {
            name: _metric(parent, name, regions)
            for name, regions in self.quotas.items()
            if name.startswith(service)
        }
        if metric:
            if metric not in found:
                raise RequestError(404, f"Quota metric {metric} not found.")
            return Answer(found[metric])
        size, start = int(query.get("pageSize") or 100), int(query.get("pageToken") or 0)
        page = list(found.values())[start : start + size]
        more = {"nextPageToken": str(start + size)} if start + size < len(found) else {}
        return Answer({"metrics": page} | more)

    def _used(self, request: Request, project: str, permission: str) -> None:
        self.require(request, permission)
        if not self.is_project(project):
            raise RequestError(403, f"Permission denied on resource project {project}.")


def _form(request: Request) -> dict[str, str]:
    """The fields of an OAuth request: a form as libraries send it, or JSON in camel case."""
    if "json" in (request.headers.get("Content-Type") or ""):
        return {re.sub("([A-Z])", r"_\1", name).lower(): str(value) for name, value in request.json().items()}
    return dict(urllib.parse.parse_qsl(request.body.decode(errors="replace")))


def _oauth_error(error: str, description: str) -> Answer:
    return Answer({"error": error, "error_description": description}, 400)


def _is_scope(scope: Any) -> bool:
    return (
        isinstance(scope, str)
        and re.fullmatch(r"https://www\.googleapis\.com/auth/[a-z._-]+", scope) is not None
    )


def _metric(parent: str, metric: str, regions: Mapping[str, int]) -> dict[str, Any]:
    name = f"{parent}/{urllib.parse.quote(metric, safe='')}"
    buckets: list[dict[str, Any]] = [{"effectiveLimit": "0", "defaultLimit": "0"}]
    buckets += [
        {"effectiveLimit": str(limit), "dimensions": {"region": region}} for region, limit in regions.items()
    ]
    unit = "1/{project}/{region}"
    limit = {
        "name": f"{name}/limits/%2Fproject%2Fregion",
        "metric": metric,
        "unit": unit,
        "quotaBuckets": buckets,
    }
    return {
        "name": name,
        "metric": metric,
        "displayName": metric,
        "consumerQuotaLimits": [limit],
        "unit": "1",
    }


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
    port: int = 0,
) -> Iterator[Identity]:
    """Runs all of these services on one address, and metadata servers on others, while the block lasts."""
    here = Identity(project, number, repository_id, owner_id, pool, provider, condition)
    with serve(here.handle, port) as here.url:
        try:
            yield here
        finally:
            here.close()
