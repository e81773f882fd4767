"""A bucket whose network fails when a test says so: a proxy in front of fake-gcs-server.

The emulator itself stores whole objects only, so whatever a fault leaves behind is what a client has done.
"""

import http.client
import json
import re
import socket
import struct
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from servers import google

from stage.rest import serving

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-connection"}
BLOCK = 1 << 16
PERMISSIONS = {
    *(f"storage.objects.{verb}" for verb in ("create", "delete", "get", "list", "update")),
    *("storage.buckets.get", "storage.buckets.list"),
    *(f"storage.multipartUploads.{verb}" for verb in ("abort", "create", "list", "listParts")),
}


class _Cut(Exception):  # noqa: N818 it is no error, but what a fault asks for
    """The connection is to be cut here."""


@dataclass
class Fault:
    """What goes wrong with the next requests that match.

    Args:
        method, path: regular expressions; the path with its query, not decoded (%2F), is searched.
        times: how many requests it meets; None for all until it is removed.
        status: answer this instead (503, 429, 403 ...), without asking the emulator.
        cut_request: cut the connection after so many bytes of the request's body; the emulator gets none of them.
        cut_response: the emulator does what is asked, but the connection is cut after so many bytes of its answer's body.
        seconds: wait so long first.
        skip: so many matching requests pass before.
    """

    method: str = ".*"
    path: str = ""
    times: int | None = 1
    status: int | None = None
    cut_request: int | None = None
    cut_response: int | None = None
    seconds: float = 0.0
    skip: int = 0
    hits: int = 0

    def _takes(self, method: str, path: str) -> bool:
        if not re.fullmatch(self.method, method) or not re.search(self.path, path):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        self.hits += 1
        return True


@dataclass
class Exchange:
    """One request as the proxy saw it; bytes are of the bodies, the status is 0 when the connection was cut."""

    method: str
    path: str
    sent: int = 0
    received: int = 0
    status: int = 0
    started: float = field(default_factory=time.monotonic)


class Bucket:
    """The bucket as a test handles it.

    Attributes:
        name, uri: of the bucket.
        env: leads Google's clients to the proxy.
        exchanges: every request, in order.
        permissions: what testIamPermissions grants.
        location: where the bucket says that it is; None leaves it to the emulator (US-CENTRAL1).
    """

    def __init__(self, name: str) -> None:
        self.name, self.uri = name, f"gs://{name}"
        self.url = self.upstream = ""
        self.exchanges: list[Exchange] = []
        self.permissions = set(PERMISSIONS)
        self.location: str | None = None
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    @property
    def env(self) -> dict[str, Any]:
        # Without the second one gcsfs asks Google itself what kind of bucket this is.
        return {"STORAGE_EMULATOR_HOST": self.url, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}

    # Faults

    def fail(self, method: str = ".*", path: str = "", **what: Any) -> Fault:
        """Adds a fault (see `Fault`) and gives it: its `hits` tell how often it struck."""
        fault = Fault(method, path, **what)
        with self._lock:
            self._faults.append(fault)
        return fault

    def heal(self) -> None:
        """Removes all faults."""
        with self._lock:
            self._faults.clear()

    def fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            return next((fault for fault in self._faults if fault._takes(method, path)), None)

    # What was asked

    def count(self, method: str = ".*", path: str = "") -> int:
        """How many requests matched two regular expressions."""
        return sum(
            1 for one in self.exchanges if re.fullmatch(method, one.method) and re.search(path, one.path)
        )

    @property
    def bytes_up(self) -> int:
        return sum(one.sent for one in self.exchanges)

    @property
    def bytes_down(self) -> int:
        return sum(one.received for one in self.exchanges)

    # What is in it, past all faults

    def objects(self, prefix: str = "") -> dict[str, int]:
        """Name -> bytes of the objects whose names start with a prefix."""
        query, found = {"prefix": prefix, "maxResults": "1000"}, {}
        while True:
            page = json.loads(
                self._direct("GET", f"/storage/v1/b/{self.name}/o?{urllib.parse.urlencode(query)}")
            )
            found |= {one["name"]: int(one["size"]) for one in page.get("items", [])}
            if not page.get("nextPageToken"):
                return found
            query["pageToken"] = page["nextPageToken"]

    def read(self, name: str) -> bytes:
        """An object's content; raises KeyError where there is none."""
        return self._direct(
            "GET", f"/storage/v1/b/{self.name}/o/{urllib.parse.quote(name, safe='')}?alt=media"
        )

    def write(self, name: str, content: bytes) -> None:
        """Puts an object there, as somebody else would."""
        path = f"/upload/storage/v1/b/{self.name}/o?uploadType=media&name={urllib.parse.quote(name, safe='')}"
        self._direct("POST", path, content)

    def remove(self, name: str) -> None:
        self._direct("DELETE", f"/storage/v1/b/{self.name}/o/{urllib.parse.quote(name, safe='')}")

    def _direct(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        try:
            connection.request(
                method, path, body, {"Content-Type": "application/octet-stream"} if body is not None else {}
            )
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status == 404:
            raise KeyError(path)
        assert answer.status < 300, (answer.status, content)
        return content


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bucket: Bucket

    def log_message(self, format: str, *args: Any) -> None:
        """Be silent: tests read the exchanges."""

    def pass_on(self) -> None:
        exchange = Exchange(self.command, self.path)
        self.bucket.exchanges.append(exchange)
        fault = self.bucket.fault(self.command, self.path) or Fault()
        try:
            time.sleep(fault.seconds)
            if fault.status is not None:
                for block in self._body():
                    exchange.sent += len(block)
                self._own(exchange, fault.status, _error(fault.status))
            elif re.fullmatch(
                rf"/(storage/v1/)?b/{re.escape(self.bucket.name)}/iam/testPermissions",
                self.path.partition("?")[0],
            ):
                self._permissions(exchange)
            else:
                self._forward(exchange, fault)
        except (_Cut, ConnectionError, http.client.HTTPException, OSError):
            self._cut()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = pass_on  # noqa: N815

    def _body(self) -> Iterator[bytes]:
        """The request's body, a block at a time."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            block = self.rfile.read1(min(left, BLOCK))
            if not block:
                raise ConnectionError("the client has gone")
            left -= len(block)
            yield block

    def _forward(self, exchange: Exchange, fault: Fault) -> None:
        if fault.cut_request is not None:
            # Nothing of it reaches the emulator: as from a machine that is gone before its first packet is handled.
            for block in self._body():
                exchange.sent += len(block)
                if exchange.sent >= fault.cut_request:
                    break
            raise _Cut
        connection = http.client.HTTPConnection(self.bucket.upstream, timeout=300)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", self.bucket.upstream)
            chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
            for name, value in self.headers.items():
                if name.lower() not in HOP_BY_HOP | {"host", "expect"}:
                    connection.putheader(name, value)
            if chunked:
                connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
            for block in self._body():
                exchange.sent += len(block)
                connection.send(b"%x\r\n%s\r\n" % (len(block), block) if chunked else block)
            if chunked:
                connection.send(b"0\r\n\r\n")
            self._answer(exchange, connection.getresponse(), fault.cut_response)
        finally:
            connection.close()

    def _answer(self, exchange: Exchange, answer: http.client.HTTPResponse, cut: int | None) -> None:
        kind = answer.headers.get("Content-Type", "")
        # Descriptions of objects hold links, which must lead here; contents are left alone.
        if (
            kind.startswith("application/json")
            and "alt=media" not in self.path
            and "/download/" not in self.path
        ):
            content = self._links(answer.read())
            blocks: Iterator[bytes] = iter([content] if content else [])
            length: str | None = str(len(content))
        else:
            blocks = iter(lambda: answer.read(BLOCK), b"")
            length = answer.headers.get("Content-Length")
        if self.command == "HEAD":
            length = answer.headers.get("Content-Length")
        bare = self.command == "HEAD" or answer.status in (204, 304)
        if cut == 0:
            raise _Cut
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in HOP_BY_HOP | {"content-length", "date", "server"}:
                self.send_header(name, value.replace(f"http://{self.bucket.upstream}", self.bucket.url))
        if length is not None:
            self.send_header("Content-Length", length)
        elif not bare:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for block in () if bare else blocks:
            part = block if cut is None else block[: cut - exchange.received]
            self.wfile.write(part if length is not None else b"%x\r\n%s\r\n" % (len(part), part))
            exchange.received += len(part)
            if cut is not None and exchange.received >= cut:
                self.wfile.flush()
                raise _Cut
        if length is None and not bare:
            self.wfile.write(b"0\r\n\r\n")
        exchange.status = answer.status

    def _links(self, content: bytes) -> bytes:
        content = content.replace(f"http://{self.bucket.upstream}".encode(), self.bucket.url.encode())
        if self.bucket.location and re.fullmatch(r"/(storage/v1/)?b/[^/]+", self.path.partition("?")[0]):
            described = json.loads(content)
            if described.get("kind") == "storage#bucket":
                content = json.dumps({**described, "location": self.bucket.location}).encode()
        return content

    def _permissions(self, exchange: Exchange) -> None:
        """Says which of the asked permissions the caller has, which the emulator cannot."""
        asked = urllib.parse.parse_qs(self.path.partition("?")[2]).get("permissions", [])
        if (
            self.command != "GET"
            or not asked
            or not all(re.fullmatch(r"storage(\.\w+){2}", one) for one in asked)
        ):
            return self._own(exchange, 400, {**_error(400)})
        granted = [one for one in asked if one in self.bucket.permissions]
        answer: dict[str, Any] = {"kind": "storage#testIamPermissionsResponse"}
        return self._own(exchange, 200, answer | ({"permissions": granted} if granted else {}))

    def _own(self, exchange: Exchange, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        exchange.status, exchange.received = status, len(body)

    def _cut(self) -> None:
        """Ends the connection with a reset, as a failing network does, not with a polite end."""
        self.close_connection = True
        try:
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        except (OSError, ValueError):
            pass  # it is gone already

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            pass  # it was cut


def _error(status: int) -> dict[str, Any]:
    words = {
        403: ("forbidden", "The caller does not have access."),
        429: ("rateLimitExceeded", "Rate limit exceeded."),
    }
    reason, message = words.get(status, ("backendError", "Backend error. Please try again."))
    found = {"domain": "global", "reason": reason, "message": message}
    return {"error": {"code": status, "message": message, "errors": [found]}}


@contextmanager
def bucket(name: str, folder: Path, port: int = 0) -> Iterator[Bucket]:
    """Runs fake-gcs-server with an empty bucket and the proxy in front of it, while the block lasts.

    Args:
        folder: where the emulator's log goes.
        port: of the proxy; 0 takes a free one.
    """
    here = Bucket(name)
    with google(name, folder) as env:
        here.upstream = str(env["STORAGE_EMULATOR_HOST"]).removeprefix("http://")
        with serving(type("Proxy", (_Proxy,), {"bucket": here}), port) as here.url:
            yield here
