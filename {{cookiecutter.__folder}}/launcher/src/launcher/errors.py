"""How a program ends: the one error that is meant for the person at the keyboard, and a reader who leaves."""

from __future__ import annotations

import os
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
    """Tell whether there is output that nobody takes any more."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return True
    return False
