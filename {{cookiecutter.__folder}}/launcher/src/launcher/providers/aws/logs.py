"""Lines of CloudWatch Logs, page by page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from ..errors import MissingError
from . import auth as aws


def events(region: str, group: str, prefix: str, since: datetime) -> Iterator[dict[str, Any]]:
    """Give the events of streams whose names begin alike, in the order of their time; none where there is no log yet.

    Args:
        since: no line is older; else the whole retention is searched.

    Raises:
        ServiceError: they cannot be read.
    """
    start = int(since.timestamp() * 1000)
    try:
        yield from aws.pages(
            "logs",
            "filter_log_events",
            "events",
            region,
            logGroupName=group,
            logStreamNamePrefix=prefix,
            startTime=start,
        )
    except MissingError:  # the service makes it with its first line
        return


def message(event: Mapping[str, Any]) -> str:
    """Give what an event says, without the end of its line."""
    return str(event.get("message", "")).rstrip("\r\n")
