"""What a job says: its own lines and the training's, on stdout and in `worker.log`, without any secret's value."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from pathlib import Path
from typing import IO

HIDDEN = "***"
SHORTEST_SECRET = 6  # characters; hiding a shorter one would garble numbers and words


class WorkerLog:
    """Lines to stdout, and to a file once that is known."""

    def __init__(self) -> None:
        self._early: list[str] = []
        self._file: IO[str] | None = None
        self._secrets: list[str] = []
        self._lock = threading.Lock()

    def open(self, path: Path) -> None:
        """Append to `path` from now on, beginning with what was said before."""
        with self._lock:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8", buffering=1)
            self._file.writelines(self._early)
            self._early = []

    def hide(self, secret: str) -> None:
        """Never write this text, nor any of its lines."""
        parts = [secret, *secret.splitlines()]
        self._secrets += [part for part in parts if len(part) >= SHORTEST_SECRET]

    def say(self, line: str) -> None:
        """Say something of the worker's own."""
        self.write(f"worker: {line}")

    def masked(self, text: str) -> str:
        """Give a text without what is hidden."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text

    def write(self, line: str) -> None:
        """Write one line."""
        line = self.masked(line).rstrip("\r\n") + "\n"
        with self._lock:
            with contextlib.suppress(OSError, ValueError):  # whoever read it may leave; we go on
                print(line, end="", flush=True)
            with contextlib.suppress(OSError):  # a full disk is the training's to report
                if self._file:
                    self._file.write(line)
                else:
                    self._early.append(line)

    def run(self, command: list[str], folder: Path) -> tuple[int, str]:
        """Run a program in a folder, write what it prints, and give its status and that."""
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        lines = []
        try:
            for line in process.stdout or ():
                self.write(line)
                lines.append(line)
            return process.wait(), "".join(lines)
        finally:
            process.kill()
