"""A small HTTP server whose refusals read as Google's own: code, status, message, the fields at fault."""

import json
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
}


class RequestError(Exception):
    """A request that the service would not take.

    Args:
        code: HTTP status.
        message: what is said to the caller.
        violations: (field, description) of each field at fault.
        status: Google's word for it; None takes the usual one of the code.
    """

    def __init__(
        self,
        code: int,
        message: str,
        violations: list[tuple[str, str]] | None = None,
        status: str | None = None,
    ):
        super().__init__(message)
        self.code, self.message, self.violations = code, message, violations or []
        self.status = status or STATUSES[code]

    def json(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code, "message": self.message, "status": self.status}
        if self.violations:
            found = [{"field": name, "description": text} for name, text in self.violations]
            kind = "type.googleapis.com/google.rpc.BadRequest"
            error["details"] = [{"@type": kind, "fieldViolations": found}]
        return {"error": error}


class LostAnswerError(Exception):
    """The request was carried out, and the connection breaks before its answer arrives."""


@dataclass(frozen=True)
class Request:
    """One request; `query` has a list for each name."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; an object, or the request is refused."""
        try:
            content = json.loads(self.body or b"{}")
        except ValueError as error:
            raise RequestError(400, f"Invalid JSON payload received. {error}") from error
        if not isinstance(content, dict):
            raise RequestError(400, "Invalid JSON payload received. An object is expected.")
        return content

    def only(self, *names: str) -> dict[str, str]:
        """The query's values, when all its names are known and none stands twice."""
        for name, values in self.query.items():
            if name not in (*names, "alt", "$alt", "key", "prettyPrint", "fields"):
                text = f"Invalid JSON payload received. Unknown name {json.dumps(name)}: Cannot bind query parameter."
                raise RequestError(400, text, [(name, "unknown")])
            if len(values) > 1:
                raise RequestError(400, f"Repeated query parameter {name}.", [(name, "given twice")])
        return {name: values[0] for name, values in self.query.items()}


@dataclass(frozen=True)
class Answer:
    """What is sent back; dicts and lists go as JSON."""

    content: Any = field(default_factory=dict)
    code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Handle = Callable[[Request], Answer]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body are two writes: the second would wait 40 ms until the first is acknowledged.
    disable_nagle_algorithm = True
    handle_request: Handle

    def log_message(self, format: str, *args: Any) -> None:
        """Be silent: tests read the recorded requests."""

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, query = self.path.partition("?")
        named = urllib.parse.parse_qs(query, keep_blank_values=True)
        request = Request(self.command, path, named, self.headers, body)  # type: ignore[arg-type]
        try:
            reply = type(self).handle_request(request)
        except RequestError as refusal:
            reply = Answer(refusal.json(), refusal.code)
        except LostAnswerError:
            self.close_connection = True
            return
        text = isinstance(reply.content, str)
        content = reply.content.encode() if text else json.dumps(reply.content).encode()
        self.send_response_only(reply.code)
        for name, usual in (("Server", self.version_string()), ("Date", self.date_time_string())):
            if name not in reply.headers:
                self.send_header(name, usual)
        self.send_header("Content-Type", "text/plain" if text else "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(content)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = answer  # noqa: N815


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may hang up, as those do that keep connections; anything else is an error here."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], port: int = 0) -> Iterator[str]:
    """Answers on a loopback port, in threads of this process; gives the address without a slash at its end."""
    server = _Server(("127.0.0.1", port), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serve(handle: Handle, port: int = 0) -> Iterator[str]:
    """`serving` for a function from a request to an answer."""
    with serving(type("Handler", (_Handler,), {"handle_request": staticmethod(handle)}), port) as url:
        yield url


def ask(url: str, token: str | None = None, body: Any = None, **headers: str) -> tuple[int, Any]:
    """Sends one request (POST if there is a body); gives the status and the JSON, or text, of the answer."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"Content-Type": "application/json", **headers}
    if token is not None:
        given["Authorization"] = f"Bearer {token}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, given), timeout=60) as answer:
            status, content = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, content = error.code, error.read()
    try:
        return status, json.loads(content)
    except ValueError:
        return status, content.decode()
