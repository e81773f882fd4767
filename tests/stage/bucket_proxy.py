"""The proxy in front of a bucket's emulator: passes requests on, counts them, and fails as the faults say."""

from __future__ import annotations

import http.client
import json
import re
import socket
import struct
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stage.bucket import Bucket, Exchange, Fault

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-connection"}
BLOCK = 1 << 16


class _Cut(Exception):  # noqa: N818 it is no error, but what a fault asks for
    """The connection is to be cut here."""


@dataclass
class Session:
    """A resumable upload: bytes that are stored, and the answer to its last piece once that is there."""

    stored: int = 0
    final: tuple[int, bytes] | None = None


class Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bucket: Bucket

    def log_message(self, format: str, *args: Any) -> None:
        """Be silent: tests read the exchanges."""

    def pass_on(self) -> None:
        exchange, fault = self.bucket.begin(self.command, self.path)
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
            elif wanted := self._condition():
                with self.bucket.conditional:
                    self._forward_if(wanted, exchange, fault)
            else:
                self._forward(exchange, fault)
        except (_Cut, ConnectionError, http.client.HTTPException, OSError):
            self._cut()
        finally:
            self.bucket.end()

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
        session, span = self._session()
        if session and self._knows(exchange, session, span):
            return
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

    def _condition(self) -> tuple[str, str] | None:
        """The name of an object that is uploaded in one piece, and the generation that it must have until then.

        The emulator does not look at it. "0" is the generation of what is not there.
        """
        path, _, query = self.path.partition("?")
        asked = {name: values[0] for name, values in urllib.parse.parse_qs(query).items()}
        if not path.startswith("/upload/") or asked.get("uploadType") != "media":
            return None
        wanted = asked.get("ifGenerationMatch")
        return (asked.get("name", ""), wanted) if wanted else None

    def _forward_if(self, wanted: tuple[str, str], exchange: Exchange, fault: Fault) -> None:
        """Passes an upload on if the object has the generation that is asked for; nobody else may upload meanwhile."""
        name, generation = wanted
        if self.bucket.generation(name) == generation:
            self._forward(exchange, fault)
            return
        for block in self._body():
            exchange.sent += len(block)
        self._own(exchange, 412, _error(412))

    def _session(self) -> tuple[Session | None, tuple[int, int] | None]:
        """The upload session that a request belongs to, and the first and last byte of its piece (None: a question)."""
        number = urllib.parse.parse_qs(self.path.partition("?")[2]).get("upload_id")
        found = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(?:\d+|\*)", self.headers.get("Content-Range", ""))
        if not number or not found:
            return None, None
        span = (int(found[1]), int(found[2])) if found[1] else None
        return self.bucket.sessions.setdefault(number[0], Session()), span

    def _knows(self, exchange: Exchange, session: Session, span: tuple[int, int] | None) -> bool:
        """Answers for a piece that is stored already, and for the question how much is, as the service does.

        The emulator would append a piece once more when its client has not learned that it came in.
        """
        if session.final is None and (span is None or span[1] >= session.stored):
            return False
        for block in self._body():
            exchange.sent += len(block)
        status, body = session.final or (308, b"")
        self.send_response(status)
        if status == 308:
            self.send_header("Range", f"bytes=0-{session.stored - 1}")
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        exchange.status, exchange.received = status, len(body)
        return True

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
            content = b""
            blocks = iter(lambda: answer.read(BLOCK), b"")
            length = answer.headers.get("Content-Length")
        if self.command == "HEAD":
            length = answer.headers.get("Content-Length")
        session, span = self._session()
        if session and span and answer.status == 308:
            session.stored = span[1] + 1
        elif session and answer.status in (200, 201):
            session.final = answer.status, content
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
        with suppress(OSError, ValueError):  # it is gone already
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def finish(self) -> None:
        with suppress(OSError, ValueError):  # it was cut
            super().finish()


def _error(status: int) -> dict[str, Any]:
    words = {
        403: ("forbidden", "The caller does not have access."),
        412: ("conditionNotMet", "At least one of the pre-conditions you specified did not hold."),
        429: ("rateLimitExceeded", "Rate limit exceeded."),
    }
    reason, message = words.get(status, ("backendError", "Backend error. Please try again."))
    found = {"domain": "global", "reason": reason, "message": message}
    return {"error": {"code": status, "message": message, "errors": [found]}}
