"""Runs the service: warm before it says so, and to the end of what it was asked."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
from types import FrameType

import uvicorn

from .app import Service
from .model import Model
from .settings import Settings

LONGEST_END = 10  # seconds for answers that are still being written after the draining


class Server(uvicorn.Server):
    """Goes on for a while after SIGTERM, with `Connection: close` in each answer.

    A load balancer sends requests for a moment after it has decided to end an instance; whoever closes at once loses those
    that are on connections which are kept open.
    """

    service: Service

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and only then say where."""
        await super().startup(sockets)
        if self.started:
            at = self.service.settings
            print(f"{self.service.model.version} at http://{at.host}:{at.port}", flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.service.draining:
            # A person who asks twice means at once; some services send SIGTERM to a process and to its group.
            if sig == signal.SIGINT:
                self.should_exit = self.force_exit = True
            return
        self.service.draining = True
        later = threading.Timer(self.service.settings.drain_seconds, self._end)
        later.daemon = True
        later.start()

    def _end(self) -> None:
        self.should_exit = True  # not by uvicorn's own way, which ends the process with the signal


def serve(model: Model, settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    service = Service(model, settings)
    service.warm_up()
    config = uvicorn.Config(
        service.app(),
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=LONGEST_END,
        h11_max_incomplete_event_size=16_384,
    )
    server = Server(config)
    server.service = service
    server.run()
