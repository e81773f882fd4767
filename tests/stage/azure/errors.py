"""What a service of Azure says when it refuses a request."""

from collections.abc import Mapping, Sequence
from typing import Any


class AzureError(Exception):
    """A refusal; its code is what clients look at.

    Args:
        status: of HTTP.
        code: such as AuthorizationFailed.
        message: what is said to the caller.
        details: (code, message) of what was wrong further down.
        inner: `innererror` of the services that have one.
        headers: sent with the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Sequence[tuple[str, str]] = (),
        inner: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.status, self.code, self.message = status, code, message
        self.details, self.inner, self.headers = tuple(details), inner, dict(headers or {})

    def json(self) -> dict[str, Any]:
        """The body as Azure Resource Manager and most services write it.

        https://github.com/microsoft/api-guidelines/blob/vNext/azure/Guidelines.md#handling-errors
        """
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.details:
            error["details"] = [{"code": code, "message": message} for code, message in self.details]
        if self.inner:
            error["innererror"] = dict(self.inner)
        return {"error": error}
