"""The services that identities are used with: token exchange, metadata, secrets, quotas."""

from __future__ import annotations

import base64
import re
import time
import urllib.parse
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import google_crc32c
from google.auth import jwt

from stage.google.pools import mapped
from stage.rest import Answer, Request, RequestError

if TYPE_CHECKING:
    from stage.google.identity import Identity, Secret

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
ISSUER = "https://token.actions.githubusercontent.com"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
SUBJECT = 127  # bytes, as https://github.com/google-github-actions/auth/issues/124 has met them
JWT = "urn:ietf:params:oauth:token-type:jwt"


class Services:
    """Answers for GitHub's token issuer, STS, IAM credentials, Secret Manager and Service Usage on one address."""

    def __init__(self, who: Identity) -> None:
        self._who = who

    def handle(self, request: Request) -> Answer:
        self._who.requests.append(request)
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

    def _oidc(self, request: Request) -> Answer:
        query = request.only("api-version", "audience")
        name = (request.headers.get("Authorization") or "").removeprefix("Bearer ").removeprefix("bearer ")
        if name not in self._who.workflow_jobs:
            raise RequestError(
                401, "No workflow job has this token: `id-token: write` is missing, or it is over."
            )
        claims = self._who.workflow_jobs[name]
        audience = query.get("audience") or f"https://github.com/{claims['repository_owner']}"
        value = self._who.sign({**claims, "aud": audience})
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
        if fields.get("audience") != f"//iam.googleapis.com/{self._who.provider}":
            return _oauth_error("invalid_target", "The target service indicated by the audience is invalid.")
        if not fields.get("scope"):
            return _oauth_error("invalid_scope", "scope is required")
        try:
            # The provider's own name, with and without the scheme, is what a token must be made for.
            audiences = [f"{scheme}//iam.googleapis.com/{self._who.provider}" for scheme in ("https:", "")]
            claims = dict(
                jwt.decode(fields.get("subject_token", ""), certs=self._who.public_key, audience=audiences)
            )
        except ValueError as error:
            return _oauth_error("invalid_grant", f"The subject token is not valid: {error}")
        if claims.get("iss") != ISSUER:
            return _oauth_error(
                "invalid_grant", "The issuer in the subject token is not that of the provider."
            )
        if not self._who.condition(claims):
            return _oauth_error(
                "unauthorized_client", "The given credential is rejected by the attribute condition."
            )
        if len(mapped(self._who.subject, claims).encode()) > SUBJECT:
            return _oauth_error(
                "invalid_request",
                f"The size of mapped attribute google.subject exceeds the {SUBJECT} bytes limit.",
            )
        token = self._who.federated(claims)
        answer = {
            "access_token": token,
            "issued_token_type": ACCESS_TOKEN,
            "token_type": "Bearer",
            "expires_in": 3599,
        }
        return Answer(answer)

    def _impersonate(self, request: Request, email: str) -> Answer:
        federated = self._who.bearer(request)
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
        account = self._who.accounts.get(email)
        bound = account and account.repository_id
        if not bound or federated.claims.get("repository_id") != bound:
            text = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."
            raise RequestError(403, text)
        seconds = int(lifetime[1])
        expires = datetime.fromtimestamp(time.time() + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Answer({"accessToken": self._who.token(email, seconds), "expireTime": expires})

    def metadata(self, request: Request, email: str) -> Answer:
        self._who.requests.append(request)
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
                token = {"access_token": self._who.token(email), "expires_in": 3599, "token_type": "Bearer"}
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
            f"{root}/project/project-id": self._who.project,
            f"{root}/project/numeric-project-id": self._who.number,
            f"{root}/universe/universe-domain": "googleapis.com",
        }
        if path in plain:
            return Answer(plain[path], headers=flavor)
        return Answer("Not found", 404, flavor)

    def _secret(self, request: Request, project: str, name: str) -> Answer:
        self._who.require(request, "secretmanager.secrets.get", name)
        self._found(project, name)
        return Answer(
            {"name": f"projects/{self._who.number}/secrets/{name}", "replication": {"automatic": {}}}
        )

    def _version(self, request: Request, project: str, name: str, version: str, access: str) -> Answer:
        self._who.require(request, f"secretmanager.versions.{'access' if access else 'get'}", name)
        secret = self._found(project, name)
        number = len(secret.values) if version == "latest" else int(version) if version.isdigit() else 0
        path = f"projects/{self._who.number}/secrets/{name}/versions/{number}"
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
        if not self._who.is_project(project) or name not in self._who.secrets:
            raise RequestError(404, f"Secret [projects/{project}/secrets/{name}] not found.")
        return self._who.secrets[name]

    def _service(self, request: Request, project: str, service: str) -> Answer:
        self._used(request, project, "serviceusage.services.get")
        state = "DISABLED" if service in self._who.disabled_services else "ENABLED"
        return Answer({"name": f"projects/{self._who.number}/services/{service}", "state": state})

    def _quota(self, request: Request, project: str, service: str, metric: str) -> Answer:
        query = request.only("pageSize", "pageToken", "view")
        self._used(request, project, "serviceusage.quotas.get")
        if query.get("view") not in (None, "BASIC", "FULL"):
            raise RequestError(400, f"Invalid value at 'view': {query['view']}", [("view", "BASIC or FULL")])
        parent = f"projects/{self._who.number}/services/{service}/consumerQuotaMetrics"
        found = {
            name: _metric(parent, name, regions if query.get("view") == "FULL" else {})
            for name, regions in self._who.quotas.items()
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
        self._who.require(request, permission)
        if not self._who.is_project(project):
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
    """A quota whose limits are those that came with the account, 0 where no region is named.

    A 0 is left out, as of every int64 of protobuf's JSON (https://protobuf.dev/programming-guides/json/); a region whose
    limit nobody has changed is shown by the view FULL alone:
    https://docs.cloud.google.com/service-usage/docs/reference/rest/v1beta1/QuotaView
    """
    name = f"{parent}/{urllib.parse.quote(metric, safe='')}"
    buckets: list[dict[str, Any]] = [{}]
    for region, limit in regions.items():
        shown = {"effectiveLimit": str(limit), "defaultLimit": str(limit)} if limit else {}
        buckets.append({**shown, "dimensions": {"region": region}})
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
