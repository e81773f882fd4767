"""The proxy through which programs reach Azure's own hosts: it ends TLS for those, and leads all others through."""

import http
import re
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stage.azure.server import Reply, Server
from stage.azure.tls import authority
from stage.rest import LostAnswerError
from stage.tunnel import lead_through

# Hosts of Microsoft's that no stand-in plays are refused: nothing of a test may reach the real ones.
THEIRS = re.compile(
    r"(^|\.)(azure|microsoft|microsoftonline|windows|live|azureedge|visualstudio|azure-api|trafficmanager)\.(com|net)$"
    r"|(^|\.)(azure\.net|azurecr\.io|azureml\.(ms|net)|azureml-test\.net|windowsazure\.com|msauth\.net|msidentity\.com)$"
)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = (
        True  # head and body are written apart: the second would wait 40 ms for the client
    )
    azure: Server
    host = ""  # spoken as since a CONNECT; "" before it

    def log_message(self, format: str, *args: Any) -> None:
        """Be silent: tests read the recorded calls."""

    def do_CONNECT(self) -> None:
        """Speaks as the host from here on."""
        name, _, port = self.path.lower().partition(":")
        place = self.azure.place(name)
        with self.azure.clock.lock:  # while a template is carried out some things are hidden
            missing = place is not None and (port != "443" or not place.exists(name))
        if self.host or missing:
            self._refused(f"{name} cannot be resolved")
        elif place:
            self._speak_as(name)
        elif THEIRS.search(name):
            self.azure.broken.append(f"{name}:{port} is a host of Microsoft's that the stage does not play")
            self._refused(f"the stage does not play {name}")
        else:
            lead_through(self, name, int(port or 443))

    def _refused(self, why: str) -> None:
        self.close_connection = True
        self.send_error(502, why)

    def _speak_as(self, name: str) -> None:
        self.send_response_only(200, "Connection established")
        self.end_headers()
        try:
            self.connection = authority().context(name).wrap_socket(self.connection, server_side=True)
        except (ssl.SSLError, OSError):  # a client that does not trust the stage
            self.close_connection = True
            return
        self.rfile = self.connection.makefile("rb", 65536)
        self.wfile = self.connection.makefile("wb", 0)  # type: ignore[assignment]
        self.host, self.close_connection = name, False

    def answer(self) -> None:
        """Answers a request by TLS; one without is refused, for Azure's services and this proxy take none."""
        if not self.host:
            self._refused("only https goes through this proxy")
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            content = self._content(headers)
            reply = self.azure(self.host, self.command, self.path, headers, content)
        except LostAnswerError:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._send(reply)

    def _content(self, headers: dict[str, str]) -> bytes:
        if "chunked" not in headers.get("transfer-encoding", ""):
            return self.rfile.read(int(headers.get("content-length") or 0))
        found = bytearray()
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline() not in (b"\r\n", b"\n", b""):
            pass
        return bytes(found)

    def _send(self, reply: Reply) -> None:
        content, headers = reply.content, dict(reply.headers)
        given = {name.lower() for name in headers}
        phrase = {status.value: status.phrase for status in http.HTTPStatus}
        self.send_response_only(reply.status, phrase.get(reply.status, "Status"))
        if "content-type" not in given and content and not isinstance(reply.body, bytes):
            self.send_header("Content-Type", "application/json; charset=utf-8")
        if "content-length" not in given and reply.status not in (204, 304):
            self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if reply.cut:
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may hang up, as those do that keep connections; anything else is an error here."""
        if not isinstance(sys.exception(), (ConnectionError, ssl.SSLError, TimeoutError)):
            super().handle_error(request, client_address)


@contextmanager
def serving(server: Server, port: int = 0) -> Iterator[str]:
    """Runs the proxy on a loopback port while the block lasts; gives its address."""
    proxy = _Proxy(("127.0.0.1", port), type("Handler", (_Handler,), {"azure": server}))
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_address[1]}"
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
