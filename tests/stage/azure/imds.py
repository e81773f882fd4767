"""A machine's own metadata service, of which a job learns that its machine will be taken away.

https://learn.microsoft.com/azure/virtual-machines/linux/scheduled-events and .../instance-metadata-service
"""

import uuid
from email.utils import formatdate
from typing import Any

from stage.rest import Answer, Request

VERSIONS = {
    "scheduledevents": ("2017-08-01", "2017-11-01", "2019-01-01", "2019-04-01", "2019-08-01", "2020-07-01"),
    "instance": ("2019-06-01", "2020-06-01", "2020-09-01", "2021-02-01", "2021-12-13", "2023-07-01"),
}
MOST_NOTICE = 30.0  # seconds from the announcement of a preemption to the end


class Metadata:
    """What one machine is told.

    Attributes:
        name: of the machine.
        asked: how often its events were asked for.
    """

    def __init__(self, name: str, size: str, region: str) -> None:
        self.name, self.size, self.region = name, size, region
        self.asked = 0
        self._events: list[dict[str, Any]] = []
        self._incarnation = 1

    def announce(self, not_before: float, kind: str = "Preempt", machine: str = "") -> None:
        """Says that something will happen.

        Args:
            not_before: the moment, in this machine's seconds since 1970.
            machine: whose; "" for this one's. Those of a group learn of each other's too.
        """
        event = {"EventId": str(uuid.uuid4()).upper(), "EventStatus": "Scheduled", "EventType": kind}
        event |= {"ResourceType": "VirtualMachine", "Resources": [machine or self.name]}
        event |= {
            "NotBefore": formatdate(not_before, usegmt=True),
            "Description": "",
            "EventSource": "Platform",
        }
        self._events.append(event | {"DurationInSeconds": -1})
        self._incarnation += 1

    def revoke(self) -> None:
        """Says that nothing will happen after all."""
        self._events.clear()
        self._incarnation += 1

    def __call__(self, request: Request) -> Answer:
        """Answers one request to 169.254.169.254."""
        names = request.path.strip("/").split("/")
        query = {name: values[-1] for name, values in request.query.items()}
        if request.headers.get("Metadata", "").lower() != "true" or "X-Forwarded-For" in request.headers:
            return Answer({"error": "Bad request. Required metadata header not specified"}, 400)
        if names[0] != "metadata" or len(names) < 2:
            return Answer({"error": "Not found"}, 404)
        if names[1] == "identity":
            # A container's tokens come from MSI_ENDPOINT; the machine itself has no identity of the job's.
            said = {"error": "invalid_request", "error_description": "Identity not found"}
            return Answer(said, 400)
        if query.get("api-version") not in VERSIONS.get(names[1], ()):
            newest = list(VERSIONS.get(names[1], ("2021-02-01",)))[::-1]
            return Answer({"error": "Bad request. api-version is invalid", "newest-versions": newest}, 400)
        if names[1] == "scheduledevents":
            self.asked += 1
            return Answer({"DocumentIncarnation": self._incarnation, "Events": list(self._events)})
        return self._instance(names[2:], query)

    def _instance(self, names: list[str], query: dict[str, str]) -> Answer:
        compute = {"name": self.name, "vmSize": self.size, "location": self.region, "osType": "Linux"}
        if names == ["compute", "name"] and query.get("format") == "text":
            return Answer(self.name)
        if names == ["compute"]:
            return Answer(compute)
        return Answer({"compute": compute}) if not names else Answer({"error": "Not found"}, 404)
