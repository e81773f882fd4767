"""What a provider refuses, in one sentence of what is wrong and what to do about it: the same kinds for all of them."""

from __future__ import annotations

import re
from typing import Any

from ..errors import UserError

# What makes a signed address open for whoever reads it; libraries put whole addresses in their errors.
SIGNED = re.compile(
    r"\b((?:X-(?:Amz|Goog)-)?(?:sig|Signature|Security-Token))=[^&\s)'\"]+", re.IGNORECASE
)


class ServiceError(UserError):
    """A service did not do what was asked: `what` is wrong, and the `remedy`.

    Args:
        code: the service's own name of the trouble; empty where it has none.
    """

    def __init__(self, what: str, remedy: str, code: str = ""):
        super().__init__(f"{what}; {remedy}.")
        self.what, self.remedy, self.code = what, remedy, code


class LoginError(ServiceError):
    """There are no credentials, or they are no longer valid."""


class RefusedError(ServiceError):
    """The login is known, but may not do this (403)."""


class MissingError(ServiceError):
    """There is no such thing (404)."""


class QuotaError(ServiceError):
    """Too much was asked for, of machines or of requests (429)."""


class UnreachableError(ServiceError):
    """No answer, or one that says to come back later: whether the call took effect is not known."""


def line(text: Any) -> str:
    """Make one line without a full stop of what a library or a server said, and without what opens a signed address."""
    if isinstance(text, Exception):
        text = text.args[0] if text.args and isinstance(text.args[0], str) else text
    said = SIGNED.sub(r"\1=...", " ".join(str(text).split()))
    return said[:300].rstrip(". ") or "no reason given"
