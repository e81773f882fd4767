"""What the backends of Google Cloud have in common: the project, the login, the image, the job's identity."""

from __future__ import annotations

import re
from typing import Any

from ...errors import UserError
from ...job import RUN_SECRETS, Job
from ..managed import Managed
from ..registry import has_host
from . import auth as google
from . import registry
from .errors import QUOTAS

# https://cloud.google.com/resource-manager/docs/creating-managing-projects, with the domain that some have before it
PROJECT = re.compile(r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
# https://cloud.google.com/storage/docs/buckets#naming
BUCKET = re.compile(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/.*)?")


class GoogleBackend(Managed):
    """Base of the backends of Google Cloud.

    Args:
        cloud: the section `cloud` of the configuration.
    """

    CLOCK = google
    UNKNOWN = ("PROJECT", "project")

    def __init__(self, cloud: Any):
        self.cloud = cloud

    @property
    def project(self) -> str:
        """The configured project, else that of the login."""
        return self.cloud.project or google.project()

    def who(self) -> str:
        """Tell whose login is used. Raises UserError where there is none or it has expired."""
        return google.who()

    def check_names(self) -> None:
        """Refuse a project and a bucket that Google can have none of that name. Asks nobody."""
        project, bucket = self.cloud.project, self.cloud.bucket
        if project and not PROJECT.fullmatch(project):
            raise UserError(
                f"cloud.project={project} is no project's id; give it as `gcloud projects list` shows it, "
                "such as my-project-123."
            )
        if bucket and not BUCKET.fullmatch(bucket):
            raise UserError(
                f"cloud.bucket={bucket} is no bucket of Google Cloud; give cloud.bucket=gs://NAME."
            )

    def quota_page(self) -> str:
        """Give the address where more quota is asked for."""
        return f"{QUOTAS}?project={self._project_if_known()}"

    def reference(self, cloud: Any = None) -> str:
        """Name the configured image, or else the newest that was built from main. Needs no network."""
        cloud = cloud or self.cloud
        image = cloud.image or f"{cloud.repository}:main"
        if has_host(image):
            return image
        return f"{cloud.region}-docker.pkg.dev/{self._project_if_known()}/{image}"

    def image(self, cloud: Any = None) -> str:
        """Give the image by its digest, which names exactly one for ever.

        Raises:
            UserError: there is none yet, or the registry cannot be asked.
        """
        reference = self.reference(cloud)
        return reference if "@sha256:" in reference else registry.resolve(reference)

    def revision(self, image: str) -> str | None:
        """Give the commit that an image was built from; None where it does not say."""
        return registry.revision(image)

    def _environment(self, job: Job) -> dict[str, str]:
        environment = dict(job.env)
        if job.secrets:
            where = f"projects/{self._project_if_known()}/secrets"
            environment[RUN_SECRETS] = ",".join(
                f"{variable}={where}/{name}/versions/latest"
                for variable, name in job.secrets.items()
            )
        return environment

    def _service_account(self) -> str:
        account = self.cloud.service_account
        if "@" in account:
            return account
        return f"{account}@{self._project_if_known()}.iam.gserviceaccount.com"

    def _project_if_known(self) -> str:
        try:
            return self.project
        except UserError:  # a dry run needs no login; whatever is sent does, and says so first
            return self.UNKNOWN[0]
