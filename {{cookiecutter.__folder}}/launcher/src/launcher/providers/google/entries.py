"""Lines of Cloud Logging, page by page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import auth as google

PAGE = 1000  # entries in one answer


def entries(project: str, condition: str) -> Iterator[dict[str, Any]]:
    """Give the entries of a project that meet a condition, oldest first.

    Args:
        condition: in the query language of Cloud Logging; best with a time, else the whole retention is searched.

    Raises:
        ServiceError: they cannot be read.
    """
    body = {
        "resourceNames": [f"projects/{project}"],
        "filter": condition,
        "orderBy": "timestamp asc",
        "pageSize": PAGE,
    }
    url = f"{google.endpoint('logging')}/v2/entries:list"
    while True:
        answer = google.call("POST", url, body, retry=True)  # it only reads
        yield from answer.get("entries", [])
        if not (page := answer.get("nextPageToken")):
            return
        body = {**body, "pageToken": page}


def text(entry: dict[str, Any]) -> str:
    """Give what an entry says, without the end of its line."""
    content = entry.get("jsonPayload") or {}
    return str(entry.get("textPayload") or content.get("message") or content or "").rstrip("\n")
