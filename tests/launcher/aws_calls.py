"""Answers in AWS's place, below boto3: what is asked and what is answered must fit botocore's model of the service."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import botocore.client
import pytest
from botocore.exceptions import ClientError
from botocore.model import Shape

# https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/CommonErrors.html
COMMON = {"ValidationError"}
Answer = Callable[[dict[str, Any]], dict[str, Any]]


class Calls:
    """`answers` has a function for each operation, as botocore names it; all that was asked is in `asked`."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, str, dict[str, Any]]] = []  # region, operation, parameters

    def __call__(self, client: Any, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        model = client.meta.service_model.operation_model(operation)
        fits(parameters, model.input_shape, operation)
        self.asked.append((client.meta.region_name, operation, parameters))
        try:
            answer = self.answers[operation](parameters)
        except ClientError as error:
            code = error.response["Error"]["Code"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
            named = {shape.metadata.get("error", {}).get("code", shape.name) for shape in model.error_shapes}
            assert code in named | COMMON, f"{operation} has no error {code}"
            raise
        if model.output_shape is not None:
            fits(answer, model.output_shape, operation)
        return answer

    def count(self, operation: str) -> int:
        """How often an operation was called."""
        return sum(name == operation for _, name, _ in self.asked)


def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Takes the place of what boto3 sends, for one test."""
    made = Calls()
    monkeypatch.setattr(
        botocore.client.BaseClient,
        "_make_api_call",
        lambda client, operation, parameters: made(client, operation, parameters),
    )
    return made


def refusal(operation: str, code: str, message: str = "no") -> ClientError:
    """An error as boto3 raises it."""
    metadata: Any = {"HTTPStatusCode": 400}
    return ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}, operation)


def fits(value: Any, shape: Shape, where: str) -> None:
    """Fails where a value is not what the model says: names, types, what is required, enums, patterns, lengths."""
    kind: Any = {
        "structure": Mapping,
        "list": list,
        "string": str,
        "integer": int,
        "double": float,
        "boolean": bool,
        "timestamp": datetime,
        "map": Mapping,
    }[shape.type_name]
    assert isinstance(value, kind), f"{where}: {value!r} is no {shape.type_name}"
    model: Any = shape
    limits: dict[str, Any] = model.metadata
    if shape.type_name == "map":
        for key, each in value.items():
            fits(key, model.key, f"{where}.{key}")
            fits(each, model.value, f"{where}.{key}")
    elif isinstance(value, Mapping):
        assert set(value) <= set(model.members), f"{where}: {set(value) - set(model.members)}"
        assert set(model.required_members) <= set(value), f"{where}: {model.required_members}"
        for key, each in value.items():
            fits(each, model.members[key], f"{where}.{key}")
    elif isinstance(value, list):
        for each in value:
            fits(each, model.member, f"{where}[]")
    if isinstance(value, str | list):
        assert len(value) <= limits.get("max", len(value)), where
        assert len(value) >= limits.get("min", 0), where
    if isinstance(value, int) and not isinstance(value, bool):
        assert limits.get("min", value) <= value <= limits.get("max", value), f"{where}: {value}"
    if isinstance(value, str):
        assert value in (getattr(shape, "enum", None) or [value]), f"{where}: {value}"
        pattern = re.sub(r"\(\?[is]\)", "", limits.get("pattern", ".*"))  # Java's flags may stand anywhere
        assert re.fullmatch(pattern, value, re.DOTALL), f"{where}: {value}"
