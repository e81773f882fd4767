"""Values of Secrets Manager, read with the job's own identity."""

from __future__ import annotations

from ...storage import StorageUnavailable
from ..errors import UnreachableError, UserError
from . import auth as aws


def access(resource: str) -> str:
    """Read a secret by its name or ARN. The newline that `echo` adds is taken off.

    Raises:
        UserError: it cannot be had; the value is in no message.
        StorageUnavailable: AWS does not answer.
    """
    try:
        answer = aws.call("secretsmanager", "get_secret_value", SecretId=resource)
    except UnreachableError as error:
        raise StorageUnavailable(str(error)) from error
    if "SecretString" not in answer:
        raise UserError(f"The secret {resource} holds no text; store its value as a text.")
    return str(answer["SecretString"]).rstrip("\r\n")
