"""Who asks: the keys that were given out, and what the recorded policies of their roles allow them."""

import ast
import json
import secrets
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from moto.iam.models import iam_backends

from stage.aws import policies
from stage.aws.errors import AwsError
from stage.clock import Clock

ACCOUNT = "123456789012"  # moto's
ADMIN = f"arn:aws:iam::{ACCOUNT}:user/admin"


@dataclass(frozen=True)
class Session:
    """Keys that were given out.

    Args:
        role: name of the role; "" for the administrator, who may do everything.
    """

    access_key: str
    secret: str
    token: str
    arn: str
    role: str
    expires: float

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which clients use the keys."""
        given = {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret}
        return given | ({"AWS_SESSION_TOKEN": self.token} if self.token else {})


def role_of(arn: str) -> Any:
    """The role of moto's IAM that an ARN or a name means; None where there is none."""
    known = iam_backends[ACCOUNT]["aws"]
    name = arn.rpartition("/")[2]
    found = next((role for role in known.roles.values() if role.name == name), None)
    return found if found is not None and (not arn.startswith("arn:") or found.arn == arn) else None


def document(kept: Any) -> dict[str, Any]:
    """A policy as moto keeps it: as text, quoted text, a dict, or what its CloudFormation makes of one, Python's own."""
    if isinstance(kept, dict):
        return kept
    text = urllib.parse.unquote(kept) if kept.startswith("%") else kept
    return ast.literal_eval(text) if text.startswith("{'") else json.loads(text)


def documents(role: Any) -> list[dict[str, Any]]:
    """The policies of a role, inline and attached."""
    attached = [
        version.document
        for policy in role.managed_policies.values()
        for version in policy.versions
        if version.is_default
    ]
    return [document(kept) for kept in (*role.policies.values(), *attached)]


def trusts(role: Any, service: str) -> bool:
    """Whether a role may be assumed by a service such as sagemaker.amazonaws.com."""
    return any(
        statement["Effect"] == "Allow"
        and policies.applies(statement, "sts:AssumeRole", None, {})
        and service in policies.listed(statement.get("Principal", {}).get("Service", []))
        for statement in policies.listed(document(role.assume_role_policy_document)["Statement"])
    )


class People:
    """All keys of a world."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self.admin = self._add(Session(_key("AKIA"), secrets.token_hex(20), "", ADMIN, "", float("inf")))

    def session(self, role: str, name: str = "stage", seconds: float = 3600) -> Session:
        """Keys of a role, by its name or ARN, as the services get them that it trusts."""
        found = role_of(role)
        if found is None:
            raise KeyError(f"There is no role {role}.")
        arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/{found.name}/{name}"
        expires = self._clock.now() + seconds
        token = "IQoJ" + secrets.token_urlsafe(64)
        return self._add(Session(_key("ASIA"), secrets.token_hex(20), token, arn, found.name, expires))

    def _add(self, session: Session) -> Session:
        self._sessions[session.access_key] = session
        return session

    def asking(self, headers: Mapping[str, str], service: str) -> Session:
        """Whose keys signed a request; the signature itself is not computed again.

        Raises:
            AwsError: nobody's, wrong ones, or expired ones, with the code that the service has for it.
        """
        text = headers.get("authorization", "")
        if "Credential=" not in text:
            code = "AccessDenied" if service == "s3" else "MissingAuthenticationToken"
            raise AwsError(code, "Request is missing Authentication Token", 403)
        key = text.partition("Credential=")[2].partition("/")[0]
        session = self._sessions.get(key)
        if session is None or session.token != headers.get("x-amz-security-token", ""):
            code = {"s3": "InvalidAccessKeyId", "sts": "InvalidClientTokenId", "iam": "InvalidClientTokenId"}
            wrong = code.get(service, "UnrecognizedClientException")
            raise AwsError(wrong, "The security token included in the request is invalid.", 403)
        if self._clock.now() >= session.expires:
            # https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html; S3 says 400.
            code = "ExpiredToken" if service in ("s3", "sts", "iam") else "ExpiredTokenException"
            status = 400 if service == "s3" else 403
            raise AwsError(code, "The security token included in the request is expired", status)
        return session

    def require(
        self,
        session: Session,
        action: str,
        resources: Iterable[str],
        context: Mapping[str, Any] | None = None,
        code: str = "AccessDeniedException",
    ) -> None:
        """Refuses who may not do an action on every one of the resources.

        Args:
            context: keys of conditions.
            code: the service's word for it.
        """
        if not session.role:
            return
        role = role_of(session.role)
        known = documents(role) if role is not None else []
        usual = {"aws:PrincipalArn": role.arn if role is not None else "", "aws:PrincipalAccount": ACCOUNT}
        usual |= {"aws:SecureTransport": "true", "aws:CurrentTime": self._clock.now()}
        for resource in resources:
            said = policies.verdict(known, action, resource, usual | dict(context or {}))
            if said == policies.ALLOWED:
                continue
            # As seen: https://github.com/aws/aws-cdk/issues/32294.
            why = (
                "with an explicit deny in an identity-based policy"
                if said == policies.DENIED
                else f"because no identity-based policy allows the {action} action"
            )
            text = f"User: {session.arn} is not authorized to perform: {action} on resource: {resource} {why}"
            # Batch's status: https://github.com/aws/aws-sdk-js/issues/4280; JSON services answer with 400.
            status = 400 if code == "AccessDeniedException" and not action.startswith("batch:") else 403
            raise AwsError(code, text, status)

    def mentioned(self, session: Session, action: str) -> bool:
        """Whether the role's policies allow an action at all, on whatever."""
        role = role_of(session.role)
        return not session.role or (role is not None and policies.mentions(documents(role), action))


def _key(prefix: str) -> str:
    return prefix + secrets.token_hex(8).upper()
