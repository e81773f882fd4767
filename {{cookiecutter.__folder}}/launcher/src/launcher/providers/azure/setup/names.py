"""What one project's resources are called in Azure, and where Azure Resource Manager has them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from ....errors import UserError
from ....project import Project
from .. import secrets
from ..backend import vault

# The versions of the APIs that are called besides the template's. Key Vault's older ones end on 2027-02-27, but not those
# by which secrets are read (learn.microsoft.com/azure/key-vault/general/migrate-api-version).
RESOURCES, DEPLOYMENTS, ROLES = "2021-04-01", "2022-09-01", "2022-04-01"
STORAGE, REGISTRIES, VAULTS, IDENTITIES = "2024-01-01", "2025-04-01", "2026-02-01", "2024-11-30"
LEARNING, BUDGETS, SECRETS = "2025-12-01", "2024-08-01", secrets.API
INSIGHTS, LOGS = "2020-02-02", "2023-09-01"

CONTAINER = "training"
# The namespace in which the templates' function guid() makes its names.
GUIDS = UUID("11fb06fb-712d-4ddd-98c7-e71bbd588830")
# learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules
RULES = {
    "resource group": r"[\w().-]{0,89}[\w()-]",
    "storage account": r"[a-z0-9]{3,24}",
    "registry": r"[a-zA-Z0-9]{5,50}",
    "vault": r"[a-zA-Z](?!.*--)[a-zA-Z0-9-]{1,22}[a-zA-Z0-9]",
    "workspace": r"[a-zA-Z0-9][\w-]{2,32}",
    "identity": r"[a-zA-Z0-9][\w-]{2,127}",
}


@dataclass(frozen=True)
class Names:
    """All names of one project in one subscription."""

    project: Project
    subscription: str

    @property
    def group(self) -> str:
        """The resource group."""
        return self.project.slug

    @property
    def storage(self) -> str:
        """The storage account of the data, whose name is one of the whole world's."""
        return self.project.bucket

    @property
    def workspace_storage(self) -> str:
        """The storage account of the workspace itself, which takes keys; nothing of the project's data is in it."""
        return f"ml{self.project.bucket[:22]}"

    @property
    def registry(self) -> str:
        """The registry, and what its host begins with."""
        return f"{self.project.bucket}images"

    @property
    def vault(self) -> str:
        """The vault, and what its host begins with."""
        return vault(self.project.bucket)

    @property
    def workspace(self) -> str:
        """The workspace of Azure Machine Learning."""
        return f"{self.project.account}-ml"

    @property
    def insights(self) -> str:
        """What a workspace of Azure Machine Learning must have."""
        return f"{self.project.account}-insights"

    @property
    def logs(self) -> str:
        """What `insights` must have."""
        return f"{self.project.account}-logs"

    @property
    def launcher(self) -> str:
        """The identity that GitHub logs in as."""
        return f"{self.project.account}-launcher"

    @property
    def trainer(self) -> str:
        """The identity that jobs have."""
        return f"{self.project.account}-trainer"

    @property
    def server(self) -> str:
        """The identity that endpoints have."""
        return f"{self.project.account}-server"

    @property
    def image(self) -> str:
        """Where images are pushed to."""
        return f"{self.registry}.azurecr.io/{self.project.slug}/train"

    @property
    def secret(self) -> str:
        """The address of the secret, by which a job reads it."""
        return f"https://{self.vault}.vault.azure.net/secrets/wandb"

    @property
    def whole(self) -> str:
        """The subscription's path."""
        return f"/subscriptions/{self.subscription}"

    @property
    def path(self) -> str:
        """The resource group's path."""
        return f"{self.whole}/resourceGroups/{self.group}"

    @property
    def paths(self) -> dict[str, str]:
        """The path of each resource, by what it is called in the template."""
        names = {
            "storage": ("Microsoft.Storage/storageAccounts", self.storage),
            "workspace_storage": ("Microsoft.Storage/storageAccounts", self.workspace_storage),
            "registry": ("Microsoft.ContainerRegistry/registries", self.registry),
            "vault": ("Microsoft.KeyVault/vaults", self.vault),
            "launcher": ("Microsoft.ManagedIdentity/userAssignedIdentities", self.launcher),
            "trainer": ("Microsoft.ManagedIdentity/userAssignedIdentities", self.trainer),
            "server": ("Microsoft.ManagedIdentity/userAssignedIdentities", self.server),
            "workspace": ("Microsoft.MachineLearningServices/workspaces", self.workspace),
            "insights": ("Microsoft.Insights/components", self.insights),
            "logs": ("Microsoft.OperationalInsights/workspaces", self.logs),
        }
        return {each: self.below(kind, name) for each, (kind, name) in names.items()}

    @property
    def tags(self) -> dict[str, str]:
        """The tags of all that the project has."""
        return {"project": self.project.slug}

    def below(self, kind: str, name: str) -> str:
        """Give the path of a resource of the group.

        Args:
            kind: such as Microsoft.Storage/storageAccounts.
        """
        return f"{self.path}/providers/{kind}/{name}"

    def check(self) -> None:
        """Refuse a name that Azure takes for no such thing.

        Raises:
            UserError: saying which, and where it comes from.
        """
        given = {
            "resource group": self.group,
            "storage account": self.storage,
            "registry": self.registry,
            "vault": self.vault,
            "workspace": self.workspace,
            "identity": self.launcher,
        }
        for what, name in given.items():
            if not re.fullmatch(RULES[what], name):
                raise UserError(
                    f"'{name}' can be no {what}'s name: choose another slug or bucket in pyproject.toml ([tool.launcher])."
                )
        if self.workspace_storage == self.storage:  # ml, twelve times
            raise UserError(
                f"'{self.storage}' would be the name of the workspace's own storage account too: choose another bucket "
                "in pyproject.toml ([tool.launcher])."
            )


def guid(*words: Any) -> str:
    """Give the name that a template's guid() gives for the same words."""
    return str(uuid5(GUIDS, "-".join(str(each) for each in words)))
