"""What the service's own description says of a request's body, as azure-ai-ml carries it in generated classes (2025-12-01).

A private module of a pinned package: names, required and read-only fields, types and lists of values are in it; lengths,
patterns and bounds are not (`ml_rules.py`).
"""

import datetime
import enum
import functools
import inspect
import re
import typing
import warnings
from collections.abc import Iterator
from typing import Any

from stage.azure.errors import AzureError

DURATION = re.compile(r"P(?=.)(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+S)?)?")
SECONDS = (("D", 86400), ("H", 3600), ("M", 60), ("S", 1))
READ = ["read"]
# Fields that a class lacks although azure-ai-ml sends them: a sweep's own `resources` ("dropped from the arm_ml_service
# (2025-12) SweepJob model; assign it via wire-key so it still serializes", entities/_job/sweep/sweep_job.py).
ADDED = {"SweepJob": {"resources": "CommandJob"}}  # class -> field -> class that has it


@functools.cache
def _models() -> Any:
    with warnings.catch_warnings():  # of the package's own use of marshmallow
        warnings.simplefilter("ignore")
        from azure.ai.ml._restclient.arm_ml_service import models  # its import takes seconds
    return models


@functools.cache
def _fields(kind: Any) -> dict[str, tuple[Any, Any]]:
    """JSON name -> type and description of each field of a class."""
    kind.__new__(kind)  # its table of fields is made with the first instance
    models = _models()
    names = {**vars(typing), **vars(models), "_models": models, "datetime": datetime}
    hints: dict[str, Any] = {}
    for one in reversed(kind.__mro__):
        for name, hint in inspect.get_annotations(one).items():
            hints[name] = eval(hint, names) if isinstance(hint, str) else hint
    found = {
        field._rest_name: (_resolved(hints[name], names), field)
        for name, field in kind._attr_to_rest_field.items()
    }
    added = ADDED.get(kind.__name__, {})
    return found | {name: _fields(getattr(models, owner))[name] for name, owner in added.items()}


def _resolved(hint: Any, names: dict[str, Any]) -> Any:
    """A type in which no part is only named any more."""
    if isinstance(hint, typing.ForwardRef):
        return eval(hint.__forward_arg__, names)
    if isinstance(hint, str):
        return eval(hint, names)
    arguments = typing.get_args(hint)
    if not arguments or typing.get_origin(hint) is typing.Literal:
        return hint
    return typing.get_origin(hint), tuple(_resolved(one, names) for one in arguments)


def check(kind: str, body: Any) -> None:
    """Refuses a body that is not what the service describes.

    Args:
        kind: of azure-ai-ml's models, such as JobBase.
    """
    problems = list(_model(getattr(_models(), kind), body, ""))
    if problems:
        details = [("ValidationError", text) for text in problems]
        raise AzureError(400, "ValidationError", "; ".join(problems), details=details)


def seconds(duration: str) -> int:
    """The seconds of an ISO 8601 duration such as PT2H."""
    found = DURATION.fullmatch(duration)
    if not found:
        raise AzureError(400, "ValidationError", f"{duration!r} is no ISO 8601 duration")
    return sum(
        int(number) * length
        for unit, length in SECONDS
        for number in re.findall(rf"(\d+){unit}", duration.replace("T", " T ") if unit == "D" else duration)
    )


def _model(kind: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path or 'the body'} is no object"
        return
    fields = _fields(kind)
    for name, (_, field) in fields.items():
        known = vars(kind).get("__mapping__", {})
        if getattr(field, "_is_discriminator", False) and known and name in value:
            sub = known.get(value[name])
            if sub is None:
                said = sorted(getattr(one, "value", one) for one in known)
                yield f"{path}.{name}={value[name]!r} is not one of {said}"
                return
            if sub is not kind:
                yield from _model(sub, value, path)
                return
    yield from (f"{path}.{name} is not a field of {kind.__name__}" for name in value if name not in fields)
    for name, (hint, field) in fields.items():
        read_only = field._visibility == READ
        if name in value:
            if read_only:
                yield f"{path}.{name} is read-only"
            else:
                yield from _check(hint, value[name], f"{path}.{name}")
        elif not read_only and not _optional(hint):
            yield f"{path}.{name} is required"


def _optional(hint: Any) -> bool:
    return hint is Any or (isinstance(hint, tuple) and hint[0] is typing.Union and type(None) in hint[1])


def _check(hint: Any, value: Any, path: str) -> Iterator[str]:
    if hint is Any:
        return
    if isinstance(hint, tuple):
        yield from _check_parts(hint[0], hint[1], value, path)
    elif typing.get_origin(hint) is typing.Literal:
        said = [getattr(one, "value", one) for one in typing.get_args(hint)]
        if value not in said:
            yield f"{path}={value!r} is not one of {said}"
    elif hint is datetime.timedelta:
        if not (isinstance(value, str) and DURATION.fullmatch(value)):
            yield f"{path}={value!r} is no ISO 8601 duration"
    elif hint in (str, int, bool, float):
        right = isinstance(value, (int, float) if hint is float else hint)
        if not right or (isinstance(value, bool) and hint is not bool):
            yield f"{path}={value!r} is no {hint.__name__}"
    elif isinstance(hint, type) and hint.__module__.startswith("azure.ai.ml"):
        yield from _model(hint, value, path)


def _check_parts(outer: Any, parts: tuple[Any, ...], value: Any, path: str) -> Iterator[str]:
    if outer is typing.Union:
        if value is None and type(None) in parts:
            return
        enums = [one for one in parts if isinstance(one, type) and issubclass(one, enum.Enum)]
        if enums:
            said = [one.value for one in enums[0]]
            if value not in said:
                yield f"{path}={value!r} is not one of {said}"
        else:
            yield from _check(next(one for one in parts if one is not type(None)), value, path)
    elif outer is list:
        if not isinstance(value, list):
            yield f"{path} is no list"
            return
        for index, one in enumerate(value):
            yield from _check(parts[0], one, f"{path}[{index}]")
    elif outer is dict:
        if not isinstance(value, dict):
            yield f"{path} is no object"
            return
        for key, one in value.items():
            yield from _check(parts[1], one, f"{path}.{key}")
