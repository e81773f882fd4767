"""Passwords of ECR's registry."""

import base64
import secrets
from contextlib import suppress
from typing import Any

from stage.aws.people import ACCOUNT, Session
from stage.aws.server import Call
from stage.clock import Clock


class Logins:
    """GetAuthorizationToken: a password of twelve hours for whoever may ask, and with that one's rights."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, tuple[Session, float]] = {}

    def __call__(self, call: Call) -> dict[str, Any]:
        call.require("ecr:GetAuthorizationToken", "*")
        assert call.session is not None
        password, expires = secrets.token_urlsafe(48), self._clock.now() + 12 * 3600
        self._known[password] = call.session, expires
        token = base64.b64encode(f"AWS:{password}".encode()).decode()
        endpoint = f"https://{ACCOUNT}.dkr.ecr.{call.region}.amazonaws.com"
        entry = {"authorizationToken": token, "expiresAt": expires, "proxyEndpoint": endpoint}
        return {"authorizationData": [entry]}

    def whose(self, header: str) -> Session | None:
        """Who a header `Authorization: Basic ...` is of; None where it is nobody's, or too old."""
        with suppress(ValueError):
            user, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
            session, expires = self._known.get(password, (None, 0.0))
            return session if user == "AWS" and self._clock.now() < expires else None
        return None
