"""Checkpoints that are whole or absent, written beside the training."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
from pathlib import Path
from typing import Any

import torch
import xxhash
from launcher import UserError

log = logging.getLogger(__name__)

# The name carries the digest of the content, so that one rename publishes both.
NAME = re.compile(r"step-(?P<step>\d{8,})-(?P<digest>[0-9a-f]{32})\.pt")
FORMAT = 2


class CheckpointStore:
    """The checkpoints of one run, in one folder.

    Args:
        folder: made when the first checkpoint is written.
        keep: how many of the newest stay; with two or more a damaged newest one costs little.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep
        self._copy: Any = None
        self._writer: threading.Thread | None = None
        self._error: Exception | None = None

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Copy `state` and write the copy in the background, after the one before is written.

        Raises:
            UserError: an earlier checkpoint could not be written.
        """
        self.wait()
        self._copy = copy_to_cpu(state, self._copy)
        self._writer = threading.Thread(
            target=self._write, args=(step, self._copy), name="checkpoint"
        )
        self._writer.start()

    @property
    def writing(self) -> bool:
        """Whether a checkpoint is still being written."""
        return self._writer is not None and self._writer.is_alive()

    def wait(self) -> None:
        """Return when nothing is left to write.

        Raises:
            UserError: the checkpoint could not be written.
        """
        if self._writer:
            self._writer.join()
            self._writer = None
        if self._error:
            error, self._error = self._error, None
            raise UserError(
                f"Cannot write a checkpoint to {self.folder} ({_reason(error)}); put that right and type the same "
                "command again: training continues from the last whole checkpoint."
            ) from error

    def _write(self, step: int, state: dict[str, Any]) -> None:
        temporary = self.folder / f".step-{step:08d}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # torch's own checksums would cost as much as the writing; the digest in the name covers them
            torch.serialization.set_crc32_options(False)
            with temporary.open("wb+") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self.folder / f"step-{step:08d}-{_digest(temporary)}.pt")
            _sync_folder(self.folder)
            for old in self.files()[self.keep :]:
                old.unlink()
        except Exception as error:  # noqa: BLE001 - raised again by `wait`, in the training thread
            self._error = error
            temporary.unlink(missing_ok=True)

    def files(self) -> list[Path]:
        """Give the published checkpoints, newest first."""
        found = [path for path in self.folder.glob("step-*.pt") if NAME.fullmatch(path.name)]
        return sorted(found, key=lambda path: (_step(path), _written_at(path)), reverse=True)

    def remove_unfinished(self) -> None:
        """Remove what a killed process had begun to write. Only whoever holds the run's lock may."""
        for rest in self.folder.glob(".step-*.tmp"):
            log.info("Removing %s: it was being written when the run was killed.", rest)
            rest.unlink()

    def load_newest(self) -> dict[str, Any] | None:
        """Load the newest whole checkpoint, saying which newer ones are damaged; None where there is none.

        Raises:
            UserError: there are checkpoints, but none of them is whole.
        """
        files = self.files()
        for path in files:
            try:
                return load_checkpoint(path)
            except UserError as error:
                log.warning("%s", error)
        if files:
            raise UserError(
                f"No checkpoint in {self.folder} is whole; start anew with another run.id, "
                "or remove that folder to begin this run again."
            )
        return None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load one checkpoint onto the CPU. Nothing in the file is executed (`weights_only`).

    Raises:
        UserError: it is damaged, or no checkpoint of this program.
    """
    name = NAME.fullmatch(path.name)
    try:
        if name and name["digest"] != _digest(path):
            raise UserError(
                f"The checkpoint {path} is damaged: its content does not match its name."
            )
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # a foreign file can fail in any way
        raise UserError(
            f"The checkpoint {path} cannot be read ({type(error).__name__})."
        ) from error
    if not isinstance(state, dict) or "format" not in state:
        raise UserError(f"{path} is not a checkpoint of this project.")
    if state["format"] != FORMAT:
        raise UserError(
            f"{path} has checkpoint format {state['format']}, and this code reads {FORMAT}: "
            "check out the commit that wrote it."
        )
    return state


def _reason(error: BaseException) -> str:
    """Say what the disk said: torch reports a failed write by what it missed afterwards."""
    first: BaseException | None = error
    while first and not isinstance(first, OSError):
        first = first.__cause__ or first.__context__
    return (first.strerror if first else None) or str(error)


def _step(path: Path) -> int:
    match = NAME.fullmatch(path.name)
    return int(match["step"]) if match else -1


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # a training that goes on has just removed it
        return 0.0


def _digest(path: Path) -> str:
    # It guards against damage, not forgery, and runs beside the training: so the fastest good hash.
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def copy_to_cpu(value: Any, old: Any) -> Any:
    """Copy all tensors of a tree of containers, into those of an earlier copy where they fit.

    New memory costs ten times what the copying costs, so a run keeps one copy and fills it again. A GPU's are copied
    to pinned memory, all at once: the training waits for no more than that.
    """
    copy = _copied(value, old)
    if torch.cuda.is_initialized():
        torch.cuda.current_stream().synchronize()
    return copy


def _copied(value: Any, old: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.detach()
        if isinstance(old, torch.Tensor) and old.shape == value.shape and old.dtype == value.dtype:
            return old.copy_(value, non_blocking=True)
        fresh = torch.empty_like(value, device="cpu", pin_memory=value.device.type == "cuda")
        return fresh.copy_(value, non_blocking=value.device.type == "cuda")
    if isinstance(value, dict):
        known = old if isinstance(old, dict) else {}
        return {key: _copied(item, known.get(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        known = (
            list(old)
            if isinstance(old, list | tuple) and len(old) == len(value)
            else [None] * len(value)
        )
        return type(value)(_copied(item, before) for item, before in zip(value, known, strict=True))
    return value
