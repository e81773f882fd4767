"""A place of the janitor's, a repository on GitHub, and what jobs and runs have left there."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fake_backend import FakeBackend
from launcher import records
from launcher.errors import UserError
from launcher.janitor.github import GitHub
from launcher.job import (
    Handle,
    Job,
    State,
    Status,
)
from launcher.money import ledger

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
OURS = {"project": "demo"}
COMMIT = "c" * 40


@dataclass
class Cloud(FakeBackend):
    """A backend with statuses as a test gives them; `hidden` are known only when asked for by name."""

    statuses: list[Status] = field(default_factory=list)
    hidden: list[Status] = field(default_factory=list)
    clock: datetime = NOW
    no_capacity: UserError | None = None

    def list(self) -> list[Status]:
        self._call("list")
        return self.statuses

    def status(self, run_id: str) -> Status | None:
        self._call("status")
        found = [status for status in self.statuses + self.hidden if status.run_id == run_id]
        return max(found, key=lambda status: status.created, default=None)

    def submit(self, job: Job) -> Handle:
        if self.no_capacity:
            raise self.no_capacity
        super().submit(job)
        return Handle("jobs/again", "https://console.example/again")


class Hub(GitHub):
    """A repository that remembers what it was told."""

    def __init__(self) -> None:
        super().__init__("owner/name", "token")
        self.trouble: Exception | None = None
        self.statuses: list[tuple[str, str, str]] = []
        self.contexts: set[str] = set()
        self.comments: dict[str, tuple[int, str]] = {}

    def set_status(
        self, commit: str, state: str, description: str, url: str = "", context: str = "train"
    ) -> None:
        if self.trouble:
            raise self.trouble
        self.contexts.add(context)
        self.statuses.append((commit, state, description))

    def comment(self, number: int, marker: str, body: str) -> bool:
        new = marker not in self.comments
        self.comments[marker] = (number, body)
        return new


def job(run_id: str, state: State = State.running, hours_ago: float = 1, **values: Any) -> Status:
    """A job of this project that may run for two hours, and has been running since it was made."""
    created = NOW - timedelta(hours=hours_ago)
    seconds = 0.0 if state is State.queued else hours_ago * 3600
    labels = OURS | {"run": run_id, "max-seconds": "7200"}
    usual = {"seconds": seconds, "name": f"jobs/{run_id}", "labels": labels}
    return Status(run_id, state, created, **(usual | values))


def launched(hours_ago: float, **values: Any) -> dict[str, Any]:
    """Fields of a record."""
    return {"launched": (NOW - timedelta(hours=hours_ago)).isoformat(), **values}


def note(home: str, run_id: str, name: str, value: Any) -> None:
    path = Path(home, run_id, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def spent(home: str, made: records.Record) -> float | None:
    """What the ledger says that a launch did cost; None while only its worst case is known."""
    return ledger.month(home, made.launched[:7]).entries[made.key].spent_usd


def outcome(home: str, run_id: str) -> str:
    found = records.outcome(home, run_id)
    assert found
    return found["state"]


def kept(home: str, run_id: str) -> records.Record:
    found = records.read(home, run_id)
    assert found
    return found


def attempt(hours_ago: float, seconds: float = 0.0) -> dict[str, Any]:
    return {"started": (NOW - timedelta(hours=hours_ago)).isoformat(), "seconds": seconds}


def reserve(home: str, run_id: str, hours_ago: float) -> None:
    since = NOW - timedelta(hours=hours_ago)
    ledger.reserve(home, f"{run_id} {since.isoformat()}", run_id, 2.0, 50.0, since)
