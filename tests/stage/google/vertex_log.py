"""What a job of the stand-in printed, as Cloud Logging has it."""

import itertools
import threading
from datetime import UTC, datetime
from typing import IO, Any


def now() -> str:
    """The time as Google's JSON has it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class JobLog:
    """The entries of one job.

    Args:
        project: id of the project.
        number: of the job.
    """

    def __init__(self, project: str, number: str) -> None:
        self.project, self.number = project, number
        self._entries: list[dict[str, Any]] = []
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def entries(self) -> list[dict[str, Any]]:
        """All entries, oldest first."""
        return list(self._entries)

    def lines(self, task: str | None = None) -> list[str]:
        """What containers printed, oldest first; of one task such as workerpool0-0, or of all."""
        found = [
            (one["resource"]["labels"]["task_name"], one["jsonPayload"]["message"]) for one in self.entries()
        ]
        return [line for name, line in found if name == task or (task is None and name != "service")]

    def read(self, task: str, stream: IO[bytes], severity: str) -> None:
        """Keeps each line of a stream until it ends."""
        for line in stream:
            self.add(task, severity, line.decode(errors="replace").rstrip("\r\n"))

    def add(self, task: str, severity: str, message: str) -> None:
        """Adds one entry; the service's own are those of the task `service`."""
        labels = {"project_id": self.project, "job_id": self.number, "task_name": task}
        with self._lock:
            entry = {
                "insertId": f"{next(self._numbers):012}",
                "logName": f"projects/{self.project}/logs/{task}",
                "timestamp": now(),
                "severity": severity,
                "jsonPayload": {"message": message},
                "resource": {"type": "ml_job", "labels": labels},
                "labels": {"ml.googleapis.com/endpoint": "", "ml.googleapis.com/job_id/log_area": "root"},
            }
            self._entries.append(entry)
