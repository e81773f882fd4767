"""Runs a program and notes why it failed, if it says so: `python -m ...cloud.worker.observed MODULE ARGUMENT...`

An exit status passes through torchrun changed, and tells too little: whether another attempt may help is decided
from the note, a file named by the environment that the first process to fail writes.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from contextlib import suppress
from typing import Any

from ..storage import StorageUnavailable

NOTE = "RUN_FAILURE_NOTE"


def main() -> None:
    """Run the module as `python -m` would."""
    sys.argv = sys.argv[1:]
    alone = os.environ.get("WORLD_SIZE", "1") == "1"
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):  # a sentence for the person: bad settings, a full disk, ...
            note(end.code, final=not isinstance(end.__context__, StorageUnavailable))
        raise
    except Exception as error:
        # With several processes these may be the end of a peer, which another attempt may not see.
        if alone or not isinstance(error, RuntimeError | OSError):
            note(f"{type(error).__name__}: {' '.join(str(error).split())[:500]}", final=True)
        raise


def note(reason: str, final: bool) -> None:
    """Leave the reason for the worker; the first one stands."""
    path = os.environ.get(NOTE)
    if path:
        with suppress(OSError), open(path, "x", encoding="utf-8") as file:
            json.dump({"reason": reason, "final": final}, file)


def read_note(path: str) -> dict[str, Any] | None:
    """Read what a failed process has left; None where none has."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


if __name__ == "__main__":
    main()
