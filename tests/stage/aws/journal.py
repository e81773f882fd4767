"""What containers print, as CloudWatch Logs has it: moto's groups and streams, with the world's time.

moto's PutLogEvents would refuse what is more than two hours ahead of this machine's clock; here it is not asked.
"""

import threading
from collections.abc import Iterable
from typing import Any

from moto.logs.models import logs_backends

from stage.aws.errors import AwsError
from stage.aws.people import ACCOUNT
from stage.aws.server import Call

# https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html and
# https://docs.aws.amazon.com/batch/latest/userguide/using_awslogs.html.
TRAINING, BATCH = "/aws/sagemaker/TrainingJobs", "/aws/batch/job"
WRITING = threading.Lock()


def write(region: str, group: str, stream: str, lines: Iterable[str], moment: float) -> None:
    """Adds lines to a stream; both it and its group are made where they are missing, which the services do."""
    with WRITING:
        known = logs_backends[ACCOUNT][region]
        if group not in known.groups:
            known.create_log_group(group, {})
        if stream not in known.groups[group].streams:
            known.create_log_stream(group, stream)
        events = [{"timestamp": round(moment * 1000), "message": line} for line in lines]
        known.groups[group].put_log_events(stream, events)


def filter_events(call: Call) -> dict[str, Any]:
    """FilterLogEvents; moto's knows neither a prefix of streams nor an order of time over several.

    https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html.
    """
    given = call.given
    name = given.get("logGroupName", "")
    names, prefix = given.get("logStreamNames"), given.get("logStreamNamePrefix", "")
    call.require(
        "logs:FilterLogEvents", f"arn:aws:logs:{call.region}:{ACCOUNT}:log-group:{name}:log-stream:{prefix}"
    )
    if "filterPattern" in given or "logGroupIdentifier" in given:
        raise AwsError("NotImplemented", "Patterns and identifiers are not part of the stand-in.", 501)
    if names is not None and prefix:
        raise AwsError(
            "InvalidParameterException", "logStreamNames and logStreamNamePrefix exclude each other."
        )
    group = logs_backends[ACCOUNT][call.region].groups.get(name)
    missing = group is None or any(one not in group.streams for one in names or [])
    if group is None or missing:
        what = "group" if group is None else "stream"
        raise AwsError("ResourceNotFoundException", f"The specified log {what} does not exist.")
    found = [
        {
            "logStreamName": stream.log_stream_name,
            "timestamp": event.timestamp,
            "message": event.message,
            "ingestionTime": event.ingestion_time,
            "eventId": str(event.event_id),
        }
        for stream in group.streams.values()
        if (
            stream.log_stream_name in names
            if names is not None
            else stream.log_stream_name.startswith(prefix)
        )
        for event in stream.events
        # endTime itself is not meant any more.
        if given.get("startTime", 0) <= event.timestamp < given.get("endTime", float("inf"))
    ]
    found.sort(key=lambda event: event["timestamp"])
    if "nextToken" not in given and len({event["logStreamName"] for event in found}) > 1:
        # An answer may be empty and there is more behind its token, says the page: of several streams it always is.
        return {"events": [], "searchedLogStreams": [], "nextToken": "0"}
    start, size = int(given.get("nextToken", "0")), given.get("limit", 10000)
    shown = {"events": found[start : start + size], "searchedLogStreams": []}
    return shown | ({"nextToken": str(start + size)} if start + size < len(found) else {})
