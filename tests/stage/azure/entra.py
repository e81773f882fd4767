"""login.microsoftonline.com: tokens for secrets, for GitHub's identity tokens and for what `az login` left.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow
"""

import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from stage.azure.errors import AzureError
from stage.azure.people import LIFETIME, People, Principal
from stage.azure.server import Call, Reply
from stage.clock import Clock
from stage.tokens import Issuer

HOST = "login.microsoftonline.com"
HOSTS = (HOST, "login.microsoft.com", "login.windows.net", "sts.windows.net")
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
AUDIENCE = "api://AzureADTokenExchange"
# Resources that every tenant knows. A scope is one of them with /.default; with a slash at its end it keeps that.
RESOURCES = (
    "https://management.azure.com",
    "https://management.core.windows.net",
    "https://storage.azure.com",
    "https://vault.azure.net",
    "https://ml.azure.com",
    "https://containerregistry.azure.net",
    "https://graph.microsoft.com",
)
DOCUMENTED = "https://learn.microsoft.com/entra/workload-id/workload-identity-federation"


@dataclass(frozen=True)
class Federated:
    """One federated credential of an identity: whose token stands for its password."""

    issuer: str
    subject: str
    audiences: tuple[str, ...]


class Entra:
    """The token service of one tenant.

    Args:
        credentials: gives the federated credentials of an identity.
        accounts: whether a storage account of a name exists, which is a resource of its own.

    Attributes:
        lifetime: of access tokens, in seconds.
    """

    def __init__(
        self,
        clock: Clock,
        people: People,
        github: Issuer,
        credentials: Callable[[Principal], Iterable[Federated]],
    ) -> None:
        self.people, self.lifetime = people, LIFETIME
        self._clock, self._github, self._credentials = clock, github, credentials

    def __call__(self, call: Call) -> Reply:
        path = call.path.strip("/").split("/")
        if path == ["common", "discovery", "instance"]:
            return self._instances(call)
        tenant = path[0].lower()
        if tenant not in (self.people.tenant, "organizations", "common"):
            raise self._refusal(90002, "invalid_request", f"Tenant '{path[0]}' not found.")
        rest = "/".join(path[1:])
        if rest == "v2.0/.well-known/openid-configuration" and call.method == "GET":
            return Reply(200, self._configuration())
        if rest == "oauth2/v2.0/token" and call.method == "POST":
            return self._token(call, tenant)
        raise AzureError(404, "not_found", f"The stage does not know {call.method} {call.path}")

    def refuse(self, refusal: AzureError) -> Reply:
        """https://learn.microsoft.com/entra/identity-platform/reference-error-codes."""
        inner = refusal.inner or {}
        stamp = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(self._clock.now()))
        trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
        tail = f" Trace ID: {trace} Correlation ID: {correlation} Timestamp: {stamp}"
        body = {
            "error": refusal.code,
            "error_description": refusal.message + tail,
            "error_codes": [inner.get("number", 90033)],
            "timestamp": stamp,
            "trace_id": trace,
            "correlation_id": correlation,
        }
        return Reply(refusal.status, body, refusal.headers)

    def _refusal(self, number: int, code: str, text: str) -> AzureError:
        status = 401 if code == "invalid_client" else 400
        return AzureError(status, code, f"AADSTS{number}: {text}", inner={"number": number})

    def _instances(self, call: Call) -> Reply:
        if "authorization_endpoint" not in call.query or "api-version" not in call.query:
            raise self._refusal(90014, "invalid_request", "The required field is missing from the request.")
        names = ["login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"]
        known = {"preferred_network": HOST, "preferred_cache": "login.windows.net", "aliases": names}
        where = f"https://{HOST}/{self.people.tenant}/v2.0/.well-known/openid-configuration"
        return Reply(200, {"tenant_discovery_endpoint": where, "api-version": "1.1", "metadata": [known]})

    def _configuration(self) -> dict[str, Any]:
        base = f"https://{HOST}/{self.people.tenant}"
        return {
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "issuer": f"{base}/v2.0",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
            "tenant_region_scope": "EU",
            "cloud_instance_name": "microsoftonline.com",
        }

    def _token(self, call: Call, tenant: str) -> Reply:
        form = call.body if isinstance(call.body, dict) else {}
        for name in ("grant_type", "client_id", "scope"):
            if not form.get(name):
                text = f"The request body must contain the following parameter: '{name}'."
                raise self._refusal(900144, "invalid_request", text)
        if form["grant_type"] == "client_credentials":
            if tenant != self.people.tenant:
                text = f"Application '{form['client_id']}' needs the id of its tenant, not '{tenant}'."
                raise self._refusal(50194, "invalid_request", text)
            principal, more = self._application(form), {}
        elif form["grant_type"] == "refresh_token":
            principal = self.people.by_refresh(form.get("refresh_token", ""))
            if principal is None or form["client_id"] != principal.client_id:
                raise self._refusal(
                    70000, "invalid_grant", "Provided grant is invalid or malformed. Sign in again."
                )
            more = {"refresh_token": form["refresh_token"], "scope": form["scope"]}
        else:
            text = f"The app requested an unsupported grant type '{form['grant_type']}'."
            raise self._refusal(70003, "unsupported_grant_type", text)
        token = self.people.token(principal, self._resource(form["scope"]), self.lifetime)
        seconds = {"expires_in": self.lifetime, "ext_expires_in": self.lifetime}
        return Reply(200, {"token_type": "Bearer", **seconds, "access_token": token, **more})

    def _resource(self, scope: str) -> str:
        """The resource that a token is for: its audience.

        https://learn.microsoft.com/entra/identity-platform/scopes-oidc#the-default-scope
        """
        wanted = [one for one in scope.split() if one not in ("openid", "profile", "offline_access")]
        if len(wanted) != 1 or not wanted[0].endswith("/.default"):
            text = (
                "The provided value for scope "
                f"{scope} is not valid. Client credential flows must have a scope value with /.default "
                "suffixed to the resource identifier (application ID URI)."
            )
            raise self._refusal(1002012, "invalid_scope", text)
        resource = wanted[0].removesuffix("/.default")
        host = resource.removeprefix("https://").rstrip("/")
        if resource.rstrip("/") in RESOURCES or host.endswith(".blob.core.windows.net"):
            return resource
        text = (
            f"The resource principal named {resource} was not found in the tenant named Stage. This can happen "
            "if the application has not been installed by the administrator of the tenant or consented to by any "
            "user in the tenant. You might have sent your authentication request to the wrong tenant."
        )
        raise self._refusal(500011, "invalid_resource", text)

    def _application(self, form: dict[str, str]) -> Principal:
        principal = self.people.by_client(form["client_id"])
        if principal is None:
            text = (
                f"Application with identifier '{form['client_id']}' was not found in the directory 'Stage'. This can "
                "happen if the application has not been installed by the administrator of the tenant or consented to "
                "by any user in the tenant. You may have sent your authentication request to the wrong tenant."
            )
            raise self._refusal(700016, "unauthorized_client", text)
        if "client_assertion" in form:
            if form.get("client_assertion_type") != ASSERTION:
                text = "The request body must contain the following parameter: 'client_assertion_type'."
                raise self._refusal(900144, "invalid_request", text)
            self._assert(principal, form["client_assertion"])
        elif "client_secret" not in form:
            text = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
            raise self._refusal(7000218, "invalid_client", text)
        elif form["client_secret"] not in principal.passwords:
            text = (
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret "
                f"value, not the client secret ID, for a secret added to app '{principal.client_id}'."
            )
            raise self._refusal(7000215, "invalid_client", text)
        return principal

    def _assert(self, principal: Principal, assertion: str) -> None:
        """Looks whether an assertion stands for an identity: issuer, subject and audience match exactly.

        https://learn.microsoft.com/entra/workload-id/workload-identity-federation-create-trust; case counts since
        https://learn.microsoft.com/entra/identity-platform/reference-breaking-changes (August 2024); the texts as in
        https://github.com/Azure/login/issues/482, /515 and https://github.com/Azure/azure-workload-identity/issues/1200.
        """
        if assertion in principal.passwords:  # the stage's own means to be an identity: `World.at`
            return
        claims = self._github.read(assertion)
        if claims is None:
            text = "Client assertion failed signature validation."
            raise self._refusal(700027, "invalid_client", text)
        if claims["exp"] <= self._clock.now():
            text = "Client assertion is not within its valid time range."
            raise self._refusal(700024, "invalid_client", text)
        known = list(self._credentials(principal))
        if not known:
            text = f"The client '{principal.client_id}' has no configured federated identity credentials."
            raise self._refusal(70025, "invalid_client", text)
        tail = (
            "Check your federated identity credential Subject, Audience and Issuer against the presented assertion. "
            + DOCUMENTED
        )
        known = [one for one in known if one.issuer == claims.get("iss")]
        if not known:
            text = f"No matching federated identity record found for presented assertion issuer '{claims.get('iss')}'. "
            raise self._refusal(700211, "invalid_client", text + tail)
        subject, audience = claims["sub"], claims["aud"]
        if not any(audience in one.audiences for one in known):
            text = (
                f"No matching federated identity record found for presented assertion audience '{audience}'. "
            )
            raise self._refusal(700212, "invalid_client", text + tail)
        if any(one.subject == subject and audience in one.audiences for one in known):
            return
        text = f"No matching federated identity record found for presented assertion subject '{subject}'. "
        if any(one.subject.lower() == subject.lower() for one in known):
            text += "The subject matches with case-insensitive comparison, but not with case-sensitive comparison. "
            raise self._refusal(7002138, "invalid_client", text + tail)
        raise self._refusal(700213, "invalid_client", text + tail)
