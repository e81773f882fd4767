"""Answers in Azure's place, below `requests`: laid out one after the other, with what was asked for them."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from launcher.providers.azure import auth, login

CUT = 0  # as a status: the connection ends without an answer


@dataclass(frozen=True)
class Asked:
    """One request; `url` is without its query."""

    method: str
    url: str
    query: dict[str, str]
    body: Any
    form: Any
    headers: dict[str, str]


class Answers:
    """`say` lays out the next answer; `pauses` are the seconds that were waited between them."""

    def __init__(self) -> None:
        self._left: list[tuple[int, Any, dict[str, str]]] = []
        self.asked: list[Asked] = []
        self.pauses: list[float] = []

    def say(self, body: Any = None, status: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._left.append((status, body, named))

    def refuse(self, status: int, code: str, message: str = "no", **headers: str) -> None:
        self.say({"error": {"code": code, "message": message}}, status, **headers)

    @property
    def left(self) -> int:
        return len(self._left)

    def send(
        self, session: requests.Session, request: requests.PreparedRequest, **options: Any
    ) -> requests.Response:
        url, _, query = str(request.url).partition("?")
        sent: Any = request.body or b""
        content = sent.decode() if isinstance(sent, bytes) else str(sent)
        is_json = "json" in str(request.headers.get("Content-Type", ""))
        self.asked.append(
            Asked(
                request.method or "",
                url,
                dict(pair.split("=", 1) for pair in query.split("&") if pair),
                json.loads(content) if is_json else None,
                content if content and not is_json else None,
                {name: str(value) for name, value in request.headers.items()},
            )
        )
        status, answer, named = self._left.pop(0)
        if status == CUT:
            # As urllib3 says it, with the whole address.
            where = f"Max retries exceeded with url: {request.url}"
            raise requests.ConnectionError(f"{where} (Caused by ProtocolError: connection reset by peer)")
        response = requests.Response()
        response.status_code, response.url = status, request.url or ""
        response.headers.update(named)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        response._content = b"" if answer is None else data
        return response


def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Takes the place of Azure for one test, for a login whose token says of itself what scope it is for."""
    made = Answers()
    monkeypatch.setattr(requests.Session, "send", lambda *words, **options: made.send(*words, **options))
    monkeypatch.setattr(auth, "token", lambda scope=auth.ARM_SCOPE: f"token for {scope}")
    monkeypatch.setattr(auth.time, "sleep", made.pauses.append)
    monkeypatch.setattr(login, "_tokens", {})
    monkeypatch.setattr(auth, "_ahead", None)
    return made
