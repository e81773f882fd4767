"""The service as OpenAPI describes services, made from the model's signature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .model import Model
    from .settings import Settings

NUMBERS = {"b": "boolean", "i": "integer", "u": "integer", "f": "number"}
RESULTS: dict[str, dict[str, Any]] = {
    "classification": {
        "class": {"type": ["string", "null"]},
        "index": {"type": ["integer", "null"]},
        "probabilities": {"type": "array", "items": {"type": ["number", "null"]}},
    },
    "segmentation": {
        "b64": {"type": "string", "description": "a PNG whose pixels are numbers of classes"},
        "shares": {"type": "object", "additionalProperties": {"type": "number"}},
    },
    "depth": {
        "b64": {
            "type": "string",
            "description": "a PNG of 16 bits: low + pixel / 65535 * (high - low)",
        },
        "low": {"type": "number"},
        "high": {"type": "number"},
    },
    "regression": {
        "values": {"type": "array", "items": {"type": "number"}},
        "unit": {"type": "string"},
    },
}


def describe(model: Model, settings: Settings) -> dict[str, Any]:
    """Give the description, of OpenAPI 3.1."""
    request = {
        "type": "object",
        "required": ["instances"],
        "additionalProperties": False,
        "properties": {
            "instances": {
                "type": "array",
                "minItems": 1,
                "maxItems": settings.instances,
                "items": {"anyOf": instances(model)},
            },
            "parameters": {"type": "object", "properties": {"arrays": {"type": "boolean"}}},
        },
    }
    result = {"type": "object", "properties": RESULTS.get(model.outputs.kind, {})}
    answer = {
        "type": "object",
        "properties": {
            "predictions": {"type": "array", "items": result},
            "registry_version": {"type": "string"},
        },
    }
    content: dict[str, Any] = {
        "application/json": {"schema": request, "example": {"instances": [model.inputs.example()]}}
    }
    if model.inputs.image:
        binary = {"schema": {"type": "string", "format": "binary"}}
        content |= {"image/png": binary, "image/jpeg": binary}
    refused = {"description": 'refused: {"error": "why"}'}
    predict = {
        "post": {
            "summary": "Predictions",
            "requestBody": {"required": True, "content": content},
            "responses": {
                "200": {
                    "description": "predictions",
                    "content": {"application/json": {"schema": answer}},
                },
                **dict.fromkeys(("400", "408", "413", "415", "503"), refused),
            },
        }
    }
    health = {
        "get": {
            "summary": "Whether it can answer",
            "responses": {"200": {"description": "it can"}, "503": refused},
        }
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": model.version.partition("@")[0], "version": model.version},
        "paths": {
            **dict.fromkeys(settings.predict, predict),
            **dict.fromkeys(settings.health, health),
        },
    }


def instances(model: Model) -> list[dict[str, Any]]:
    """Give the forms that an instance may have."""
    takes, forms = model.inputs.takes, []
    for word, has in (("b64", model.inputs.image), ("text", model.inputs.text)):
        if has:
            forms.append(_object({word: {"type": "string"}}))
    if model.inputs.columns:
        forms.append(_object({one["name"]: {"type": "number"} for one in model.inputs.columns}))
    arrays = {name: _array(one["dtype"], one["shape"][1:]) for name, one in takes.items()}
    return [*forms, next(iter(arrays.values())) if len(arrays) == 1 else _object(arrays)]


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(properties),
        "additionalProperties": False,
        "properties": dict(properties),
    }


def _array(dtype: str, shape: list[int | str]) -> dict[str, Any]:
    if not shape:
        kind = "b" if dtype == "bool" else "f" if dtype.startswith(("float", "bfloat")) else "i"
        return {"type": NUMBERS[kind]}
    side = shape[0]
    length = {"minItems": side, "maxItems": side} if isinstance(side, int) else {"minItems": 1}
    return {"type": "array", "items": _array(dtype, shape[1:]), **length}
