"""How a program ends: the one error that is meant for the person at the keyboard, and a reader who leaves."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

CLOSED_PIPE = 141  # what a shell says of a program that SIGPIPE has ended


class UserError(Exception):
    """One sentence that says what is wrong and what to do; programs print it and exit with 1."""


@contextmanager
def readers_may_leave() -> Iterator[None]:
    """End without a word when whoever reads the output has seen enough, as `head` has."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_has_left():  # it is a connection, or a program that was started
            raise
        # Else Python would complain of what it cannot write at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(CLOSED_PIPE)


def _reader_has_left() -> bool:
    """Tell whether the output is a pipe that nobody reads any more."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # it is no file, as where a test keeps it
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
