"""What SageMaker keeps of endpoints and packages, what runs their containers, and how it says that there is none."""

import itertools
from typing import Any, Protocol

from stage.aws.errors import AwsError
from stage.aws.people import ACCOUNT
from stage.aws.server import Call
from stage.aws.training_rules import invalid


class Host(Protocol):
    """What runs containers, by name of the endpoint, of the configuration and of the variant."""

    def start(self, key: tuple[str, str, str], image: str, environment: dict[str, str]) -> bool:
        """Start a container; whether it answers /ping in time."""
        ...

    def ask(self, key: tuple[str, str, str], body: bytes, kind: str) -> tuple[int, bytes]: ...

    def stop(self, key: tuple[str, str, str]) -> None: ...


class Kept:
    """A model, a configuration, an endpoint, a group or a package.

    Attributes:
        given: the request that made it.
    """

    def __init__(self, arn: str, given: dict[str, Any], moment: float) -> None:
        self.arn, self.given, self.created = arn, given, moment
        self.tags = {tag["Key"]: tag["Value"] for tag in given.get("Tags", [])}

    def tag_list(self) -> list[dict[str, str]]:
        return [{"Key": key, "Value": value} for key, value in self.tags.items()]

    def touched(self) -> None:
        """Search does not know of it."""


class Endpoint(Kept):
    """Attributes:
    config: its configuration; pending: the one that it is on its way to.
    left: looks until what is under way is done.
    """

    def __init__(self, arn: str, given: dict[str, Any], moment: float, left: int) -> None:
        super().__init__(arn, given, moment)
        self.name, self.status, self.reason = given["EndpointName"], "Creating", ""
        self.config = self.pending = given["EndpointConfigName"]
        self.left, self.turns = left, itertools.count()


def arn_of(call: Call, kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:{call.region}:{ACCOUNT}:{kind}/{name}"


def missing_config(call: Call, name: str) -> AwsError:
    # As seen: https://github.com/hashicorp/terraform-provider-aws/issues/40048.
    return invalid(f'Could not find endpoint configuration "{arn_of(call, "endpoint-config", name)}".')


def missing_endpoint(arn: str) -> AwsError:
    # As seen: https://github.com/aws/amazon-sagemaker-examples/issues/2402.
    return invalid(f'Could not find endpoint "{arn}".')


def quota(name: str, limit: int, now: int, more: int) -> AwsError:
    # As seen: https://github.com/aws-samples/sagemaker-custom-project-templates/issues/51.
    return AwsError(
        "ResourceLimitExceeded",
        f"The account-level service limit '{name}' is {limit} Instances, with current utilization of {now} Instances and a "
        f"request delta of {more} Instances. Please use AWS Service Quotas to request an increase for this quota.",
    )
