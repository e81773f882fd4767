"""What AWS refuses, in one sentence of what is wrong and what to do about it."""

from __future__ import annotations

import re

from ..errors import (
    LoginError,
    MissingError,
    QuotaError,
    RefusedError,
    ServiceError,
    UnreachableError,
    line,
)

LOGIN = (
    "run `aws sso login` (or `aws configure`), with AWS_PROFILE set where you have several profiles"
)
QUOTAS = "https://console.aws.amazon.com/servicequotas/home"

# Codes as the services' models in botocore name them, and the common errors of
# https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html
EXPIRED = {
    *("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"),
    *("InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId"),
    *("SignatureDoesNotMatch", "InvalidSignatureException", "AuthFailure", "InvalidIdentityToken"),
    "MissingAuthenticationToken",
}
REFUSED = {
    *("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AccessDeniedForOperation"),
    *("NotAuthorized", "UnauthorizedException", "403", "Forbidden"),
}
MISSING = {
    *("ResourceNotFound", "ResourceNotFoundException", "NoSuchBucket", "NoSuchKey", "404"),
    *("NotFound", "NoSuchEntity", "RepositoryNotFoundException", "ImageNotFoundException"),
    *("NoSuchResourceException", "NotFoundException"),
}
TOO_MUCH = {
    *("Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException"),
    *("RequestLimitExceeded", "ResourceLimitExceeded", "LimitExceededException", "SlowDown"),
    "ServiceQuotaExceededException",
}
# What setup/roles.yaml allows within bounds only: a refusal may be of too many hours, or of a machine.
BOUNDED = {"sagemaker:CreateTrainingJob", "sagemaker:CreateHyperParameterTuningJob"}


def explain(code: str, message: str, status: int, service: str) -> ServiceError:
    """Say in one sentence what an error of a service means, and what to do.

    Args:
        code: the service's own name of the error.
        status: of HTTP.
    """
    said = line(message or code)
    if code == "OptInRequired" or "not subscribed" in said:
        return RefusedError(
            f"The account may not use {service} here ({said})",
            "finish the account's sign-up, or choose a region that is enabled for it",
            code,
        )
    if code in EXPIRED:
        return LoginError(f"AWS does not accept the login ({said})", LOGIN, code)
    if code in REFUSED:
        return RefusedError(f"Permission denied: {said}", _grant(said), code)
    if code in MISSING or (code == "ValidationException" and _nothing_there(said)):
        return MissingError(
            f"Not found: {said}", "check the name, the account and the region", code
        )
    if code in TOO_MUCH:
        return QuotaError(f"A limit is reached: {said}", f"ask for more at {QUOTAS} or wait", code)
    if status >= 500 or code in ("RequestTimeout", "RequestTimeoutException"):
        return UnreachableError(
            f"{service} answers {status} ({said})", "try again in a minute", code
        )
    return ServiceError(f"{service} refuses the request: {said}", "correct that setting", code)


def _nothing_there(said: str) -> bool:
    """SageMaker has no code of its own for a job that does not exist."""
    return bool(re.search(r"not found|does not exist|Could not find", said, re.IGNORECASE))


def _grant(said: str) -> str:
    named = re.search(r"\b([a-z0-9-]+:[A-Z][A-Za-z]+)\b", said)
    what = named[1] if named else "what is missing"
    if what in BOUNDED:
        return (
            f"GitHub's login has {what} for as many hours and for those machines that `make cloud-setup` was told "
            "(MAX_HOURS=24, MACHINES=all): ask for less, or run it again with more; to another login an administrator "
            "must allow it"
        )
    return f"an administrator must allow this login {what} (`make cloud-setup` does for GitHub's)"
