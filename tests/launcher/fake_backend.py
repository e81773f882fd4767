"""A backend that remembers what it was asked, in place of a cloud."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from launcher import records
from launcher.errors import UserError
from launcher.job import (
    Handle,
    Job,
    Leftover,
    Parameter,
    Problem,
    Search,
    State,
    Status,
)

DIGEST = "registry.example/train@sha256:" + "1" * 64
# A sweep with every kind of parameter.
SEARCH = Search(
    parameters=(
        Parameter("optimizer.lr", low=1e-4, high=0.1, log=True),
        Parameter("model.depth", low=1, high=4, integer=True),
        Parameter("model.width", choices=(16, 32)),
        Parameter("scheduler", choices=("cosine", "a b")),
        Parameter("evaluate", choices=(True, False)),
    ),
    objective="val/accuracy",
    maximize=True,
    trials=5,
    parallel=2,
)


@dataclass
class FakeBackend:
    """All of a backend, in memory.

    Args:
        problems: what `check` finds.
        jobs: run id -> its state and seconds.
        lines: what the jobs have printed.
        refusal: raised by whatever would need the network.
        left: what `leftovers` finds.
        clock: the provider's time.
        labels: of every job that is in `jobs` or was submitted.
        detail: what the provider says of each.
    """

    problems: list[Problem] = field(default_factory=list)
    jobs: dict[str, tuple[State, float]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    refusal: str = ""
    submitted: list[Job] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    left: list[Leftover] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    clock: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC)
    labels: dict[str, str] = field(default_factory=dict)
    detail: str = ""

    def reference(self) -> str:
        return DIGEST.replace("@sha256:" + "1" * 64, ":main")

    def image(self) -> str:
        self._call("image")
        return DIGEST

    def revision(self, image: str) -> str | None:
        self._call("revision")
        return "c" * 40

    def check(self, job: Job) -> list[Problem]:
        self._call("check")
        return self.problems

    def request(self, job: Job) -> dict[str, Any]:
        return {"image": job.image, "args": list(job.args), "env": dict(job.env)}

    def submit(self, job: Job) -> Handle:
        self._call("submit")
        self.submitted.append(job)
        return Handle("jobs/1", "https://console.example/jobs/1")

    def status(self, run_id: str) -> Status | None:
        self._call("status")
        if run_id not in self.jobs:
            return None
        state, seconds = self.jobs[run_id]
        created = datetime(2026, 1, 1, tzinfo=UTC)
        return Status(run_id, state, created, seconds, "", self.detail, "jobs/1", self.labels)

    def logs(self, run_id: str) -> Iterator[str]:
        self._call("logs")
        yield from self.lines

    def stop(self, run_id: str) -> None:
        self._call("stop")
        self.stopped.append(run_id)

    def list(self) -> list[Status]:
        self._call("list")
        return [status for run_id in self.jobs if (status := self.status(run_id))]

    def leftovers(self) -> list[Leftover]:
        self._call("leftovers")
        return self.left

    def remove(self, leftover: Leftover) -> None:
        self._call("remove")
        self.removed.append(leftover.name)

    def now(self) -> datetime:
        return self.clock

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.refusal:
            raise UserError(self.refusal)


def record(run_id: str, **values: object) -> records.Record:
    """One launch of two nodes at 1.50 USD an hour each."""
    given = {
        "run_id": run_id,
        "backend": "one",
        "launched": "2026-01-01T00:00:00+00:00",
        "machine": "l4",
        "type": "g2-standard-8",
        "gpu": "NVIDIA_L4",
        "gpus": 1,
        "nodes": 2,
        "spot": True,
        "region": "us-central1",
        "project": None,
        "hourly_usd": 1.5,
        "worst_case_usd": 6.0,
        "prices": "2026-01-01",
        "max_hours": 2.0,
        "image": "image",
        "args": [],
        "code": None,
        "commit": None,
        "dirty": None,
        "branch": None,
        "job": "jobs/1",
    }
    return records.Record(**{**given, **values})  # type: ignore[arg-type]
