"""A request in which one field is another: what a stand-in refuses is tried one field at a time."""

import copy
from typing import Any

REMOVED = object()


def with_field(request: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with the field at a path of names and numbers, joined by dots, replaced, or gone where it is REMOVED."""
    changed = copy.deepcopy(request)
    *parents, last = path.split(".")
    place: Any = changed
    for name in parents:
        place = place[int(name) if isinstance(place, list) else name]
    if value is REMOVED:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    return changed
