"""The operations by which Compute Engine tells how a change goes on, and the clock that all its times come from."""

import secrets
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from stage.google_identity import Identity

SITE = "https://www.googleapis.com/compute/v1"
PACIFIC = timezone(timedelta(hours=-8))  # the service tells its times there


@dataclass
class Clock:
    """The service's clock.

    Args:
        ahead: seconds by which it is ahead of this machine's.
    """

    ahead: float = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead)

    def text(self, later: float = 0.0) -> str:
        """The time as the service's JSON has it, or that of so many seconds later."""
        moment = (self.now() + timedelta(seconds=later)).astimezone(PACIFIC)
        return moment.isoformat(timespec="milliseconds")


def number() -> str:
    """An id as the service gives them."""
    return str(int(secrets.token_hex(7), 16) + 10**18)


@dataclass
class Operation:
    """One change of one resource.

    Args:
        kind: insert, delete, stop, compute.instances.preempted ...
        target: the resource, without the service's address.
        user: e-mail of who wants it; "system" for the service itself.
    """

    identity: Identity
    clock: Clock
    kind: str
    zone: str
    target: str
    target_id: str
    user: str
    content: dict[str, Any] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.name = f"operation-{time.time_ns() // 10**6}-{secrets.token_hex(6)}-{secrets.token_hex(4)}"
        if self.user == "system":
            self.name = f"systemevent-{time.time_ns() // 10**6}-{secrets.token_hex(6)}-{secrets.token_hex(4)}"
        here = f"{SITE}/projects/{self.identity.project}/zones/{self.zone}"
        now = self.clock.text()
        self.content = {
            "kind": "compute#operation",
            "id": number(),
            "name": self.name,
            "zone": here,
            "operationType": self.kind,
            "targetLink": f"{SITE}/{self.target}",
            "targetId": self.target_id,
            "status": "RUNNING",
            "user": self.user,
            "progress": 0,
            "insertTime": now,
            "startTime": now,
            "selfLink": f"{here}/operations/{self.name}",
        }

    def json(self) -> dict[str, Any]:
        return dict(self.content)

    def done(self, error: dict[str, Any] | None = None, code: int = 0) -> "Operation":
        """Ends it, with an error if there is one; a second end changes nothing."""
        if not self.over.is_set():
            more: dict[str, Any] = {"status": "DONE", "progress": 100, "endTime": self.clock.text()}
            if error:
                text = {403: "FORBIDDEN", 503: "SERVICE UNAVAILABLE"}.get(code, "BAD REQUEST")
                more |= {"error": {"errors": [error]}, "httpErrorStatusCode": code, "httpErrorMessage": text}
            self.content.update(more)
            self.over.set()
        return self
