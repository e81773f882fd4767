"""What only run history knows of a job: when it started and ended, what went wrong, and what it has printed.

It is no part of Azure Resource Manager, but of the workspace's own region: its address is at the workspace's discovery URL.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import quote

from ..errors import MissingError
from . import auth as azure
from .azureml_request import API

# azure-ai-ml 1.35.2, constants/_job/job.py; several nodes or processes have a file each.
LOG = re.compile(r"user_logs/std_log(?:_process)?_?(?P<number>\d*)\.txt")


class History:
    """Run history of one workspace.

    Args:
        workspace: gives its path in Azure Resource Manager.
    """

    def __init__(self, workspace: Callable[[], str]) -> None:
        self._workspace = workspace

    @cached_property
    def _api(self) -> str:
        found = azure.call("GET", self._workspace(), api=API)["properties"]["discoveryUrl"]
        return str(azure.call("GET", found, scope="")["api"]).rstrip(
            "/"
        )  # which is open to everybody

    def details(self, experiment: str, job: str) -> dict[str, Any]:
        """Give what it knows of a job; nothing where it has not heard of it yet.

        Raises:
            ServiceError: it cannot be asked.
        """
        path = f"experiments/{quote(experiment, safe='')}/runs/{quote(job, safe='')}/details"
        try:
            return azure.call(
                "GET", f"{self._api}/history/v1.0{self._workspace()}/{path}", scope=azure.ML_SCOPE
            )
        except MissingError:
            return {}


def lines(details: Mapping[str, Any]) -> Iterator[str]:
    """Give the lines that a job has printed in its last start, those of the first node as they are.

    Args:
        details: of run history, with an address that is signed for an hour or so for each file.

    Raises:
        ServiceError: a file cannot be read.
    """
    files = details.get("logFiles") or {}
    found = {name: LOG.fullmatch(name) for name in files}
    numbered = sorted((int(each["number"] or 0), name) for name, each in found.items() if each)
    for number, name in numbered:
        for line in _text(files[name]).splitlines():
            yield f"[node {number}] {line}" if number else line


def _text(address: str) -> str:
    try:
        response = azure.request("GET", address, scope="")
    except MissingError:  # it is written with the first line
        return ""
    return response.content.decode(errors="replace")
