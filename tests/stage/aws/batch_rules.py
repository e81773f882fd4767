"""What AWS Batch refuses of definitions and jobs: its model holds no lengths, patterns or numbers, so all is by hand.

https://docs.aws.amazon.com/batch/latest/userguide/job_definition_parameters.html and the API reference beside it. How the
service words a refusal is known of a few only; those carry a report.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from stage.aws.errors import AwsError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
PAYLOAD, DEFINITION = (
    30 * 1024,
    24 * 1024,
)  # https://docs.aws.amazon.com/batch/latest/userguide/service_limits.html
CODES = re.compile(r"[0-9]*\*?")
REASONS = re.compile(r"[A-Za-z0-9.:\s]*\*?")


def refusal(text: str) -> AwsError:
    """As seen, for one: https://github.com/fluidattacks/makes/issues/697."""
    return AwsError("ClientException", f"Error executing request, Exception : {text}, RequestId: stage")


def check_name(name: str, what: str) -> None:
    """Of jobs, definitions, queues and environments: https://github.com/hashicorp/terraform-provider-aws/pull/2126."""
    if not NAME.fullmatch(name):
        raise refusal(f"{what} should match valid pattern")


def check_tags(tags: Mapping[str, str]) -> None:
    """https://docs.aws.amazon.com/batch/latest/userguide/using-tags.html."""
    if len(tags) > 50:
        raise refusal("A resource may have at most 50 tags")
    for key, value in tags.items():
        if not 1 <= len(key) <= 128 or len(value) > 256 or key.lower().startswith("aws:"):
            raise refusal(f"The tag {key} is invalid")


def check_retries(strategy: Mapping[str, Any]) -> None:
    """https://docs.aws.amazon.com/batch/latest/APIReference/API_RetryStrategy.html and API_EvaluateOnExit.html."""
    attempts, rules = strategy.get("attempts"), strategy.get("evaluateOnExit", [])
    if rules and attempts is None:
        raise refusal("attempts must be specified when evaluateOnExit is")
    if attempts is not None and not 1 <= attempts <= 10:
        raise refusal("RetryStrategy attempts must be between 1 and 10")
    if len(rules) > 5:
        raise refusal("evaluateOnExit can have at most 5 entries")
    for rule in rules:
        wanted = {key: rule[key] for key in ("onStatusReason", "onReason", "onExitCode") if key in rule}
        if not wanted:
            raise refusal("evaluateOnExit needs at least one of onStatusReason, onReason, onExitCode")
        for key, pattern in wanted.items():
            form = CODES if key == "onExitCode" else REASONS
            if len(pattern) > 512 or not pattern or not form.fullmatch(pattern):
                raise refusal(f"{key} has an invalid pattern: {pattern}")


def check_timeout(timeout: Mapping[str, Any]) -> None:
    """https://docs.aws.amazon.com/batch/latest/userguide/job_timeouts.html."""
    if timeout.get("attemptDurationSeconds", 0) < 60:
        raise refusal("attemptDurationSeconds must be at least 60")


def check_environment(variables: Iterable[Mapping[str, str]]) -> None:
    """Names that begin with AWS_BATCH are the service's: API_ContainerProperties.html."""
    names = [one.get("name", "") for one in variables]
    if any(name.startswith("AWS_BATCH") for name in names):
        raise refusal("Environment variables must not start with AWS_BATCH")
    if any(not name for name in names):
        raise refusal("Environment variables need a name")


def resources(container: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> dict[str, float]:
    """VCPU, MEMORY and GPU of a container, where the overrides' ones count more."""
    given = {
        one["type"]: one["value"]
        for part in (container, overrides or {})
        for one in part.get("resourceRequirements", [])
    }
    return {kind: float(value) for kind, value in given.items()}


def check_resources(requirements: Iterable[Mapping[str, str]], whole: bool = True) -> None:
    """https://docs.aws.amazon.com/batch/latest/APIReference/API_ResourceRequirement.html.

    Args:
        whole: whether processors and memory have to be there, as in a definition.
    """
    given: dict[str, str] = {}
    for one in requirements:
        if one["type"] in given:
            raise refusal(f"{one['type']} is given twice")
        given[one["type"]] = one["value"]
    # As seen: https://github.com/ASFHyP3/hyp3/pull/586.
    for kind, words in (("VCPU", "vCPU is not provided."), ("MEMORY", "Memory is not provided.")):
        if whole and kind not in given:
            raise refusal(words)
    for kind, value in given.items():
        # On EC2 all three are whole numbers; fractions of VCPU are Fargate's.
        if not re.fullmatch(r"[1-9][0-9]*", value) or (kind == "MEMORY" and int(value) < 4):
            raise refusal(f"{kind} has an invalid value: {value}")


def check_definition(given: Mapping[str, Any]) -> None:
    """Refuses what cannot be registered."""
    check_name(given["jobDefinitionName"], "jobDefinitionName")
    if given["type"] != "container" or given.get("platformCapabilities", ["EC2"]) != ["EC2"]:
        raise AwsError("NotImplemented", "Several nodes and Fargate are not part of the stand-in.", 501)
    if {"nodeProperties", "eksProperties", "ecsProperties"} & set(given):
        raise refusal("Container properties only are allowed here")
    container = given.get("containerProperties")
    if not container or not container.get("image"):
        raise refusal("containerProperties must contain an image")
    if {"vcpus", "memory"} & set(container):
        raise refusal("vcpus and memory are deprecated, use resourceRequirements")
    check_resources(container.get("resourceRequirements", []))
    check_environment(container.get("environment", []))
    if container.get("secrets") and "executionRoleArn" not in container:
        raise refusal("secrets need an executionRoleArn")
    for option in (
        "ephemeralStorage",
        "fargatePlatformConfiguration",
        "networkConfiguration",
        "runtimePlatform",
    ):
        if option in container:
            raise refusal(f"{option} is not applicable to jobs that run on EC2 resources")
    for name in ("jobRoleArn", "executionRoleArn"):
        if name in container and not container[name].startswith("arn:aws:iam::"):
            raise refusal(f"{name} is no ARN of a role")
    check_common(given)
    if len(json.dumps(given)) > DEFINITION:
        raise refusal("Job definition size must be less than 24 KiB")


def check_common(given: Mapping[str, Any]) -> None:
    """What definitions and jobs both have."""
    check_tags(given.get("tags", {}))
    if "retryStrategy" in given:
        check_retries(given["retryStrategy"])
    if "timeout" in given:
        check_timeout(given["timeout"])


def check_submit(given: Mapping[str, Any]) -> None:
    """Refuses what cannot be submitted."""
    check_name(given["jobName"], "Job name")
    for name in ("arrayProperties", "nodeOverrides", "dependsOn", "shareIdentifier", "ecsPropertiesOverride"):
        if name in given:
            raise AwsError("NotImplemented", f"{name} is not part of the stand-in.", 501)
    overrides = given.get("containerOverrides", {})
    if "vcpus" in overrides or "memory" in overrides:
        raise refusal("vcpus and memory are deprecated, use resourceRequirements")
    check_resources(overrides.get("resourceRequirements", []), whole=False)
    check_environment(overrides.get("environment", []))
    check_common(given)
    size = len(json.dumps(given))
    if size > PAYLOAD:
        # As seen: https://github.com/ASFHyP3/hyp3/issues/3041.
        raise refusal(f"Job size must be less than 30 KiB, got {size // 1024} KiB")
