"""`cloud destroy`: ends what runs, removes what setup has made, and leaves what else is there."""

from __future__ import annotations

from ....project import project
from ... import repository as github
from ...errors import MissingError, RefusedError, ServiceError
from ...steps import Steps, data_option, option
from .. import auth as azure
from .. import azureml_endpoint_calls as endpoints
from . import access, extras
from . import ground as grounds
from . import names as apis
from .deployment import Deployment
from .make import UNKNOWN
from .names import Names
from .template import DEFINITIONS, IN_GROUP, group_role

VARIABLES = ("CLOUD_IMAGE", "AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_SUBSCRIPTION_ID")
# States in which a job costs nothing and will not again (learn.microsoft.com/rest/api/azureml/jobs/get).
ENDED = ("Completed", "Failed", "Canceled", "CancelRequested")
# What Azure makes itself for whoever has Application Insights, and nobody pays
# (learn.microsoft.com/azure/azure-monitor/alerts/proactive-failure-diagnostics).
UNASKED = ("microsoft.insights/actiongroups", "microsoft.alertsmanagement/smartdetectoralertrules")
# In this order, for some need others. With which words what is deleted is not kept for two weeks.
GONE = {
    "workspace": (apis.LEARNING, "?forceToPurge=true"),
    "workspace_storage": (apis.STORAGE, ""),
    "insights": (apis.INSIGHTS, ""),
    "logs": (apis.LOGS, "?force=true"),
    "registry": (apis.REGISTRIES, ""),
    "launcher": (apis.IDENTITIES, ""),
    "trainer": (apis.IDENTITIES, ""),
    "server": (apis.IDENTITIES, ""),
    "vault": (apis.VAULTS, ""),
}


def remove() -> None:
    """Do all of it. Raises UserError, in one sentence."""
    here, steps = project(), Steps(bool(option("DRY_RUN")))
    data = data_option("storage account")
    if steps.dry:
        names = Names(here, option("AZURE_SUBSCRIPTION_ID", UNKNOWN))
        name, there = github.find_name() or "OWNER/NAME", True
    else:
        github.check_program()
        azure.who()
        names = Names(here, azure.subscription())
        name = github.find_name()
        name = name if github.exists(name) else ""
        if not option("YES"):
            _ask(names, name, data, steps)
        there = grounds.find(names.path, apis.RESOURCES) is not None
    if name:  # first, so that no push starts anything more
        github.forget(name, VARIABLES, steps)
    else:
        steps.say("GitHub", "no repository is found there")
    access.forget_quotas(names, steps)
    if there:
        _remove_group(names, data, steps)
    else:
        steps.say("group", f"{names.group}: was gone")
    _purge_vault(names, steps)


def _remove_group(names: Names, data: bool, steps: Steps) -> None:
    """Remove what is in the group, and the group where nothing stays in it."""
    _end_endpoints(names, steps)
    _end_jobs(names, steps)
    _forget_roles(names, steps)
    for what, (api, how) in GONE.items():
        _remove(names, what, api, steps, how)
    extras.remove_budget(names, steps)
    if data:
        _remove(names, "storage", apis.STORAGE, steps)
    _forget_deployment(names, steps)
    if steps.dry:
        if data:
            steps.show(*access.rest("delete", names.path, apis.RESOURCES))
        return
    _remove_or_keep_group(names, data, steps)


def _ask(names: Names, name: str, data: bool, steps: Steps) -> None:
    where, environments = (
        name or "GitHub (no repository is found there)",
        " and ".join(github.ENVIRONMENTS),
    )
    steps.ask(
        f"This removes from the subscription {names.subscription} what setup has made in the resource group {names.group}:\n"
        f"the workspace with its endpoints, jobs, models, notebooks and their files, images, identities, roles, secrets and the budget;\n"
        f"and from {where} the variables, the label '{github.LABEL}' and the environments {environments}.",
        names.project.slug,
    )
    if data:
        steps.ask(
            f"And the storage account {names.storage}, with all data, checkpoints and results in it.",
            names.storage,
        )


def _end_endpoints(names: Names, steps: Steps) -> None:
    """Delete the endpoints that models answer at, with all their deployments: they cost until they are gone."""
    path = names.paths["workspace"]
    if steps.dry:
        steps.show(*access.rest("get", f"{path}/onlineEndpoints", apis.LEARNING))
        steps.show(*access.rest("delete", f"{path}/onlineEndpoints/ENDPOINT", apis.LEARNING))
        return
    if not grounds.find(path, apis.LEARNING):
        return
    for endpoint in list(azure.pages(f"{path}/onlineEndpoints", api=apis.LEARNING)):
        endpoints.delete(str(endpoint["id"]))
        steps.changes += 1
        steps.say("endpoint", f"{endpoint['name']}: deleted")


def _end_jobs(names: Names, steps: Steps) -> None:
    """End jobs and sweeps, and delete the machines of notebooks and clusters: all of the workspace is the project's."""
    path = names.paths["workspace"]
    if steps.dry:
        steps.show(*access.rest("get", f"{path}/jobs", apis.LEARNING))
        steps.show(*access.rest("post", f"{path}/jobs/JOB/cancel", apis.LEARNING))
        steps.show(*access.rest("delete", f"{path}/computes/MACHINE", apis.LEARNING))
        return
    if not grounds.find(path, apis.LEARNING):
        return
    for job in list(azure.pages(f"{path}/jobs", api=apis.LEARNING)):
        if job["properties"].get("status") in ENDED:
            continue
        try:
            azure.call("POST", f"{job['id']}/cancel", api=apis.LEARNING)
        except ServiceError as error:
            # It has ended by itself; with the workspace it ends in any case, but later.
            steps.say("job", f"{job['name']}: {error.what}")
            continue
        steps.say("job", f"{job['name']}: ended")
    for machine in list(azure.pages(f"{path}/computes", api=apis.LEARNING)):
        url = f"{machine['id']}?underlyingResourceAction=Delete"
        azure.wait("DELETE", url, api=apis.LEARNING)
        steps.say("machine", f"{machine['name']}: deleted")


def _forget_roles(names: Names, steps: Steps) -> None:
    """Take away what was given to identities that go, and then our own roles, which nobody may have any more then."""
    if steps.dry:
        for name in IN_GROUP:
            path = f"{names.path}/providers/{DEFINITIONS}/{group_role(names, name)}"
            steps.show(*access.rest("delete", path, apis.ROLES))
        return
    people = set[str]()
    for what, api in (
        ("launcher", apis.IDENTITIES),
        ("trainer", apis.IDENTITIES),
        ("server", apis.IDENTITIES),
        ("workspace", apis.LEARNING),
    ):
        found = grounds.find(names.paths[what], api) or {}
        for place in ("properties", "identity"):
            people.add(str((found.get(place) or {}).get("principalId", "")))
    people.discard("")
    numbers = {group_role(names, name) for name in IN_GROUP}
    access.take(names.path, numbers, people, steps)
    for number in sorted(numbers):
        access.forget_role(f"{names.path}/providers/{DEFINITIONS}/{number}", steps)
    steps.say("roles", "removed")


def _remove(names: Names, what: str, api: str, steps: Steps, how: str = "") -> None:
    """Delete a resource and wait until it is gone."""
    path = names.paths[what]
    title = path.rpartition("/")[2]
    if steps.dry:
        steps.show(*access.rest("delete", path + how, api))
        return
    there = grounds.find(path, api) is not None
    if (
        there or how
    ):  # a workspace that was deleted by hand is kept, and found by nobody, until it is purged
        try:
            azure.wait("DELETE", path + how, api=api)
        except MissingError:
            there = False
    steps.changes += there
    steps.say(what.rpartition("_")[2], f"{title}: {'removed' if there else 'was gone'}")


def _forget_deployment(names: Names, steps: Steps) -> None:
    """Delete the record of the deployment, by which the next setup would know what is there."""
    path = Deployment(names, steps).path
    if steps.dry:
        steps.show(*access.rest("delete", path, apis.DEPLOYMENTS))
    elif grounds.find(path, apis.DEPLOYMENTS):
        azure.wait("DELETE", path, api=apis.DEPLOYMENTS)


def _remove_or_keep_group(names: Names, data: bool, steps: Steps) -> None:
    found = grounds.find(names.path, apis.RESOURCES) or {}
    listed = azure.pages(f"{names.path}/resources", api=apis.RESOURCES)
    left = [each["name"] for each in listed if each["type"].lower() not in UNASKED]
    if left == [names.storage] and not data:
        steps.say("data", f"{names.storage}: kept, and paid for; DATA=delete removes it too")
        steps.say("group", f"{names.group}: stays, with it")
    elif left:
        steps.say("group", f"{names.group}: stays, for {', '.join(sorted(left))} is in it")
    elif (found.get("tags") or {}).get("project") != names.project.slug:
        steps.say("group", f"{names.group}: stays, for this project did not make it")
    else:
        azure.wait("DELETE", names.path, api=apis.RESOURCES)
        steps.say("group", f"{names.group}: removed")


def _purge_vault(names: Names, steps: Steps) -> None:
    """Have the vault forgotten at once: it would keep its name, and its secrets, for a week."""
    path = grounds.deleted_vault(names)
    if steps.dry:
        steps.show(*access.rest("post", f"{path}/purge", apis.VAULTS))
        return
    found = grounds.find(path, apis.VAULTS)
    was = str(((found or {}).get("properties") or {}).get("vaultId", ""))
    if was.lower() != names.paths["vault"].lower():
        return
    try:
        azure.wait("POST", f"{path}/purge", api=apis.VAULTS)
    except RefusedError:
        steps.say(
            "vault",
            f"{names.vault}: you may not purge it, so it is kept for a week; setup takes it back",
        )
        return
    except MissingError:
        return
    steps.say("vault", f"{names.vault}: purged")
