"""Compute Engine's REST API: lists of many pages, and changes that are operations with an end to wait for."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

from . import google
from .gce_machine import zone_of
from .google_errors import QUOTAS, GoogleError, MissingError, UnreachableError
from .job import NoMachineError

PAGE = "500"  # the most there is
WAIT = 150.0  # seconds; the service answers after 120, whether the operation has ended or not
PAUSE = 1.0  # seconds between two such questions
LONGEST = 900.0  # seconds for a machine to be made
# Operations end with these where a zone has no such machine now, and a request is refused so where it never has.
FULL = re.compile(r"(ZONE_)?RESOURCE_POOL_EXHAUSTED\w*|STOCKOUT")
ABSENT = re.compile(
    r"does not exist in zone|(machineTypes|acceleratorTypes|diskTypes)/\S+ was not found"
)


class NoRoomError(GoogleError, NoMachineError):
    """A zone has no such machine, now or ever; another one may."""


class Compute:
    """One project's Compute Engine.

    Args:
        project: its id.
    """

    def __init__(self, project: str):
        self.project = project

    def url(self, path: str) -> str:
        """Give the URL of something in the project."""
        base = f"{google.endpoint('compute')}/projects/{self.project}"
        return f"{base}/{path}" if path else base

    def zones(self, region: str) -> list[str]:
        """Give the zones of a region that are up."""
        up = [zone["name"] for zone in self._pages("zones") if zone.get("status", "UP") == "UP"]
        return sorted(name for name in up if name.rpartition("-")[0] == region)

    def everywhere(self, kind: str, condition: str) -> list[dict[str, Any]]:
        """List the instances, disks or operations of all zones that a filter lets through."""
        found = []
        for scope in self._pages(f"aggregated/{kind}", filter=condition):
            found += scope.get(kind, [])
        return found

    def _pages(self, path: str, **query: str) -> Iterator[dict[str, Any]]:
        query["maxResults"] = PAGE
        while True:
            answer = google.call("GET", self.url(path), params=query)
            items = answer.get("items", [])
            yield from items.values() if isinstance(items, dict) else items
            if not (page := answer.get("nextPageToken")):
                return
            query["pageToken"] = page

    def insert(self, zone: str, body: dict[str, Any]) -> None:
        """Make a machine, and wait until it is there. Whatever is lost on the way, it makes one at most.

        Raises:
            NoRoomError: this zone does not have it.
            GoogleError: it cannot be made anywhere.
        """
        # By this id the service knows a request that it has had already.
        query = {"requestId": str(uuid.uuid4())}
        path = f"zones/{zone}/instances"
        try:
            answer = google.call("POST", self.url(path), body, params=query, retry=True)
            self._finish(zone, answer)
        except NoRoomError:
            raise
        except GoogleError as error:
            if ABSENT.search(error.what):
                raise NoRoomError(error.what, error.remedy) from error
            lost = isinstance(error, UnreachableError) or "already exists" in error.what
            if not (lost and self._has(f"{path}/{body['name']}")):
                raise

    def _has(self, path: str) -> bool:
        try:
            google.call("GET", self.url(path))
        except (MissingError, UnreachableError):
            return False
        return True

    def _finish(self, zone: str, operation: dict[str, Any]) -> None:
        """Wait for the end of an operation.

        Raises:
            NoRoomError, GoogleError: it has failed.
        """
        until = time.monotonic() + LONGEST
        url = self.url(f"zones/{zone}/operations/{operation['name']}/wait")
        while operation.get("status") != "DONE":
            if time.monotonic() > until:
                raise UnreachableError(
                    f"Compute Engine does not finish {operation['name']}", "see the console"
                )
            operation = google.call("POST", url, retry=True, timeout=WAIT)
            if operation.get("status") != "DONE":
                time.sleep(PAUSE)
        for error in (operation.get("error") or {}).get("errors", []):
            raise _refusal(error)

    def delete(self, path: str) -> None:
        """Order that something is deleted; what is gone already is no error.

        Args:
            path: zones/Z/instances/N or zones/Z/disks/N.
        """
        query = {"requestId": str(uuid.uuid4())}
        try:
            google.call("DELETE", self.url(path), params=query)
        except MissingError:
            return

    def console(self, machine: dict[str, Any]) -> str:
        """Give what a machine has written to its serial port; nothing of one that is gone."""
        path = f"zones/{zone_of(machine)}/instances/{machine['name']}/serialPort"
        try:
            return str(google.call("GET", self.url(path), params={"port": "1"}).get("contents", ""))
        except MissingError:
            return ""


def _refusal(error: dict[str, Any]) -> GoogleError:
    code, message = str(error.get("code", "")), str(error.get("message", "")).strip().rstrip(".")
    if FULL.fullmatch(code):
        return NoRoomError("it has no room for it now", "try again later")
    if code == "QUOTA_EXCEEDED":
        return GoogleError(f"A quota is used up: {message}", f"ask for more at {QUOTAS}")
    what = f"Compute Engine cannot make the machine: {message or code}"
    if ABSENT.search(message):
        return NoRoomError(message, "try another zone")
    return GoogleError(what, "correct that setting, or try again later")
