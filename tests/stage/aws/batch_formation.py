"""What CloudFormation makes of AWS::Batch's resources: calls of the stand-in, where moto has a Batch of its own.

moto's keeps neither tags nor time limits, wants a service role, and can neither update nor delete. Properties are those of
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/AWS_Batch.html.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

from moto.cloudformation import parsing
from moto.cloudformation.exceptions import ValidationError
from moto.core.common_models import CloudFormationModel

from stage.aws.errors import AwsError

Act = Callable[[str, str, dict[str, Any]], dict[str, Any]]  # operation, region, parameters -> answer
# What UpdateComputeEnvironment changes in place where ReplaceComputeEnvironment is true, which is the usual:
# https://docs.aws.amazon.com/batch/latest/userguide/updating-compute-environments.html.
IN_PLACE = ("minvCpus", "maxvCpus", "desiredvCpus")
STRATEGIES = ("BEST_FIT_PROGRESSIVE", "SPOT_CAPACITY_OPTIMIZED", "SPOT_PRICE_CAPACITY_OPTIMIZED")


def lowered(value: Any) -> Any:
    """Properties as the service's own API has them; keys of tags and of other maps stay."""
    if isinstance(value, list):
        return [lowered(one) for one in value]
    if not isinstance(value, dict):
        return value
    kept = ("Tags", "Parameters", "Options")
    return {key[:1].lower() + key[1:]: one if key in kept else lowered(one) for key, one in value.items()}


class _Resource(CloudFormationModel):
    """One resource; `Ref` gives its ARN."""

    act: Act  # of the world that is there

    def __init__(self, arn: str, properties: Mapping[str, Any]) -> None:
        self.physical_resource_id, self.properties = arn, dict(properties)

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @staticmethod
    def cloudformation_type() -> str:
        return ""

    @classmethod
    def call(cls, operation: str, region: str, parameters: dict[str, Any]) -> dict[str, Any]:
        try:
            return cls.act(operation, region, parameters)
        except AwsError as refusal:
            raise ValidationError(
                message=f"Resource handler returned message: {refusal.message}"
            ) from refusal


def changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    """Names of the properties that differ."""
    return {name for name in {*old, *new} if old.get(name) != new.get(name)}


def _named(name: str) -> ValidationError:
    """As seen: https://github.com/aws-samples/aws-genomics-workflows/issues/105."""
    return ValidationError(
        message="CloudFormation cannot update a stack when a custom-named resource requires replacing. Rename"
        f" {name} and update the stack again."
    )


class Environment(_Resource):
    """AWS::Batch::ComputeEnvironment."""

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::Batch::ComputeEnvironment"

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **kwargs: Any
    ) -> "Environment":
        given = lowered(cloudformation_json["Properties"])
        request = {
            key: one for key, one in given.items() if key not in ("replaceComputeEnvironment", "updatePolicy")
        }
        request.setdefault("computeEnvironmentName", resource_name[:128])
        arn = cls.call("CreateComputeEnvironment", region_name, request)["computeEnvironmentArn"]
        cls._settled(arn, region_name)
        return cls(arn, given)

    @classmethod
    def _settled(cls, arn: str, region: str) -> None:
        """CloudFormation waits; as seen where it is in vain: https://github.com/Netflix/metaflow-tools/issues/9."""
        cls.call("settle", region, {"arn": arn})
        found = cls.call("DescribeComputeEnvironments", region, {"computeEnvironments": [arn]})
        if found["computeEnvironments"][0]["status"] != "VALID":
            reason = found["computeEnvironments"][0]["statusReason"]
            raise ValidationError(
                message=f"Operation failed, ComputeEnvironment went INVALID with error: {reason}"
            )

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Any,
        new_resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
    ) -> "Environment":
        given, arn = lowered(cloudformation_json["Properties"]), original_resource.physical_resource_id
        other = changed(original_resource.properties, given)
        where = changed(original_resource.properties["computeResources"], given["computeResources"])
        replace = given.get("replaceComputeEnvironment", True)
        # Tags of the environment itself are replaced with it, whatever else is said:
        # https://github.com/aws-cloudformation/cloudformation-coverage-roadmap/issues/2270.
        again = {"tags", "type", "computeEnvironmentName"} & other or (replace and where - set(IN_PLACE))
        if again:
            if "computeEnvironmentName" in given and "computeEnvironmentName" not in other:
                raise _named(given["computeEnvironmentName"])
            raise ValidationError(message="Replacing a compute environment is not part of the stand-in.")
        if where - set(IN_PLACE) and given["computeResources"].get("allocationStrategy") not in STRATEGIES:
            raise ValidationError(message="Such an update needs another allocationStrategy than BEST_FIT.")
        update = {"computeEnvironment": arn, "computeResources": given["computeResources"]}
        update["computeResources"] = {k: one for k, one in update["computeResources"].items() if k in where}
        cls.call("UpdateComputeEnvironment", region_name, update | {"state": given.get("state", "ENABLED")})
        cls._settled(arn, region_name)
        return cls(arn, given)

    @classmethod
    def delete_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str
    ) -> None:
        cls.call(
            "UpdateComputeEnvironment",
            region_name,
            {"computeEnvironment": resource_name, "state": "DISABLED"},
        )
        cls.call("settle", region_name, {"arn": resource_name})
        cls.call("DeleteComputeEnvironment", region_name, {"computeEnvironment": resource_name})


class Queue(_Resource):
    """AWS::Batch::JobQueue."""

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::Batch::JobQueue"

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **kwargs: Any
    ) -> "Queue":
        given = lowered(cloudformation_json["Properties"])
        request = {"jobQueueName": resource_name[:128]} | given
        return cls(cls.call("CreateJobQueue", region_name, request)["jobQueueArn"], given)

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Any,
        new_resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
    ) -> "Queue":
        given, arn = lowered(cloudformation_json["Properties"]), original_resource.physical_resource_id
        if {"tags", "jobQueueName", "jobQueueType"} & changed(original_resource.properties, given):
            # "Update requires: Replacement" of the three, by the resource's page.
            raise _named(given.get("jobQueueName", arn))
        update = {
            key: one for key, one in given.items() if key not in ("tags", "jobQueueName", "jobQueueType")
        }
        cls.call("UpdateJobQueue", region_name, {"jobQueue": arn} | update)
        return cls(arn, given)

    @classmethod
    def delete_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str
    ) -> None:
        cls.call("UpdateJobQueue", region_name, {"jobQueue": resource_name, "state": "DISABLED"})
        cls.call("DeleteJobQueue", region_name, {"jobQueue": resource_name})


@contextmanager
def leads_to(act: Act) -> Iterator[None]:
    """Has moto's CloudFormation make these by the stand-in, while the block lasts."""
    usual = dict(parsing.get_model_map())
    mine = {one.cloudformation_type(): one for one in (Environment, Queue)}
    kinds = usual | mine
    with (
        mock.patch.object(_Resource, "act", staticmethod(act), create=True),
        mock.patch.object(parsing, "get_model_map", return_value=kinds),
        mock.patch.object(parsing, "get_model_list", return_value=list(kinds.values())),
    ):
        yield
