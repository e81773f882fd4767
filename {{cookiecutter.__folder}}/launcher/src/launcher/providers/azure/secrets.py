"""Values of Key Vault, read with the job's own identity."""

from __future__ import annotations

from ...errors import UserError
from ...storage import StorageUnavailable
from ..errors import UnreachableError
from . import auth as azure

API = "7.4"


def access(resource: str) -> str:
    """Read a secret by its address: https://VAULT.vault.azure.net/secrets/NAME, with or without a version.

    The newline that `echo` adds is taken off.

    Raises:
        UserError: it cannot be had; the value is in no message.
        StorageUnavailable: Azure does not answer.
    """
    try:
        answer = azure.call("GET", resource, api=API, scope=azure.VAULT_SCOPE)
    except UnreachableError as error:
        raise StorageUnavailable(str(error)) from error
    value = answer.get("value")
    if not isinstance(value, str):  # such as the list of all secrets
        raise UserError(
            f"{resource} is no secret; give https://VAULT.vault.azure.net/secrets/NAME."
        )
    return value.rstrip("\r\n")
