"""Requests to endpoints of Azure ML that take minutes: written, waited for, and found again where an answer was lost."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from ...deployment import Ask, SilentError
from ..errors import LoginError, MissingError, RefusedError, ServiceError, UnreachableError, line
from . import auth as azure
from . import errors
from .azureml_endpoint_traffic import BUSY, DONE, parts, state
from .azureml_request import API
from .login import ARM, ML_SCOPE

PATIENCE = 2400.0  # seconds; a deployment takes a quarter of an hour
BRIEF = 120.0  # seconds in which what was just done is seen everywhere
SETTLING = 300.0  # seconds in which what something is made in may still be busy with itself
POLL = 2.0
DEPLOYMENT = "azureml-model-deployment"  # the header that asks one deployment, whatever part of the requests it gets
# What is refused because something else goes on there, which the endpoint's own state need not tell yet
# (github.com/Azure/azure-sdk-for-net/issues/36961, and .../how-to-troubleshoot-online-endpoints, OperationCanceled).
GOING_ON = re.compile(
    r"provisioning state|conflict|in progress|lock confirmation|OperationCanceled", re.IGNORECASE
)
Json = Mapping[str, Any]


def find(path: str) -> dict[str, Any] | None:
    """Give an endpoint or a deployment; None where there is none."""
    try:
        return azure.call("GET", path, api=API)
    except MissingError:
        return None


def listed(path: str) -> list[dict[str, Any]]:
    """Give all of a list, or nothing where what it is of is gone."""
    try:
        return list(azure.pages(path, api=API))
    except MissingError:
        return []


def put(path: str, body: Json) -> dict[str, Any]:
    """Write an endpoint or a deployment, and wait until it is there; give it.

    It is asked itself how far it is: what Azure tells of the operation takes a right of the subscription.

    Raises:
        ServiceError: it was refused, or has failed; the text says why.
    """
    begun = time.monotonic()
    until, operation = begun + PATIENCE, ""
    accepted, trouble = False, None
    while True:
        if not accepted:
            try:
                answer = azure.request("PUT", path, api=API, body=body)
                operation, accepted = answer.headers.get("Azure-AsyncOperation", ""), True
            except ServiceError as error:
                if not _goes_on(error) or time.monotonic() > until:
                    raise
                trouble = error
        # What is refused may be this very order, whose answer was lost: it is waited for, and not given twice.
        found = _settled(path, until)
        if found and (accepted or _holds(found, body)):
            if state(found) == DONE:
                return found
            raise _failure(found, operation, trouble)
        if time.monotonic() > (until if found else begun + SETTLING):
            raise trouble or UnreachableError(
                f"{path} is not there yet", "look again in some minutes"
            )
        time.sleep(POLL)


def delete(path: str, wait: bool = True) -> None:
    """Delete an endpoint or a deployment; that there is none is no error.

    Args:
        wait: until it is gone; otherwise it is only ordered.

    Raises:
        ServiceError: it is refused.
    """
    until = time.monotonic() + (PATIENCE if wait else BRIEF)
    while True:
        try:
            azure.call("DELETE", path, api=API)
            if not wait or not _settled(path, until):
                return
        except MissingError:
            return
        except ServiceError as error:
            if not _goes_on(error) or time.monotonic() > until:
                raise
            if wait:
                _settled(path, until)
        time.sleep(POLL)


def divided(path: str, wanted: Mapping[str, int]) -> dict[str, Any] | None:
    """Give the endpoint once it tells that its requests go where they were sent; None where it does not in two minutes.

    What it tells may lag behind an order that was carried out: github.com/Azure/azure-dev/pull/3881.
    """
    until = time.monotonic() + BRIEF
    while True:
        found = find(path)
        if found and parts(found) == dict(wanted) and state(found) == DONE:
            return found
        if time.monotonic() > until:
            return None
        time.sleep(POLL)


def last_line(deployment: str) -> str:
    """Give the last line that a deployment's container has written; empty where it cannot be had."""
    with suppress(ServiceError):
        said = azure.call("POST", f"{deployment}/getLogs", api=API, body={"tail": 20})
        lines = [each for each in str(said.get("content") or "").splitlines() if each.strip()]
        return line(lines[-1]) if lines else ""
    return ""


def asking(endpoint: Json, deployment: str, patience: float) -> Ask:
    """Give what asks one deployment, with the login's own token.

    Args:
        patience: seconds in which a right that was just given may not count yet.
    """
    base = str(endpoint["properties"]["scoringUri"]).rstrip("/")
    deadline = time.monotonic() + patience

    def ask(path: str, body: Any) -> tuple[int, Any]:
        method = "GET" if body is None else "POST"
        headers = {DEPLOYMENT: deployment}
        try:
            answer = azure.request(
                *(method, base + path), body=body, scope=ML_SCOPE, headers=headers, once=True
            )
            return answer.status_code, answer.json()
        except UnreachableError as error:
            raise SilentError(str(error)) from error
        except (LoginError, RefusedError) as error:
            if time.monotonic() < deadline:
                time.sleep(POLL)
                return ask(path, body)
            with _login():
                azure.token(ML_SCOPE)
            raise SilentError(
                f"The endpoint does not let this login ask ({error.what}): whoever deploys must be in allow=, too, or have a "
                "role such as AzureML Data Scientist."
            ) from error
        except (ServiceError, ValueError) as error:
            raise SilentError(str(error)) from error

    return ask


@contextmanager
def _login() -> Iterator[None]:
    """Say of a login that has run out what is to be done about it: that is no matter of who may ask."""
    try:
        yield
    except ServiceError as error:
        raise SilentError(str(error)) from error


def _settled(path: str, until: float) -> dict[str, Any] | None:
    """Wait until nothing goes on with an endpoint or a deployment; give it, or None where it is not there."""
    while (found := find(path)) and state(found) in BUSY:
        if time.monotonic() > until:
            raise UnreachableError(f"{path} is still being worked on", "look again in some minutes")
        time.sleep(POLL)
    return found


def _failure(found: Json, operation: str, trouble: ServiceError | None) -> ServiceError:
    """Give why something has failed, which only the operation tells, where this login may see that."""
    with suppress(ServiceError):
        code, said = errors.of(azure.call("GET", operation) if operation else {})
        if said:
            return errors.explain(400, code, said, urlsplit(ARM).netloc)
    why = f" ({trouble.what})" if trouble else ""
    return ServiceError(
        f"{found['name']} is {state(found)}{why}", "look at it in the studio, and deploy it again"
    )


def _holds(found: Json, body: Json) -> bool:
    """Tell whether it is what was ordered."""
    of, wanted = found["properties"], body["properties"]
    same = all(
        str(of.get(each, "")).lower() == str(wanted[each]).lower()
        for each in ("environmentId", "instanceType")
        if each in wanted
    )
    sent = {name: percent for name, percent in (wanted.get("traffic") or {}).items() if percent}
    return same and parts(found) == sent and (found.get("tags") or {}) == body["tags"]


def _goes_on(error: ServiceError) -> bool:
    return type(error) is ServiceError and bool(GOING_ON.search(f"{error.code} {error.what}"))
