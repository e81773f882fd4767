"""What a subscription has already, and what may be done in it: asked before anything is made."""

from __future__ import annotations

import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ....errors import UserError
from ...errors import MissingError
from ...repository import Repository
from ...steps import Steps, option
from .. import auth as azure
from . import names as apis
from .names import Names

# What each provider is asked for: it must be registered in the subscription, and have this where the project is.
PROVIDERS = {
    "Microsoft.Storage": "storageAccounts",
    "Microsoft.ContainerRegistry": "registries",
    "Microsoft.KeyVault": "vaults",
    "Microsoft.ManagedIdentity": "userAssignedIdentities",
    "Microsoft.OperationalInsights": "workspaces",
    "Microsoft.Insights": "components",
    "Microsoft.MachineLearningServices": "workspaces",
}
# Nothing is made of them, but an online endpoint needs them registered: github.com/MicrosoftLearning/mslearn-azure-ml/issues/106.
FOR_ENDPOINTS = ("Microsoft.PolicyInsights", "Microsoft.Cdn")
REGISTERED = "Registered"
LOOKS = 120  # at a registration, five seconds apart: it takes a minute or two
# What the deployment does. To give roles takes more than a Contributor has.
ACTIONS = (
    "Microsoft.Resources/deployments/write",
    *(f"{namespace}/{kind}/write" for namespace, kind in PROVIDERS.items()),
    "Microsoft.Authorization/roleDefinitions/write",
    "Microsoft.Authorization/roleAssignments/write",
)
MAKE_GROUP = "Microsoft.Resources/subscriptions/resourceGroups/write"
RENAME = "choose another bucket in pyproject.toml ([tool.launcher]) and .dvc/config"
# What keeps its name to itself in all of Azure: the version of its API.
WORLDWIDE = {
    "storage": apis.STORAGE,
    "workspace_storage": apis.STORAGE,
    "registry": apis.REGISTRIES,
    "vault": apis.VAULTS,
}


@dataclass(frozen=True)
class Ground:
    """What the deployment is made for, and on.

    Args:
        group: whether the resource group is there.
        deleted: whether a vault of the project's is deleted, and can be recovered.
    """

    names: Names
    repository: Repository
    group: bool
    deleted: bool


def look(names: Names, repository: Repository, steps: Steps) -> Ground:
    """Ask all that can be known beforehand. Providers are registered for it: they answer for no name before.

    Raises:
        UserError: something stands in the way, in one sentence.
    """
    missing = _unregistered(names)
    group = find(names.path, apis.RESOURCES) is not None
    _check_rights(names, group, missing)
    _register(names, missing, steps)
    deleted = False
    for what, api in WORLDWIDE.items():
        if group and (found := find(names.paths[what], api)):
            _check_place(names, what, found)
        elif what == "vault" and _is_deleted(names):
            deleted = True
        else:
            _check_free(names, what, api)
    return Ground(names, repository, group, deleted)


def find(path: str, api: str) -> dict[str, Any] | None:
    """Give what there is at a path; None for nothing."""
    try:
        return azure.call("GET", path, api=api)
    except MissingError:
        return None


def _register(names: Names, missing: tuple[str, ...], steps: Steps) -> None:
    """Have the subscription use the providers that it does not use yet, and wait until it does.

    Raises:
        UserError: it takes too long.
    """
    for namespace in missing:
        path = f"{names.whole}/providers/{namespace}"
        azure.call("POST", f"{path}/register", api=apis.RESOURCES)
        steps.changes += 1
        for _ in range(LOOKS):
            if azure.call("GET", path, api=apis.RESOURCES)["registrationState"] == REGISTERED:
                break
            time.sleep(float(option("WAIT", "5")))
        else:
            raise UserError(
                f"The registration of {namespace} in the subscription takes long: run this again in a while."
            )
        steps.say("provider", f"{namespace}: registered")


def _unregistered(names: Names) -> tuple[str, ...]:
    """Give the providers that must be registered first. Raises UserError where one has nothing in the region."""
    missing = []
    for namespace in (*PROVIDERS, *FOR_ENDPOINTS):
        kind = PROVIDERS.get(namespace, "")
        found = azure.call("GET", f"{names.whole}/providers/{namespace}", api=apis.RESOURCES)
        kinds = {each["resourceType"]: each for each in found.get("resourceTypes") or ()}
        places = [_plain(each) for each in (kinds.get(kind) or {}).get("locations") or ()]
        if kind and names.project.region not in places:
            raise UserError(
                f"Azure has no {namespace}/{kind} in {names.project.region}: choose another region in pyproject.toml "
                f"([tool.launcher]), of {', '.join(sorted(places))}."
            )
        if found.get("registrationState") != REGISTERED:
            missing.append(namespace)
    return tuple(missing)


def _check_rights(names: Names, group: bool, missing: tuple[str, ...]) -> None:
    """Refuse a person whose deployment would stop halfway."""
    where = names.path if group else names.whole
    _require(where, ACTIONS if group else (MAKE_GROUP, *ACTIONS))
    if missing:
        _require(names.whole, tuple(f"{namespace}/register/action" for namespace in missing))


def _require(scope: str, actions: tuple[str, ...]) -> None:
    path = f"{scope}/providers/Microsoft.Authorization/permissions"
    given = list(azure.pages(path, api=apis.ROLES))
    lacking = [action for action in actions if not any(_allows(each, action) for each in given)]
    if lacking:
        raise UserError(
            f"This login ({azure.who()}) may not do {lacking[0]} in {scope}: ask an owner of it for the role Owner, or to run this."
        )


def _allows(permission: dict[str, Any], action: str) -> bool:
    def holds(key: str) -> bool:
        patterns = [each.lower() for each in permission.get(key) or ()]
        return any(fnmatchcase(action.lower(), each) for each in patterns)

    return holds("actions") and not holds("notActions")


def _check_place(names: Names, what: str, found: dict[str, Any]) -> None:
    if _plain(found["location"]) != names.project.region:
        raise UserError(
            f"{found['name']} ({found['type']}) is in {found['location']} and not in {names.project.region}, where the jobs "
            "are: change the region in pyproject.toml ([tool.launcher]), or run `make cloud-destroy` first."
        )


def _check_free(names: Names, what: str, api: str) -> None:
    """Refuse a name that somebody else in Azure has."""
    kind, _, name = names.paths[what].partition("/providers/")[2].rpartition("/")
    path = f"{names.whole}/providers/{kind.partition('/')[0]}/checkNameAvailability"
    answer = azure.call("POST", path, api=api, body={"name": name, "type": kind})
    if not answer.get("nameAvailable"):
        why = (
            str(answer.get("message") or answer.get("reason") or "it is taken").strip().rstrip(".")
        )
        title = what.replace("_", " ")
        raise UserError(f"'{name}' cannot be the name of this project's {title} ({why}): {RENAME}.")


def _is_deleted(names: Names) -> bool:
    """Tell whether the vault was deleted less than a week ago. Raises UserError where it was another project's."""
    found = find(deleted_vault(names), apis.VAULTS)
    if not found:
        return False
    was = str(found.get("properties", {}).get("vaultId", ""))
    if was.lower() != names.paths["vault"].lower():
        raise UserError(
            f"The name {names.vault} is kept for a vault that was deleted ({was}): run `az keyvault purge --name {names.vault}`, or {RENAME}."
        )
    return True


def deleted_vault(names: Names) -> str:
    """Give where a deleted vault of the project's is."""
    where = f"{names.whole}/providers/Microsoft.KeyVault/locations/{names.project.region}"
    return f"{where}/deletedVaults/{names.vault}"


def _plain(location: str) -> str:
    """Give a region as it is written in addresses: East US is eastus."""
    return location.replace(" ", "").lower()
