"""A small server in Google's place: it gives the answers that a test has laid out, and keeps what it was asked."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from launcher.providers.google import auth as google

SERVICES = ("AIPLATFORM", "BATCH", "LOGGING", "SECRETMANAGER", "SERVICEUSAGE")
VERSIONED = {"COMPUTE": "compute/v1/"}  # of these the version is a part of the address
LAUNCHER = "launcher@my-project.iam.gserviceaccount.com"
CUT = 0  # as a status: the connection ends without an answer


class GoogleServer:
    """`say` lays out an answer; the last one for a path is given again and again.

    An answer may be a function: it is given what was asked and makes the body, or body and status.
    """

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self._answers: dict[tuple[str, str], list[tuple[int, Any, dict[str, str]]]] = {}
        self.host = ""
        self.ahead = 0.0  # seconds that its clock is ahead of this machine's

    def say(self, method: str, path: str, body: Any = None, status: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._answers.setdefault((method, path), []).append((status, body, named))

    def refuse(self, method: str, path: str, status: int, message: str = "", **info: Any) -> None:
        details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", **info}] if info else []
        error = {"code": status, "message": message, "details": details}
        self.say(method, path, {"error": error}, status)

    def forget(self, method: str, path: str) -> None:
        """Answer 404 from now on."""
        del self._answers[method, path]

    def answer(self, method: str, path: str) -> tuple[int, Any, dict[str, str]]:
        left = self._answers.get((method, path))
        if not left:
            return 404, {"error": {"code": 404, "message": f"no {path}"}}, {}
        return left.pop(0) if len(left) > 1 else left[0]

    def sent(self, method: str, path: str) -> list[dict[str, Any]]:
        return [one for one in self.asked if (one["method"], one["path"]) == (method, path)]


@contextmanager
def google_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleServer]:
    """Runs one, with a login of its own, in the place of every API; nothing waits between attempts."""
    server = GoogleServer()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    server.host = f"127.0.0.1:{httpd.server_port}"
    base = f"http://{server.host}"
    for service in SERVICES:
        monkeypatch.setenv(f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service}", f"{base}/")
    for service, version in VERSIONED.items():
        monkeypatch.setenv(f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service}", f"{base}/{version}")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", base)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(_login(folder, base)))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    monkeypatch.setattr(google, "DELAYS", (0, 0))
    monkeypatch.setattr(google, "_ahead", None)
    server.say(
        "POST",
        "/sts",
        {
            "access_token": "federated",
            "token_type": "Bearer",
            "expires_in": 3600,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        },
    )
    impersonated = {"accessToken": "valid", "expireTime": "2099-01-01T00:00:00Z"}
    server.say("POST", f"/v1/projects/-/serviceAccounts/{LAUNCHER}:generateAccessToken", impersonated)
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    google._find_login.cache_clear()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        google._find_login.cache_clear()


def _login(folder: Path, base: str) -> Path:
    (folder / "subject").write_text("from GitHub")
    file = folder / "login.json"
    account = f"/v1/projects/-/serviceAccounts/{LAUNCHER}:generateAccessToken"
    pool = "projects/1/locations/global/workloadIdentityPools/pool/providers/github"
    file.write_text(
        json.dumps(
            {
                "type": "external_account",
                "audience": f"//iam.googleapis.com/{pool}",
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "token_url": f"{base}/sts",
                "service_account_impersonation_url": base + account,
                "credential_source": {"file": str(folder / "subject")},
            }
        )
    )
    return file


def _handler(server: GoogleServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string((timestamp or time.time()) + server.ahead)

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            is_json = "json" in self.headers.get("Content-Type", "")
            asked = {
                "method": self.command,
                "path": url.path,
                "query": parse_qs(url.query),
                "body": json.loads(content) if content and is_json else None,
                "login": self.headers.get("Authorization"),
            }
            server.asked.append(asked)
            status, body, headers = server.answer(self.command, url.path)
            if callable(body):
                body = body(asked)
                body, status = body if isinstance(body, tuple) else (body, status)
            if status == CUT:
                self.close_connection = True
                return
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_DELETE = do_GET  # noqa: N815

    return Handler
