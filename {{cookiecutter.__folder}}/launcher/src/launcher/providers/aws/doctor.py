"""What would make a job fail minutes after it was submitted, found in seconds before that. Changes nothing."""

from __future__ import annotations

from typing import Any

from ...job import RUN_CODE, RUN_DATA, Job, Problem
from ...project import project
from .. import inputs
from ..errors import MissingError, RefusedError
from ..managed import Check, together
from . import auth as aws
from . import registry

SETUP = "run `make cloud-setup`, which makes it"


def examine(cloud: Any, role: str, job: Job, others: tuple[Check, ...] = ()) -> list[Problem]:
    """Run all checks at the same time; a check that cannot be made is a finding itself.

    Args:
        cloud: the section `cloud` of the configuration.
        role: ARN of the job's role.
        others: the backend's own checks, its quotas among them; what they find comes first.
    """
    worktree, newest = RUN_CODE in job.env, cloud.image is None
    checks: list[Check] = [
        *others,
        lambda: _check_image(job.image, worktree, newest),
        lambda: check_role(role),
    ]
    if cloud.bucket:
        checks.append(lambda: check_bucket(cloud.bucket, str(cloud.region)))
    if target := job.env.get(RUN_DATA):
        checks.append(lambda: inputs.check_data(target, "s3", S3()))
    for variable, name in job.secrets.items():
        checks.append(lambda v=variable, n=name: check_secret(v, n))
    return together(checks)


def _check_image(image: str, worktree: bool, newest: bool) -> list[Problem]:
    """Is the image in the registry, with this folder's code? The services find out only minutes after."""
    registry.resolve(image)  # explains itself
    return inputs.check_code(image, registry.revision(image), worktree, newest)


def check_role(role: str) -> list[Problem]:
    """Is there the role that the job is to have? Where that may not be looked at, the service says so at once."""
    name = role.rpartition("/")[2]
    try:
        aws.call("iam", "get_role", RoleName=name)
    except MissingError:
        remedy = f"{SETUP}, or name another one by cloud.service_account"
        return [Problem(f"There is no role {name} for the job", remedy)]
    except RefusedError:
        return []
    return []


def check_bucket(bucket: str, region: str) -> list[Problem]:
    """Is the bucket there, may it be read and written, and is it where the machines are?

    Whether it may be written is tried by the launch itself, which reserves its price there before it submits.
    """
    name = bucket.removeprefix("s3://").partition("/")[0]
    try:
        answer = aws.call("s3", "head_bucket", region, Bucket=name)  # wants s3:ListBucket
    except MissingError:
        remedy = f"{SETUP}, or give yours by cloud.bucket=s3://..."
        return [Problem(f"There is no bucket s3://{name}", remedy)]
    except RefusedError as error:
        what = f"This login may not list s3://{name} ({error.what}), or it is somebody else's"
        remedy = (
            "an administrator must allow it s3:ListBucket and s3:GetObject, PutObject, DeleteObject"
        )
        return [Problem(what, remedy)]
    where = answer.get("BucketRegion") or region
    if where == region:
        return []
    what = f"The bucket s3://{name} is in {where}, the job in {region}"
    remedy = "live with slower data and traffic that costs, or move one of them"
    return [Problem(what, remedy, fatal=False)]


def check_secret(variable: str, name: str) -> list[Problem]:
    """Is there a value that the job can read? The value itself is not read."""
    what = f"The secret {name}, for {variable},"
    try:
        found = aws.call("secretsmanager", "describe_secret", SecretId=name)
    except MissingError:
        remedy = (
            f"give it by `{variable}=... make cloud-setup`"
            if variable == "WANDB_API_KEY"
            else f"make it by `aws secretsmanager create-secret --name {name}`"
        )
        return [
            Problem(
                f"{what} does not exist", f"{remedy}, or leave it out by ~cloud.secrets.{variable}"
            )
        ]
    except RefusedError:
        remedy = f"if there is none the job will fail at its start; see `aws secretsmanager describe-secret --secret-id {name}`"
        return [Problem(f"{what} cannot be seen by this login", remedy, fatal=False)]
    if "DeletedDate" in found:
        return [
            Problem(
                f"{what} is being deleted",
                f"`aws secretsmanager restore-secret --secret-id {name}`",
            )
        ]
    if not found.get("VersionIdsToStages"):
        return [
            Problem(
                f"{what} has no value", f"`aws secretsmanager put-secret-value --secret-id {name}`"
            )
        ]
    if name != f"{project().slug}-wandb":  # the one that the role of `make cloud-setup` may read
        role = f"{project().account}-trainer"
        remedy = f"allow {role} secretsmanager:GetSecretValue on it, unless that is done"
        return [Problem(f"{what} is one that setup has not made", remedy, fatal=False)]
    return []


class S3:
    """Objects of S3, as `inputs.Bucket` has them."""

    def head(self, bucket: str, name: str) -> object:
        """Look whether there is one."""
        return aws.call("s3", "head_object", Bucket=bucket, Key=name)

    def read(self, bucket: str, name: str) -> Any:
        """Give its content, which is JSON."""
        import json

        return json.loads(aws.call("s3", "get_object", Bucket=bucket, Key=name)["Body"].read())
