"""A strict stand-in for SageMaker's registry of models: groups, and the packages in them."""

import re
from collections.abc import Callable
from typing import Any

from stage.aws import images
from stage.aws.endpoint_kinds import Kept, arn_of
from stage.aws.endpoint_rules import require
from stage.aws.errors import AwsError
from stage.aws.listing import listed
from stage.aws.server import Call
from stage.aws.training_rules import invalid
from stage.clock import Clock

KNOWN = {
    *("ModelPackageGroupName", "ModelPackageDescription", "InferenceSpecification", "ModelApprovalStatus"),
    *("CustomerMetadataProperties", "ClientToken"),
}
MOST_METADATA = 50  # of a package: botocore's model, CustomerMetadataMap


class Package(Kept):
    """Attributes:
    group: its name; number: its version there, which no other will ever have.
    """

    def __init__(self, arn: str, given: dict[str, Any], moment: float, group: str, number: int) -> None:
        super().__init__(arn, given, moment)
        self.group, self.number = group, number
        self.approval = given.get("ModelApprovalStatus", "PendingManualApproval")
        self.metadata: dict[str, str] = dict(given.get("CustomerMetadataProperties", {}))


class Packages:
    """The registry in all regions."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.groups: dict[tuple[str, str], Kept] = {}
        self.packages: dict[str, Package] = {}  # by ARN
        self._numbers: dict[tuple[str, str], int] = {}
        self._tokens: dict[str, tuple[dict[str, Any], str]] = {}

    def everything(self) -> list[Kept]:
        """All that has tags: packages have those of their group."""
        return [*self.groups.values()]

    def handler(self, operation: str) -> Callable[[Call], dict[str, Any]] | None:
        """What answers an operation; None for one that is not about packages."""
        return {
            "CreateModelPackageGroup": self._create_group,
            "DescribeModelPackageGroup": self._describe_group,
            "DeleteModelPackageGroup": self._delete_group,
            "ListModelPackageGroups": self._list_groups,
            "CreateModelPackage": self._create,
            "DescribeModelPackage": self._describe,
            "UpdateModelPackage": self._update,
            "DeleteModelPackage": self._delete,
            "ListModelPackages": self._list,
        }.get(operation)

    def _create_group(self, call: Call) -> dict[str, Any]:
        name = call.given["ModelPackageGroupName"]
        arn = arn_of(call, "model-package-group", name)
        require(call, "CreateModelPackageGroup", [arn])
        if (call.region, name) in self.groups:
            # By these words Airflow knows it: https://github.com/apache/airflow/pull/28024.
            raise invalid(f"Model Package Group already exists: {arn}")
        self.groups[call.region, name] = Kept(arn, call.given, self.clock.now())
        return {"ModelPackageGroupArn": arn}

    def _group(self, call: Call, action: str) -> tuple[str, Kept]:
        name = call.given["ModelPackageGroupName"].rpartition("/")[2]
        found, arn = self.groups.get((call.region, name)), arn_of(call, "model-package-group", name)
        require(call, action, [arn], found.tags if found else None)
        if not found:
            raise invalid(f"Model package group {arn} does not exist.")
        return name, found

    def _describe_group(self, call: Call) -> dict[str, Any]:
        name, found = self._group(call, "DescribeModelPackageGroup")
        return {
            "ModelPackageGroupName": name,
            "ModelPackageGroupArn": found.arn,
            "CreationTime": found.created,
            "CreatedBy": {},
            "ModelPackageGroupStatus": "Completed",
        }

    def _delete_group(self, call: Call) -> dict[str, Any]:
        name, _ = self._group(call, "DeleteModelPackageGroup")
        if self._of(call.region, name):
            # The model names ConflictException for it and says no more.
            raise AwsError("ConflictException", f"The group {name} has model packages.")
        del self.groups[call.region, name]
        return {}

    def _list_groups(self, call: Call) -> dict[str, Any]:
        call.require("sagemaker:ListModelPackageGroups", "*")
        found = [
            {
                "ModelPackageGroupName": name,
                "ModelPackageGroupArn": one.arn,
                "CreationTime": one.created,
                "ModelPackageGroupStatus": "Completed",
            }
            for (region, name), one in self.groups.items()
            if region == call.region
        ]
        shown, more = listed(found, call.given, "ModelPackageGroupName", "ModelPackageGroupStatus")
        return {"ModelPackageGroupSummaryList": shown} | more

    def _of(self, region: str, group: str) -> list[Package]:
        return [one for one in self.packages.values() if one.group == group and f":{region}:" in one.arn]

    def _create(self, call: Call) -> dict[str, Any]:
        given = call.given
        if "Tags" in given and "ModelPackageGroupName" in given:
            # CreateModelPackageInput.Tags of the model, and https://github.com/aws-controllers-k8s/sagemaker-controller/pull/54.
            raise invalid("Tags cannot be given for a versioned model package.")
        if "ModelPackageName" in given or "ModelPackageGroupName" not in given:
            # As seen, of both: https://github.com/getmoto/moto/pull/7165. Unversioned ones are not modelled.
            raise invalid("Both ModelPackageName and ModelPackageGroupName are provided, or neither is.")
        if more := set(given) - KNOWN:
            raise AwsError("NotImplemented", f"{', '.join(more)} is not part of the stand-in.", 501)
        name, _ = self._group(call, "CreateModelPackage")
        self._check_image(call, given)
        known = self._tokens.get(given.get("ClientToken", ""))
        if known:
            if (
                known[0] != given
            ):  # what it means to be idempotent is not said: ConflictException is the model's
                raise AwsError("ConflictException", "That ClientToken was used for another request.")
            return {"ModelPackageArn": known[1]}
        number = self._numbers[call.region, name] = self._numbers.get((call.region, name), 0) + 1
        arn = f"{arn_of(call, 'model-package', name)}/{number}"
        self.packages[arn] = Package(arn, given, self.clock.now(), name, number)
        if "ClientToken" in given:
            self._tokens[given["ClientToken"]] = (given, arn)
        return {"ModelPackageArn": arn}

    def _check_image(self, call: Call, given: dict[str, Any]) -> None:
        for one in given.get("InferenceSpecification", {}).get("Containers", []):
            # Whether it is looked for at once nobody says: here it is.
            if not images.found(one.get("Image", ""), call.region):
                raise invalid(f"Cannot find the requested image: {one.get('Image')}")

    def _known(self, call: Call, arn: str) -> Package:
        found = self.packages.get(arn)
        group = self.groups.get((call.region, found.group)) if found else None
        require(call, call.operation, [arn], group.tags if group else None)
        if not found:
            raise invalid(f"ModelPackage {arn} does not exist.")
        return found

    def _describe(self, call: Call) -> dict[str, Any]:
        found = self._known(call, call.given["ModelPackageName"])
        said = {
            key: found.given[key]
            for key in ("ModelPackageDescription", "InferenceSpecification")
            if key in found.given
        }
        if found.metadata:
            said["CustomerMetadataProperties"] = dict(found.metadata)
        return said | self._summary(found) | {"ModelPackageStatusDetails": {"ValidationStatuses": []}}

    def _summary(self, found: Package) -> dict[str, Any]:
        # Without a name: https://github.com/aws/sagemaker-python-sdk/issues/5606.
        return {
            "ModelPackageGroupName": found.group,
            "ModelPackageVersion": found.number,
            "ModelPackageArn": found.arn,
            "CreationTime": found.created,
            "ModelPackageStatus": "Completed",
            "ModelApprovalStatus": found.approval,
        }

    def _update(self, call: Call) -> dict[str, Any]:
        given, found = call.given, self._known(call, call.given["ModelPackageArn"])
        known = {"ModelPackageArn", "ModelApprovalStatus", "CustomerMetadataProperties"}
        if more := set(given) - known - {"CustomerMetadataPropertiesToRemove"}:
            raise AwsError("NotImplemented", f"{', '.join(more)} is not part of the stand-in.", 501)
        gone = given.get("CustomerMetadataPropertiesToRemove", [])
        wanted = {
            key: value
            for key, value in (found.metadata | given.get("CustomerMetadataProperties", {})).items()
            if key not in gone
        }
        if len(wanted) > MOST_METADATA:
            raise invalid(f"A model package has at most {MOST_METADATA} metadata properties.")
        found.metadata = wanted
        found.approval = given.get("ModelApprovalStatus", found.approval)
        return {"ModelPackageArn": found.arn}

    def _delete(self, call: Call) -> dict[str, Any]:
        del self.packages[self._known(call, call.given["ModelPackageName"]).arn]
        return {}

    def _list(self, call: Call) -> dict[str, Any]:
        call.require("sagemaker:ListModelPackages", "*")
        given = dict(call.given)
        group = re.sub(".*/", "", given.pop("ModelPackageGroupName", ""))
        # Without the type those are meant that are in no group: ListModelPackages' ModelPackageType.
        versioned = given.pop("ModelPackageType", "Unversioned") in ("Versioned", "Both")
        found = [self._summary(one) for one in self._of(call.region, group)] if group and versioned else []
        shown, more = listed(found, given, "ModelPackageArn", "ModelApprovalStatus")
        return {"ModelPackageSummaryList": shown} | more
