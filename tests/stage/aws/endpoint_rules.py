"""What SageMaker refuses of models, configurations and endpoints, beyond its model."""

from typing import Any

from stage.aws import images, policies
from stage.aws.errors import AwsError
from stage.aws.machines import offered
from stage.aws.people import ACCOUNT, documents, role_of
from stage.aws.server import Call
from stage.aws.training_rules import check_role, check_tags, invalid

PULL = ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability")
LOG = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents")
GROUP = "/aws/sagemaker/Endpoints"  # https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProductionVariantServerlessConfig.html
MEMORY = range(1024, 6145, 1024)


def require(call: Call, action: str, arns: list[str], tags: dict[str, str] | None = None) -> None:
    """Refuses who may not do it, or not with these tags.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsagemaker.html; that tags of a request take
    sagemaker:AddTags, too, is met by surprise: https://github.com/aws/aws-cdk/issues/32294.
    """
    given = call.given.get("Tags", [])
    context: dict[str, Any] = {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in given}
    for key, value in (tags or {}).items():
        context |= {f"{service}:ResourceTag/{key}": value for service in ("aws", "sagemaker")}
    call.require(f"sagemaker:{action}", *arns, **context)
    if given and action.startswith("Create"):
        check_tags(given)
        call.require("sagemaker:AddTags", arns[0], **context)


def check_model(call: Call, given: dict[str, Any]) -> None:
    """Refuses a model that could run nowhere. Whether its image is really there, an endpoint finds out."""
    known = {"ModelName", "PrimaryContainer", "ExecutionRoleArn", "Tags", "EnableNetworkIsolation"}
    if more := set(given) - known:
        raise AwsError("NotImplemented", f"{', '.join(more)} is not part of the stand-in.", 501)
    if "ExecutionRoleArn" not in given or not given.get("PrimaryContainer", {}).get("Image"):
        raise invalid("PrimaryContainer with an Image, and ExecutionRoleArn are required.")
    call.require("iam:PassRole", given["ExecutionRoleArn"], iam__PassedToService="sagemaker.amazonaws.com")
    check_role(given["ExecutionRoleArn"])
    image = given["PrimaryContainer"]["Image"]
    found = images.NAME.fullmatch(image)
    # The region's own ECR, as of training; what a registry elsewhere takes is not modelled.
    if not found or found["region"] != call.region or found["account"] != ACCOUNT:
        raise invalid(f"Cannot find the requested image: {image}")
    if (kind := images.kind(image, call.region)) not in ("", images.DOCKER):
        # As seen: https://github.com/aws/amazon-sagemaker-feedback/issues/180 and https://github.com/mlflow/mlflow/issues/13834.
        raise invalid(f"Unsupported manifest media type {kind} for image {image}. ")
    if set(given["PrimaryContainer"]) - {"Image", "Environment"}:
        raise AwsError("NotImplemented", "Data of models is not part of the stand-in.", 501)


def check_variants(call: Call, variants: list[dict[str, Any]], isolated: dict[str, bool]) -> None:
    """Refuses variants that could never start.

    Args:
        isolated: name of each model -> whether it is to have no network.
    """
    names = [one.get("VariantName") for one in variants]
    if len(set(names)) != len(names):
        raise invalid("Production variant names must be unique within an endpoint configuration.")
    for one in variants:
        if one.get("ModelName") not in isolated:
            arn = f"arn:aws:sagemaker:{call.region}:{ACCOUNT}:model/{one.get('ModelName')}"
            raise invalid(f'Could not find model "{arn}".')
        if ("ServerlessConfig" in one) == ("InstanceType" in one):
            raise invalid("A variant has either a ServerlessConfig or an InstanceType.")
        if "ServerlessConfig" in one:
            _check_serverless(one, len(variants), isolated[one["ModelName"]])
        elif "InitialInstanceCount" not in one:
            raise invalid("InitialInstanceCount is required with an InstanceType.")
        # As of training: https://github.com/aws/amazon-sagemaker-examples/issues/1001.
        elif one["InstanceType"].removeprefix("ml.") not in offered(call.region):
            raise invalid(f"{one['InstanceType']} is not available in {call.region}.")
    if not sum(one.get("InitialVariantWeight", 1.0) for one in variants):
        raise invalid("The weights of all variants are 0.")


def _check_serverless(variant: dict[str, Any], count: int, isolated: bool) -> None:
    # All of it: https://docs.aws.amazon.com/sagemaker/latest/dg/serverless-endpoints.html, "feature exclusions".
    if count > 1:
        raise invalid("Multiple production variants are not supported for serverless endpoints.")
    if isolated:
        raise invalid("Network isolation is not supported for serverless endpoints.")
    if "InitialInstanceCount" in variant:
        raise invalid("InitialInstanceCount is not supported for serverless endpoints.")
    if variant["ServerlessConfig"]["MemorySizeInMB"] not in MEMORY:
        raise invalid(f"MemorySizeInMB must be one of {', '.join(map(str, MEMORY))}.")


def check_update(call: Call, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuses another kind of configuration than an endpoint has."""
    kinds = [{"ServerlessConfig" in one for one in each["ProductionVariants"]} for each in (old, new)]
    if kinds[0] != kinds[1]:
        # Of a machine to serverless it is documented (serverless-endpoints.html); the other way round nobody says.
        raise invalid("An endpoint cannot be converted between instance-based and serverless.")
    names = [{one["VariantName"] for one in each["ProductionVariants"]} for each in (old, new)]
    if not names[0] & names[1]:
        # https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-exclusions.html; for which kinds of updates
        # that holds is not clear: here for all.
        raise invalid("The new configuration must have a variant name of the old one.")


def fetch_problem(role_arn: str, image: str, region: str, variant: str) -> str:
    """Why SageMaker cannot fetch an image with a role; "" where it can. It says so only when the endpoint fails.

    As seen: https://github.com/bentoml/BentoML/issues/1600 and https://github.com/yuyasugano/terraform-sagemaker-sample-1/issues/1.
    """
    parts = images.NAME.fullmatch(image)
    assert parts
    where = f"arn:aws:ecr:{region}:{ACCOUNT}:repository/{parts['repository']}"
    for action in PULL:
        if not may(role_arn, action, where):
            return f"The role '{role_arn}' does not have {action.partition(':')[2]} permission for the image: '{image}'."
    if not may(role_arn, "ecr:GetAuthorizationToken", "*") or not images.found(image, region):
        return (
            f"Please make sure all images included in the model for the production variant {variant} exist, and that the "
            "execution role used to create the model has permissions to access them."
        )
    return ""


def may(arn: str, action: str, resource: str) -> bool:
    """Whether a role may do something."""
    role = role_of(arn)
    return role is not None and policies.verdict(documents(role), action, resource, {}) == policies.ALLOWED


def may_log(role_arn: str, region: str, endpoint: str) -> bool:
    """Whether the lines of a container reach the log: its role writes them."""
    group = f"arn:aws:logs:{region}:{ACCOUNT}:log-group:{GROUP}/{endpoint}"
    return all(may(role_arn, action, f"{group}:log-stream:x") for action in LOG)
