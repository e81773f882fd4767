"""Machines that are taken away without a signal: the machine is asked each second, and its notice taken for SIGTERM.

https://learn.microsoft.com/azure/virtual-machines/linux/scheduled-events: a notice comes at least 30 seconds before, to all
machines of a group, and may be revoked. The service starts a job again whose machine is gone, and not one whose program
has ended before that: so the end is waited for.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from typing import Any

EVERY = 1.0  # seconds
TIMEOUT = 5.0  # seconds, for one answer; the first may take two minutes, and is asked for again
PATIENCE = 120.0  # seconds in which an announced end comes, or is revoked
TAKEN = "Preempt"
HEADERS = {"Metadata": "true"}  # which no address in a web page could add
NAME = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"


class Watch:
    """Asks until the machine is announced to be taken away.

    Args:
        address: that is asked.
        say: for the log.
    """

    def __init__(self, address: str, say: Callable[[str], None]) -> None:
        self.address, self._say = address, say
        self.announced = threading.Event()
        self._ended = threading.Event()
        # Not by a proxy, to which the address would mean another machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._name: str | None = None

    def start(self) -> None:
        """Begin to ask, beside what else is done."""
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        """Ask no more."""
        self._ended.set()

    def outlast(self) -> None:
        """Where the machine was announced to be taken away, wait until it is, or is not after all."""
        if not self.announced.is_set():
            return
        for _ in range(int(PATIENCE / EVERY)):
            threading.Event().wait(EVERY)
            with suppress(OSError, ValueError):
                if not self.is_taken():
                    return

    def _run(self) -> None:
        failing = False
        while not self._ended.wait(EVERY):
            try:
                taken, failing = self.is_taken(), False
            except (OSError, ValueError) as error:
                if not failing:
                    self._say(f"whether this machine is taken away cannot be asked: {error}")
                failing, taken = True, False
            if taken:
                self._say("this machine is about to be taken away")
                self.announced.set()
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def is_taken(self) -> bool:
        """Ask once.

        Raises:
            OSError, ValueError: there is no answer, or one that cannot be understood.
        """
        answer = json.loads(self._get(self.address))
        events = answer.get("Events") if isinstance(answer, dict) else None
        return any(
            self._is_ours(event) for event in events or () if event.get("EventType") == TAKEN
        )

    def _is_ours(self, event: dict[str, Any]) -> bool:
        """Tell whether it is this machine; one that does not say its name is taken for it."""
        if self._name is None:
            found = urllib.parse.urlsplit(self.address)
            with suppress(OSError):
                self._name = self._get(f"{found.scheme}://{found.netloc}{NAME}").strip()
        named = event.get("Resources") or []
        return not self._name or not named or self._name in named

    def _get(self, address: str) -> str:
        asked = urllib.request.Request(address, headers=HEADERS)  # noqa: S310 - http, on this machine
        with self._opener.open(asked, timeout=TIMEOUT) as answer:
            return answer.read().decode()
