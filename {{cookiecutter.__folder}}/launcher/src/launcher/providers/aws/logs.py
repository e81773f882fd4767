"""Lines of CloudWatch Logs, where both services write what a container prints."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import MissingError
from . import auth as aws


def lines(region: str, group: str, stream: str) -> Iterator[str]:
    """Give the lines of one stream, oldest first; none where there is no such stream, or not yet.

    Raises:
        ServiceError: they cannot be read.
    """
    where = {"logGroupName": group, "logStreamName": stream, "startFromHead": True}
    token: dict[str, str] = {}
    while True:
        try:
            answer = aws.call("logs", "get_log_events", region, **where, **token)
        except MissingError:
            return
        for event in answer.get("events", []):
            yield str(event.get("message", "")).rstrip("\n")
        # A page may be empty and not the last one; at the end the same token comes back
        # (https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_GetLogEvents.html).
        following = answer.get("nextForwardToken")
        if not following or following == token.get("nextToken"):
            return
        token = {"nextToken": following}
