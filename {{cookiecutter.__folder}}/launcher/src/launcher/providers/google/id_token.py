"""A token that says who asks a private service, in the form that Cloud Run wants it."""

from __future__ import annotations

import subprocess
from typing import Any

from ..errors import LoginError, UnreachableError, line
from . import auth as google
from .errors import explain


def fetch(audience: str) -> str:
    """Give a token for a service.

    Args:
        audience: the service's own address, also where one of its tags is asked
            (cloud.google.com/run/docs/authenticating/service-to-service).

    Raises:
        ServiceError: there is none to be had.
    """
    credentials: Any = google._default()[0]
    from google.auth.external_account import Credentials as Federated
    from google.auth.impersonated_credentials import Credentials as Impersonated
    from google.oauth2.credentials import Credentials as Person

    if isinstance(credentials, Person):
        return _of_gcloud()
    if isinstance(credentials, Impersonated):
        return _for_account(credentials, credentials._source_credentials, audience)
    if isinstance(credentials, Federated):
        own = {key: one for key, one in credentials.info.items() if "impersonation" not in key}
        source = type(credentials).from_info(own, scopes=[google.SCOPE])
        return _for_account(credentials, source, audience)
    return _of_account(audience)


def _for_account(credentials: Any, source: Any, audience: str) -> str:
    """Ask as who stands in for the account: an account has no right to ask for a token of itself."""
    import requests
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import AuthorizedSession

    if not (account := credentials.service_account_email):
        raise LoginError(
            "This login stands for no service account, and so has no identity token",
            "log in as one, as `make cloud-setup` has it",
        )
    where = google.endpoint("iamcredentials")
    url = f"{where}/v1/projects/-/serviceAccounts/{account}:generateIdToken"
    body = {"audience": audience, "includeEmail": True}
    if delegates := getattr(credentials, "_delegates", None):
        body["delegates"] = delegates
    try:
        answer = AuthorizedSession(source).post(url, json=body, timeout=google.TIMEOUT)
    except (requests.RequestException, GoogleAuthError) as error:
        raise UnreachableError(
            f"No identity token of {account} can be had ({line(error)})", "try again"
        ) from error
    if not answer.ok:
        raise explain(answer)
    return str(answer.json()["token"])


def _of_gcloud() -> str:
    """A person's token has gcloud's own audience, which Cloud Run takes as well."""
    remedy = "install the gcloud CLI and run `gcloud auth login`"
    try:
        done = subprocess.run(
            ["gcloud", "auth", "print-identity-token"],
            stdin=subprocess.DEVNULL,  # it may ask for a login, and nobody sees it
            timeout=google.TIMEOUT,
            capture_output=True,
            text=True,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LoginError(
            f"gcloud cannot be started or does not answer ({line(error)})", remedy
        ) from error
    if done.returncode:
        raise LoginError(f"gcloud gives no identity token ({line(done.stderr)})", remedy)
    return done.stdout.strip()


def _of_account(audience: str) -> str:
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import Request
    from google.oauth2 import id_token

    try:
        return str(id_token.fetch_id_token(Request(), audience))
    except GoogleAuthError as error:
        raise LoginError(
            f"This login gives no identity token ({line(error)})", "use that of a service account"
        ) from error
