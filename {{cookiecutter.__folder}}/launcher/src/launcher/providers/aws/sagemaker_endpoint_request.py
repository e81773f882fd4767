"""An endpoint of SageMaker as its API describes it: settings, names, and the requests. Asks nobody.

Fields: botocore's model of sagemaker (CreateModel, CreateEndpointConfig, ProductionVariant). What serverless endpoints
have not (several variants, GPUs, isolation from the network): docs.aws.amazon.com/sagemaker/latest/dg/serverless-endpoints.html.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...deployment import Order, hours_left, whole
from ...errors import UserError
from ...project import project
from . import registry
from . import sagemaker_endpoint_price as price

PLACE = "sagemaker"
SETTINGS = ("machine", "memory", "max", "traffic", "allow", "max_usd", "until")
# 63 characters are the most of a name; a version adds "-v123456789-abcde".
NAME = re.compile(r"[a-z0-9](-*[a-z0-9])*")
LONGEST = 46
VERSION = re.compile(r"(?P<endpoint>.+)-v(?P<number>[0-9]+)-[0-9a-f]{5}")
MEMORY = tuple(str(size) for size in range(1024, 6145, 1024))  # MB
LEAST_MEMORY = "1024"
MOST_AT_ONCE = 200  # requests, of a serverless endpoint
# The same in each configuration: some kinds of updates want a name that was there before
# (docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-exclusions.html).
MAIN, CANARY = "main", "canary"
BEFORE = "before"  # tag of a configuration: the one that a rollback leads to


@dataclass(frozen=True)
class Where:
    """The account and the region that endpoints are in."""

    account: str
    region: str

    def __str__(self) -> str:
        return f"{self.account}/{self.region}"

    def arn(self, kind: str, name: str) -> str:
        """Name something of SageMaker's, such as endpoint, as policies do."""
        return f"arn:aws:sagemaker:{self.region}:{self.account}:{kind}/{name}"

    @property
    def role(self) -> str:
        """The role of what serves, which `make cloud-setup` makes: it may fetch its image and write its log."""
        return f"arn:aws:iam::{self.account}:role/{project().account}-server"


def endpoint_name(model: str) -> str:
    """Give what the endpoint of a model is called.

    Raises:
        UserError: it would be too long.
    """
    name = f"{project().slug}-{model}"
    if len(name) > LONGEST or not NAME.fullmatch(name):
        raise UserError(
            f"{name} cannot name an endpoint, which has at most {LONGEST} characters here; register {model} by a shorter name=..."
        )
    return name


def version_name(order: Order) -> str:
    """Give a name that no model and no configuration has yet, and that tells the version."""
    return f"{endpoint_name(order.model)}-v{order.version}-{secrets.token_hex(3)[:5]}"


def version_of(name: str) -> int:
    """Give the version that the name of a model or a configuration tells; 0 where it is not of our making."""
    found = VERSION.fullmatch(name)
    return int(found["number"]) if found else 0


def is_of(endpoint: str, name: str) -> bool:
    """Tell whether a model or a configuration was made for an endpoint, by its name."""
    found = VERSION.fullmatch(name)
    return bool(found) and found["endpoint"] == endpoint


def undeploying(model: str) -> str:
    """Give the command that removes what answers."""
    return f"uv run models undeploy {model} to={PLACE}"


def check(order: Order, where: Where) -> None:
    """Refuse settings that SageMaker would, and what nobody would end.

    Raises:
        UserError: naming the setting and what it may be.
    """
    settings, name = order.settings, endpoint_name(order.model)
    if "allow" in settings:
        raise UserError(
            "SageMaker keeps no list of who may ask an endpoint; leave allow= out, and allow them in IAM "
            f"sagemaker:InvokeEndpoint on {where.arn('endpoint', name)}."
        )
    hours_left(settings)
    whole(settings, "traffic", 100)
    whole(settings, "max", MOST_AT_ONCE)
    if "machine" in settings:
        _check_machine(settings, where.region)
    else:
        _check_serverless(settings)
    host = f"{where.account}.dkr.ecr.{where.region}.amazonaws.com"
    if order.image and not order.image.startswith(f"{host}/"):
        raise UserError(
            f"SageMaker takes images of ECR in its own account and region ({host}), and not {order.image}; leave CLOUD_IMAGE out."
        )


def _check_machine(settings: Mapping[str, str], region: str) -> None:
    machine = settings["machine"]
    if machine not in (known := price.machines(region)):
        raise UserError(
            f"machine={machine} is none whose price is known here; give {', '.join(known)}."
        )
    for name in ("memory", "max"):
        if name in settings:
            raise UserError(
                f"{name}= is of endpoints without a machine; leave {name}= or machine= out."
            )
    if "until" not in settings:
        raise UserError(
            f"machine={machine} is paid for day and night, whoever asks; say its last day by until=YYYY-MM-DD, after which the "
            "janitor removes it, or leave machine= out: without one it costs nothing while nobody asks."
        )


def _check_serverless(settings: Mapping[str, str]) -> None:
    if "traffic" in settings:
        raise UserError(
            "An endpoint without a machine has one version at a time (SageMaker divides no requests there); "
            "leave traffic= out, or give machine=ml.m5.large."
        )
    memory = settings.get("memory", LEAST_MEMORY)
    if memory not in MEMORY:
        raise UserError(f"memory={memory} is none that SageMaker has; give {', '.join(MEMORY)} MB.")


def check_image(image: str, where: Where) -> str:
    """Give the repository for images that serve, beside the one of an image that trains.

    Raises:
        UserError: that is elsewhere than in ECR of this account and region.
    """
    host = registry.host(where.account, where.region)
    start, _, name = image.partition("@")[0].partition("/")
    if start != host or "/" not in name:
        raise UserError(
            f"SageMaker takes images of ECR in its own account and region ({host}), and not of {start}; leave CLOUD_IMAGE out, "
            "or set cloud.repository to one there."
        )
    return f"{name.rpartition('/')[0]}/serve"


def model(order: Order, name: str, where: Where) -> dict[str, Any]:
    """Give what `create_model` takes: the image has the model inside."""
    body = {
        "ModelName": name,
        "PrimaryContainer": {"Image": order.image},
        "ExecutionRoleArn": where.role,
        "Tags": tags({"model": order.model, "version": f"v{order.version}"}),
    }
    # What serves needs nobody; serverless endpoints know no such thing.
    return body | ({"EnableNetworkIsolation": True} if "machine" in order.settings else {})


def configuration(
    order: Order,
    name: str,
    before: str,
    beside: Mapping[str, Any] | None,
    percent: int = 100,
    model: str = "",
) -> dict[str, Any]:
    """Give what `create_endpoint_config` takes.

    Args:
        before: the configuration that a rollback leads to; empty for none.
        beside: the variant that keeps the other requests; None where the new one gets all.
        percent: of the requests for the new one.
        model: of the new one; empty where it is called as the configuration.
    """
    mine = _variant(order.settings, model or name)
    if beside is None:
        variants = [{"VariantName": MAIN, **mine, "InitialVariantWeight": 1.0}]
    else:
        kept = {key: beside[key] for key in ("ModelName", "InstanceType", "InitialInstanceCount")}
        variants = [
            {"VariantName": MAIN, **kept, "InitialVariantWeight": float(100 - percent)},
            {"VariantName": CANARY, **mine, "InitialVariantWeight": float(percent)},
        ]
    about = {"model": order.model, "version": f"v{order.version}"}
    return {
        "EndpointConfigName": name,
        "ProductionVariants": variants,
        "Tags": tags(about | ({BEFORE: before} if before else {})),
    }


def _variant(settings: Mapping[str, str], name: str) -> dict[str, Any]:
    if machine := settings.get("machine"):
        return {"ModelName": name, "InstanceType": machine, "InitialInstanceCount": 1}
    size = {
        "MemorySizeInMB": int(settings.get("memory", LEAST_MEMORY)),
        "MaxConcurrency": int(settings.get("max", "1")),
    }
    return {"ModelName": name, "ServerlessConfig": size}


def is_serverless(config: Mapping[str, Any]) -> bool:
    """Tell whether a configuration has no machines of its own."""
    return any("ServerlessConfig" in one for one in config["ProductionVariants"])


def variant(config: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Give one variant of a configuration; None where it has none of that name."""
    return next((one for one in config["ProductionVariants"] if one["VariantName"] == name), None)


def about(order: Order) -> dict[str, str]:
    """Give what an endpoint itself tells of a deployment; the janitor ends it only where its note says so, too."""
    found = {"model": order.model, "version": f"v{order.version}"}
    until = order.settings.get("until")
    return {**found, "until": until} if until else found


def tags(of: Mapping[str, str]) -> list[dict[str, str]]:
    """Give the tags by which something is found again, and told apart on the bill."""
    found = {"project": project().slug, **of}
    return [{"Key": key, "Value": value} for key, value in found.items()]
