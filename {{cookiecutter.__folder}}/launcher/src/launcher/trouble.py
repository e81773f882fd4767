"""What an error of a provider's library means: whether it may pass, and in one sentence.

None of those libraries need be installed, and all that their errors share is their text and, somewhere, an HTTP status.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from .errors import UserError

PRECONDITION_FAILED = 412
PASSING_STATUS = {408, 429, 500, 502, 503, 504}
# S3 says 409 while another conditional write of the same object, perhaps our own first try, is under way.
CONFLICT = "ConditionalRequestConflict"
PASSING_ERRNO = {
    *(errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE, errno.EBUSY),
    *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ETIMEDOUT),
}
# Of aiohttp, requests, botocore, azure-core, google-auth and gcsfs, none of which need be installed.
PASSING_CLASSES = {
    *("ConnectionError", "Timeout", "ClientConnectionError", "ClientPayloadError"),
    *("HTTPClientError", "ServiceRequestError", "ServiceResponseError", "IncompleteReadError"),
    *("ChunkedEncodingError", "TransportError", "ChecksumError", "TimeoutError"),
}
# What a provider means by a code that says less than it should.
MEANS = {
    "AuthorizationPermissionMismatch": "this login lacks the role Storage Blob Data Contributor, or got it just now",
    "AuthorizationFailure": "the storage account's network rules do not let this machine in",
    "InvalidAuthenticationInfo": "the login is for another tenant than the storage account's",
    "ContainerNotFound": "there is no such container",
}
# Where no server was asked, or the machine's own for a login has not answered; of azure-core and botocore.
NO_LOGIN = {
    *("ClientAuthenticationError", "CredentialUnavailableError"),
    *("CredentialRetrievalError", "MetadataRetrievalError"),
}


def passing(error: BaseException) -> bool:
    """Tell whether the trouble may be over soon."""
    status = first_status(error)
    if status is not None:
        return status in PASSING_STATUS or CONFLICT in f"{error} {error.__cause__}"
    if isinstance(error, FileNotFoundError | FileExistsError | PermissionError):
        return False
    if type(error).__name__ in NO_LOGIN:
        return "RUN_ID" in os.environ  # a job's identity is told by a server, which may be late
    if isinstance(error, OSError) and error.errno in PASSING_ERRNO:
        return True
    return bool(PASSING_CLASSES & {kind.__name__ for kind in type(error).__mro__})


def is_taken(error: BaseException) -> bool:
    """Tell whether a condition on what is there did not hold; gcsfs has an error of its own for that."""
    return isinstance(error, FileExistsError) or first_status(error) == PRECONDITION_FAILED


def first_status(error: BaseException | None) -> int | None:
    """Give the HTTP status behind an error: a library may raise its own kind of error from another's."""
    while error is not None:
        status = _status(error)
        if status is not None:
            return status
        error = error.__cause__
    return None


def _status(error: Any) -> int | None:
    """Give the HTTP status that a provider's library keeps in its error, wherever it keeps it."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    for name in ("status", "status_code", "code"):
        value = str(getattr(error, name, None))
        if value.isdigit() and int(value) >= 100:
            return int(value)
    return None


def explain(uri: str, verb: str, error: Exception, kind: type[UserError] = UserError) -> UserError:
    """Say of a file which could not be had, or not be `verb` (read, written), why, and what to look at."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"{uri} does not exist; check the name.")
    if isinstance(error, ImportError):
        return UserError(f"{uri} cannot be opened here: {error}.")
    return kind(f"{uri} cannot be {verb} ({reason(error)}); check the network and your login.")


def reason(error: Exception) -> str:
    """Give the cause in some words of the provider's, or of ours where its own say too little."""
    code = str(getattr(error, "error_code", None) or "")  # azure-core's, before pages of its answer
    if code in MEANS:
        return f"{code}: {MEANS[code]}"
    if type(error).__name__ in NO_LOGIN and first_status(error) is None:
        return "there is no login, or it has expired"
    return " ".join((str(error) or type(error).__name__).split())[:300]
