"""Machines that are taken away without a signal: the worker asks, and ends as it does by one."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from launcher.job import EXIT_PREEMPTED
from launcher.worker import scheduled_events
from launcher.worker.scheduled_events import Watch
from launcher.worker.settings import Settings
from stage.azure.imds import Metadata
from stage.rest import serve

pytestmark = pytest.mark.cloud("azure")
EVENTS = "/metadata/scheduledevents?api-version=2020-07-01"


@pytest.fixture
def machine(monkeypatch) -> Iterator[tuple[Metadata, str]]:
    """The machine's own service, and where it is asked for events."""
    monkeypatch.setattr(scheduled_events, "EVERY", 0.01)
    monkeypatch.setattr(scheduled_events, "TIMEOUT", 60.0)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # which leads nowhere
    metadata = Metadata("node-3", "Standard_NC4as_T4_v3", "westeurope")
    with serve(metadata) as url:
        yield metadata, f"{url}{EVENTS}"


def watch(address: str) -> tuple[Watch, list[str]]:
    said: list[str] = []
    return Watch(address, said.append), said


def test_a_machine_that_is_announced_to_go_is_taken_and_others_are_not(machine):
    metadata, address = machine
    watched, _ = watch(address)
    assert not watched.is_taken()
    metadata.announce(time.time() + 30, machine="node-4")
    assert not watched.is_taken()
    metadata.announce(time.time() + 30, kind="Reboot")
    assert not watched.is_taken()
    metadata.announce(time.time() + 30)
    assert watched.is_taken()
    metadata.revoke()
    assert not watched.is_taken()


def test_a_machine_that_does_not_say_its_name_is_taken_for_the_one(machine, monkeypatch):
    metadata, address = machine
    metadata.announce(time.time() + 30, machine="node-4")
    monkeypatch.setattr(scheduled_events, "NAME", "/metadata/nothing")
    assert watch(address)[0].is_taken()


def test_the_notice_is_taken_for_a_signal(machine):
    metadata, address = machine
    came, watched = threading.Event(), watch(address)
    before = signal.signal(signal.SIGTERM, lambda *_: came.set())
    try:
        watched[0].start()
        metadata.announce(time.time() + 30)
        while not came.is_set():  # the handler runs in this thread, between two of its steps
            time.sleep(0.01)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert watched[0].announced.is_set()
    assert watched[1] == ["this machine is about to be taken away"]


def test_a_machine_that_cannot_be_asked_is_said_once_and_asked_again(machine, monkeypatch):
    _, address = machine
    watched, said = watch(address)
    answers = [OSError("no route"), OSError("no route"), ValueError("no JSON"), False]
    done = threading.Event()

    def is_taken() -> bool:
        found = answers.pop(0) if answers else done.set() or False
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(watched, "is_taken", is_taken)
    watched.start()
    assert done.wait(30)
    watched.stop()
    assert said == ["whether this machine is taken away cannot be asked: no route"]


def test_the_end_of_an_announced_machine_is_waited_for_unless_it_is_revoked(machine, monkeypatch):
    metadata, address = machine
    watched, _ = watch(address)
    watched.outlast()  # nothing was announced
    assert metadata.asked == 0
    watched.announced.set()
    watched.outlast()  # and is revoked already
    assert metadata.asked == 1
    metadata.announce(time.time() + 30)
    monkeypatch.setattr(scheduled_events, "PATIENCE", 0.05)
    watched.outlast()
    assert metadata.asked == 6


def test_only_who_is_told_where_to_ask_does(machine):
    _, address = machine
    assert Settings.read({"RUN_ID": "a"}).events is None
    assert Settings.read({"RUN_ID": "a", "RUN_EVENTS": address}).events == address


TRAIN = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print('saved', flush=True), sys.exit(143)))
print('training', flush=True)
while True:
    time.sleep(0.05)
"""
PROGRAM = """
import sys
from launcher.worker import __main__ as program, scheduled_events, worker
scheduled_events.EVERY, scheduled_events.PATIENCE = 0.05, 0.2
sys.argv[1:], train = [], sys.argv[1]
worker.Worker._command = lambda self: [sys.executable, '-c', train]
program.main()
"""


def test_a_training_saves_and_the_worker_ends_as_by_a_signal(machine, tmp_path, project):
    metadata, address = machine
    env = {**os.environ, "RUN_ID": "a", "RUN_EVENTS": address, "RUN_OUTPUT": str(tmp_path / "bucket/runs/a")}
    words = [sys.executable, "-c", PROGRAM, TRAIN]
    with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True, cwd=project) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line.strip())
            if line.strip().endswith("training"):
                metadata.announce(time.time() + 30)
        assert process.wait(60) == EXIT_PREEMPTED, lines
    text = "\n".join(lines)
    assert text.index("about to be taken away") < text.index("saved")
    [attempt] = json.loads((tmp_path / "bucket/runs/a/attempts.json").read_text())
    assert attempt["exit_code"] == EXIT_PREEMPTED
