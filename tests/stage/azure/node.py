"""The network of a job's machines: nothing can be reached from it but what the stage leads there.

The metadata service has the same address on every machine of Azure, and on this machine it may be something else: so jobs do
not run in this machine's network.
"""

import socket
import socketserver
import tempfile
import threading
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from stage.containers import Container

PROGRAM = Path(__file__).with_name("node_program.py")
IMAGE = "python:3.13-slim"  # `make engine` has it
FOLDER = "/stage"


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, _Server)
        with socket.create_connection(self.server.place, 60) as other:
            back = threading.Thread(target=_copy, args=(other, self.request), daemon=True)
            back.start()
            _copy(self.request, other)
            back.join()


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 128
    place: tuple[str, int]

    def handle_error(self, request: object, client_address: object) -> None:
        """Either end may hang up at any time."""


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for one in (source, target):
            one.close()


class Network:
    """A network of its own for one job, until it is closed.

    Args:
        stage: value of the label that clean-up finds its container by.
        leads: address:port there -> URL of a server of this machine that it leads to.
    """

    def __init__(self, stage: str, leads: Mapping[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="node")  # paths of sockets have to be short
        self._servers: list[_Server] = []
        words = []
        for number, (place, url) in enumerate(leads.items()):
            parts = urllib.parse.urlsplit(url)
            server = _Server(f"{self._folder.name}/{number}", _Handler)
            server.place = (parts.hostname or "127.0.0.1", parts.port or 80)
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            self._servers.append(server)
            words.append(f"{place}={FOLDER}/{number}")
        mounts = ("--volume", f"{self._folder.name}:{FOLDER}", "--volume", f"{PROGRAM}:/node.py:ro")
        names = ("--hostname", "node", "--add-host", "node:127.0.0.1", "--cap-add", "NET_ADMIN")
        self._container = Container(
            IMAGE, stage, {}, ["/node.py", *words], ["python3"], options=(*mounts, *names), network="none"
        )

    @property
    def name(self) -> str:
        """What `docker run --network` takes."""
        return f"container:{self._container.name}"

    def ready(self) -> None:
        """Waits until everything is listened at; raises AssertionError with the program's words where it is not."""
        output = self._container.process.stdout
        assert output is not None
        if output.readline() != b"ready\n":
            errors = self._container.process.stderr
            raise AssertionError(
                errors.read().decode() if errors else "the network of a job does not come up"
            )

    def close(self) -> None:
        self._container.remove()
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self._folder.cleanup()
