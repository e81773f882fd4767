"""A notebook job, inside a bake, which has Jupyter: a real Jupyter on the loopback, what is written in it kept, and its end when nobody is there."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest
from launcher.worker import notebook
from launcher.worker.cluster import Node
from launcher.worker.notebook import (
    Notebook,
    last_used,
)
from launcher.worker.settings import Settings


def free_port() -> int:
    """A port below those that the system gives to whoever asks for any."""
    while True:
        port = 10000 + secrets.randbelow(10000)
        with socket.socket() as server, suppress(OSError):
            server.bind(("127.0.0.1", port))
            return port


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < until, "it never came about"
        time.sleep(0.1)


class Running:
    """A worker with Jupyter, as a process of its own; its bucket is a folder."""

    def __init__(self, folder: Path, idle: float, seconds: float = 600) -> None:
        self.folder, self.port, self.bucket = folder / "app", free_port(), folder / "bucket"
        (self.folder / "notebooks").mkdir(parents=True, exist_ok=True)
        self.run = self.bucket / "runs" / "n"
        program = (
            "import os, sys\nfrom pathlib import Path\n"
            "from launcher.worker import notebook\n"
            "from launcher.worker.cluster import Node\n"
            "from launcher.worker.settings import Settings\n"
            "notebook.EVERY = 0.5\n"
            f"worker = notebook.Notebook(Settings.read(os.environ), Node(), Path.cwd(), {idle}, {self.port})\n"
            "sys.exit(worker.run())\n"
        )
        env = {"RUN_ID": "n", "RUN_OUTPUT": str(self.run), "RUN_MAX_SECONDS": str(seconds)}
        home = {"HOME": str(folder), "JUPYTER_CONFIG_DIR": str(folder / "config")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=self.folder,
            env={**os.environ, **env, **home},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ask(self, path: str, **headers: str) -> tuple[int, bytes]:
        url = f"http://127.0.0.1:{self.port}{path}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, b""
        except OSError:
            return 0, b""

    def wait_until_ready(self) -> None:
        wait_for(lambda: self.process.poll() is not None or self.ask("/api/status")[0] == 200)
        assert self.process.poll() is None, self.process.communicate()[0]

    def end(self) -> tuple[int, str]:
        said, _ = self.process.communicate(timeout=600)
        return self.process.returncode, said

    @property
    def outcome(self) -> dict[str, Any]:
        return json.loads((self.run / "outcome.json").read_text())


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def begin(**settings: float) -> Running:
        started.append(Running(tmp_path, **settings))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()


def test_what_is_written_is_kept_while_it_runs_and_after_it_was_told_to_end(start):
    running = start(idle=600)
    running.wait_until_ready()
    assert running.ask("/lab")[0] == 200
    assert running.ask("/api/status", Host="evil.example")[0] == 403
    (running.folder / "notebooks" / "mine.ipynb").write_text("first")
    saved = running.run / "notebooks" / "mine.ipynb"
    wait_for(saved.is_file)
    (running.folder / "notebooks" / "mine.ipynb").write_text("second")
    running.process.send_signal(signal.SIGTERM)
    status, said = running.end()
    assert status == 143, said
    assert saved.read_text() == "second"
    assert not (running.run / "outcome.json").exists()


def test_a_page_that_was_left_open_does_not_keep_it(start):
    running = start(idle=4)
    asking = threading.Event()

    def look() -> None:  # as a page in a browser does all the time
        while not asking.wait(0.5):
            running.ask("/api/kernels")

    threading.Thread(target=look, daemon=True).start()
    status, said = running.end()
    asking.set()
    assert status == 0, said
    assert "nobody has used it" in said
    assert running.outcome["state"] == "succeeded"


def test_at_its_time_limit_it_ends_whoever_is_there(start):
    running = start(idle=600, seconds=30)
    status, said = running.end()
    assert status == 124, said
    assert running.outcome["state"] == "stopped"


def test_a_kernel_at_work_is_use(monkeypatch):
    answers = {"kernels": [{"execution_state": "busy", "last_activity": "2020-01-01T00:00:00Z"}]}

    class Answer:
        def __init__(self, url: str, timeout: float) -> None:
            self.kind = url.rpartition("/")[2]

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read(self) -> str:
            return json.dumps(answers.get(self.kind, []))

    monkeypatch.setattr(notebook.urllib.request, "urlopen", Answer)
    used = last_used(1, lambda: 0.0)
    assert used is not None
    assert time.time() - used < 60
    answers["kernels"][0]["execution_state"] = "idle"
    assert last_used(1, lambda: 0.0) == 1577836800.0
    assert last_used(1, lambda: 2e9) == 2e9


def test_several_gpus_are_one_notebooks(tmp_path):
    settings = Settings.read({"RUN_ID": "n"})
    worker = Notebook(settings, Node(processes=8), tmp_path, None)
    assert worker.node.alone
    assert worker._command()[:3] == [sys.executable, "-m", "jupyterlab"]
