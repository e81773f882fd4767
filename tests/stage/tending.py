"""What the runners of AWS's and Azure's jobs do alike: let the world's time pass, and look after containers until they end."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stage import containers
from stage.containers import Container


class Attempt:
    """The containers of one attempt of a job, and what reads their lines."""

    def __init__(self, started: list[tuple[str, Container]]) -> None:
        self.started = started
        self.readers: list[threading.Thread] = []

    def codes(self) -> list[int | None]:
        return [container.process.poll() for _, container in self.started]

    def kill(self) -> None:
        for _, container in self.started:
            container.kill()

    def read(self, reader: Callable[[str, Any], None]) -> None:
        """Has each stream of each container read by a thread of its own; the reader is given what the container is called."""
        for name, container in self.started:
            for stream in (container.process.stdout, container.process.stderr):
                thread = threading.Thread(target=reader, args=(name, stream), daemon=True)
                thread.start()
                self.readers.append(thread)

    def end_of_lines(self) -> None:
        """Waits until all that was printed is read."""
        for reader in self.readers:
            reader.join(30)

    def remove(self) -> None:
        for _, container in self.started:
            container.remove()
        self.end_of_lines()


class Tending(ABC):
    """Looks after the jobs of a world, while its block lasts; the world's time passes as this machine's does, times `speed`.

    Attributes:
        capacity: while it is cleared, nothing starts.
        running: name -> the job's containers.
        stage: label of every container.
    """

    def __init__(self, world: Any, stage: str, speed: float) -> None:
        self.world, self.speed = world, speed
        self.stage = f"{stage}-{time.monotonic_ns() % 10**6}"
        self.capacity = threading.Event()
        self.capacity.set()
        self.running: dict[str, Any] = {}
        self.faults: list[BaseException] = []
        self._over = threading.Event()
        self._then = time.monotonic()
        self._thread = threading.Thread(target=self._tend, daemon=True)

    @abstractmethod
    def job(self, name: str) -> Any:
        """The newest job of a name."""

    @abstractmethod
    def look_around(self) -> None:
        """Starts what waits and ends what is over; the world is locked meanwhile."""

    def wait(self, name: str, seconds: float = 3000) -> Any:
        """Waits until a job is over and gives it; raises AssertionError with its last lines where it is not."""
        self.until(lambda: self.job(name).over, name, seconds)
        return self.job(name)

    def until_line(self, name: str, text: str, seconds: float = 1800, after: int = 0) -> None:
        """Waits until a job has printed a line with a text, after so many lines of its attempts."""
        self.until(lambda: any(text in line for line in self.job(name).lines[after:]), name, seconds)

    @contextmanager
    def slowly(self) -> Iterator[None]:
        """Lets a fifth of the time pass in the world, where the limits of what runs in it are meant and not its own."""
        self.speed, before = 0.2 * self.speed, self.speed
        try:
            yield
        finally:
            self.speed = before

    def until(self, done: Callable[[], bool], name: str, seconds: float = 1800) -> None:
        """Waits until something has come about; raises AssertionError with a job's state and last lines where it has not."""
        end = time.monotonic() + seconds
        while not done():
            if self.faults:
                raise AssertionError("The stage's own fault") from self.faults[0]
            if time.monotonic() > end:
                job = self.job(name)
                told = {word: getattr(job, word, None) for word in ("state", "status", "error")}
                raise AssertionError("\n".join([f"{name} is not there: {told}", *job.lines[-40:]]))
            time.sleep(0.1)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        for running in self.running.values():
            running.remove()
        containers.cleanup(self.stage)

    def _tend(self) -> None:
        while not self._over.wait(0.1):
            try:
                with self.world.clock.lock:
                    now = time.monotonic()
                    self.world.pass_time((now - self._then) * self.speed)
                    self._then = now
                    self.look_around()
            except BaseException as error:  # noqa: BLE001
                self.faults.append(error)
                return
