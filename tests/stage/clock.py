"""The world's own time: it stands still until a test passes it, so that nothing waits and nothing is timed."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Deadline:
    """Something that happens by itself when its moment comes."""

    moment: float
    happens: Callable[[], None]


class Clock:
    """Seconds since 1970, as the services know them; a request changes nothing of it.

    It begins at this machine's time, so that signatures and expiries that real clients compute fit. What moto stamps
    itself (LastModified of objects, creation of roles) is of this machine's clock, not of this one.
    """

    def __init__(self) -> None:
        self._now = float(round(time.time()))
        self._sources: list[Callable[[], Iterable[Deadline]]] = []
        self.lock = threading.RLock()

    def now(self) -> float:
        return self._now

    def watch(self, source: Callable[[], Iterable[Deadline]]) -> None:
        """Adds a service whose deadlines come as time passes."""
        self._sources.append(source)

    def pass_time(self, seconds: float) -> None:
        """Lets so many seconds pass; what falls due meanwhile happens in its order, each at its own moment."""
        if seconds < 0:
            raise ValueError("time does not go back")
        with self.lock:
            end = self._now + seconds
            while due := [one for source in self._sources for one in source() if one.moment <= end]:
                first = min(due, key=lambda one: one.moment)
                self._now = max(self._now, first.moment)
                first.happens()
            self._now = end
