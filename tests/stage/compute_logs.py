"""What containers on VMs print, as Google's log driver sends it to Cloud Logging; here it comes by syslog."""

import base64
import json
import re
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

LINE = re.compile(r"<(\d+)>1 (\S+) \S+ (\S+) \S+ \S+ - ?(.*)")


@dataclass(frozen=True)
class Line:
    """One line that a container has printed.

    Args:
        vm: id of the VM that it runs on.
        time: when, as RFC 3339.
        container: the name that the VM has given it.
        container_id: the beginning of the engine's id of it.
        image: what it runs.
        metadata: the labels and variables of the container that the driver was told to keep.
    """

    vm: str
    time: str
    container: str
    container_id: str
    image: str
    metadata: dict[str, str]
    message: str


def read(text: str) -> Line | None:
    """Reads one message in syslog's form, whose tag the VM's `docker` has made; None if it is none."""
    found = LINE.fullmatch(text)
    tag = found[3].split("|") if found else []
    if found is None or len(tag) != 5:
        return None
    return Line(tag[0], found[2], tag[1], tag[2], tag[3], json.loads(base64.b64decode(tag[4])), found[4])


@contextmanager
def log_server(take: Callable[[Line], None]) -> Iterator[str]:
    """Receives lines while the block lasts; gives the address that Docker's syslog driver takes."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for data in self.rfile:
                line = read(data.decode(errors="replace").rstrip("\r\n\0"))
                if line:
                    take(line)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
