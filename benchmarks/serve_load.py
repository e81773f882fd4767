"""Load on a server of this machine: each connection sends its next request when it has the answer to the one before.

Takes what to send as JSON on stdin, gives times and answers as JSON on stdout. One thread: what it needs itself is the same
for all servers.
"""

import json
import select
import socket
import sys
import time
from typing import Any


class Connection:
    """One that stays open, if the server lets it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open()

    def _open(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self._port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, number: int, request: bytes) -> None:
        self.number, self.got, self.begun = number, b"", time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> tuple[int, str] | None:
        """The status and the body, once they are whole."""
        part = self.socket.recv(1 << 16)
        if not part:
            raise ConnectionError("the server closed the connection")
        self.got += part
        head, found, body = self.got.partition(b"\r\n\r\n")
        if not found:
            return None
        headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if len(body) < int(headers[b"content-length"]):
            return None
        if headers.get(b"connection") == b"close":
            self.again()
        return int(head.split(maxsplit=2)[1]), body.decode()

    def again(self) -> None:
        self.socket.close()
        self._open()


def load(
    port: int, bodies: list[str], seconds: float, warm: float = 0, connections: int = 4
) -> dict[str, Any]:
    """Sends the bodies in turn for so long, and before that for the seconds that `warm` says, whose times do not count.

    A request that the server ends without an answer has the status 0.
    """
    requests = [
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body.encode()), body.encode())
        for body in bodies
    ]
    times, answers, sent = [], [], 0

    def send(connection: Connection) -> None:
        nonlocal sent
        number, sent = sent % len(requests), sent + 1
        connection.send(number, requests[number])

    opened = [Connection(port) for _ in range(connections)]
    begin = time.perf_counter() + warm
    for connection in opened:
        send(connection)
    while time.perf_counter() < begin + seconds:
        for connection in select.select(opened, [], [], 60)[0]:
            try:
                if (answer := connection.receive()) is None:
                    continue
                if connection.begun >= begin:
                    times.append(time.perf_counter() - connection.begun)
                answers.append((connection.number, *answer))
                send(connection)
            except OSError:
                answers.append((connection.number, 0, ""))
                connection.again()
                send(connection)
    took = time.perf_counter() - begin
    return {"seconds": took, "times": times, "answers": answers}


if __name__ == "__main__":
    json.dump(load(**json.load(sys.stdin)), sys.stdout)
