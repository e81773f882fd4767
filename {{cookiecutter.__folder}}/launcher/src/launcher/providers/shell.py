"""The end of a shell script that runs a worker: its signals reach it, and its exit status comes back."""

from __future__ import annotations

# A shell that waits gets the signal itself, so it hands it on; whoever sends one may send it to the worker as well.
RUN = """\
trap 'kill -TERM "$worker" 2>/dev/null' TERM INT
{command} &
worker=$!
{watch}wait "$worker"; status=$?
while kill -0 "$worker" 2>/dev/null; do wait "$worker"; status=$?; done
{clean}exit "$status"
"""
CLEAN = 'cd / && rm -rf "$work"\n'


def run(command: str, clean: str = CLEAN, watch: str = "") -> str:
    """Give the lines that run a command to its end.

    Args:
        clean: what comes after it.
        watch: what is begun beside it, and knows it as $worker.
    """
    return RUN.format(command=command, clean=clean, watch=watch)
