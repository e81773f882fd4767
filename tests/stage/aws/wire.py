"""The three protocols in which these services speak: JSON by target, JSON by path, and forms answered in XML."""

import datetime
import functools
import json
import re
import urllib.parse
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from stage.aws.errors import AwsError
from stage.aws.shapes import model


@dataclass(frozen=True)
class Raw:
    """A request as it came in.

    Args:
        path: without the query, still quoted.
        headers: names in lower case.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @functools.cached_property
    def form(self) -> dict[str, str]:
        """A form's fields, the first value of each."""
        given = urllib.parse.parse_qs(self.body.decode(errors="replace"), keep_blank_values=True)
        given |= urllib.parse.parse_qs(self.query, keep_blank_values=True)
        return {name: values[0] for name, values in given.items()}


@dataclass(frozen=True)
class Reply:
    """What is sent back."""

    status: int
    body: bytes
    headers: dict[str, str]


def decode(service: str, raw: Raw) -> tuple[Any, dict[str, Any]]:
    """Which operation of a service is meant, and with which parameters.

    Raises:
        AwsError: the operation is not one of the service's.
    """
    known = model(service)
    protocol = known.metadata["protocol"]
    if protocol == "json":
        name = raw.headers.get("x-amz-target", "").rpartition(".")[2]
        if name not in known.operation_names:
            raise AwsError("UnknownOperationException", f"{name} is not an operation of {service}.")
        return known.operation_model(name), _json(raw.body)
    if protocol == "query":
        name = raw.form.get("Action", "")
        if name not in known.operation_names:
            raise AwsError("InvalidAction", f"Could not find operation {name} for version 2011-06-15")
        return known.operation_model(name), _form(known.operation_model(name), raw.form)
    return _by_path(known, raw)


def _json(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body or b"{}")
    except ValueError as error:
        raise AwsError("SerializationException", f"The body is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise AwsError("SerializationException", "The body is no JSON object.")
    return content


def _form(operation: Any, form: dict[str, str]) -> dict[str, Any]:
    members = operation.input_shape.members if operation.input_shape else {}
    given: dict[str, Any] = {}
    for name, value in form.items():
        top = name.partition(".")[0]
        if name in ("Action", "Version"):
            continue
        if top in members and members[top].type_name == "integer":
            given[name] = int(value)
        elif top == name:
            given[name] = value
    return given


def _by_path(known: Any, raw: Raw) -> tuple[Any, dict[str, Any]]:
    for name in known.operation_names:
        operation = known.operation_model(name)
        if operation.http["method"] != raw.method:
            continue
        template = operation.http["requestUri"].partition("?")[0]
        expression = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(template))
        found = re.fullmatch(expression, raw.path)
        if found:
            given = {key: urllib.parse.unquote(value) for key, value in found.groupdict().items()}
            asked = urllib.parse.parse_qs(raw.query)
            for key, shape in (operation.input_shape.members if operation.input_shape else {}).items():
                if shape.serialization.get("location") == "querystring":
                    values = asked.get(shape.serialization.get("name", key))
                    if values:
                        given[key] = values if shape.type_name == "list" else values[0]  # type: ignore[assignment]
            return operation, given | _json(raw.body)
    raise AwsError("UnknownOperationException", f"{raw.method} {raw.path} is no operation.", 404)


def encode(service: str, operation: Any, answer: dict[str, Any], request_id: str) -> Reply:
    """An answer in the service's own protocol."""
    headers = {"x-amzn-RequestId": request_id}
    protocol = model(service).metadata["protocol"]
    if protocol == "query":
        inside = f"<{operation.name}Result>{_xml(answer)}</{operation.name}Result>"
        text = (
            f'<{operation.name}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">{inside}'
            f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{operation.name}Response>"
        )
        return Reply(200, text.encode(), headers | {"Content-Type": "text/xml"})
    kind = "application/x-amz-json-1.1" if protocol == "json" else "application/json"
    return Reply(200, json.dumps(answer).encode(), headers | {"Content-Type": kind})


def encode_error(service: str, error: AwsError, request_id: str) -> Reply:
    """A refusal as clients of a service expect it; of a service that is not modelled here too."""
    headers = {"x-amzn-RequestId": request_id}
    if service == "s3":
        text = f"<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message></Error>"
        return Reply(error.status, text.encode(), headers | {"Content-Type": "application/xml"})
    protocol = model(service).metadata["protocol"]
    if protocol == "ec2":
        inside = f"<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message></Error>"
        text = f"<Response><Errors>{inside}</Errors><RequestID>{request_id}</RequestID></Response>"
        return Reply(error.status, text.encode(), headers | {"Content-Type": "text/xml"})
    if protocol in ("query", "rest-xml"):
        kind = "Sender" if error.status < 500 else "Receiver"
        inside = f"<Type>{kind}</Type><Code>{error.code}</Code><Message>{escape(error.message)}</Message>"
        text = f"<ErrorResponse><Error>{inside}</Error><RequestId>{request_id}</RequestId></ErrorResponse>"
        return Reply(error.status, text.encode(), headers | {"Content-Type": "text/xml"})
    body = json.dumps({"__type": error.code, "message": error.message}).encode()
    headers |= {"Content-Type": "application/json", "x-amzn-ErrorType": error.code}
    return Reply(error.status, body, headers)


def _xml(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(f"<{name}>{_xml(one)}</{name}>" for name, one in value.items())
    if isinstance(value, float):  # a moment
        return datetime.datetime.fromtimestamp(value, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return escape(str(value))
