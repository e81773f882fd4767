"""The values of the secrets that a job is given by name: read with the job's own identity, and in no log."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..errors import UserError
from ..providers import secret_reader
from ..storage import StorageUnavailable


def read_secrets(resources: Mapping[str, str], hide: Callable[[str], None]) -> dict[str, str]:
    """Read the value of each environment variable's secret.

    Args:
        resources: environment variable -> the provider's name of its secret.
        hide: keeps a text out of the log.

    Raises:
        UserError: a secret cannot be had.
        StorageUnavailable: the provider does not answer.
    """
    if not resources:
        return {}
    access = secret_reader()
    values = {}
    for name, resource in resources.items():
        try:
            values[name] = access(resource)
        except StorageUnavailable:
            raise
        except UserError as error:
            raise UserError(f"The secret {resource} for {name}: {error}") from error
        hide(values[name])
    return values
