"""Google Cloud over REST: whose login this is, one way to call, and each failure in one sentence.

google-auth and requests take a third of a second to import, so that waits until they are needed.
"""

from __future__ import annotations

import base64
import logging
import os
import random
import threading
import time
import warnings
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ...job import RUN_ID
from ..errors import LoginError, QuotaError, ServiceError, UnreachableError, line
from .errors import LOGIN, explain

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from requests import Response

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TIMEOUT = 30  # seconds, for one answer
DELAYS = (0.5, 1.0, 2.0, 4.0)  # seconds before each further attempt, give or take a half
IDEMPOTENT = ("GET", "HEAD", "PUT", "DELETE")

_ahead: float | None = None  # seconds that Google's clock is ahead of `time.monotonic()`


def endpoint(service: str, region: str = "") -> str:
    """Give the base URL of an API, without a slash at its end.

    The variables are those with which gcloud, and Google's own storage client, are sent elsewhere. Of Compute Engine
    alone, the version is a part of it.
    """
    if service == "storage":
        host = os.environ.get("STORAGE_EMULATOR_HOST") or "https://storage.googleapis.com"
        return (host if "://" in host else f"http://{host}").rstrip("/")
    given = os.environ.get(f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service.upper()}")
    prefix = f"{region}-" if region else ""
    version = "/compute/v1" if service == "compute" else ""
    return (given or f"https://{prefix}{service}.googleapis.com{version}").rstrip("/")


def _default() -> tuple[Credentials, str | None]:
    found = _find_login()
    if isinstance(found, ServiceError):
        if RUN_ID in os.environ:  # in the worker, whose metadata server may yet come
            _find_login.cache_clear()
        raise found
    return found


@cache
def _find_login() -> tuple[Credentials, str | None] | ServiceError:
    """Find credentials and their project, or why there are none: looking for them again is as slow."""
    # Off Google's machines there is no metadata server, and three attempts to find it last ten seconds.
    # The worker is on one, and may well have started before its metadata server.
    if RUN_ID not in os.environ:
        os.environ.setdefault("GCE_METADATA_DETECT_RETRIES", "1")
    # Its warnings of each attempt are half-told stories; what comes of them is said by the errors here.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
    from google.oauth2.credentials import Credentials as PersonCredentials

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about the quota project, given below
            credentials, project = google.auth.default(scopes=[SCOPE])
    except DefaultCredentialsError as error:
        file = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        if file:
            what = (
                f"The credentials file {file} that GOOGLE_APPLICATION_CREDENTIALS names is unusable"
            )
            return LoginError(f"{what} ({line(error)})", f"unset that variable and {LOGIN}")
        return LoginError("There is no login to Google Cloud here", LOGIN)
    except GoogleAuthError as error:
        return UnreachableError(
            f"Google's sign-in cannot be reached ({line(error)})", "check the network"
        )
    # A person's calls must say which project they count for; service accounts belong to one.
    if project and isinstance(credentials, PersonCredentials) and not credentials.quota_project_id:
        credentials = credentials.with_quota_project(project)
    return credentials, project


def project() -> str:
    """Give the project that the environment or the login is for.

    Raises:
        LoginError: there is no login, or it is for no project.
    """
    found = os.environ.get("GOOGLE_CLOUD_PROJECT") or _default()[1]
    if not found:
        raise LoginError(
            "It is not known which Google Cloud project to use",
            "give cloud.project=ID or set GOOGLE_CLOUD_PROJECT",
        )
    return found


def token() -> str:
    """Give a valid access token.

    Raises:
        LoginError: there is no login, or it has expired.
        UnreachableError: Google's sign-in cannot be reached.
    """
    credentials = _default()[0]
    if not credentials.valid:
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request

        try:
            credentials.refresh(Request())
        except GoogleAuthError as error:
            raise _no_token(error, credentials) from error
    return str(credentials.token)


def who() -> str:
    """Tell whose login this is: an e-mail address where there is one. Also proves that it is valid.

    Raises:
        LoginError, UnreachableError: as `token`.
    """
    token()
    credentials = _default()[0]
    for name in ("service_account_email", "account"):
        if email := getattr(credentials, name, None):
            return str(email)
    if audience := getattr(credentials, "_audience", None):  # federated without a service account
        return f"workload identity {str(audience).rpartition('/')[2]}"
    try:  # a person's login does not hold its own name
        return str(
            call("GET", "https://openidconnect.googleapis.com/v1/userinfo", retry=False)["email"]
        )
    except (ServiceError, KeyError):
        return "a personal login"


def access_secret(resource: str) -> str:
    """Read a secret: projects/P/secrets/S/versions/latest. The newline that `echo` adds is taken off.

    Raises:
        MissingError, RefusedError, UnreachableError: it cannot be had; the value is in no message.
    """
    answer = call("GET", f"{endpoint('secretmanager')}/v1/{resource}:access")
    return base64.b64decode(answer["payload"]["data"]).decode().rstrip("\r\n")


def call(method: str, url: str, body: Any = None, **options: Any) -> dict[str, Any]:
    """Send a request and give its JSON answer; `options` are those of `request`.

    Raises:
        ServiceError: one of the kinds above; its text says what to do.
    """
    response = request(method, url, body, **options)
    try:
        return response.json() if response.content else {}
    except ValueError as error:
        where = urlsplit(url).netloc
        raise ServiceError(
            f"{where} gives something other than JSON", "check for a proxy on the way"
        ) from error


def request(
    method: str,
    url: str,
    body: Any = None,
    *,
    params: Any = None,
    headers: dict[str, str] | None = None,
    retry: bool | None = None,
    login: bool = True,
    timeout: float = TIMEOUT,
) -> Response:
    """Send a request with this machine's login and give the answer, which is a good one.

    Args:
        body: sent as JSON; None sends nothing.
        retry: whether doing it twice is the same as once; None: as HTTP says of the method.
        login: False sends no credentials, for hosts that are not Google's.
        timeout: seconds for the answer.

    Raises:
        ServiceError: as `call`.
    """
    delays = list(DELAYS if (method in IDEMPOTENT if retry is None else retry) else ())
    while True:
        try:
            response = _send(method, url, body, params, headers, login, timeout)
            if response.ok:
                return response
            raise explain(response)
        except (UnreachableError, QuotaError):
            if not delays:
                raise
            time.sleep(delays.pop(0) * random.uniform(0.5, 1.5))  # noqa: S311


def now() -> datetime:
    """Tell the time by Google's clock, as of its last answer; by this machine's as long as there was none."""
    if _ahead is None:
        return datetime.now(UTC)
    return datetime.fromtimestamp(time.monotonic() + _ahead, UTC)


def _note_time(date: str | None) -> None:
    """Set the clock by the `Date` that an answer was given at."""
    global _ahead
    with suppress(TypeError, ValueError):  # a proxy may have written something else
        if date:
            _ahead = parsedate_to_datetime(date).timestamp() - time.monotonic()


_sessions = threading.local()  # a session of requests is for one thread


def _send(
    method: str, url: str, body: Any, params: Any, headers: Any, login: bool, timeout: float
) -> Response:
    import requests
    from google.auth.exceptions import GoogleAuthError, TransportError
    from google.auth.transport.requests import AuthorizedSession

    credentials = _default()[0] if login else None
    sessions = _sessions.__dict__.setdefault("by_credentials", {})
    if id(credentials) not in sessions:
        sessions[id(credentials)] = (
            AuthorizedSession(credentials) if credentials else requests.Session()
        )
    try:
        response = sessions[id(credentials)].request(
            method, url, json=body, params=params, headers=headers, timeout=timeout
        )
    except (requests.RequestException, TransportError) as error:
        where = urlsplit(url).netloc
        raise UnreachableError(
            f"{where} cannot be reached ({line(error)})", "check the network and try again"
        ) from error
    except GoogleAuthError as error:
        raise _no_token(error, credentials) from error
    if login:  # other hosts are not Google's
        _note_time(response.headers.get("Date"))
    return response


def _no_token(error: Exception, credentials: Any) -> ServiceError:
    from google.auth.exceptions import TransportError
    from google.oauth2.credentials import Credentials as PersonCredentials

    reason = line(error)
    if isinstance(error, TransportError) or getattr(error, "retryable", False):
        return UnreachableError(
            f"Google's sign-in cannot be reached ({reason})", "check the network"
        )
    if isinstance(credentials, PersonCredentials):
        return LoginError(f"Your login to Google Cloud is no longer valid ({reason})", LOGIN)
    return LoginError(
        f"Google does not accept this machine's credentials ({reason})",
        f"on your own machine {LOGIN}; in a workflow check the identity pool (`make cloud-setup`)",
    )
