"""Is there the value of a secret that the job reads at its start? It is not read here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...job import Problem
from ..errors import MissingError, RefusedError, UnreachableError
from . import auth
from .secrets import API

ADDRESS = re.compile(
    r"https://(?P<vault>[\w-]+)\.vault\.azure\.net/secrets/(?P<name>[\w-]+)(/(?P<version>\w+))?"
)


def check(variable: str, address: str) -> list[Problem]:
    """Is there a value that can be read now?

    Args:
        variable: that is to have it.
        address: https://VAULT.vault.azure.net/secrets/NAME, with or without a version.
    """
    found = ADDRESS.fullmatch(address)
    if not found:
        what = f"cloud.secrets.{variable}={address} is no secret of a Key Vault"
        return [Problem(what, "give its name, or https://VAULT.vault.azure.net/secrets/NAME")]
    vault, name, version = found["vault"], found["name"], found["version"]
    what = f"The secret {name} of the Key Vault {vault}, for {variable},"
    try:
        versions = list(_versions(vault, name))
    except MissingError:
        versions = []
    except RefusedError as error:
        remedy = f"if there is none the job will fail at its start; see `az keyvault secret show --id {address}`"
        return [Problem(f"{what} cannot be seen by this login ({error.what})", remedy, fatal=False)]
    except UnreachableError as error:
        there = (
            f"There is no Key Vault {vault}, for {variable}, or it cannot be reached ({error.what})"
        )
        return [
            Problem(there, f"run `make cloud-setup`, or leave it out by ~cloud.secrets.{variable}")
        ]
    if version:
        versions = [one for one in versions if str(one.get("id")).endswith(f"/{version}")]
    if not versions:
        return [Problem(f"{what} does not exist", _make(variable, vault, name))]
    if not any(_valid(one.get("attributes") or {}) for one in versions):
        remedy = (
            f"give it a new value by `az keyvault secret set --vault-name {vault} --name {name}`"
        )
        return [Problem(f"{what} is disabled or out of date", remedy)]
    return []


def _versions(vault: str, name: str) -> Any:
    """List a secret's versions, which needs no right to read its values."""
    url = f"https://{vault}.vault.azure.net/secrets/{name}/versions"
    return auth.pages(url, api=API, scope=auth.VAULT_SCOPE)


def _make(variable: str, vault: str, name: str) -> str:
    make = (
        f"give it by `{variable}=... make cloud-setup`"
        if variable == "WANDB_API_KEY"
        else f"make it by `az keyvault secret set --vault-name {vault} --name {name}`"
    )
    return f"{make}, or leave it out by ~cloud.secrets.{variable}"


def _valid(attributes: Mapping[str, Any]) -> bool:
    """Tell whether a version may be read now; its times are in seconds since 1970."""
    now = auth.now().timestamp()
    return bool(attributes.get("enabled", True)) and (
        float(attributes.get("nbf") or 0) <= now < float(attributes.get("exp") or now + 1)
    )
