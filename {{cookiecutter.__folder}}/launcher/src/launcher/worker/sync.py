"""A run's folder and its mirror in the bucket: restored before the training, uploaded beside it.

What makes the mirror safe to continue from, whenever the machine is taken away:
- A checkpoint is one object, visible when it is whole, and its name holds the digest of its content.
- The log that a checkpoint counts on is uploaded before it.
- An older checkpoint is removed when a newer one is there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .. import storage
from ..errors import UserError
from ..records import ATTEMPTS, CURVES, LOG, OUTCOME, RUN, checkpoint
from ..storage import NothingThereError, StorageUnavailable, fetch, list_files, remove, store

LINES = (CURVES, LOG)  # grow line by line; every other file is written whole under its name
LOGS = (CURVES, RUN, "config.yaml", LOG)
RESTORED = (CURVES, RUN)
STAGING = ".upload"

POLL = 1.0  # seconds between two looks for a new checkpoint
LOGS_EVERY = 30.0  # seconds, when there is no new checkpoint
LONGEST_DELAY = 30.0  # seconds between two tries while the bucket is in trouble


class Mirror:
    """The mirror of one run's folder.

    Args:
        folder: runs/<id>.
        uri: where it is mirrored.
        say: takes one line for the log.
        each_time: is called after each upload of logs; its trouble counts as the bucket's.
    """

    def __init__(
        self,
        folder: Path,
        uri: str,
        say: Callable[[str], None],
        each_time: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder, self.uri, self.say, self.each_time = folder, uri, say, each_time
        self._published: list[str] = []  # checkpoints in the bucket, oldest first
        self._surplus: list[str] = []  # damaged ones there
        self._uploaded: dict[str, tuple[int, int]] = {}  # file -> what it was like
        self._stop, self._thread = (
            threading.Event(),
            threading.Thread(target=self._follow, name="sync", daemon=True),
        )
        self._failing = self._restored = False

    @property
    def _staging(self) -> Path:
        """Of each thread its own: one that hung, and was left behind, still removes what it has staged when it goes on."""
        behind = threading.current_thread() is self._thread
        return self.folder / STAGING / ("beside" if behind else "end")

    # Before the training

    def restore(self) -> int | None:
        """Do `_restore`; before it nothing but the worker's own log is uploaded over what may be newer."""
        step = self._restore()
        self._restored = True
        return step

    def _restore(self) -> int | None:
        """Fetch what a training continues from; give the step of its checkpoint, None where there is none.

        Raises:
            UserError: there are checkpoints, but no whole one.
            StorageUnavailable: the bucket does not answer.
        """
        remote = self._remote()
        found = checkpoint.newest_first(
            [name.rpartition("/")[2] for name in remote if checkpoint.is_path(name)]
        )
        self._published = found[::-1]
        local = self._local()
        if local and (not found or checkpoint.step(local[0]) >= checkpoint.step(found[0])):
            return checkpoint.step(local[0])  # the machine is the same as before, and knows more
        for name in RESTORED:
            if name in remote:
                fetch(f"{self.uri}/{name}", self.folder / name)
        for name in found:
            path = self.folder / "checkpoints" / name
            fetch(f"{self.uri}/checkpoints/{name}", path)
            if checkpoint.is_whole(path):
                return checkpoint.step(name)
            self.say(f"the checkpoint {name} in the bucket is damaged; taking the one before it")
            path.unlink()
            self._published.remove(name)
            self._surplus.append(name)
        if found:
            raise UserError(
                f"No checkpoint in {self.uri}/checkpoints is whole; start anew with another run.id, "
                "or remove that folder to begin this run again."
            )
        return None

    def _remote(self) -> list[str]:
        try:
            return list_files(self.uri)
        except NothingThereError:
            return []

    # Beside the training

    def start(self) -> None:
        """Upload in the background from now on. Trouble is said once, and tried again until `stop`."""
        self._thread.start()

    def stop(self, wait: float) -> None:
        """End the background upload; one that hangs is left behind after `wait` seconds."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(wait)

    def _follow(self) -> None:
        logs_at, delay = time.monotonic() - LOGS_EVERY, POLL
        while True:
            local = self._local()
            new = bool(local) and local[0] not in self._published
            if new or time.monotonic() - logs_at >= LOGS_EVERY:
                try:
                    self.publish(patience=0)
                    logs_at, delay = time.monotonic(), POLL
                    self._recovered()
                except Exception as error:  # noqa: BLE001 - a training outlives any trouble of its uploads
                    delay = min(2 * delay, LONGEST_DELAY)
                    self._in_trouble(error)
            if self._stop.wait(delay):
                return

    def _in_trouble(self, error: Exception) -> None:
        if not self._failing:
            self.say(f"uploads fail, the training goes on: {error}")
        self._failing = True

    def _recovered(self) -> None:
        if self._failing:
            self.say("uploads work again")
        self._failing = False

    def publish(self, patience: float) -> None:
        """Upload the logs and then the newest checkpoint, and remove what is older than those that are kept.

        Raises:
            UserError: the bucket refuses it.
            StorageUnavailable: it does not answer.
        """
        if not self._restored:
            self._upload(LOG, patience)
            return
        # Chosen before the log is copied, which then holds all lines that the checkpoint counts.
        newest = self._stage_newest()
        for name in LOGS:
            self._upload(name, patience)
        self.each_time()
        if newest:
            self._publish_checkpoint(newest, patience)
            keep = max(1, len(self._local()))
            kept = self._published[-keep:]
            for old in [*self._surplus, *self._published[:-keep]]:
                remove(f"{self.uri}/checkpoints/{old}", patience=patience)
            self._published, self._surplus = kept, []

    def _stage_newest(self) -> str | None:
        """Give the newest checkpoint a second name, so that the training may remove it meanwhile."""
        self._staging.mkdir(parents=True, exist_ok=True)
        for name in self._local():
            if name in self._published:
                return None
            with suppress(FileExistsError, FileNotFoundError):
                os.link(self.folder / "checkpoints" / name, self._staging / name)
            if (self._staging / name).exists():
                return name
        return None

    def _publish_checkpoint(self, name: str, patience: float) -> None:
        staged = self._staging / name
        store(staged, f"{self.uri}/checkpoints/{name}", patience=patience)
        if name not in self._published:  # a thread that was left behind may have been as fast
            self._published.append(name)
        for path in self._staging.glob("*.pt"):
            path.unlink(missing_ok=True)

    def _upload(self, name: str, patience: float) -> None:
        """Upload one file if it has changed; from a copy, so that what is written meanwhile does not tear it."""
        path = self.folder / name
        if not path.is_file():
            return
        state = path.stat()
        known = (state.st_mtime_ns, state.st_size)
        if self._uploaded.get(name) == known:
            return
        self._staging.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._staging) as folder:
            copy = Path(folder, path.name)
            shutil.copyfile(path, copy)
            if name in LINES:
                _cut_torn_line(copy)
            store(copy, f"{self.uri}/{name}", patience=patience)
        self._uploaded[name] = known

    # After the training

    def finish(self, patience: float) -> None:
        """Upload all that is left, the newest checkpoint first, trying again for `patience` seconds.

        Raises:
            UserError: the bucket refuses it.
            StorageUnavailable: it does not answer.
        """
        until, delay = time.monotonic() + patience, POLL
        while True:
            try:
                self.publish(patience=0)
                self._publish_rest()
                self._recovered()
                shutil.rmtree(self.folder / STAGING, ignore_errors=True)
                return
            except StorageUnavailable as error:
                if time.monotonic() + delay > until:
                    raise
                self._in_trouble(error)
            time.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY)

    def _publish_rest(self) -> None:
        if not self._restored:
            return
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            hidden = any(part.startswith(".") for part in name.split("/"))
            if hidden or path.is_symlink() or not path.is_file() or name.startswith("checkpoints/"):
                continue
            if name not in (*LOGS, ATTEMPTS, OUTCOME):  # the last two are written there directly
                self._upload(name, patience=0)

    def _local(self) -> list[str]:
        with suppress(FileNotFoundError):
            names = [path.name for path in (self.folder / "checkpoints").iterdir()]
            return checkpoint.newest_first([name for name in names if checkpoint.is_name(name)])
        return []


def final_patience() -> float:
    """Give for how many seconds the results of a training are worth trying to save."""
    return 5 * storage.PATIENCE


def _cut_torn_line(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: content.rfind(b"\n") + 1])
