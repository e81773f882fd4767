"""What would make a job fail minutes after it was submitted, found in seconds before that. Changes nothing.

What a login may not look at is not held against it: GitHub's may do little more than submit jobs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ...job import RUN_CODE, RUN_DATA, Job, Problem
from ...project import project
from .. import inputs
from ..errors import MissingError, RefusedError, UnreachableError
from ..managed import Check, together
from . import auth, doctor_rights, doctor_secrets, registry
from .backend import IDENTITY_API

SETUP = "run `make cloud-setup`, which makes it"
ML = "Microsoft.MachineLearningServices"
ML_API, STORAGE_API, PROVIDERS_API = "2025-12-01", "2024-01-01", "2021-04-01"
BLOB = {"x-ms-version": "2023-11-03"}  # a token of Entra needs 2017-11-09 or later
BUCKET = re.compile(r"(abfss?|az)://(?P<container>[^/@]+)(@(?P<account>[^/.]+)[^/]*)?(/.*)?")
UNREGISTERED = "MissingSubscriptionRegistration"
# What a storage account says to whom its network rules keep out; who only lacks a role is told
# AuthorizationPermissionMismatch: learn.microsoft.com/troubleshoot/azure/azure-storage/blobs/authentication/storage-troubleshoot-403-errors
KEPT_OUT = "AuthorizationFailure"


def examine(
    cloud: Any,
    workspace: str,
    job: Job,
    secrets: Mapping[str, str],
    others: tuple[Check, ...] = (),
) -> list[Problem]:
    """Run all checks at the same time; a check that cannot be made is a finding itself.

    Args:
        cloud: the section `cloud` of the configuration.
        workspace: its id in Azure Resource Manager.
        secrets: variable -> address of a secret.
        others: the backend's own checks, its quotas among them; what they find comes first.
    """
    worktree, newest = RUN_CODE in job.env, cloud.image is None
    region, identity = str(cloud.region), str(cloud.service_account)
    checks: list[Check] = [
        *others,
        lambda: _check_image(job.image, worktree, newest),
        lambda: check_workspace(workspace, region, identity),
    ]
    place = _place(str(cloud.bucket)) if cloud.bucket else ("", "")
    if cloud.bucket:
        checks.append(lambda: check_bucket(group(workspace), region, *place))
    if target := job.env.get(RUN_DATA):
        checks.append(lambda: inputs.check_data(target, "azure", Blobs(project().bucket)))
    for variable, address in secrets.items():
        checks.append(lambda v=variable, a=address: doctor_secrets.check(v, a))
    checks.append(lambda: doctor_rights.check(group(workspace), identity, job, place, secrets))
    return together(checks)


def group(workspace: str) -> str:
    """Give the id of the resource group of a workspace."""
    return "/".join(workspace.split("/")[:5])


def _check_image(image: str, worktree: bool, newest: bool) -> list[Problem]:
    """Is the image in the registry, with this folder's code? The service finds out only minutes after."""
    registry.resolve(image)  # explains itself
    return inputs.check_code(image, registry.revision(image), worktree, newest)


def check_workspace(workspace: str, region: str, identity: str) -> list[Problem]:
    """Is the workspace there, in the job's region, open, and has it the identity that the job is to have?"""
    name = workspace.rpartition("/")[2]
    try:
        found = auth.call("GET", workspace, api=ML_API)
    except MissingError:
        remedy = f"{SETUP}, or give yours by cloud.workspace=GROUP/WORKSPACE"
        what = f"There is no workspace {name} in the resource group {group(workspace).rpartition('/')[2]}"
        return [Problem(what, remedy), *_check_provider(workspace)]
    except RefusedError as error:
        # 409 for a subscription that has never used the service; the text says how to register it
        return [Problem(error.what, error.remedy)] if error.code == UNREGISTERED else []
    problems = []
    if (where := _plain(found["location"])) != _plain(region):
        what = f"The workspace {name} is in {where}, where its jobs run, and cloud.region={region}"
        problems.append(Problem(what, f"give cloud.region={where}, or a workspace there"))
    return (
        problems
        + _check_network(name, found["properties"])
        + _check_identity(workspace, identity, found.get("identity") or {})
    )


def _check_provider(workspace: str) -> list[Problem]:
    """Does the subscription know Azure Machine Learning at all? A new one does not before somebody has registered it."""
    subscription = "/".join(workspace.split("/")[:3])
    try:
        found = auth.call("GET", f"{subscription}/providers/{ML}", api=PROVIDERS_API)
    except (MissingError, RefusedError):
        return []
    if found.get("registrationState") == "Registered":
        return []
    what = f"The subscription is not registered for {ML}"
    return [Problem(what, f"run `az provider register --namespace {ML}`")]


def _check_network(name: str, properties: Mapping[str, Any]) -> list[Problem]:
    """Can this machine and the job reach what they need? Only said, for a private network may lead there."""
    problems = []
    if properties.get("publicNetworkAccess") == "Disabled":
        what = f"The workspace {name} is closed to the public network"
        remedy = "start jobs from inside its network, or set its publicNetworkAccess to Enabled"
        problems.append(Problem(what, remedy, fatal=False))
    mode = (properties.get("managedNetwork") or {}).get("isolationMode")
    if mode == "AllowOnlyApprovedOutbound":
        what = f"Jobs of the workspace {name} reach approved addresses only"
        remedy = (
            "add outbound rules for the storage account, the Key Vault and what your code calls, "
            "such as api.wandb.ai"
        )
        problems.append(Problem(what, remedy, fatal=False))
    return problems


def _check_identity(workspace: str, identity: str, attached: Mapping[str, Any]) -> list[Problem]:
    """Is there the job's identity, and does the workspace have it? A serverless job can have no other."""
    path = doctor_rights.identity_path(group(workspace), identity)
    try:
        if path:
            auth.call("GET", path, api=IDENTITY_API)
    except MissingError:
        what = f"There is no identity {identity} in the resource group {group(workspace).rpartition('/')[2]}"
        return [Problem(what, f"{SETUP}, or correct cloud.service_account")]
    except RefusedError:
        pass  # whether the workspace has it can be told all the same
    having = attached.get("userAssignedIdentities") or {}
    known = {key.lower() for key in having} | {
        str((value or {}).get("clientId")).lower() for value in having.values()
    }
    if (path or identity).lower() in known:
        return []
    what = f"The workspace {workspace.rpartition('/')[2]} does not have the identity {identity}"
    remedy = (
        "run `make cloud-setup`, which attaches it, or give one of its own by cloud.service_account"
    )
    return [Problem(what, remedy)]


def check_bucket(group: str, region: str, account: str, container: str) -> list[Problem]:
    """Is the container there, may it be read, and is it where the machines are?

    Whether it may be written is tried by the launch itself, which reserves its price there before it submits.

    Args:
        group: the id of the resource group in which the storage account would be.
        account, container: their names.
    """
    known = _account(group, account)
    # Lists, for an owner may look at a container without a right to what is in it
    url = f"https://{account}.blob.core.windows.net/{container}?restype=container&comp=list&maxresults=1"
    problems = _check_account(account, region, known)
    try:
        auth.request("GET", url, scope=auth.STORAGE_SCOPE, headers=BLOB)
    except MissingError:
        what = f"There is no container {container} in the storage account {account}"
    except RefusedError as error:
        what = f"This login may not read the container {container} of {account} ({error.what})"
        remedy = (
            "let this machine's address pass the storage account's network rules"
            if error.code == KEPT_OUT
            else "an administrator must give it the role Storage Blob Data Contributor there"
        )
        return [*problems, Problem(what, remedy)]
    except UnreachableError as error:
        if known:
            raise
        what = f"There is no storage account {account}, or it cannot be reached ({error.what})"
    else:
        return problems
    remedy = (
        f"{SETUP}, or give yours by cloud.bucket=abfss://CONTAINER@ACCOUNT.dfs.core.windows.net"
    )
    return [*problems, Problem(what, remedy)]


def _account(group: str, account: str) -> dict[str, Any]:
    """Give what Azure says of a storage account; nothing where it may not be asked, or has it elsewhere."""
    path = f"{group}/providers/Microsoft.Storage/storageAccounts/{account}"
    try:
        return auth.call("GET", path, api=STORAGE_API)
    except (MissingError, RefusedError):
        return {}


def _check_account(account: str, region: str, known: Mapping[str, Any]) -> list[Problem]:
    if not known:
        return []
    problems = []
    if (where := _plain(known["location"])) != _plain(region):
        what = f"The storage account {account} is in {where}, the job in {region}"
        remedy = "live with slower data and traffic that costs, or move one of them"
        problems.append(Problem(what, remedy, fatal=False))
    properties = known["properties"]
    denied = (properties.get("networkAcls") or {}).get("defaultAction") == "Deny"
    if denied or properties.get("publicNetworkAccess") == "Disabled":
        what = f"The storage account {account} is closed to the public network"
        remedy = (
            "give the workspace a managed network with a private endpoint to it, unless that is done, "
            "or open it: tokens of Microsoft Entra are asked for in any case"
        )
        problems.append(Problem(what, remedy, fatal=False))
    return problems


def _place(bucket: str) -> tuple[str, str]:
    """Give the storage account and the container of an address; az:// names none, and means the project's."""
    found = BUCKET.fullmatch(bucket)
    assert found, bucket  # `check_names` has refused others
    return found["account"] or project().bucket, found["container"]


def _plain(location: str) -> str:
    """West Europe and westeurope are the same."""
    return location.replace(" ", "").lower()


class Blobs:
    """Objects of a storage account, as `inputs.Bucket` has them; a bucket is a container."""

    def __init__(self, account: str):
        self._start = f"https://{account}.blob.core.windows.net"

    def head(self, bucket: str, name: str) -> object:
        """Look whether there is one."""
        return self._ask("HEAD", bucket, name)

    def read(self, bucket: str, name: str) -> Any:
        """Give its content, which is JSON."""
        return json.loads(self._ask("GET", bucket, name).content)

    def _ask(self, method: str, bucket: str, name: str) -> Any:
        url = f"{self._start}/{bucket}/{name}"
        return auth.request(method, url, scope=auth.STORAGE_SCOPE, headers=BLOB)
