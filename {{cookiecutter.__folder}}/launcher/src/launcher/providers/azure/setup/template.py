"""The template of a project's deployment: template.json, and the roles of roles.json with who has them where.

The roles are our own where Azure's are too wide: "AzureML Data Scientist" reads the keys of all that a workspace is
connected to and writes all that is in it. The actions: learn.microsoft.com/azure/role-based-access-control/permissions/
ai-machine-learning, and of those what learn.microsoft.com/azure/machine-learning/how-to-assign-roles says that
submitting a job takes. Both identities reach the one container of the data, and nothing of the workspace's own account:
what belongs to a run Azure ML writes there itself, by keys (.../how-to-administrate-data-authentication).

An endpoint's identity fetches its images and reads that account, without which none starts, and no data of the project's
(.../how-to-troubleshoot-online-endpoints, authorization error). Whoever may ask an endpoint has the role `caller` there,
which is given when it is deployed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ...repository import Repository
from .names import Names, guid

HERE = Path(__file__).parent
DEFINITIONS = "Microsoft.Authorization/roleDefinitions"
ASSIGNMENTS = "Microsoft.Authorization/roleAssignments"
IN_GROUP = (
    "launcher",
    "trainer",
    "caller",
)  # of our roles; the others are of the whole subscription
IDENTITY_API = "2024-11-30"  # as in template.json


def roles() -> dict[str, Any]:
    """Give our own roles, the numbers of Azure's, and who gets which where."""
    return json.loads((HERE / "roles.json").read_text(encoding="utf-8"))


def template() -> dict[str, Any]:
    """Give the whole template."""
    whole, known = json.loads((HERE / "template.json").read_text(encoding="utf-8")), roles()
    whole["resources"] += [_definition(name, known["custom"][name]) for name in IN_GROUP]
    whole["resources"] += [_assignment(each, known["azure"]) for each in known["assignments"]]
    return whole


def parameters(names: Names, repository: Repository) -> dict[str, Any]:
    """Give the template's parameters, in the form that a deployment wants."""
    owner, name = repository.name.split("/")
    given = {
        "slug": names.project.slug,
        "location": names.project.region,
        "storage": names.storage,
        "workspace_storage": names.workspace_storage,
        "registry": names.registry,
        "vault": names.vault,
        "workspace": names.workspace,
        "insights": names.insights,
        "logs": names.logs,
        "launcher": names.launcher,
        "trainer": names.trainer,
        "server": names.server,
        "repository": repository.name,
        "numbered": f"{owner}@{repository.owner_number}/{name}@{repository.number}",
        "suffix": names.subscription[:8],
    }
    return {key: {"value": value} for key, value in given.items()}


def mark(whole: dict[str, Any], given: dict[str, Any]) -> str:
    """Give a number by which the same template with the same parameters is known again."""
    text = json.dumps([whole, given], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def definition(name: str, title: str, scope: str) -> dict[str, Any]:
    """Give one of our roles as Azure has it.

    Args:
        title: no two roles of a directory may have the same.
        scope: where it may be given to somebody.
    """
    role = roles()["custom"][name]
    return {
        "roleName": title,
        "description": role["description"],
        "type": "CustomRole",
        "permissions": [
            {
                "actions": role["actions"],
                "notActions": [],
                "dataActions": role["dataActions"],
                "notDataActions": [],
            }
        ],
        "assignableScopes": [scope],
    }


def group_role(names: Names, name: str) -> str:
    """Give the name that the template gives to one of our roles in a resource group."""
    return guid(names.path, name)


def _definition(name: str, role: dict[str, Any]) -> dict[str, Any]:
    title = f"[concat(parameters('slug'), '-{name} (', parameters('suffix'), ')')]"
    return {
        "type": DEFINITIONS,
        "apiVersion": "2022-04-01",
        "name": f"[guid(resourceGroup().id, '{name}')]",
        "comments": role["description"],
        "properties": definition(name, title, "[resourceGroup().id]"),
    }


def _assignment(which: dict[str, str], azure: dict[str, str]) -> dict[str, Any]:
    """Give a role to an identity on a resource; these three name it, so that it is the same in each run."""
    to, role, on = (which[key] for key in ("to", "role", "on"))
    number = f"'{azure[role]}'" if role in azure else f"guid(resourceGroup().id, '{role}')"
    ours = [] if role in azure else [f"[resourceId('{DEFINITIONS}', {number})]"]
    return {
        "type": ASSIGNMENTS,
        "apiVersion": "2022-04-01",
        "name": f"[guid(variables('{on}'), variables('{to}'), {number})]",
        "comments": f"{role} of the {on}, for the {to}",
        "scope": f"[variables('{on}')]",
        "dependsOn": [f"[variables('{each}')]" for each in dict.fromkeys((on, to))] + ours,
        "properties": {
            "roleDefinitionId": f"[subscriptionResourceId('{DEFINITIONS}', {number})]",
            "principalId": f"[reference(variables('{to}'), '{IDENTITY_API}').principalId]",
            # Without it a new identity may be unknown to the service that is asked.
            "principalType": "ServicePrincipal",
        },
    }
