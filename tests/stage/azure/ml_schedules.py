"""When a compute instance starts and stops by itself.

https://learn.microsoft.com/azure/machine-learning/how-to-create-compute-instance#schedule-automatic-start-and-stop; the fields
are those of the service's description (Cron, Recurrence of ComputeStartStopSchedule).
"""

import datetime
import re
from typing import Any

from stage.azure.errors import AzureError
from stage.azure.ml_rules import absent

MOST = 4  # "You can create a total of four schedules per compute instance."
WEEK = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MINUTE = 60


def check_schedules(schedules: list[dict[str, Any]]) -> None:
    """Refuses schedules that the service would not take, or that the stage cannot play."""
    if len(schedules) > MOST:
        raise AzureError(400, "BadRequest", f"A compute instance has at most {MOST} schedules.")
    for one in schedules:
        if one.get("action") not in ("Start", "Stop") or one.get("schedule"):
            raise absent("schedules that are defined elsewhere or do nothing")
        _fields(one)


def next_time(schedule: dict[str, Any], after: float) -> float | None:
    """The first moment after another one at which a schedule comes; None where it is off, or never comes within 8 days."""
    if schedule.get("status", "Enabled") != "Enabled":
        return None
    minutes, hours, days = _fields(schedule)
    moment = (int(after) // MINUTE + 1) * MINUTE
    for start in range(moment, moment + 8 * 86400, MINUTE):
        time = datetime.datetime.fromtimestamp(start, datetime.UTC)
        if time.minute in minutes and time.hour in hours and time.weekday() in days:
            return float(start)
    return None


def _fields(schedule: dict[str, Any]) -> tuple[set[int], set[int], set[int]]:
    """Minutes, hours and days of the week (0: Monday) at which it comes."""
    kind = schedule.get("triggerType")
    trigger = schedule.get("cron" if kind == "Cron" else "recurrence") or {}
    if kind not in ("Cron", "Recurrence") or not trigger:
        raise AzureError(400, "BadRequest", "A schedule needs a trigger of the type that it names.")
    if trigger.get("timeZone", "UTC") != "UTC":
        raise absent("other time zones than UTC")
    if kind == "Cron":
        return _cron(trigger.get("expression", ""))
    times = trigger.get("schedule") or {}
    if trigger.get("interval") != 1 or trigger.get("frequency") not in ("Day", "Week"):
        raise absent("recurrences of other than one day or week")
    days = {WEEK.index(day) for day in times.get("weekDays") or WEEK}
    return set(times.get("minutes") or [0]), set(times.get("hours") or [0]), days


def _cron(expression: str) -> tuple[set[int], set[int], set[int]]:
    """Minute, hour, and day of the week, Sunday being 0; of months and their days nothing is supported."""
    parts = expression.split()
    if len(parts) != 5:
        raise AzureError(400, "BadRequest", f"The cron expression '{expression}' is invalid.")
    if parts[2:4] != ["*", "*"]:
        raise absent("days of the month")
    minutes, hours, days = (
        _numbers(part, most) for part, most in zip((parts[0], parts[1], parts[4]), (59, 23, 7), strict=True)
    )
    return minutes, hours, {(day - 1) % 7 for day in days}


def _numbers(part: str, most: int) -> set[int]:
    found: set[int] = set()
    for one in part.split(","):
        if one == "*":
            return set(range(most + 1))
        span = re.fullmatch(r"(\d+)(?:-(\d+))?", one)
        if not span or int(span[2] or span[1]) > most:
            raise AzureError(400, "BadRequest", f"The cron expression has a bad field '{part}'.")
        found |= set(range(int(span[1]), int(span[2] or span[1]) + 1))
    return found
