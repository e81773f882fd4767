"""Notebooks on compute instances: machines of Azure ML for one person, with Jupyter on them, reached by the studio.

One is made to end by itself in two ways: when nobody uses it, and by a schedule when its hours are over. Neither is sure:
who works there may dismiss the schedule's warning, and one was idle for 45 days all the same
(github.com/Azure/azure-cli-extensions/issues/7506). So the janitor ends it too. A stopped one still costs its disk, so it
is a leftover. Files of a person are in the workspace's file share and stay.
https://learn.microsoft.com/azure/machine-learning/how-to-create-compute-instance
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from ...job import Job, Problem, State
from ..errors import MissingError, RefusedError
from . import auth as azure
from .azureml_instances import KIND, Instance
from .azureml_request import API, duration

STORAGE_API = "2023-05-01"
IDLE_MINUTES = (15, 3 * 24 * 60)  # least and most, by the API's description of the setting
# A schedule comes again and again: every day it ends one of less than a day, every week one of less than a week.
DAILY_HOURS, WEEKLY_HOURS = 23, 6 * 24


def name(workspace: str, run_id: str, slug: str, number: int) -> str:
    """Give a name that nobody else in the region has: 24 characters at most, and after a hyphen no digits alone."""
    which = hashlib.sha256(f"{workspace} {run_id}".encode()).hexdigest()[:6]
    stem = re.sub(r"[^a-z0-9]+", "-", slug.lower()).strip("-")[:9].strip("-")
    return f"nb{number}-{stem}-h{which}"


def free(workspace: str, run_id: str, slug: str, taken: Collection[str]) -> str:
    """Give a name that is not taken."""
    number = 1
    while (made := name(workspace, run_id, slug, number)) in taken:
        number += 1
    return made


def body(
    job: Job, *, region: str, tags: Mapping[str, str], idle_minutes: float, now: datetime
) -> dict[str, Any]:
    """Give a compute instance that stops when nobody uses it, and when its hours are over.

    It has no managed identity, for with one it stops itself only if that is Contributor of the workspace
    (.../how-to-create-compute-instance#configure-idle-shutdown): code on it is logged in as whom the machine is for.

    Args:
        now: from when on they count.
    """
    end = now + timedelta(hours=job.max_hours, seconds=59)  # a schedule knows whole minutes
    day = "*" if job.max_hours <= DAILY_HOURS else str(end.isoweekday() % 7)  # 0 is Sunday
    stop = {
        "action": "Stop",
        "status": "Enabled",
        "triggerType": "Cron",
        "cron": {"timeZone": "UTC", "expression": f"{end.minute} {end.hour} * * {day}"},
    }
    instance = {
        "vmSize": job.machine.type,
        "applicationSharingPolicy": "Personal",
        "computeInstanceAuthorizationType": "personal",
        "sshSettings": {"sshPublicAccess": "Disabled"},
        "idleTimeBeforeShutdown": duration(math.ceil(idle_minutes) * 60),
        "schedules": {"computeStartStop": [stop]},
    }
    properties = {"computeType": KIND, "description": job.run_id, "properties": instance}
    return {"location": region, "tags": dict(tags), "properties": properties}


def check(job: Job, idle_minutes: float) -> list[Problem]:
    """Can it end by itself as it is asked to?"""
    problems, (least, most) = [], IDLE_MINUTES
    if job.max_hours > WEEKLY_HOURS:
        what = (
            f"A schedule ends a notebook after {WEEKLY_HOURS} hours at most, not {job.max_hours:g}"
        )
        problems.append(Problem(what, f"give cloud.max_hours={WEEKLY_HOURS} or less"))
    if not least <= idle_minutes <= most:
        what = f"Azure ML ends what nobody uses after {least} minutes at least and {most} at most, not {idle_minutes:g}"
        near = min(most, max(least, math.ceil(idle_minutes)))
        problems.append(Problem(what, f"give cloud.idle_minutes={near}"))
    return problems


def check_storage(workspace: str) -> list[Problem]:
    """Does the workspace's storage account take keys? Without them no compute instance comes up.

    https://learn.microsoft.com/azure/machine-learning/how-to-create-compute-instance, Prerequisites

    Args:
        workspace: its path in Azure Resource Manager.
    """
    account = azure.call("GET", workspace, api=API)["properties"].get("storageAccount", "")
    try:
        found = azure.call("GET", account, api=STORAGE_API)["properties"]
    except (MissingError, RefusedError):
        return []  # the service says it, some minutes later
    if found.get("allowSharedKeyAccess") is not False:
        return []
    name = account.rpartition("/")[2]
    what = f"The workspace's storage account {name} takes no keys, without which no compute instance comes up"
    remedy = f"`az storage account update --name {name} --allow-shared-key-access true`, or `make notebook` here"
    return [Problem(what, remedy)]


def hint(instance: Instance) -> str:
    """Say how to get at it."""
    there = instance.jupyter if instance.state is State.running else ""
    where = there or instance.url
    ready = "" if there else " (ready in about five minutes; choose JupyterLab there)"
    return (
        f"notebook  {where}{ready}\n"
        "keep      your files in ~/cloudfiles, the workspace's share: the machine's own disk is removed after its end"
    )
