"""How long a test waits for what has to come about: no measurement, only the end of what hangs."""

import time

FACTOR = 6.0  # of what an idle machine needs at most: others may be busy on this one


def deadline(seconds: float) -> float:
    """The moment of `time.monotonic()` at which it is given up, for what an idle machine has done in so many seconds."""
    return time.monotonic() + FACTOR * seconds
