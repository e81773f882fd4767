"""`uv run janitor`: ends what runs past its time or that nobody knows of, and reports runs that are over."""

from __future__ import annotations

import argparse
import logging
import sys
from contextlib import suppress

from ..errors import readers_may_leave


def main() -> None:
    """Tidy up once; status 1 when something could not be asked or done."""
    parser = argparse.ArgumentParser(prog="janitor", description=(__doc__ or "").split(": ")[1])
    parser.add_argument(
        "--dry-run", action="store_true", help="change nothing, say what would be done"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    from ..janitor import github, services
    from ..janitor.chores import tidy
    from ..records.places import places

    done: list[str] = []

    def say(line: str) -> None:
        done.append(line)
        with suppress(BrokenPipeError):  # nothing keeps running because a reader has left
            print(line, flush=True)

    try:
        with readers_may_leave():
            there = places()
            troubles = tidy(there, github.connect(), arguments.dry_run, say)
            troubles += services.tidy(there, arguments.dry_run, say)
    except KeyboardInterrupt:
        sys.exit(130)
    for line in troubles:
        print(line, file=sys.stderr, flush=True)
    if troubles:
        sys.exit(1)
    if not done:
        print("Nothing to do.")


if __name__ == "__main__":
    main()
