"""Long-running operations, as Cloud Run and Vertex AI answer with: asked about until they are done."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ...errors import UserError
from . import auth as google


class NotDoneError(UserError):
    """An operation has failed, or has not ended in time."""


def wait(
    operation: dict[str, Any], service: str, url: Callable[[str], str], patience: float, poll: float
) -> dict[str, Any]:
    """Wait for an operation; give what it answers.

    Args:
        service: its name, for people.
        url: gives the address of what has a name.
        patience: seconds until it is given up.
        poll: seconds between two looks.

    Raises:
        NotDoneError: it has failed, or lasts too long.
    """
    deadline = time.monotonic() + patience
    while not operation.get("done"):
        if time.monotonic() > deadline:
            raise NotDoneError(
                f"{service} has not done it after {patience / 60:.0f} minutes; look at its console."
            )
        time.sleep(poll)
        operation = google.call("GET", url(operation["name"]))
    if error := operation.get("error"):
        raise NotDoneError(f"{service} refuses it: {error.get('message', 'no reason given')}")
    return operation.get("response", {})
