"""InvokeEndpoint: who may ask, which variant answers, and what becomes of what a container says.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html; limits of serverless ones:
https://docs.aws.amazon.com/sagemaker/latest/dg/serverless-endpoints-invoke.html.
"""

import json
import re
import urllib.parse
from typing import Any

from stage.aws.endpoint_kinds import Endpoint, arn_of
from stage.aws.endpoints import Endpoints
from stage.aws.errors import AwsError
from stage.aws.people import ACCOUNT
from stage.aws.server import Call
from stage.aws.wire import Raw, Reply

PATH = re.compile(r"/endpoints/(?P<name>[^/]+)/invocations")
MOST, MOST_SERVERLESS = 6_291_456, 4 * 1024 * 1024


class Runtime:
    """Asks the containers of endpoints."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints

    def __call__(self, call: Call, raw: Raw) -> Reply:
        parts = PATH.fullmatch(urllib.parse.unquote(raw.path))
        if not parts or raw.method != "POST":
            raise AwsError("UnknownOperationException", f"{raw.method} {raw.path} is no operation.", 404)
        name = parts["name"]
        call.require("sagemaker:InvokeEndpoint", arn_of(call, "endpoint", name))
        found = self._endpoints.endpoints.get((call.region, name))
        if not found or found.status not in ("InService", "Updating"):
            raise AwsError("ValidationError", f"Endpoint {name} of account {ACCOUNT} not found.")
        variant = self._variant(call, found, raw.headers.get("x-amzn-sagemaker-target-variant", ""))
        if len(raw.body) > (MOST_SERVERLESS if "ServerlessConfig" in variant else MOST):
            raise AwsError("ValidationError", "The request body is too large.", 413)
        assert self._endpoints.host
        key = (found.name, found.config, variant["VariantName"])
        status, body = self._endpoints.host.ask(key, raw.body, raw.headers.get("content-type", ""))
        if status >= 400:
            return _model_error(variant["VariantName"], status, body)
        headers = {"x-Amzn-Invoked-Production-Variant": variant["VariantName"]}
        return Reply(200, body, headers | {"Content-Type": "application/json"})

    def _variant(self, call: Call, endpoint: Endpoint, wanted: str) -> dict[str, Any]:
        """The variant that is named, else one by the weights, in turn."""
        variants = self._endpoints.configs[call.region, endpoint.config].given["ProductionVariants"]
        if wanted:
            found = [one for one in variants if one["VariantName"] == wanted]
            if not found or "ServerlessConfig" in found[0]:  # of serverless ones nobody says
                raise AwsError("ValidationError", f"Variant {wanted} not found for Request.")
            return found[0]
        whole = sum(one.get("InitialVariantWeight", 1.0) for one in variants)
        turn = next(endpoint.turns) * 37 % 100 / 100 * whole
        for one in variants:
            turn -= one.get("InitialVariantWeight", 1.0)
            if turn < 0:
                return one
        return variants[-1]


def _model_error(variant: str, status: int, body: bytes) -> Reply:
    # As seen: https://github.com/aws/amazon-sagemaker-examples/issues/1881.
    kind = "client" if status < 500 else "server"
    text = body.decode(errors="replace")[:1024]
    message = (
        f'Received {kind} error ({status}) from {variant} with message "{text}". See the log of the endpoint.'
    )
    said = {"Message": message, "OriginalMessage": text, "OriginalStatusCode": status, "LogStreamArn": ""}
    headers = {"Content-Type": "application/json", "x-amzn-ErrorType": "ModelError"}
    return Reply(424, json.dumps(said).encode(), headers)
