"""What a body may hold: fields by name, an exclamation mark behind those that must be there.

{"location!": str, "sku!": {"name!": ("Standard_LRS", "Premium_LRS")}, "tags": Each(str), "rules": [{...}], "extra": ANY}

Services differ in what they do with a field that they do not know; here all refuse it, which is the worse for a client.
The texts: https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/error-invalid-request-content.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stage.azure.errors import AzureError

ANY = object()


@dataclass(frozen=True)
class Each:
    """An object with any names, whose values are all of one shape."""

    shape: Any


def check(shape: Any, body: Any, code: str = "InvalidRequestContent") -> None:
    """Refuses a body that does not have a shape."""
    if problem := next(_problems(shape, body, ""), None):
        text = f"The request content was invalid and could not be deserialized: '{problem}'."
        raise AzureError(400, code, text)


def _problems(shape: Any, value: Any, path: str) -> Iterator[str]:
    if shape is ANY:
        return
    if isinstance(shape, Each):
        if not isinstance(value, dict):
            yield f"An object is expected. Path '{path}'"
        else:
            for name, one in value.items():
                yield from _problems(shape.shape, one, f"{path}.{name}".lstrip("."))
    elif isinstance(shape, dict):
        yield from _object(shape, value, path)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield f"An array is expected. Path '{path}'"
        else:
            for number, one in enumerate(value):
                yield from _problems(shape[0], one, f"{path}[{number}]")
    elif isinstance(shape, tuple):
        if value not in shape:
            yield f"The value {value!r} is not one of {', '.join(map(str, shape))}. Path '{path}'"
    elif not isinstance(value, shape) or (isinstance(value, bool) and shape is not bool):
        yield f"Error converting value {value!r} to type '{shape.__name__}'. Path '{path}'"


def _object(shape: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"An object is expected. Path '{path}'"
        return
    known = {name.rstrip("!"): one for name, one in shape.items()}
    for name, one in value.items():
        where = f"{path}.{name}".lstrip(".")
        if name not in known:
            yield f"Could not find member '{name}' on object. Path '{where}'"
        elif one is not None or f"{name}!" in shape:
            yield from _problems(known[name], one, where)
    for name in shape:
        if name.endswith("!") and name[:-1] not in value:
            yield f"Required property '{name[:-1]}' not found in JSON. Path '{path}'"
