"""Requests and answers held against botocore's own models of the services: what these refuse by themselves.

boto3 checks types, required members and minimum lengths only; the services check enumerations, patterns, maximum
lengths and ranges too, which the models hold as well.
"""

import functools
import math
import re
from collections.abc import Iterator
from typing import Any

import botocore.session

from stage.aws.errors import AwsError

# Java's classes of characters: https://docs.oracle.com/javase/8/docs/api/java/util/regex/Pattern.html. Python's re has
# none of Unicode's; \w has letters, digits and marks, and [^\w\s...] the rest.
JAVA = {
    r"\p{L}": "A-Za-z\u00aa-\u02af\u0370-\u1fff\u2c00-\ud7ff\uf900-\ufdff",
    r"\p{M}": "\u0300-\u036f\u1ab0-\u1aff\u20d0-\u20ff",
    r"\p{N}": "0-9\u00b2\u00b3\u00b9\u00bc-\u00be\u0660-\u0669",
    r"\p{Z}": " \u00a0\u2000-\u200a\u2028\u2029\u3000",
    r"\p{S}": "$+<=>^`|~\u00a2-\u00a9\u2190-\u23ff",
    r"\p{P}": "!-#%-*,-/:;?@\\[-\\]_{}\u00a1\u00a7\u00b6\u2010-\u2027",
    r"\p{Alnum}": "A-Za-z0-9",
}


@functools.cache
def model(service: str) -> Any:
    """botocore's model of a service, such as sagemaker."""
    return botocore.session.get_session().get_service_model(service)


@functools.cache
def pattern(text: str) -> re.Pattern[str]:
    """A pattern of a model, which is Java's, as Python's."""
    text = re.sub(r"\)\$\{(\d+),(\d+)\}", r"){\1,\2}", text)  # "(...)${1,256}": meant is the length
    for java, python in JAVA.items():
        text = text.replace(java, python)
    return re.compile(text)


def check(operation: Any, given: dict[str, Any], code: str = "ValidationException") -> None:
    """Refuses a request that the model does not allow, with the words of the services' own validation.

    Raises:
        AwsError: with each problem, and the code that the service has for it.
    """
    shape = operation.input_shape
    problems = list(_problems(shape, given, "", True)) if shape else []
    if problems:
        count = f"{len(problems)} validation error{'s' if len(problems) > 1 else ''} detected"
        raise AwsError(code, f"{count}: {'; '.join(problems)}")


def check_answer(operation: Any, answer: dict[str, Any]) -> None:
    """Fails where an answer of the stand-in has what the service's has not: clients would drop it in silence."""
    shape = operation.output_shape
    # Lengths, patterns and what is required are promises of requests: real answers break them.
    wrong = list(_problems(shape, answer, "", False)) if shape else []
    if wrong or (not shape and answer):
        raise AssertionError(f"{operation.name} answers what the model does not know: {wrong or answer}")


def _problems(shape: Any, value: Any, place: str, strict: bool) -> Iterator[str]:
    if shape.type_name == "structure":
        yield from _structure(shape, value, place, strict)
    elif shape.type_name == "list":
        if not isinstance(value, list):
            yield _bad(value, place, "Member must be a list")
            return
        yield from _size(shape, value, place, strict)
        for index, one in enumerate(value):
            yield from _problems(shape.member, one, f"{place}.{index + 1}.member", strict)
    elif shape.type_name == "map":
        if not isinstance(value, dict):
            yield _bad(value, place, "Member must be a map")
            return
        yield from _size(shape, value, place, strict)
        for key, one in value.items():
            yield from _problems(shape.key, key, f"{place}.key", strict)
            yield from _problems(shape.value, one, f"{place}.{key}.member", strict)
    else:
        yield from _scalar(shape, value, place, strict)


def _structure(shape: Any, value: Any, place: str, strict: bool) -> Iterator[str]:
    if not isinstance(value, dict):
        yield _bad(value, place, "Member must be a structure")
        return
    if shape.is_document_type:
        return
    if strict:
        for name in shape.required_members:
            if name not in value:
                yield _bad(None, _join(place, name), "Member must not be null")
    for name, one in value.items():
        if name not in shape.members:
            yield f"Unknown member at '{_join(place, name)}'"
        elif one is None:
            yield _bad(None, _join(place, name), "Member must not be null")
        else:
            yield from _problems(shape.members[name], one, _join(place, name), strict)


def _scalar(shape: Any, value: Any, place: str, strict: bool) -> Iterator[str]:
    kind = shape.type_name
    if kind == "string":
        if not isinstance(value, str):
            yield _bad(value, place, "Member must be a string")
            return
        allowed = shape.metadata.get("enum")
        if allowed and value not in allowed:
            yield _bad(value, place, f"Member must satisfy enum value set: [{', '.join(allowed)}]")
        yield from _size(shape, value, place, strict)
        rule = shape.metadata.get("pattern")
        if rule and strict and not pattern(rule).fullmatch(value):
            yield _bad(value, place, f"Member must satisfy regular expression pattern: {rule}")
    elif kind == "boolean":
        if not isinstance(value, bool):
            yield _bad(value, place, "Member must be a boolean")
    elif kind in ("integer", "long"):
        if isinstance(value, bool) or not isinstance(value, int):
            yield _bad(value, place, "Member must be an integer")
            return
        yield from _size(shape, value, place, strict)
    elif kind in ("float", "double", "timestamp") and (
        isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
    ):
        yield _bad(value, place, "Member must be a number")


def _size(shape: Any, value: Any, place: str, strict: bool) -> Iterator[str]:
    if not strict:
        return
    size, what = (value, "value") if isinstance(value, int) else (len(value), "length")
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and size < least:
        yield _bad(value, place, f"Member must have {what} greater than or equal to {least}")
    if most is not None and size > most:
        yield _bad(value, place, f"Member must have {what} less than or equal to {most}")


def _join(place: str, name: str) -> str:
    name = name[:1].lower() + name[1:]
    return f"{place}.{name}" if place else name


def _bad(value: Any, place: str, rule: str) -> str:
    said = "null" if value is None else f"'{value}'"
    return f"Value {said} at '{place}' failed to satisfy constraint: {rule}"
