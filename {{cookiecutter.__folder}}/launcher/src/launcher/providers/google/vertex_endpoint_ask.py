"""Asking a version at an endpoint of Vertex AI: it lets predictions through, and nothing else of what a server has.

`rawPredict` gives the server's own answer, and in a header which of the deployed versions gave it
(docs.cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.endpoints/rawPredict).
"""

from __future__ import annotations

import json
import time
from typing import Any

from ...deployment import Ask, Order, SilentError
from ...errors import UserError
from ...storage import read_text
from ..errors import RefusedError, ServiceError
from . import auth as google
from . import vertex_endpoint_traffic as traffic
from .vertex_api import Region, Resource

SERVED = "X-Vertex-AI-Deployed-Model-id"
ANSWERING = 120.0  # seconds until an address that was just made, or a change of the parts, is known everywhere
POLL = 1.0
TIMEOUT = 60


def example(order: Order) -> Any:
    """Give an instance that the version takes, by its signature.

    Raises:
        UserError: it has none, or what serves is not installed here.
    """
    text = read_text(f"{order.uri}/signature.json")
    if text is None:
        raise UserError(f"{order} has no signature.json; export its run and register it again.")
    try:
        from ...serving.inputs import Inputs
    except ImportError as error:
        raise UserError(
            "What serves is not installed here, and a version is asked before others ask it: uv sync --group serve."
        ) from error
    return Inputs(json.loads(text)).example()


def asking(region: Region, endpoint: Resource, number: str, order: Order, instance: Any) -> Ask:
    """Give what asks a deployed version.

    Its health and its example cannot be asked there: the first is what the answer to the second says of itself. As long
    as an endpoint has no name of its own, and another version answers, it is asked again.

    Args:
        endpoint: which sends all of its requests to the version.
        number: its id.
        order: of which version it is.
        instance: that it takes.
    """
    name, base = endpoint["name"], traffic.address(endpoint)
    deadline = time.monotonic() + ANSWERING

    def predict(body: Any) -> tuple[int, Any]:
        nonlocal base
        while True:
            late = time.monotonic() > deadline
            try:
                base = base or traffic.address(region.get(name) or {})
                if not base:
                    raise SilentError(f"{name} has no address yet.")
                url = f"{base}:rawPredict"
                answer = google.request("POST", url, body, timeout=TIMEOUT, retry=False)
                said = answer.json()
                other = isinstance(said, dict) and said.get("registry_version") != str(order)
                # What answers at the end by this id, and is another version, is for the check to refuse.
                if answer.headers.get(SERVED, number) == number and (late or not other):
                    return answer.status_code, said
                raise SilentError(f"{url} is answered by another version still.")
            except RefusedError as error:
                raise UserError(
                    f"{error} Who deploys must be allowed to ask, too: aiplatform.endpoints.predict."
                ) from error
            except (SilentError, ServiceError, ValueError) as error:
                if late:
                    raise SilentError(str(error)) from error
            time.sleep(POLL)

    def ask(path: str, body: Any) -> tuple[int, Any]:
        if path == "/openapi.json":
            content = {"application/json": {"example": {"instances": [instance]}}}
            return 200, {"paths": {"/predict": {"post": {"requestBody": {"content": content}}}}}
        return predict({"instances": [instance]} if body is None else body)

    return ask
