"""A notebook instead of a training: Jupyter for one person, on the machine's loopback, where an SSH tunnel ends.

Nobody else can reach it, so it asks for no token; its own checks of hosts and forged requests stay. What is written in
`notebooks/` is in the bucket half a minute later, and there again when the same run is launched again.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from .. import storage
from ..errors import UserError
from ..storage import NothingThereError
from .cluster import Node
from .settings import Settings
from .sync import final_patience
from .worker import HANG, Worker

PORT = 8888
FOLDER = "notebooks"
EVERY = 30.0  # seconds between two looks at what was written, and whether anybody is there
CULL_EVERY = 60  # seconds between Jupyter's own looks
KILL_AFTER = 20.0  # seconds that Jupyter has for its end


class Shelf:
    """The folder `notebooks` and its copy in the bucket.

    Args:
        folder: where it is here.
        uri: where it is kept; None for nowhere.
    """

    def __init__(self, folder: Path, uri: str | None) -> None:
        self.folder, self.uri = folder, uri
        self._kept: dict[str, tuple[int, int]] = {}  # file -> what it was like

    def restore(self) -> int:
        """Fetch what an earlier start has left, in place of what the image has; give how many files that is.

        Raises:
            UserError: it cannot be read.
            StorageUnavailable: the bucket does not answer.
        """
        names: list[str] = []
        if self.uri:
            with suppress(NothingThereError):
                names = storage.list_files(self.uri)
        for name in names:
            storage.fetch(f"{self.uri}/{name}", self.folder / name)
        self._kept = dict(self._files())
        return len(names)

    def save(self, patience: float) -> None:
        """Upload what has changed, and remove what was removed here.

        Raises:
            UserError: the bucket refuses it.
            StorageUnavailable: it does not answer.
        """
        if not self.uri:
            return
        now = dict(self._files())
        for name, state in now.items():
            if self._kept.get(name) != state:
                storage.store(self.folder / name, f"{self.uri}/{name}", patience=patience)
                self._kept[name] = state
        for name in [name for name in self._kept if name not in now]:
            storage.remove(f"{self.uri}/{name}", patience=patience)
            del self._kept[name]

    def changed(self) -> float:
        """Give when something was last written, in seconds since 1970; 0 where nothing ever was."""
        return max((state[0] / 1e9 for _, state in self._files()), default=0.0)

    def _files(self) -> Iterator[tuple[str, tuple[int, int]]]:
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            hidden = any(part.startswith(".") for part in name.split("/"))
            if not hidden and path.is_file() and not path.is_symlink():
                state = path.stat()
                yield name, (state.st_mtime_ns, state.st_size)


class Notebook(Worker):
    """A worker whose training is Jupyter.

    Args:
        settings, node, root: as of `Worker`.
        idle_seconds: after which Jupyter ends when nobody has used it; None for never.
        port: of Jupyter, on 127.0.0.1.
    """

    def __init__(
        self,
        settings: Settings,
        node: Node,
        root: Path,
        idle_seconds: float | None,
        port: int = PORT,
    ) -> None:
        super().__init__(settings, replace(node, processes=1), [], root)
        uri = f"{settings.output}/{FOLDER}" if settings.output else None
        self.shelf = Shelf(root / FOLDER, uri)
        self.idle_seconds, self.port = idle_seconds, port
        self._idle = False

    def _prepare(self) -> dict[str, str]:
        env = super()._prepare()
        self.shelf.folder.mkdir(exist_ok=True)
        if count := self.shelf.restore():
            self.log.say(f"{count} files of notebooks restored")
        return env

    def _command(self) -> list[str]:
        settings = options(self.root, self.port, self.idle_seconds)
        return [sys.executable, "-m", "jupyterlab", *settings]

    def _train_until(self, seconds: float | None, env: dict[str, str]) -> tuple[int, str]:
        ended = threading.Event()
        watch = threading.Thread(target=self._watch, args=(ended,), daemon=True)
        watch.start()
        code, last = super()._train_until(seconds, env)
        ended.set()
        watch.join(HANG)
        if self._idle:
            return 0, last
        # Jupyter ends with 0 when it is told to, and yet the notebook was not done.
        told = self._signal or self._expired
        return (128 + signal.SIGTERM if told and code == 0 else code), last

    def _watch(self, ended: threading.Event) -> None:
        """Save what is written, and end Jupyter when nobody uses it."""
        started, failing = 0.0, False
        while not ended.wait(EVERY):
            try:
                self.shelf.save(patience=0)
                failing = False
            except (UserError, OSError) as error:
                if not failing:
                    self.log.say(f"notebooks cannot be saved now: {error}")
                failing = True
            used = last_used(self.port, self.shelf.changed)
            if used is None or not self.idle_seconds:
                continue
            started = started or time.time()  # nobody could use it before it answered
            if time.time() - max(used, started) > self.idle_seconds:
                self.log.say(f"nobody has used it for {self.idle_seconds / 60:g} minutes")
                self._idle = True
                self._end_jupyter(ended)
                return

    def _end_jupyter(self, ended: threading.Event) -> None:
        if self._child:
            self._child.terminate()
            if not ended.wait(KILL_AFTER):
                self._child.kill()

    def _publish(self) -> None:
        try:
            self.shelf.save(0.0 if self._gave_up else final_patience())
        finally:
            super()._publish()


def options(root: Path, port: int, idle_seconds: float | None) -> list[str]:
    """Give Jupyter's settings: for this machine only, and ending by itself when nobody uses it."""
    settings: dict[str, Any] = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.open_browser": False,
        "ServerApp.root_dir": root,
        "ServerApp.allow_root": True,  # in the image it is nobody in particular
        "IdentityProvider.token": "",
        "LabApp.news_url": None,
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    }
    if idle_seconds:
        settings |= {
            "ServerApp.shutdown_no_activity_timeout": int(idle_seconds),
            "MappingKernelManager.cull_idle_timeout": int(idle_seconds),
            "MappingKernelManager.cull_interval": CULL_EVERY,
            "MappingKernelManager.cull_connected": True,  # a page that was left open is nobody
            "TerminalManager.cull_inactive_timeout": int(idle_seconds),
            "TerminalManager.cull_interval": CULL_EVERY,
        }
    return [f"--{name}={value}" for name, value in settings.items()]


def last_used(port: int, changed: Callable[[], float]) -> float | None:
    """Tell when somebody last used Jupyter, in seconds since 1970; None where it does not answer.

    Jupyter itself takes every request for use, and a page that was left open in a browser asks all the time. What counts
    here is what kernels and terminals do, and what is written.
    """
    times = [changed()]
    for kind in ("kernels", "terminals"):
        try:
            url = f"http://127.0.0.1:{port}/api/{kind}"
            with urllib.request.urlopen(url, timeout=10) as answer:
                found = json.load(answer)
        except (OSError, ValueError):
            return None
        if any(one.get("execution_state") == "busy" for one in found):
            return time.time()
        times += [datetime.fromisoformat(one["last_activity"]).timestamp() for one in found]
    return max(times)


def idle_seconds(text: str | None) -> float | None:
    """Read RUN_IDLE_SECONDS.

    Raises:
        UserError: it is no number.
    """
    try:
        return float(text) if text else None
    except ValueError:
        raise UserError(f"RUN_IDLE_SECONDS={text} is not a number.") from None
