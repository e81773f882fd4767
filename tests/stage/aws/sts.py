"""A strict stand-in for STS: whose keys these are, and keys for GitHub's workflows.

moto's AssumeRoleWithWebIdentity takes any token for any role, even for one that does not exist.
"""

import re
from typing import Any

from moto.iam.models import iam_backends

from stage.aws import policies
from stage.aws.errors import AwsError
from stage.aws.people import ACCOUNT, People, document, role_of
from stage.aws.server import Call
from stage.clock import Clock
from stage.tokens import Issuer

# The claims of GitHub's tokens that trust policies can name beside aud, sub, amr; of a key that is not among them no
# condition ever holds: https://aws.amazon.com/about-aws/whats-new/2026/01/aws-sts-supports-validation-identity-provider-claims
CLAIMS = (
    *("actor", "actor_id", "job_workflow_ref", "repository", "repository_id"),
    *("workflow", "ref", "environment", "enterprise_id"),
)
DENIED = "Not authorized to perform sts:AssumeRoleWithWebIdentity"


class Sts:
    """The service."""

    def __init__(self, clock: Clock, people: People, issuer: Issuer) -> None:
        self._clock, self._people, self._issuer = clock, people, issuer

    def __call__(self, call: Call) -> dict[str, Any]:
        if call.operation == "GetCallerIdentity":
            assert call.session is not None  # nobody needs a right for it
            return {"UserId": f"AIDA:{call.session.access_key}", "Account": ACCOUNT, "Arn": call.session.arn}
        if call.operation == "AssumeRoleWithWebIdentity":
            return self._web_identity(call.given)
        raise AwsError("NotImplemented", f"{call.operation} is not part of the stand-in.", 501)

    def _web_identity(self, given: dict[str, Any]) -> dict[str, Any]:
        claims = self._issuer.read(given["WebIdentityToken"])
        if claims is None:
            raise AwsError(
                "InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider"
            )
        if claims["exp"] <= self._clock.now():
            raise AwsError(
                "ExpiredTokenException", "Token expired: current date/time must be before the expiration"
            )
        # Words as reported: https://github.com/aws-actions/configure-aws-credentials/issues/721 and /775.
        host = claims["iss"].removeprefix("https://")
        known = iam_backends[ACCOUNT]["aws"].open_id_providers
        arn = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{host}"
        if arn not in known:
            raise AwsError(
                "InvalidIdentityToken", f"No OpenIDConnect provider found in your account for {claims['iss']}"
            )
        if claims["aud"] not in known[arn].client_id_list:
            raise AwsError("InvalidIdentityToken", "Incorrect token audience")
        role = role_of(given["RoleArn"])
        if role is None or not self._trusted(role, arn, host, claims):
            raise AwsError("AccessDenied", DENIED, 403)
        name = given["RoleSessionName"]
        if not re.fullmatch(r"[\w+=,.@-]{2,64}", name):
            raise AwsError(
                "ValidationError", f"Value '{name}' at 'roleSessionName' failed to satisfy constraint"
            )
        seconds = given.get("DurationSeconds", 3600)
        if seconds > int(role.max_session_duration or 3600):
            text = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
            raise AwsError("ValidationError", text)
        return self._answer(given, claims, role, name, seconds)

    def _trusted(self, role: Any, arn: str, host: str, claims: dict[str, Any]) -> bool:
        context = {f"{host}:{name}": claims[name] for name in ("aud", "sub", *CLAIMS) if name in claims}
        statements = [
            one
            for one in policies.listed(document(role.assume_role_policy_document)["Statement"])
            if arn in policies.listed(one.get("Principal", {}).get("Federated", []))
            and policies.applies(one, "sts:AssumeRoleWithWebIdentity", None, context)
        ]
        return bool(statements) and all(one["Effect"] == "Allow" for one in statements)

    def _answer(
        self, given: dict[str, Any], claims: dict[str, Any], role: Any, name: str, seconds: float
    ) -> dict[str, Any]:
        keys = self._people.session(role.arn, name, seconds)
        return {
            "Credentials": {
                "AccessKeyId": keys.access_key,
                "SecretAccessKey": keys.secret,
                "SessionToken": keys.token,
                "Expiration": keys.expires,
            },
            "SubjectFromWebIdentityToken": claims["sub"],
            "AssumedRoleUser": {"AssumedRoleId": f"{role.id}:{name}", "Arn": keys.arn},
            "Provider": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{claims['iss'].removeprefix('https://')}",
            "Audience": claims["aud"],
        }
