"""What each start of a job leaves beside its results: `attempts.json`, and `outcome.json` once there is nothing to retry.

A service starts a container again when it ends with an error. These two files make that cost a boot at most: they
bound the attempts and the time of all of them together, whoever counts elsewhere.
"""

from __future__ import annotations

import json
import platform
import threading
import time
from datetime import UTC, datetime
from typing import Any

from ..errors import UserError
from ..job import State
from ..records import ATTEMPTS, OUTCOME
from ..storage import read_text, write_text


class Attempts:
    """The attempts of one run.

    Args:
        home: URI or path of the run's folder.
        writes: whether this node notes them; the first of several does.
        max_seconds: of running, over all attempts; None for no limit.
        max_attempts: None for no limit.
    """

    def __init__(
        self, home: str, writes: bool, max_seconds: float | None, max_attempts: int | None
    ) -> None:
        self.home, self.writes = home, writes
        self.max_seconds, self.max_attempts = max_seconds, max_attempts
        self._started, self._lock = time.monotonic(), threading.Lock()
        self._all: list[dict[str, Any]] = []
        self._this: dict[str, Any] = {}

    def outcome(self) -> dict[str, Any] | None:
        """Give how the run ended; None when it has not."""
        return self._read(OUTCOME, dict) or None

    def begin(self) -> int:
        """Note that an attempt has begun; give its number, from 1.

        Raises:
            UserError: the bucket refuses it.
            StorageUnavailable: it does not answer.
        """
        self._all = self._read(ATTEMPTS, list) or []
        if self.writes:
            self._this = {"started": _now(), "ended": None, "exit_code": None, "seconds": 0.0}
            self._all.append(self._this | {"host": platform.node()})
            self._this = self._all[-1]
            self.note()
            return len(self._all)
        return max(1, len(self._all))

    def seconds_left(self) -> float | None:
        """Give how long the run may still be running; None for without end."""
        if self.max_seconds is None:
            return None
        earlier = [attempt for attempt in self._all if attempt is not self._this]
        spent = sum(float(attempt.get("seconds") or 0.0) for attempt in earlier)
        return self.max_seconds - spent - self._seconds()

    def note(self, exit_code: int | None = None, patience: float | None = None) -> None:
        """Write how long this attempt has been running, so that one that is killed counts too; or how it ended."""
        if not self._this:
            return
        with self._lock:
            self._this["seconds"] = round(self._seconds(), 1)
            if exit_code is not None:
                self._this |= {"ended": _now(), "exit_code": exit_code}
            write_text(f"{self.home}/{ATTEMPTS}", _json(self._all), patience=patience)

    def close(self, state: State, exit_code: int, reason: str, **more: float) -> None:
        """Note how the run ended; what was noted before, by another node or a person, stays."""
        values = {"state": state.value, "exit_code": exit_code, "reason": reason, "time": _now()}
        values |= more
        try:
            write_text(f"{self.home}/{OUTCOME}", _json(values), new=True)
        except UserError:
            if self.outcome() is None:
                raise

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _read(self, name: str, kind: type) -> Any:
        text = read_text(f"{self.home}/{name}")
        try:
            value = json.loads(text) if text else None
        except ValueError:
            return None
        return value if isinstance(value, kind) else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"
