"""AWS by its own client: whose login this is, one way to call, and each failure in one sentence.

boto3 takes half a second to import, so that waits until it is needed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from threading import Lock
from typing import Any

from ...errors import UserError
from ...project import project
from ..errors import LoginError, ServiceError, UnreachableError, line
from .errors import LOGIN, explain

TIMEOUT = 30  # seconds, for one answer
# Of what a model computes: it has 60 seconds for an answer, and whoever asks decides whether to ask again.
RUNTIME, RUNTIME_TIMEOUT = "sagemaker-runtime", 70
ATTEMPTS = 5  # of one call, where botocore knows that another one may help and does no harm
OTHERS = ("cn-", "us-gov-", "us-iso", "eu-isoe-", "eusc-")  # partitions with accounts of their own
# What may have been done although its answer was lost: another try is the caller's to decide.
# SubmitJob has no token, and a name of SageMaker's is taken for ever by the try that arrived.
ONCE = {"submit_job", "create_training_job", "create_hyper_parameter_tuning_job"}

_ahead: float | None = None  # seconds that AWS's clock is ahead of `time.monotonic()`
_making = Lock()  # boto3's session is for one thread, the clients that it makes are for all


def region() -> str:
    """Give the project's region, where nothing else is said."""
    return project().region


def check_region(name: str) -> None:
    """Refuse the parts of AWS that have accounts and services of their own. Asks nobody.

    Raises:
        UserError: it is in one of them.
    """
    if name.startswith(OTHERS):
        raise UserError(
            f"The region {name} is in a part of AWS with accounts of its own (China, GovCloud and the like), "
            "which is not supported; give cloud.region=us-east-1 or another of the ordinary ones."
        )


def client(service: str, where: str | None = None) -> Any:
    """Give botocore's client of a service; one for each region, for all threads.

    Raises:
        UserError: the login's profile or the region cannot be.
    """
    return _client(service, where or region())


@cache
def _client(service: str, where: str, once: bool = False) -> Any:
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    check_region(where)
    once |= service == RUNTIME
    retries: Any = {"mode": "standard", "total_max_attempts": 1 if once else ATTEMPTS}
    config = Config(
        connect_timeout=TIMEOUT,
        read_timeout=RUNTIME_TIMEOUT if service == RUNTIME else TIMEOUT,
        retries=retries,
        max_pool_connections=32,
        user_agent_extra="launcher",
    )
    with _making:
        try:
            made = _session().client(service, region_name=where, config=config)
        except BotoCoreError as error:
            raise _explain(error, service) from error
    return made


@cache
def _session() -> Any:
    """Give what all clients have in common: AWS's list of places, which takes a tenth of a second to read, and the login."""
    import boto3

    return boto3.Session()


def call(service: str, operation: str, where: str | None = None, **parameters: Any) -> Any:
    """Call an operation of a service and give its answer.

    Args:
        service, operation: as boto3 names them: "sagemaker", "describe_training_job".
        where: the region; None for the project's.
        parameters: as the service names them.

    Raises:
        ServiceError: one of its kinds; the text says what to do.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    found = _client(service, where or region(), operation in ONCE)
    try:
        answer = getattr(found, operation)(**parameters)
    except (BotoCoreError, ClientError) as error:
        raise _explain(error, service) from error
    _note_time(answer)
    return answer


def pages(
    service: str, operation: str, key: str, where: str | None = None, **parameters: Any
) -> Iterator[Any]:
    """Give what an operation lists, page after page.

    Args:
        key: of the answer, that holds the list.

    Raises:
        ServiceError: as `call`.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    found = _client(service, where or region())
    try:
        for page in found.get_paginator(operation).paginate(**parameters):
            _note_time(page)
            yield from page.get(key) or []
    except (BotoCoreError, ClientError) as error:
        raise _explain(error, service) from error


def account() -> str:
    """Give the number of the account that the login is for.

    Raises:
        LoginError: there is no login, or it has expired.
        UnreachableError: AWS cannot be reached.
    """
    return str(_identity()["Account"])


def who() -> str:
    """Tell whose login this is, as AWS names it. Also proves that it is valid.

    Raises:
        LoginError, UnreachableError: as `account`.
    """
    return str(_identity()["Arn"])


@cache
def _identity() -> dict[str, Any]:
    return dict(call("sts", "get_caller_identity"))


def now() -> datetime:
    """Tell the time by AWS's clock, as of its last answer; by this machine's as long as there was none."""
    if _ahead is None:
        return datetime.now(UTC)
    return datetime.fromtimestamp(time.monotonic() + _ahead, UTC)


def _note_time(answer: Any) -> None:
    """Set the clock by the `Date` that an answer was given at."""
    global _ahead
    with suppress(TypeError, ValueError, KeyError):
        date = answer["ResponseMetadata"]["HTTPHeaders"]["date"]
        _ahead = parsedate_to_datetime(date).timestamp() - time.monotonic()


def _explain(error: Exception, service: str) -> ServiceError:
    from botocore import exceptions as known

    if isinstance(error, known.ClientError):
        _note_time(error.response)
        said = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return explain(str(said.get("Code", "")), str(said.get("Message", "")), status, service)
    reason = line(error)
    if isinstance(error, known.ProfileNotFound):
        profile = os.environ.get("AWS_PROFILE", "")
        return LoginError(f"There is no AWS profile {profile}", "set AWS_PROFILE to one of yours")
    if isinstance(error, known.NoCredentialsError | known.PartialCredentialsError):
        return LoginError("There is no login to AWS here", LOGIN)
    expired = (
        *(known.TokenRetrievalError, known.SSOTokenLoadError, known.UnauthorizedSSOTokenError),
        *(known.CredentialRetrievalError, known.SSOError),
    )
    if isinstance(error, expired):
        return LoginError(f"Your login to AWS is no longer valid ({reason})", LOGIN)
    if isinstance(error, known.HTTPClientError | known.ConnectionError):
        return UnreachableError(
            f"{service} of AWS cannot be reached ({reason})", "check the network and try again"
        )
    return ServiceError(f"{service} cannot be asked that ({reason})", "correct that setting")
