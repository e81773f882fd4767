"""Cloud Logging's list of entries, whoever has written them."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from stage.google.identity import Identity
from stage.rest import Answer, Request, RequestError

Entry = dict[str, Any]
FIELDS = ("resourceNames", "filter", "orderBy", "pageSize", "pageToken")


def list_entries(
    identity: Identity,
    request: Request,
    entries: Callable[[], Iterable[Entry]],
    matcher: Callable[[str], Callable[[Mapping[str, Any]], bool]],
) -> Answer:
    """Answers entries:list.

    Args:
        entries: gives all that there are.
        matcher: reads the request's filter; refuses one that it does not understand.
    """
    identity.require(request, "logging.logEntries.list")
    body = request.json()
    for name in body:
        if name not in FIELDS:
            text = f"Invalid JSON payload received. Unknown name {json.dumps(name)}"
            raise RequestError(400, text, [(name, "unknown")])
    names = body.get("resourceNames")
    if not isinstance(names, list) or not names:
        raise RequestError(400, "resource_names is required", [("resource_names", "is required")])
    for name in names:
        if not isinstance(name, str) or not identity.is_project(name.removeprefix("projects/")):
            raise RequestError(403, f"The caller does not have permission on {name}.")
    order = body.get("orderBy") or "timestamp asc"
    if order not in ("timestamp asc", "timestamp desc"):
        text = "order_by is 'timestamp asc' or 'timestamp desc'"
        raise RequestError(400, text, [("order_by", str(order))])
    matches = matcher(str(body.get("filter") or ""))
    found = [entry for entry in entries() if matches(entry)]
    found.sort(key=lambda entry: (entry["timestamp"], entry["insertId"]), reverse=order.endswith("desc"))
    shown, more = page(found, body.get("pageSize"), body.get("pageToken"), 50, 1000)
    return Answer(({"entries": shown} if shown else {}) | more)


def page(
    found: list[Any], size: Any, token: Any, usual: int, most: int = 100
) -> tuple[list[Any], dict[str, str]]:
    """One page, and the token of the next if there is one; a size over the most is cut, as the services do."""
    try:
        count, start = min(int(size or usual), most), int(token or 0)
    except (TypeError, ValueError) as error:
        raise RequestError(
            400, "page_size or page_token is not valid", [("page_token", str(error))]
        ) from error
    if count < 1 or start < 0:
        raise RequestError(400, "page_size must not be negative", [("page_size", str(count))])
    more = {"nextPageToken": str(start + count)} if start + count < len(found) else {}
    return found[start : start + count], more
