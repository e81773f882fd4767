"""What answers at an endpoint of SageMaker, as it says itself. Asks nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...deployment import Deployment
from . import sagemaker_endpoint_request as asked


def told(
    endpoint: Mapping[str, Any],
    config: Mapping[str, Any] | None,
    tags: Mapping[str, str],
    url: str,
) -> list[Deployment]:
    """Give the versions that get requests.

    Args:
        config: of the endpoint; None where somebody has deleted it.
        tags: of the endpoint.
    """
    named, status = endpoint["EndpointConfigName"], endpoint["EndpointStatus"]
    said = f"{status} {endpoint.get('FailureReason', '')}"
    state = "" if status == "InService" else " ".join(said.split())
    variants = config["ProductionVariants"] if config else [{"VariantName": asked.MAIN}]
    weights = [float(one.get("InitialVariantWeight", 1.0)) for one in variants]
    whole = sum(weights) or 1.0
    return [
        Deployment(
            tags["model"],
            version(config, one["VariantName"], named),
            asked.PLACE,
            url,
            round(100 * weight / whole),
            state,
            tags.get("until", ""),
        )
        for one, weight in zip(variants, weights, strict=True)
    ]


def version(config: Mapping[str, Any] | None, variant: str, named: str) -> int:
    """Give the version of a variant; where the configuration is gone its name tells it."""
    found = asked.variant(config, variant) if config else None
    return asked.version_of(found["ModelName"] if found else named)
