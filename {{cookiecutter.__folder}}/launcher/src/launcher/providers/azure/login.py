"""Whose login to Azure this is: tokens by azure-identity, and why there is none in one sentence.

Its DefaultAzureCredential is what adlfs and DVC use as well, so all three are always the same login: in this order a
service principal of the environment, the identity of an Azure machine or job, `az login`. Where several could be
meant, AZURE_TOKEN_CREDENTIALS chooses for all three: AzureCliCredential, for one, spares a laptop the second in
which an Azure machine's identity is looked for.
https://learn.microsoft.com/azure/developer/python/sdk/authentication/credential-chains
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
import time
from functools import cache
from shutil import which
from threading import Lock
from typing import Any

from ...job import RUN_ID
from ..errors import LoginError, ServiceError, UnreachableError, line
from .errors import LOGIN, entra

ARM = "https://management.azure.com"
ARM_SCOPE = f"{ARM}/.default"
ML_SCOPE = "https://ml.azure.com/.default"
VAULT_SCOPE = "https://vault.azure.net/.default"
STORAGE_SCOPE = "https://storage.azure.com/.default"
# Registries can be told to take no token that is Azure Resource Manager's, as a policy of some organizations wants.
REGISTRY_SCOPE = "https://containerregistry.azure.net/.default"

MARGIN = 300  # seconds before its end at which a token is no longer used
# Seconds for one answer of the Azure CLI: ten, as azure-identity has it, are not always enough.
# https://github.com/Azure/azure-cli/issues/20404, https://github.com/Azure/azure-sdk-for-python/issues/37167
AZ_TIMEOUT = 60

_tokens: dict[str, Any] = {}  # by scope
_lock = Lock()  # so that several threads do not start as many `az`


def token(scope: str = ARM_SCOPE) -> str:
    """Give a valid access token.

    Raises:
        LoginError: there is no login, or it has expired.
        UnreachableError: Azure's sign-in cannot be reached.
    """
    with _lock:
        found = _tokens.get(scope)
        if found is None or found.expires_on - time.time() < MARGIN:
            found = _tokens[scope] = _ask(scope)
        return str(found.token)


def forget(scope: str) -> None:
    """Ask for a new token next time: this one was refused."""
    with _lock:
        _tokens.pop(scope, None)


def who() -> str:
    """Tell whose login this is: a person's name, or which application or identity. Also proves that it is valid.

    Raises:
        LoginError, UnreachableError: as `token`.
    """
    claims = _claims()
    # https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference
    for name in ("upn", "unique_name", "preferred_username", "email"):
        if claims.get(name):
            return str(claims[name])
    if resource := str(claims.get("xms_mirid") or ""):
        return f"the managed identity {resource.rpartition('/')[2]}"
    return f"the application {claims.get('appid') or claims.get('oid') or 'of this login'}"


def tenant() -> str:
    """Give the id of the tenant, the directory, that the login belongs to.

    Raises:
        LoginError, UnreachableError: as `token`.
    """
    return str(_claims().get("tid") or os.environ.get("AZURE_TENANT_ID", ""))


def principal() -> str:
    """Give the id of whoever is logged in, as roles are given to it: a person's, an application's or an identity's.

    Raises:
        LoginError, UnreachableError: as `token`.
    """
    return str(_claims().get("oid") or "")


def subscription() -> str:
    """Give the id of the subscription that the environment names, or else that the Azure CLI has chosen.

    Raises:
        LoginError: neither does.
    """
    found = os.environ.get("AZURE_SUBSCRIPTION_ID", "").strip() or _chosen()
    if not found:
        raise LoginError(
            "It is not known which subscription of Azure to use",
            f"{LOGIN}, or set AZURE_SUBSCRIPTION_ID to its id",
        )
    return found


@cache
def _chosen() -> str:
    """Give what `az account set` has chosen, else the subscription of the login; empty where there is none."""
    if not (az := which("az")):
        return ""
    try:
        done = subprocess.run(
            [az, "account", "show", "--query", "id", "--output", "tsv"],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=AZ_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _claims() -> dict[str, Any]:
    """Read what an access token says of its owner; nothing where it cannot be read, which is the service's right."""
    parts = token().split(".")
    try:
        return json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (IndexError, ValueError, binascii.Error):
        return {}


@cache
def _credential() -> Any:
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential(process_timeout=AZ_TIMEOUT)


def _ask(scope: str) -> Any:
    from azure.core.exceptions import AzureError, ClientAuthenticationError

    try:
        return _credential().get_token(scope)
    except ClientAuthenticationError as error:
        raise _explain(str(error.message or error)) from error
    except AzureError as error:
        raise _unreachable(line(error)) from error
    except ValueError as error:  # of a setting of the environment, such as AZURE_TOKEN_CREDENTIALS
        raise LoginError(
            f"The login to Azure cannot be used ({line(error)})", "correct that"
        ) from error


# What urllib3, the Azure CLI and MSAL say of a network that does not work.
NO_NETWORK = re.compile(
    r"Max retries exceeded|Failed to (resolve|establish)|NameResolution|Connection (refused|reset|aborted)|"
    r"timed out|Temporary failure in name|ProxyError|getaddrinfo",
    re.IGNORECASE,
)
ATTEMPT = re.compile(r"^\t?(\w+Credential): ", re.MULTILINE)


def _explain(said: str) -> ServiceError:
    """Say what a failure of the chain comes to: what each of its members said, or of one that worked before."""
    parts = ATTEMPT.split(said)
    attempts = dict(zip(parts[1::2], parts[2::2], strict=True))
    if "AADSTS" in said:
        return entra(said)
    if found := NO_NETWORK.search(said):
        return _unreachable(found[0])
    if "Failed to invoke the Azure CLI" in said:  # which is what it says of its own patience
        return UnreachableError(
            f"The Azure CLI gives no token within {AZ_TIMEOUT} seconds",
            "see whether `az account get-access-token` does",
        )
    if RUN_ID in os.environ:
        reason = line(attempts.get("ManagedIdentityCredential", said))
        return LoginError(
            f"This job's identity gives no token ({reason})",
            "run `make cloud-setup` again, which gives it to the workspace",
        )
    return LoginError("There is no login to Azure here", LOGIN)


def _unreachable(reason: str) -> UnreachableError:
    return UnreachableError(f"Azure's sign-in cannot be reached ({reason})", "check the network")
