"""What CloudFormation makes and moto's does not: four kinds of resources, and what is kept or refused.

The properties are those of each kind's page under docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference; moto's
own backends keep what is made. AWS Batch's are in `batch_formation`. `as_documented` holds while its block lasts.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from moto.cloudformation import parsing
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.responses import CloudFormationResponse
from moto.core.common_models import CloudFormationModel
from moto.ecr.models import Repository, ecr_backends
from moto.iam.models import Role, iam_backends
from moto.logs.models import LogGroup, logs_backends
from moto.s3.models import FakeBucket, s3_backends
from moto.secretsmanager.models import secretsmanager_backends

STATED: dict[str, Any] = {}  # the policies of buckets
EMPTIED: set[str] = set()  # repositories that may be deleted with their images
EVERYWHERE = "aws"  # moto's name for the region of services that have none


class Made(CloudFormationModel):
    """A resource by what `Ref` gives for it."""

    def __init__(self, name: str) -> None:
        self.name = self.physical_resource_id = name

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return False


class Provider(Made, CloudFormationModel):
    """AWS::IAM::OIDCProvider: one of each address in an account, a second is refused."""

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::IAM::OIDCProvider"

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **kwargs: Any
    ) -> "Provider":
        given = cloudformation_json["Properties"]
        backend = iam_backends[account_id][EVERYWHERE]
        clients, tags = given.get("ClientIdList", []), given.get("Tags", [])
        made = backend.create_open_id_connect_provider(given["Url"], [], clients, tags)
        return cls(made.arn)

    def delete(self, account_id: str, region_name: str) -> None:
        iam_backends[account_id][EVERYWHERE].delete_open_id_connect_provider(self.name)


class Secret(Made, CloudFormationModel):
    """AWS::SecretsManager::Secret: without SecretString it has no value; it is deleted at once.

    https://github.com/aws-cloudformation/cloudformation-coverage-roadmap/issues/1999
    """

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::SecretsManager::Secret"

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **kwargs: Any
    ) -> "Secret":
        given = cloudformation_json["Properties"]
        assert not given.keys() & {"SecretString", "GenerateSecretString"}, "no value may be in a template"
        backend = secretsmanager_backends[account_id][region_name]
        named = {"name": given["Name"], "description": given.get("Description"), "tags": given.get("Tags")}
        none: dict[str, Any] = dict.fromkeys(
            ("secret_string", "secret_binary", "kms_key_id", "client_request_token")
        )
        backend.create_secret(**named, **none, replica_regions=[], force_overwrite=False)
        return cls(given["Name"])

    def delete(self, account_id: str, region_name: str) -> None:
        backend = secretsmanager_backends[account_id][region_name]
        backend.delete_secret(self.name, recovery_window_in_days=None, force_delete_without_recovery=True)


class BucketPolicy(Made, CloudFormationModel):
    """AWS::S3::BucketPolicy."""

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::S3::BucketPolicy"

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **kwargs: Any
    ) -> "BucketPolicy":
        given = cloudformation_json["Properties"]
        # moto would hold each call against it without its conditions, and nobody could use the bucket
        # (moto/s3/models.py, put_bucket_policy): so it is only kept, to be looked at.
        STATED[given["Bucket"]] = given["PolicyDocument"]
        return cls(given["Bucket"])

    def delete(self, account_id: str, region_name: str) -> None:
        del STATED[self.name]


def _log_group(
    cls: Any,
    resource_name: str,
    cloudformation_json: Any,
    account_id: str,
    region_name: str,
    **kwargs: Any,
) -> LogGroup:
    """AWS::Logs::LogGroup with its retention, which moto forgets."""
    given = cloudformation_json["Properties"]
    backend = logs_backends[account_id][region_name]
    tags = {tag["Key"]: tag["Value"] for tag in given.get("Tags", [])}
    made = backend.create_log_group(given["LogGroupName"], tags)
    made.set_retention_policy(given.get("RetentionInDays"))
    return made


_role = Role.create_from_cloudformation_json


def _whole_role(cls: Any, name: str, given: Any, account_id: str, region: str, **kwargs: Any) -> Role:
    """AWS::IAM::Role, whose policies IAM has as JSON; moto keeps Python's objects."""
    return _with_policies(_role(name, given, account_id, region, **kwargs), given)


def _changed_role(
    cls: Any,
    original_resource: Role,
    new_resource_name: str,
    cloudformation_json: Any,
    account_id: str,
    region_name: str,
) -> Role:
    """An update of it: policies and trust too, which moto leaves as they were."""
    trust = cloudformation_json["Properties"]["AssumeRolePolicyDocument"]
    original_resource.assume_role_policy_document = json.dumps(trust)
    return _with_policies(original_resource, cloudformation_json)


def _with_policies(role: Role, given: Any) -> Role:
    wanted = given["Properties"].get("Policies", [])
    role.policies = {each["PolicyName"]: json.dumps(each["PolicyDocument"]) for each in wanted}
    return role


_bucket, _repository = FakeBucket.create_from_cloudformation_json, Repository.create_from_cloudformation_json


def _whole_bucket(cls: Any, name: str, given: Any, account_id: str, region: str, **kwargs: Any) -> FakeBucket:
    """AWS::S3::Bucket with what moto leaves out: who may see it, and what is deleted by itself."""
    made, properties = _bucket(name, given, account_id, region, **kwargs), given["Properties"]
    backend = s3_backends[account_id][EVERYWHERE]
    if closed := properties.get("PublicAccessBlockConfiguration"):
        backend.put_public_access_block(name, closed)
    rules = [
        {
            "ID": rule["Id"],
            "Filter": {"Prefix": rule.get("Prefix", "")},
            **{key: rule[key] for key in rule if key != "Id"},
        }
        for rule in properties.get("LifecycleConfiguration", {}).get("Rules", [])
    ]
    backend.put_bucket_lifecycle_configuration(name, rules)
    return made


def _whole_repository(
    cls: Any, name: str, given: Any, account_id: str, region: str, **kwargs: Any
) -> Repository:
    """AWS::ECR::Repository with its lifecycle policy, by the rules that moto knows of those."""
    made = _repository(name, given, account_id, region, **kwargs)
    policy = given["Properties"]["LifecyclePolicy"]["LifecyclePolicyText"]
    if given["Properties"].get("EmptyOnDelete"):
        EMPTIED.add(name)
    ecr_backends[account_id][region].put_lifecycle_policy(account_id, name, policy)
    return made


def _delete_repository(self: Repository, account_id: str, region_name: str) -> None:
    """One that is not empty is deleted only where the template says so."""
    backend = ecr_backends[account_id][region_name]
    backend.delete_repository(self.name, account_id, force=self.name in EMPTIED)


def _differs(self: Any, incoming: list[dict[str, Any]], body: str, old: Any) -> None:
    """Whether there is anything to update, by what was given; moto holds texts against what became of them."""
    given = {each["ParameterKey"]: str(each["ParameterValue"]) for each in incoming}
    known = {name: str(value) for name, value in old.parameters.items()}
    if old.template == body and known == given:
        raise ValidationError(old.name, message="No updates are to be performed.")


_delete = parsing.ResourceMap.delete


def _keeping(resources: Any) -> None:
    """RetainExceptOnCreate keeps a resource as Retain does, but where the stack is not made at all
    (docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-attribute-deletionpolicy.html)."""
    for each in resources._resource_json_map.values():
        if each.get("DeletionPolicy") == "RetainExceptOnCreate":
            each["DeletionPolicy"] = "Retain"
    _delete(resources)


for _known in (parsing.get_model_list, parsing.get_model_map, parsing.get_name_type_map):
    _known.cache_clear()  # else what moto had listed before stays without the four


@contextmanager
def as_documented() -> Iterator[None]:
    """Has moto's CloudFormation make what the real one makes."""
    patches = (
        mock.patch.object(FakeBucket, "create_from_cloudformation_json", classmethod(_whole_bucket)),
        mock.patch.object(Repository, "create_from_cloudformation_json", classmethod(_whole_repository)),
        mock.patch.object(Repository, "delete", _delete_repository),
        mock.patch.object(Role, "create_from_cloudformation_json", classmethod(_whole_role)),
        mock.patch.object(Role, "update_from_cloudformation_json", classmethod(_changed_role)),
        mock.patch.object(LogGroup, "create_from_cloudformation_json", classmethod(_log_group)),
        mock.patch.object(parsing.ResourceMap, "delete", _keeping),
        mock.patch.object(CloudFormationResponse, "_validate_different_update", _differs),
    )
    with ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield
