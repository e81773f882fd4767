"""How Compute Engine's lists are asked: their filters, pages, and the part of each answer that is wanted."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from stage.compute_rules import ComputeError, invalid
from stage.rest import RequestError
from stage.vertex_filter import SEVERITIES, Match, _bad, _dig, _ordered, _Parser

FIELDS = {
    *("name", "status", "zone", "id", "creationTimestamp", "machineType", "selfLink"),
    *("operationType", "targetLink", "targetId", "insertTime", "user", "scheduling.provisioningModel"),
}


def list_filter(text: str) -> Match:
    """The filter of a list: comparisons of fields and labels, joined by AND, OR or parentheses.

    Raises:
        ComputeError: 400, as the service has no such field or the filter cannot be read.
    """
    single = re.fullmatch(r'\s*([\w.]+)\s+(eq|ne)\s+"?([^"]*)"?\s*', text)
    try:
        if single:
            return _regular(*single.groups())
        return _Parser(text, _compare).parse()
    except RequestError as error:
        raise ComputeError(
            400, f"Invalid value for field 'filter': '{text}'. Invalid list filter expression.", "invalid"
        ) from error


def _regular(field: str, operator: str, pattern: str) -> Match:
    """The older form: one regular expression, which the whole of one field matches."""
    if field not in FIELDS:
        raise _bad(f"{field} is no field that can be filtered by")
    expression = re.compile(pattern)
    return lambda item: bool(expression.fullmatch(str(_dig(item, field)))) == (operator == "eq")


def _compare(field: str, operator: str, value: str) -> Match:
    label = field.removeprefix("labels.") if field.startswith("labels.") else None
    if label is None and field not in FIELDS:
        raise _bad(f"{field} is no field that can be filtered by")
    if operator not in ("=", "!=", ":"):
        raise _bad(f"{operator} is not for texts")

    def found(item: Mapping[str, Any]) -> Any:
        return item.get("labels", {}).get(label) if label is not None else _dig(item, field)

    if operator == ":" and value == "*":
        return lambda item: found(item) is not None
    if operator == ":":
        return lambda item: value.lower() in str(found(item) or "").lower()
    return lambda item: (found(item) == value) == (operator == "=")


def listing(
    found: list[dict[str, Any]], query: Mapping[str, str]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """What a list answers: those that the filter lets through, one page of them, and the next page's token."""
    matches = list_filter(query.get("filter", ""))
    order = query.get("orderBy", "name")
    if order not in ("name", "creationTimestamp desc"):
        raise invalid("orderBy", order, "Must be name, or creationTimestamp desc.")
    matching = [item for item in found if matches(item)]
    matching.sort(key=lambda item: item.get(order.split()[0], ""), reverse=order.endswith("desc"))
    size, token = query.get("maxResults", "500"), query.get("pageToken", "0")
    if not size.isdigit() or not 0 <= int(size) <= 500:
        raise invalid("maxResults", size, "Must be between 0 and 500.")
    if not token.isdigit():
        raise invalid("pageToken", token, "The page token is not valid.")
    end = int(token) + int(size)
    return matching[int(token) : end], {"nextPageToken": str(end)} if end < len(matching) else {}


def partial(content: Any, fields: str) -> Any:
    """The part of an answer that the parameter `fields` names, such as items(name,labels),nextPageToken."""
    wanted, rest = _selection(fields)
    if rest:
        raise ComputeError(400, f"Invalid field selection {fields}", "invalidParameter")
    return _select(content, wanted)


def _selection(text: str) -> tuple[dict[str, Any], str]:
    """Reads a,b/c,d(e,f) as {a: {}, b: {c: {}}, d: {e: {}, f: {}}}; gives what is left after it."""
    found: dict[str, Any] = {}
    while True:
        name = re.match(r"\s*([\w*-]+)", text)
        if not name:
            raise ComputeError(400, f"Invalid field selection {text}", "invalidParameter")
        here = found.setdefault(name[1], {})
        text = text[name.end() :]
        while slash := re.match(r"/([\w*-]+)", text):
            here = here.setdefault(slash[1], {})
            text = text[slash.end() :]
        if text.startswith("("):
            inner, text = _selection(text[1:])
            here.update(inner)
            if not text.startswith(")"):
                raise ComputeError(400, "Invalid field selection: a parenthesis is open.", "invalidParameter")
            text = text[1:]
        if not text.startswith(","):
            return found, text
        text = text[1:]


def _select(content: Any, wanted: dict[str, Any]) -> Any:
    if isinstance(content, list):
        return [_select(one, wanted) for one in content]
    if not wanted or not isinstance(content, dict):
        return content
    return {
        name: _select(value, wanted.get(name, wanted.get("*", {})))
        for name, value in content.items()
        if name in wanted or "*" in wanted
    }


class MachineLogFilter:
    """A filter of entries:list for what VMs' containers print; it must say resource.type="gce_instance"."""

    ASKED = re.compile(r'resource\.type\s*=\s*"?gce_instance\b')
    KNOWN = re.compile(
        r"resource\.(type|labels\.(instance_id|zone|project_id))|logName|insertId|textPayload"
        r"|jsonPayload\.(message|instance\.(name|id|zone)|container\.(name|id|imageName|metadata\.\w+))"
    )

    def __init__(self, text: str) -> None:
        if not self.ASKED.search(text):
            raise _bad('The filter must ask for resource.type="gce_instance".')
        self._match = _Parser(text, self._compare).parse()

    def __call__(self, entry: Mapping[str, Any]) -> bool:
        return self._match(entry)

    def _compare(self, field: str, operator: str, value: str) -> Match:
        if field == "severity" and operator != ":" and value.upper() in SEVERITIES:
            rank = SEVERITIES.index(value.upper())
            return _ordered(lambda entry: SEVERITIES.index(entry["severity"]), operator, rank)
        if field == "timestamp" and operator != ":":
            return _ordered(lambda entry: _moment(entry["timestamp"]), operator, _moment(value))
        if not self.KNOWN.fullmatch(field):
            raise _bad(f"Invalid filter: the field {field} is not known.")
        if operator == ":":
            return lambda entry: value.lower() in str(_dig(entry, field)).lower()
        return _ordered(lambda entry: str(_dig(entry, field)), operator, value)


def _moment(text: str) -> datetime:
    """A time as RFC 3339 has it, in whichever zone."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", text):
        raise _bad(f"Invalid filter: {text!r} is no RFC 3339 time.")
    return datetime.fromisoformat(text)
