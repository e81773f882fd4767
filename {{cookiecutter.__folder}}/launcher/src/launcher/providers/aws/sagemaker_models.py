"""Versions in SageMaker's own registry of models: a group for each model, a package for each version.

Packages number themselves, so that one is found by what was written into its metadata. They have no tags of their own but
their group's (botocore's model: CreateModelPackageInput.Tags).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ...errors import UserError
from ...mirror import Entry
from ...project import project
from ..errors import MissingError, ServiceError
from . import auth as aws
from . import sagemaker_endpoint_request as asked
from .backend import AwsBackend
from .sagemaker_endpoint_image import taken
from .sagemaker_endpoint_request import Where

CHAMPION = "champion"
APPROVED, PENDING = "Approved", "PendingManualApproval"
TYPES = ("application/json", "image/png", "image/jpeg")
# What the value or the key of a package's metadata may have (botocore's model: CustomerMetadataValue).
OTHER = re.compile(r"[^\w\s.:/=+\-@]")
LONGEST, MOST = 256, 50


def connect() -> Registry:
    """Give the registry of the account and the region of this project's jobs.

    Raises:
        UserError: no file of configs/cloud/ says which, or there is no login.
    """
    from ...records.places import places  # it knows the backends, and so imports this folder

    for place in places():
        if isinstance(backend := place.service, AwsBackend):
            return Registry(Where(backend.account, backend.region), backend.reference())
    raise UserError("No file in configs/cloud/ is of AWS; there cloud.region says where.")


class Registry:
    """Groups of packages in one account and region.

    Args:
        image: one that trains; those that serve are in the repository beside it.
    """

    IMAGE = True  # so that a package can be deployed from the console, too

    def __init__(self, where: Where, image: str = "") -> None:
        self.where, self.image = where, image

    def prepare(self) -> None:
        """Refuse another account, and images that SageMaker could not fetch.

        Raises:
            UserError: saying which.
        """
        if (mine := aws.account()) != self.where.account:
            raise UserError(
                f"The login is for account {mine}, and this is in {self.where.account}: log in to that one, or set AWS_PROFILE."
            )
        asked.check_image(self.image, self.where)

    def put(self, entry: Entry) -> str:
        """Make a version's package, or bring it up to date; give its ARN.

        It is approved exactly as long as it is the champion. That somebody has rejected it there stays, unless it is.

        Raises:
            UserError: SageMaker does not take it.
        """
        entry = replace(entry, image=taken(entry.image, self.where))
        group = self._group(entry.model)
        known = list(self._packages(group))
        # Of one version there may be several: two people who had built its image anew have made one each.
        found = [one for one in known if _version(one) == f"v{entry.version}"]
        arns = [self._bring_up(entry, one) for one in found] or [self._make(entry, group)]
        if CHAMPION in entry.aliases:
            for one in known:
                if _version(one) and one not in found:  # without a version it is not of us
                    self._dethrone(one)
        return arns[0]

    def groups(self) -> Iterator[str]:
        """Give the names of this project's groups."""
        start = f"{project().slug}-"
        key = "ModelPackageGroupSummaryList"
        for one in self._listed("list_model_package_groups", key, NameContains=start):
            name = one["ModelPackageGroupName"]
            if name.startswith(start) and self._is_ours(one["ModelPackageGroupArn"]):
                yield name

    def remove(self, group: str) -> None:
        """Delete a group with all its packages. What is gone already is no error."""
        for one in list(self._summaries(group)):
            self._drop("delete_model_package", ModelPackageName=one["ModelPackageArn"])
        self._drop("delete_model_package_group", ModelPackageGroupName=group)

    def _group(self, model: str) -> str:
        """Give the group of a model, made if need be.

        Raises:
            UserError: it is somebody else's.
        """
        name = asked.endpoint_name(model)
        try:
            self._call(
                "create_model_package_group",
                ModelPackageGroupName=name,
                Tags=asked.tags({"model": model}),
            )
        except ServiceError as error:
            if "already exist" not in str(error):
                raise
        if not self._is_ours(self.where.arn("model-package-group", name)):
            raise UserError(
                f"The group {name} in SageMaker's registry is not of this project; register {model} by another name=..."
            )
        return name

    def _packages(self, group: str) -> Iterator[dict[str, Any]]:
        """Give all that is known of each package of a group."""
        for one in self._summaries(group):
            try:
                yield self._call("describe_model_package", ModelPackageName=one["ModelPackageArn"])
            except MissingError:
                continue

    def _make(self, entry: Entry, group: str) -> str:
        # The same for the same version, so that two who do this at once, and a try whose answer was lost, make one.
        token = uuid.uuid5(uuid.NAMESPACE_URL, f"{self.where} {group} {entry.uri} {entry.image}")
        return self._call(
            "create_model_package",
            ModelPackageGroupName=group,
            ModelPackageDescription=f"{entry} of {entry.uri}"[:1024],
            InferenceSpecification=_inference(entry),
            ModelApprovalStatus=APPROVED if CHAMPION in entry.aliases else PENDING,
            CustomerMetadataProperties=_metadata(entry),
            ClientToken=str(token),
        )["ModelPackageArn"]

    def _bring_up(self, entry: Entry, found: dict[str, Any]) -> str:
        # Not its image: by the digest that it has it serves as well.
        arn, change = found["ModelPackageArn"], dict[str, Any]()
        wanted, has = _metadata(entry), found.get("CustomerMetadataProperties") or {}
        if changed := {key: one for key, one in wanted.items() if has.get(key) != one}:
            change["CustomerMetadataProperties"] = changed
        if gone := sorted(set(has) - set(wanted)):
            change["CustomerMetadataPropertiesToRemove"] = gone
        if change:
            self._call("update_model_package", ModelPackageArn=arn, **change)
        status = found.get("ModelApprovalStatus")
        if CHAMPION in entry.aliases and status != APPROVED:
            self._approve(arn, APPROVED)
        elif CHAMPION not in entry.aliases and status == APPROVED:
            self._approve(arn, PENDING)
        return arn

    def _dethrone(self, one: dict[str, Any]) -> None:
        """Have a package of another version say no longer that it is the champion."""
        change = dict[str, Any]()
        if one.get("ModelApprovalStatus") == APPROVED:
            change["ModelApprovalStatus"] = PENDING
        aliases = (one.get("CustomerMetadataProperties") or {}).get("aliases", "").split()
        if CHAMPION in aliases:
            if kept := " ".join(each for each in aliases if each != CHAMPION):
                change["CustomerMetadataProperties"] = {"aliases": kept}
            else:
                change["CustomerMetadataPropertiesToRemove"] = ["aliases"]
        if change:
            self._call("update_model_package", ModelPackageArn=one["ModelPackageArn"], **change)

    def _approve(self, arn: str, status: str) -> None:
        self._call("update_model_package", ModelPackageArn=arn, ModelApprovalStatus=status)

    def _is_ours(self, arn: str) -> bool:
        tags = {
            one["Key"]: one["Value"] for one in self._listed("list_tags", "Tags", ResourceArn=arn)
        }
        return tags.get("project") == project().slug

    def _summaries(self, group: str) -> Iterator[dict[str, Any]]:
        # Without the type those are meant that are in no group (ListModelPackages' ModelPackageType).
        of = {"ModelPackageGroupName": group, "ModelPackageType": "Versioned"}
        return self._listed("list_model_packages", "ModelPackageSummaryList", **of)

    def _listed(self, operation: str, key: str, **parameters: Any) -> Iterator[Any]:
        return aws.pages("sagemaker", operation, key, self.where.region, **parameters)

    def _call(self, operation: str, **parameters: Any) -> Any:
        return aws.call("sagemaker", operation, self.where.region, **parameters)

    def _drop(self, operation: str, **which: str) -> None:
        try:
            self._call(operation, **which)
        except MissingError:
            return


def _version(package: dict[str, Any]) -> str:
    """Give the version that a package is a copy of; empty where it is none."""
    return str((package.get("CustomerMetadataProperties") or {}).get("version", ""))


def _inference(entry: Entry) -> dict[str, Any]:
    return {
        "Containers": [{"Image": entry.image}],
        "SupportedContentTypes": list(TYPES),
        "SupportedResponseMIMETypes": ["application/json"],
    }


def _metadata(entry: Entry) -> dict[str, str]:
    """Give what people ask of a version, in the letters that SageMaker takes."""
    about = {
        "version": f"v{entry.version}",
        "uri": entry.uri,
        "run": entry.run,
        "kind": entry.kind,
        "aliases": " ".join(entry.aliases),
        **{key: entry.made.get(key) for key in ("commit", "by", "at")},
        **{name: f"{value:.6g}" for name, value in sorted(entry.metrics.items())},
    }
    found = {
        OTHER.sub("-", name)[:128]: OTHER.sub("-", str(value))[:LONGEST]
        for name, value in about.items()
        if value not in (None, "")
    }
    return dict(list(found.items())[:MOST])
