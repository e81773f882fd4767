"""What SageMaker refuses of a training job or a tuning job's trials, beyond its model."""

from collections.abc import Callable, Iterable
from typing import Any

from stage.aws import images
from stage.aws.errors import AwsError
from stage.aws.machines import offered
from stage.aws.people import role_of, trusts
from stage.aws.quotas import Quotas, training_quota
from stage.aws.server import Call

DAY = 86400
LONGEST = 28 * DAY  # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StoppingCondition.html


def invalid(text: str) -> AwsError:
    return AwsError("ValidationException", text)


def check_job(call: Call, definition: dict[str, Any]) -> None:
    """Refuses a definition that could never run.

    Args:
        definition: a training job's request, or the part of a tuning job's that says what its trials are.
    """
    resources = definition.get("ResourceConfig")
    # The model wants neither since there are serverless jobs; a job with machines of one's own has to have both:
    # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html.
    if not resources:
        raise invalid("ResourceConfig is required.")
    if not definition.get("StoppingCondition"):
        raise invalid("StoppingCondition is required.")
    for name in ("RoleArn", "OutputDataConfig", "AlgorithmSpecification"):
        if not definition.get(name):
            raise invalid(f"{name} is required.")
    if "ServerlessJobConfig" in definition or "InstanceGroups" in resources or "TrainingPlanArn" in resources:
        raise AwsError(
            "NotImplemented", "Serverless jobs, groups and plans are not part of the stand-in.", 501
        )
    for name, least in (("InstanceType", 0), ("InstanceCount", 1), ("VolumeSizeInGB", 1)):
        if name not in resources or (least and resources[name] < least):
            raise invalid(f"ResourceConfig.{name} is required and at least {least or 'one type'}.")
    if resources["InstanceType"].removeprefix("ml.") not in offered(call.region):
        # As seen: https://github.com/aws/amazon-sagemaker-examples/issues/1001.
        text = (
            f"The requested resource training-job/{resources['InstanceType']} is not available in this region"
        )
        raise AwsError("ResourceLimitExceeded", text)
    _check_times(definition)
    _check_algorithm(definition["AlgorithmSpecification"], call.region)
    check_role(definition["RoleArn"])
    if not definition["OutputDataConfig"]["S3OutputPath"].startswith(("s3://", "https://")):
        raise invalid("OutputDataConfig.S3OutputPath must be an S3 URI.")


def _check_times(definition: dict[str, Any]) -> None:
    # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StoppingCondition.html.
    times = definition["StoppingCondition"]
    spot = definition.get("EnableManagedSpotTraining", False)
    longest, wait = times.get("MaxRuntimeInSeconds", DAY), times.get("MaxWaitTimeInSeconds")
    if longest > LONGEST:
        raise invalid(f"MaxRuntimeInSeconds must be at most {LONGEST}.")
    if wait is not None and not spot:
        # As seen: https://github.com/Kenza-AI/sagify/issues/111.
        text = "It is only supported when EnableManagedSpotTraining is set to true"
        raise invalid(f"Invalid MaxWaitTimeInSeconds. {text}")
    if spot and (wait is None or wait < longest):
        raise invalid(
            "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds"
        )
    if spot and "InstancePreferences" in definition["ResourceConfig"]:
        raise invalid(
            "InstancePreferences cannot be used with managed spot training."
        )  # by the model's documentation


def _check_algorithm(algorithm: dict[str, Any], region: str) -> None:
    if ("TrainingImage" in algorithm) == ("AlgorithmName" in algorithm):
        # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_AlgorithmSpecification.html.
        raise invalid("You must specify either TrainingImage or AlgorithmName, but not both.")
    image = algorithm.get("TrainingImage", "")
    if not images.found(image, region):
        # The region's own ECR only; the words: https://github.com/aws/amazon-sagemaker-examples/issues/1476.
        raise invalid(f"Cannot find the requested image: {image}")


def check_role(arn: str) -> None:
    """Refuses a role that is not there, or that SageMaker may not take on."""
    # Reports tell of this refusal (https://github.com/bentoml/BentoML/issues/892), older ones of a job that fails with it.
    role = role_of(arn)
    if role is None or not trusts(role, "sagemaker.amazonaws.com"):
        raise invalid(
            f'The execution role ARN "{arn}" is invalid. Please ensure that the role exists and that its trust relationship'
            ' policy allows the action "sts:AssumeRole" for the service principal "sagemaker.amazonaws.com".'
        )


def check_tags(tags: Iterable[dict[str, str]]) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Tag.html."""
    keys = [tag["Key"] for tag in tags]
    if len(keys) != len(set(keys)):
        raise invalid("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    if any(key.lower().startswith("aws:") for key in keys):
        raise invalid("Tag keys cannot start with aws:.")


def check_rights(call: Call, arn: str, definition: dict[str, Any]) -> None:
    """Refuses who may not create such a job: the action, the role that is passed, the tags that are added.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsagemaker.html: both Create actions depend
    on iam:PassRole and sagemaker:AddTags. The second is met by surprise: https://github.com/aws/aws-cdk/issues/32294.
    """
    tags = {tag["Key"]: tag["Value"] for tag in call.given.get("Tags", [])}
    context: dict[str, Any] = {f"aws:RequestTag/{key}": value for key, value in tags.items()}
    if tags:
        context["aws:TagKeys"] = list(tags)
    resources, times = definition.get("ResourceConfig", {}), definition.get("StoppingCondition", {})
    if "InstanceType" in resources:
        context["sagemaker:InstanceTypes"] = [resources["InstanceType"]]
    if "MaxRuntimeInSeconds" in times:
        context["sagemaker:MaxRuntimeInSeconds"] = times["MaxRuntimeInSeconds"]
    call.require(f"sagemaker:{call.operation}", arn, **context)
    if tags:
        call.require("sagemaker:AddTags", arn, **context, **{"sagemaker:TaggingAction": call.operation})
    call.require(
        "iam:PassRole", definition.get("RoleArn", "*"), iam__PassedToService="sagemaker.amazonaws.com"
    )


def check_quota(
    quotas: Quotas,
    call: Call,
    definition: dict[str, Any],
    used: Callable[[str, str, bool], int],
    times: int = 1,
) -> None:
    """Refuses a job that is more than the account may have at a time.

    Args:
        used: region, type, spot -> machines of the jobs that have not ended.
        times: how many such jobs at a time.
    """
    resources = definition["ResourceConfig"]
    machine, spot = resources["InstanceType"], definition.get("EnableManagedSpotTraining", False)
    wanted = resources["InstanceCount"] * times
    name = training_quota(machine, spot)
    limit, now = round(quotas.value(name, call.region)), used(call.region, machine, spot)
    if now + wanted > limit:
        # As seen: https://github.com/zenml-io/zenml/issues/847 and its like; newer ones name Service Quotas.
        raise AwsError(
            "ResourceLimitExceeded",
            f"The account-level service limit '{name}' is {limit} Instances, with current utilization of {now} Instances"
            f" and a request delta of {wanted} Instances. Please use AWS Service Quotas to request an increase for this"
            " quota. If AWS Service Quotas is not available, contact AWS support to request an increase for this quota.",
        )
