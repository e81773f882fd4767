"""The functions of templates.

https://learn.microsoft.com/azure/azure-resource-manager/templates/template-functions. `uniqueString` is not among them: how the
service hashes is not documented, so that a template here makes its names by guid(), which is.
"""

import base64
import json
import re
import uuid
from collections.abc import Callable
from typing import Any

from stage.azure.template_words import invalid

# The namespace of guid(): https://learn.microsoft.com/azure/azure-resource-manager/bicep/bicep-functions-string#guid.
GUIDS = uuid.UUID("11fb06fb-712d-4ddd-98c7-e71bbd588830")


def _pairs(kind: str, names: tuple[Any, ...]) -> str:
    space, *kinds = kind.split("/")
    if len(kinds) != len(names):
        text = (
            f"the type '{kind}' requires '{len(kinds)}' resource name argument(s) and '{len(names)}' were given. Please see "
            "https://aka.ms/arm-resource-functions/#resourceid for usage details"
        )
        raise invalid(f"Unable to evaluate template language function 'resourceId': {text}")
    return "/".join((space, *(part for pair in zip(kinds, map(str, names), strict=True) for part in pair)))


def _format(pattern: str, *values: Any) -> str:
    def one(found: re.Match[str]) -> str:
        return _text(values[int(found[1])])

    return re.sub(r"\{\{|\}\}", lambda found: found[0][0], re.sub(r"(?<!\{)\{(\d+)\}(?!\})", one, pattern))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "True" if value else "False"
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _concat(*values: Any) -> Any:
    if values and isinstance(values[0], list):
        return [one for value in values for one in value]
    return "".join(_text(value) for value in values)


def _union(*values: Any) -> Any:
    if isinstance(values[0], dict):
        return {key: one for value in values for key, one in value.items()}
    found: list[Any] = []
    for value in values:
        found += [one for one in value if one not in found]
    return found


def _object(*values: Any) -> dict[str, Any]:
    return dict(zip(values[::2], values[1::2], strict=True))


def _contains(whole: Any, one: Any) -> bool:
    if isinstance(whole, dict):
        return str(one).lower() in {name.lower() for name in whole}
    return one in whole


PLAIN: dict[str, Callable[..., Any]] = {
    "and": lambda *values: all(values),
    "array": lambda value: value if isinstance(value, list) else [value],
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "bool": lambda value: str(value).lower() in ("true", "1"),
    "coalesce": lambda *values: next((one for one in values if one is not None), None),
    "concat": _concat,
    "contains": _contains,
    "createarray": lambda *values: list(values),
    "createobject": _object,
    "empty": lambda value: not value,
    "endswith": lambda text, end: text.lower().endswith(end.lower()),
    "equals": lambda one, other: one == other,
    "false": lambda: False,
    "first": lambda value: value[0],
    "format": _format,
    "guid": lambda *values: str(uuid.uuid5(GUIDS, "-".join(values))),
    "int": int,
    "join": lambda values, mark: mark.join(values),
    "json": json.loads,
    "last": lambda value: value[-1],
    "length": len,
    "not": lambda value: not value,
    "null": lambda: None,
    "or": lambda *values: any(values),
    "range": lambda start, count: list(range(start, start + count)),
    "replace": lambda text, old, new: text.replace(old, new),
    "skip": lambda value, count: value[count:],
    "split": lambda text, mark: text.split(mark),
    "startswith": lambda text, start: text.lower().startswith(start.lower()),
    "string": _text,
    "substring": lambda text, start, length=None: (
        text[start:] if length is None else text[start : start + length]
    ),
    "take": lambda value, count: value[:count],
    "tolower": lambda text: text.lower(),
    "toupper": lambda text: text.upper(),
    "trim": lambda text: text.strip(),
    "true": lambda: True,
    "union": _union,
}


def of_place(
    group: dict[str, Any], subscription: str, tenant: str, deployment: str
) -> dict[str, Callable[..., Any]]:
    """The functions that know where a deployment is."""
    above = f"/subscriptions/{subscription}"

    def resource_id(*values: Any) -> str:
        """resourceId([subscription], [group], type, name, ...)"""
        given, where = list(values), str(group["id"])
        if "/" not in given[0] and "/" not in given[1]:
            where = f"/subscriptions/{given.pop(0)}/resourceGroups/{given.pop(0)}"
        elif "/" not in given[0]:
            where = f"{above}/resourceGroups/{given.pop(0)}"
        return f"{where}/providers/{_pairs(given[0], tuple(given[1:]))}"

    return {
        **PLAIN,
        "resourceid": resource_id,
        "subscriptionresourceid": lambda *values: f"{above}/providers/{_pairs(values[0], values[1:])}",
        "tenantresourceid": lambda *values: f"/providers/{_pairs(values[0], values[1:])}",
        "extensionresourceid": lambda scope, *rest: f"{scope}/providers/{_pairs(rest[0], rest[1:])}",
        "resourcegroup": lambda: group,
        "subscription": lambda: {
            "id": above,
            "subscriptionId": subscription,
            "tenantId": tenant,
            "displayName": "Stage",
        },
        "tenant": lambda: {"tenantId": tenant},
        "deployment": lambda: {"name": deployment},
    }
