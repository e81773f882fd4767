"""`cloud setup`: what is checked before anything is made, what is made, and what is said of it."""

from __future__ import annotations

import json
import os
from typing import Any

from ....project import Project, project
from ... import repository as github
from ...steps import Steps, budget_options, option
from .. import auth as azure
from . import access, extras
from . import ground as grounds
from . import names as apis
from .deployment import Deployment
from .ground import Ground
from .names import CONTAINER, Names
from .template import parameters, template

UNKNOWN = "SUBSCRIPTION_ID"
IDENTITIES = ("launcher", "trainer", "server")


def make() -> None:
    """Do all of it. Raises UserError, in one sentence."""
    here, steps = project(), Steps(bool(option("DRY_RUN")))
    key = os.environ.pop("WANDB_API_KEY", "").strip()  # so that no program which is started has it
    budget, mail = budget_options()
    Names(here, UNKNOWN).check()
    ground = _imagined(here) if steps.dry else _look(here, steps)
    names = ground.names
    _make_group(ground, steps)
    if ground.deleted:
        extras.recover_vault(names, steps)
    deployed = _deploy(ground, steps)
    access.give_person(names, steps)
    access.let_see_quotas(names, deployed["principal"], steps)
    _keep_key(names, key, deployed["trainer"], steps)
    if budget:
        extras.set_budget(names, budget, mail, steps)
    else:
        steps.say("budget", "none is set here: BUDGET=50 MAIL=you@example.org has mails sent")
    variables = {
        "AZURE_CLIENT_ID": deployed["launcher"],
        "AZURE_TENANT_ID": deployed["tenant"],
        "AZURE_SUBSCRIPTION_ID": names.subscription,
        "CLOUD_IMAGE": names.image,  # last: it tells the workflow that all is prepared
    }
    github.tell(ground.repository, variables, option("REVIEWER"), steps)
    if not steps.dry:
        print(_next(steps.changes))


def _look(here: Project, steps: Steps) -> Ground:
    """Ask all that can be known beforehand, so that nothing is left half done."""
    github.check_program()
    who, names = azure.who(), Names(here, azure.subscription())
    repository = github.look()
    if reviewer := option("REVIEWER"):
        github.reviewer_number(reviewer)
    steps.say("account", f"{names.subscription} in {here.region}, as {who}")
    ground = grounds.look(names, repository, steps)
    if ground.group:
        Deployment(names, Steps(False)).find()
    return ground


def _imagined(here: Project) -> Ground:
    """Stand in capitals for what a dry run asks nobody."""
    name = github.find_name() or "OWNER/NAME"
    names = Names(here, option("AZURE_SUBSCRIPTION_ID", UNKNOWN))
    repository = github.Repository(name, "REPOSITORY_ID", "OWNER_ID")
    return Ground(names, repository, False, False)


def _make_group(ground: Ground, steps: Steps) -> None:
    names = ground.names
    body = {"location": names.project.region, "tags": names.tags}
    if steps.dry:
        for namespace in (*grounds.PROVIDERS, *grounds.FOR_ENDPOINTS):
            path = f"{names.whole}/providers/{namespace}/register"
            steps.show(*access.rest("post", path, apis.RESOURCES))
        steps.show(*access.put(names.path, apis.RESOURCES), "--body", json.dumps(body))
    elif not ground.group:
        azure.call("PUT", names.path, api=apis.RESOURCES, body=body)
        steps.changes += 1
        steps.say("group", f"{names.group}: made")
    else:
        steps.say("group", names.group)


def _deploy(ground: Ground, steps: Steps) -> dict[str, str]:
    names = ground.names
    whole, given = template(), parameters(names, ground.repository)
    if steps.dry:
        _show(names, whole, given, steps)
        imagined = ("launcher", "principal", "trainer", "tenant")
        return {each: f"{each.upper()}_ID" for each in imagined}
    deployment = Deployment(names, steps)
    if ground.group:
        _forget_former(names, steps)
    deployed = deployment.deploy(whole, given)
    steps.say(
        "resources", f"storage {names.storage}, registry {names.registry}, vault {names.vault}"
    )
    steps.say(
        "resources",
        f"workspace {names.workspace} with its own storage {names.workspace_storage}, and who may do what in them",
    )
    return deployed


def _show(names: Names, whole: dict[str, Any], given: dict[str, Any], steps: Steps) -> None:
    """Print the template, which is all that stands in no comment, and the command that deploys it."""
    where = ("--resource-group", names.group, "--name", names.project.account)
    values = [f"{key}={value['value']}" for key, value in given.items()]
    command = ("az", "deployment", "group", "create", *where, "--template-file", "TEMPLATE.json")
    steps.show(*command, "--parameters", *values)
    print(json.dumps(whole, indent=2))


def _forget_former(names: Names, steps: Steps) -> None:
    """Take their roles from identities of the same names that are gone: a role's holder cannot be changed."""
    found = [grounds.find(names.paths[each], apis.IDENTITIES) for each in IDENTITIES]
    now = {str(each["properties"]["principalId"]) for each in found if each}
    access.forget_former(names, now, steps)


def _keep_key(names: Names, key: str, trainer: str, steps: Steps) -> None:
    path = extras.secret_path(names)
    if key:
        extras.put_key(names, key, steps)
    elif steps.dry or not grounds.find(path, apis.VAULTS):
        why = "WANDB_API_KEY is not set, so runs in the cloud are tracked offline"
        steps.say("secret", f"none: {why}")
        return
    access.give(names, trainer, access.KEY, path, steps)
    steps.say("secret", names.secret)


def _next(changes: int) -> str:
    nothing = "\nAll of it was there already: nothing was changed.\n" if not changes else ""
    return f"""{nothing}
Next:
  uv run dvc push                                 the data, to where the jobs find it
  uv run launch cloud=azureml doctor_only=true    is anything missing?
  git push                                        builds the image and trains
It may take Azure ten minutes to know the new roles everywhere.
Others who are to read and write the data need the role '{access.DATA}' on its container '{CONTAINER}'."""
