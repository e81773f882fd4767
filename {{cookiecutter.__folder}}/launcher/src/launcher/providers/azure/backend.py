"""What the backends of Azure have in common: the subscription, the login, the image, the job's identity."""

from __future__ import annotations

import re
from typing import Any

from ...errors import UserError
from ...job import RUN_SECRETS, Job
from ...project import project
from ..errors import LoginError, MissingError
from ..managed import Managed
from ..registry import has_host
from . import auth as azure
from . import registry
from .errors import QUOTAS

SUBSCRIPTION = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
COMPUTE = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
UNKNOWN_ID = "00000000-0000-0000-0000-000000000000"
# https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules; a workspace's in
# Azure/azure-rest-api-specs, specification/machinelearningservices, parameter workspaceName
GROUP = r"[\w.()-]{0,89}[\w()-]"
WORKSPACE = re.compile(rf"(?P<group>{GROUP})/(?P<name>[a-zA-Z0-9][a-zA-Z0-9_-]{{2,32}})")
BUCKET = re.compile(
    r"abfss://[a-z0-9](-?[a-z0-9]){2,62}@[a-z0-9]{3,24}\.dfs\.core\.windows\.net(/.*)?"
    r"|az://[a-z0-9](-?[a-z0-9]){2,62}(/.*)?"
)
IDENTITY_API = "2023-01-31"


class AzureBackend(Managed):
    """Base of the backends of Azure.

    Args:
        cloud: the section `cloud` of the configuration; its `project` is the subscription's id, if any.
    """

    CLOCK = azure
    UNKNOWN = (UNKNOWN_ID, "subscription")

    def __init__(self, cloud: Any):
        self.cloud = cloud
        self.labels = {str(key): str(value) for key, value in (cloud.labels or {}).items()}

    @property
    def region(self) -> str:
        """Where jobs run: the project's, in which its workspace is."""
        return str(self.cloud.region)

    @property
    def subscription(self) -> str:
        """The configured subscription, else that of the login."""
        return str(self.cloud.project or azure.subscription())

    @property
    def group(self) -> str:
        """The resource group of the workspace."""
        return self._names()[0]

    @property
    def workspace(self) -> str:
        """The name of the workspace of Azure Machine Learning."""
        return self._names()[1]

    @property
    def path(self) -> str:
        """The workspace as Azure Resource Manager names it; of unknown subscription in a dry run without a login."""
        return (
            f"/subscriptions/{self._subscription_if_known()}/resourceGroups/{self.group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.workspace}"
        )

    def who(self) -> str:
        """Tell whose login is used. Raises UserError where there is none or it has expired."""
        return azure.who()

    def check_names(self) -> None:
        """Refuse a subscription, a workspace, a region and a bucket that Azure can have none of that name."""
        subscription, bucket = self.cloud.project, self.cloud.bucket
        if subscription and not SUBSCRIPTION.fullmatch(str(subscription)):
            raise UserError(
                f"cloud.project={subscription} is no subscription's id; give it as `az account list` shows it, "
                "or leave it out."
            )
        self._names()
        if bucket and not BUCKET.fullmatch(bucket):
            raise UserError(
                f"cloud.bucket={bucket} is no container of Azure Storage; give "
                "cloud.bucket=abfss://CONTAINER@ACCOUNT.dfs.core.windows.net."
            )
        if self.cloud.compute and not COMPUTE.fullmatch(str(self.cloud.compute)):
            raise UserError(
                f"cloud.compute={self.cloud.compute} can be no cluster's name, which is of letters, digits and dashes; "
                "`az ml compute list` shows what there is."
            )
        if self.region != project().region:
            # A workspace runs its jobs where it is.
            raise UserError(
                f"cloud.region={self.region} has no workspace of this project, which is in {project().region}: "
                "leave it out, or change region in [tool.launcher] of pyproject.toml and run `make cloud-setup` there."
            )

    def reference(self) -> str:
        """Name the configured image, or else the newest that was built from main. Needs no network."""
        image = self.cloud.image or f"{self.cloud.repository}:main"
        return image if has_host(image) else f"{registry.host(project().bucket)}/{image}"

    def image(self) -> str:
        """Give the image by its digest, which names exactly one for ever.

        Raises:
            UserError: there is none yet, or the registry cannot be asked.
        """
        reference = self.reference()
        return reference if "@sha256:" in reference else registry.resolve(reference)

    def revision(self, image: str) -> str | None:
        """Give the commit that an image was built from; None where it does not say."""
        return registry.revision(image)

    def quota_page(self) -> str:
        """Give the address where more quota is asked for."""
        return QUOTAS

    def _environment(self, job: Job) -> dict[str, str]:
        environment = dict(job.env)
        if job.secrets:
            environment[RUN_SECRETS] = ",".join(
                f"{variable}={self._secret(name)}" for variable, name in job.secrets.items()
            )
        return environment

    def _secret(self, name: str) -> str:
        """Give a secret's address: a plain name is one of the project's own vault."""
        if name.startswith("https://"):
            return name
        return f"https://{vault(project().bucket)}.vault.azure.net/secrets/{name}"

    def _identity(self) -> str:
        """Give the client id of the identity that jobs have; zeros where nobody can be asked, as in a dry run."""
        named = str(self.cloud.service_account)
        if SUBSCRIPTION.fullmatch(named):
            return named
        start = (
            f"/subscriptions/{self._subscription_if_known()}/resourceGroups/{self.group}/providers"
        )
        path = f"{start}/Microsoft.ManagedIdentity/userAssignedIdentities/{named}"
        try:
            return str(azure.call("GET", path, api=IDENTITY_API)["properties"]["clientId"])
        except LoginError:  # as of the subscription below
            return UNKNOWN_ID
        except MissingError as error:
            raise MissingError(
                f"There is no identity {named} in the resource group {self.group}",
                "run `make cloud-setup`, which makes it, or correct cloud.service_account",
            ) from error

    def _names(self) -> tuple[str, str]:
        found = WORKSPACE.fullmatch(str(self.cloud.workspace))
        if not found:
            raise UserError(
                f"cloud.workspace={self.cloud.workspace} is no workspace; give cloud.workspace=GROUP/WORKSPACE."
            )
        return found["group"], found["name"]

    def _subscription_if_known(self) -> str:
        try:
            return self.subscription
        except LoginError:  # a dry run needs no login; whatever is sent does, and says so first
            return self.UNKNOWN[0]


def vault(bucket: str) -> str:
    """Give the name of the project's Key Vault, which is one for all of Azure, of at most 24 characters."""
    return f"kv-{bucket[:21]}"
