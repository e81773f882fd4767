"""Being told to stop: a note is made, and the loop saves and ends where it can."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(BaseException):
    """A signal ended the training after its state was saved.

    Args:
        signum: the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.exit_code = 128 + signum


class StopSignal:
    """Whether SIGTERM or SIGINT has come; `number` is the newest, None before the first."""

    number: int | None = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note both, rather than end at once; a second SIGINT ends at once, a second SIGTERM changes nothing."""

        def note(signum: int, frame: FrameType | None) -> None:
            self.number = signum
            signal.signal(signal.SIGINT, signal.default_int_handler)

        before = {each: signal.signal(each, note) for each in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)
