"""Azure over REST: one way to call its services with this machine's login, and each failure in one sentence.

azure-identity and requests take nearly half a second to import, so that waits until they are needed.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ...project import project
from ..errors import ServiceError, UnreachableError, line
from . import errors, login
from .login import (
    ARM,
    ARM_SCOPE,
    ML_SCOPE,
    REGISTRY_SCOPE,
    STORAGE_SCOPE,
    VAULT_SCOPE,
    subscription,
    tenant,
    token,
    who,
)

if TYPE_CHECKING:
    from requests import Response

__all__ = [
    "ARM",
    "ARM_SCOPE",
    "ML_SCOPE",
    "REGISTRY_SCOPE",
    "STORAGE_SCOPE",
    "VAULT_SCOPE",
    "call",
    "now",
    "pages",
    "region",
    "request",
    "subscription",
    "tenant",
    "token",
    "wait",
    "who",
]
TIMEOUT = 60  # seconds, for one answer: some of Azure Resource Manager's take half of that
DELAYS = (1.0, 2.0, 4.0, 8.0)  # seconds before each further attempt, where the answer does not say
LONGEST_DELAY = 60.0  # seconds, whatever an answer says
POLL = 5.0  # seconds between two looks at an operation, where the answer does not say
IDEMPOTENT = ("GET", "HEAD", "PUT", "DELETE")
PASSING = {408, 429, 500, 502, 503, 504}
UNAUTHORIZED = 401
THROTTLED = 429  # what was not done at all, so that doing it again is safe whatever it is
UNDER_WAY = 202
SUCCEEDED, ENDS = "succeeded", ("succeeded", "failed", "canceled")

_ahead: float | None = None  # seconds that Azure's clock is ahead of `time.monotonic()`
_sessions = threading.local()  # a session of requests is for one thread


def region() -> str:
    """Give the project's region, where nothing else is said."""
    return project().region


def call(
    method: str,
    path_or_url: str,
    *,
    api: str | None = None,
    body: Any = None,
    scope: str = ARM_SCOPE,
    once: bool = False,
    headers: dict[str, str] | None = None,
) -> Any:
    """Send a request and give its JSON answer; {} where that is empty.

    Args:
        path_or_url: a path, which begins with /, is Azure Resource Manager's.
        api: the version of the API, for the query.
        body: sent as JSON; None sends nothing.
        scope: of the token; empty sends none, for hosts that take a signature in the address or nothing.
        once: do not try again, whatever happens. Without it, what may be done twice is tried again for a while.

    Raises:
        ServiceError: one of its kinds; the text says what to do.
    """
    return _decoded(
        request(method, path_or_url, api=api, body=body, scope=scope, once=once, headers=headers)
    )


def pages(
    path_or_url: str, *, api: str | None = None, scope: str = ARM_SCOPE
) -> Iterator[dict[str, Any]]:
    """Give what is listed at an address, page after page.

    Raises:
        ServiceError: as `call`.
    """
    answer = call("GET", path_or_url, api=api, scope=scope)
    while True:
        yield from answer.get("value") or ()
        if not (following := answer.get("nextLink")):
            return
        answer = call("GET", following, scope=scope)  # holds all of the query already


def wait(
    method: str,
    path: str,
    *,
    api: str | None = None,
    body: Any = None,
    patience: float = 1800.0,
) -> Any:
    """Send a request that takes long, wait until it is done, and give what has become of it.

    https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations

    Args:
        patience: seconds to wait.

    Raises:
        UnreachableError: it is still going on; whether it will succeed is not known.
        ServiceError: it has failed; the text says why. Others as `call`.
    """
    response = request(method, path, api=api, body=body)
    operation, place = (response.headers.get(name) for name in ("Azure-AsyncOperation", "Location"))
    made = method in ("PUT", "PATCH")
    where, state = path, _provisioned
    if operation:
        where, state = operation, _operated
    elif place and response.status_code == UNDER_WAY:
        where, state = place, _placed
    elif not made:
        return _decoded(response)
    version = api if where == path else None  # other addresses hold their own
    until = time.monotonic() + patience
    word = "" if operation else state(response)
    while word.lower() not in ENDS:
        if time.monotonic() > until:
            raise UnreachableError(f"{path} is still being worked on", "look again in some minutes")
        time.sleep(_pause(response, POLL))
        response = request("GET", where, api=version)
        word = state(response)
    if word.lower() != SUCCEEDED:
        code, said = errors.of(_decoded(response))
        raise errors.explain(400, code, said or f"{path} ended as {word}", urlsplit(ARM).netloc)
    if made and where != path:
        return call("GET", path, api=api)
    if operation:
        return call("GET", place) if place and method == "POST" else {}
    return _decoded(response)


def _operated(response: Response) -> str:
    """Give the state that an answer of `Azure-AsyncOperation` tells."""
    return str(_decoded(response).get("status") or "")


def _placed(response: Response) -> str:
    """Give the state that an answer of `Location` tells: as long as it goes on, by the status of HTTP alone."""
    return "" if response.status_code == UNDER_WAY else SUCCEEDED


def _provisioned(response: Response) -> str:
    """Give the state that a resource tells of itself; one that tells nothing is made."""
    properties = _decoded(response).get("properties") or {}
    return str(properties.get("provisioningState") or SUCCEEDED)


def request(
    method: str,
    path_or_url: str,
    *,
    api: str | None = None,
    body: Any = None,
    form: dict[str, str] | None = None,
    scope: str = ARM_SCOPE,
    once: bool = False,
    headers: dict[str, str] | None = None,
) -> Response:
    """Send a request and give the answer, which is a good one; arguments as of `call`, and:

    Args:
        form: sent as a form in place of JSON.

    Raises:
        ServiceError: as `call`.
    """
    url = f"{ARM}{path_or_url}" if path_or_url.startswith("/") else path_or_url
    query = {"api-version": api} if api else None
    sent = {"params": query, "json": body, "data": form, "headers": headers or {}}
    safe, renewed = method in IDEMPOTENT, False
    delays = [] if once else [delay * random.uniform(0.5, 1.5) for delay in DELAYS]  # noqa: S311
    while True:
        try:
            response = _send(method, url, scope, sent)
        except UnreachableError:
            if not (delays and safe):
                raise
            time.sleep(delays.pop(0))
            continue
        if response.ok:
            return response
        status = response.status_code
        if status == UNAUTHORIZED and scope and not renewed:
            login.forget(scope)  # it may have been revoked before its time
            renewed = True
        elif delays and (status == THROTTLED or (safe and status in PASSING)):
            time.sleep(_pause(response, delays.pop(0)))
        else:
            raise _failure(response)


def now() -> datetime:
    """Tell the time by Azure's clock, as of its last answer; by this machine's as long as there was none."""
    if _ahead is None:
        return datetime.now(UTC)
    return datetime.fromtimestamp(time.monotonic() + _ahead, UTC)


def _note_time(date: str | None) -> None:
    """Set the clock by the `Date` that an answer was given at."""
    global _ahead
    with suppress(TypeError, ValueError):  # a proxy may have written something else
        if date:
            _ahead = parsedate_to_datetime(date).timestamp() - time.monotonic()


def _send(method: str, url: str, scope: str, sent: dict[str, Any]) -> Response:
    import requests

    if scope:
        sent = {**sent, "headers": {**sent["headers"], "Authorization": f"Bearer {token(scope)}"}}
    if not hasattr(_sessions, "own"):
        _sessions.own = requests.Session()
    try:
        response = _sessions.own.request(method, url, timeout=TIMEOUT, **sent)
    except requests.RequestException as error:
        raise UnreachableError(
            f"{urlsplit(url).netloc} cannot be reached ({line(error)})",
            "check the network and try again",
        ) from error
    _note_time(response.headers.get("Date"))
    return response


def _decoded(response: Response) -> Any:
    if not response.content:
        return {}
    try:
        return response.json()
    except ValueError as error:
        where = urlsplit(response.url).netloc
        raise ServiceError(
            f"{where} gives something other than JSON", "check for a proxy on the way"
        ) from error


def _failure(response: Response) -> ServiceError:
    try:
        code, said = errors.of(response.json())
    except ValueError:
        code, said = response.headers.get("x-ms-error-code", ""), response.reason or ""
    return errors.explain(response.status_code, code, said, urlsplit(response.url).netloc)


def _pause(response: Response, otherwise: float) -> float:
    """Give the seconds that an answer wants waited."""
    with suppress(ValueError):
        return min(float(response.headers.get("Retry-After", otherwise)), LONGEST_DELAY)
    return otherwise
