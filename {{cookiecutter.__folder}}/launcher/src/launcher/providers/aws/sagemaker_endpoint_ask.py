"""How an endpoint of SageMaker is asked: by its one route, with the login's signature, whatever is asked for."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from ...deployment import Ask, SilentError
from ..errors import RefusedError, ServiceError
from . import auth as aws
from .sagemaker_endpoint_request import Where

# What a container has answered, in the words of SageMaker's own error.
CONTAINER = re.compile(r"Received .*error \((?P<status>\d{3})\)")
DESCRIBE = {"describe": True}  # see serving/app.py
PATIENCE = 240.0  # seconds in which one without a machine has to wake up: its container has 180 for its start
POLL = 5.0


def asking(where: Where, name: str, variant: str = "") -> Ask:
    """Give what asks an endpoint; health and description come by the route of predictions, as there is no other.

    Args:
        variant: of several, the one that is asked; empty for the only one.
    """

    def ask(path: str, body: Any) -> tuple[int, Any]:
        if path == "/predict":
            return invoke(where, name, body, variant)
        status, answer = _awake(where, name, variant)
        if status == 200 and path == "/health":
            return status, {"registry_version": (answer.get("info") or {}).get("version")}
        return status, answer

    return ask


def _awake(where: Where, name: str, variant: str) -> tuple[int, Any]:
    """Ask for the description, again and again while it is silent and patience lasts."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return invoke(where, name, DESCRIBE, variant)
        except SilentError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(POLL)


def invoke(where: Where, name: str, body: Any, variant: str = "") -> tuple[int, Any]:
    """Ask an endpoint; give the status and the JSON of the answer.

    Raises:
        SilentError: it does not answer, or not yet.
        RefusedError: this login may not ask it.
    """
    target = {"TargetVariant": variant} if variant else {}
    try:
        answer = aws.call(
            "sagemaker-runtime",
            "invoke_endpoint",
            where.region,
            EndpointName=name,
            ContentType="application/json",
            Body=json.dumps(body).encode(),
            **target,
        )
        return 200, json.loads(answer["Body"].read())
    except RefusedError as error:
        remedy = f"allow it that on {where.arn('endpoint', name)}: who deploys asks, too"
        raise RefusedError(error.what, remedy, error.code) from error
    except ServiceError as error:
        found = CONTAINER.search(str(error)) if error.code == "ModelError" else None
        if found:
            return int(found["status"]), {"error": str(error)}
        raise SilentError(str(error)) from error
    except ValueError as error:
        raise SilentError(f"What it answers is no JSON ({error}).") from error
