"""What the backends of AWS have in common: the account, the login, the image, the job's identity."""

from __future__ import annotations

import re
from typing import Any

from ...errors import UserError
from ...job import RUN_SECRETS, Job
from ...project import project
from ..errors import ServiceError
from ..managed import Managed
from ..registry import has_host
from . import auth as aws
from . import registry

ACCOUNT = re.compile(r"\d{12}")
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?")


class AwsBackend(Managed):
    """Base of the backends of AWS.

    Args:
        cloud: the section `cloud` of the configuration; its `project` is the account's number, if any.
    """

    CLOCK = aws
    UNKNOWN = ("0" * 12, "account")

    def __init__(self, cloud: Any):
        self.cloud = cloud
        self.labels = {str(key): str(value) for key, value in (cloud.labels or {}).items()}

    @property
    def region(self) -> str:
        """Where jobs run: the project's, in which its image, roles and queues are."""
        return str(self.cloud.region)

    @property
    def account(self) -> str:
        """The configured account, else that of the login."""
        return str(self.cloud.project or aws.account())

    def who(self) -> str:
        """Tell whose login is used. Raises UserError where there is none, or it is for another account."""
        found = aws.who()
        if self.cloud.project and aws.account() != str(self.cloud.project):
            raise UserError(
                f"The login is for account {aws.account()}, and cloud.project is {self.cloud.project}: "
                "log in to that one, or set AWS_PROFILE."
            )
        return found

    def check_names(self) -> None:
        """Refuse an account, a region and a bucket that AWS can have none of that name. Asks nobody."""
        account, bucket = self.cloud.project, self.cloud.bucket
        aws.check_region(self.region)
        if account and not ACCOUNT.fullmatch(str(account)):
            raise UserError(
                f"cloud.project={account} is no account of AWS; give its number of twelve digits, or leave it out."
            )
        if bucket and not BUCKET.fullmatch(bucket):
            raise UserError(
                f"cloud.bucket={bucket} is no bucket of S3; give cloud.bucket=s3://NAME."
            )
        if self.region != project().region:
            # Not so on other clouds: here an image, a role's rights and a queue are of one region.
            raise UserError(
                f"cloud.region={self.region} has no image, queues and rights of this project, which are in "
                f"{project().region}: leave it out, or change region in [tool.launcher] of pyproject.toml and run "
                "`make cloud-setup` and a push there."
            )

    def reference(self) -> str:
        """Name the configured image, or else the newest that was built from main. Needs no network."""
        image = self.cloud.image or f"{self.cloud.repository}:main"
        if has_host(image):
            return image
        return f"{registry.host(self._account_if_known(), self.region)}/{image}"

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
        return f"https://{self.region}.console.aws.amazon.com/servicequotas/home/services"

    def _environment(self, job: Job) -> dict[str, str]:
        # What runs in a container of Batch is not told its region; DVC and the worker need it.
        environment = {**job.env, "AWS_REGION": self.region, "AWS_DEFAULT_REGION": self.region}
        if job.secrets:
            environment[RUN_SECRETS] = ",".join(
                f"{variable}={name}" for variable, name in job.secrets.items()
            )
        return environment

    def _role(self) -> str:
        """Give the ARN of the role that jobs have."""
        role = str(self.cloud.service_account)
        if role.startswith("arn:"):
            return role
        return f"arn:aws:iam::{self._account_if_known()}:role/{role}"

    def _account_if_known(self) -> str:
        try:
            return self.account
        except ServiceError:  # a dry run needs no login; whatever is sent does, and says so first
            return self.UNKNOWN[0]
