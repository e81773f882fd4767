"""Values of Secret Manager, read with the job's own identity."""

from __future__ import annotations

from ...storage import StorageUnavailable
from ..errors import UnreachableError
from .auth import access_secret


def access(resource: str) -> str:
    """Read a secret: projects/P/secrets/S/versions/latest.

    Raises:
        UserError: it cannot be had.
        StorageUnavailable: Google does not answer.
    """
    try:
        return access_secret(resource)
    except UnreachableError as error:
        raise StorageUnavailable(str(error)) from error
