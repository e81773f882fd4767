"""Hands bytes of a proxy's client to another host and back: what the stage does not play is led through."""

import os
import selectors
import socket
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler

# Of this machine, whatever a test makes of the variables later: it may lead to the stage's own proxy then.
UPSTREAM = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy") or ""


def lead_through(handler: BaseHTTPRequestHandler, name: str, port: int) -> None:
    """Answers a CONNECT, by the proxy that this machine goes through, if any."""
    parts = urllib.parse.urlsplit("" if urllib.request.proxy_bypass(name) else UPSTREAM)
    handler.close_connection = True
    try:
        if parts.hostname:
            other = socket.create_connection((parts.hostname, parts.port or 80), 60)
            other.sendall(f"CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n".encode())
        else:
            other = socket.create_connection((name, port), 60)
            handler.send_response_only(200)
            handler.end_headers()
    except OSError:
        handler.send_error(502)
        return
    with other:
        _exchange(handler.connection, other)


def _exchange(client: socket.socket, other: socket.socket) -> None:
    with (
        selectors.DefaultSelector() as ready
    ):  # not select.select: a long session of tests has more than 1024 files open
        ready.register(client, selectors.EVENT_READ, other)
        ready.register(other, selectors.EVENT_READ, client)
        while found := ready.select(600):
            for key, _ in found:
                data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                if not data:
                    return
                key.data.sendall(data)
