"""A run's folder `runs/<id>/`: all that is known of it, and nothing that a restart would lose."""

from __future__ import annotations

import fcntl
import json
import math
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from launcher import UserError, identity


def code_state() -> dict[str, Any]:
    """Give what the run's code is: commit and local changes, in a container the image and what is laid over it.

    A container has no git; there the launch says of which commit its code is.
    """
    state: dict[str, Any] = identity.git_state()
    state["commit"] = state["commit"] or os.environ.get("RUN_COMMIT") or None
    for name, variable in {"image": "RUN_IMAGE", "code": "RUN_CODE"}.items():
        if value := os.environ.get(variable):
            state[name] = value
    return state


class RunFolder:
    """The paths of one run.

    Args:
        root: the folder that holds all runs.
        run_id: its id, which is its folder's name and the tracker's id too.
    """

    def __init__(self, root: str | Path, run_id: str) -> None:
        identity.check_run_id(run_id)
        self.id = run_id
        self.path = Path(root, run_id)
        self.checkpoints = self.path / "checkpoints"
        self.weights = self.path / "model.safetensors"
        self.metrics_log = self.path / "metrics.jsonl"
        self.metrics = self.path / "metrics.json"
        self.report = self.path / "report.md"
        self.plots = self.path / "plots"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second process from training the same run; a killed process holds no lock.

        Where nothing has been written, as when the run is refused, no folder is left.

        Raises:
            UserError: the run is being trained, or its folder cannot be written.
        """
        lock = self.path / ".lock"
        with self.writing():
            new = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
            self.path.mkdir(parents=True, exist_ok=True)
            file = lock.open("a+")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise UserError(
                    f"Run {self.id} is being trained by process {file.read() or 'unknown'}; "
                    "wait for it, end it, or choose another run.id."
                ) from None
            file.truncate(0)
            print(os.getpid(), end="", file=file, flush=True)
            if not lock.exists() or not os.path.samestat(lock.stat(), os.fstat(file.fileno())):
                raise UserError(f"Run {self.id} was just given up by another process; start again.")
            try:
                yield
            finally:
                if list(self.path.iterdir()) == [lock]:
                    lock.unlink()
                    with suppress(OSError):  # another run is there by now
                        for folder in new:
                            folder.rmdir()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn a full disk or a read-only folder into one sentence."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"Cannot write {error.filename or self.path} ({error.strerror}); make room or permission there, "
                "or choose another place with run.root=..."
            ) from error

    def write(self, path: Path, text: str) -> None:
        """Write a file of the run, whole or not at all."""
        with self.writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.tmp")
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)

    def write_json(self, path: Path, values: dict[str, Any]) -> None:
        """Write a file as `write` does; what is no finite number becomes null, for JSON has no word for it."""
        self.write(path, json.dumps(_plain(values), indent=2) + os.linesep)

    def describe_end(self, kept: dict[str, Any]) -> None:
        """Add to run.json the validation of the weights that are kept: what a sweep is told."""
        path = self.path / "run.json"
        self.write_json(path, {**json.loads(path.read_text(encoding="utf-8")), "kept": kept})

    def describe_start(self, processes: int, device: torch.device) -> None:
        """Add to run.json when, from which commit and on what the run was started, each time anew."""
        path = self.path / "run.json"
        try:
            starts = json.loads(path.read_text(encoding="utf-8"))["starts"]
        except (OSError, ValueError, KeyError):
            starts = []
        gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
        starts.append(
            {
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                **code_state(),
                "host": platform.node(),
                "device": gpu or device.type,
                "processes": processes,
                "threads": torch.get_num_threads(),
                "python": platform.python_version(),
                "torch": torch.__version__,
            }
        )
        last = starts[-1]
        code = {name: last[name] for name in ("commit", "dirty", "image", "code") if name in last}
        self.write_json(path, {"id": self.id, **code, "starts": starts})


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Put null in the place of each number that is not finite."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    } | {key: _plain(value) for key, value in values.items() if isinstance(value, dict)}
