"""What all answers have: an id of the request, its time, one form of errors, and the end of connections."""

from __future__ import annotations

import itertools
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from .app import Service

log = logging.getLogger("serving")
REQUEST_ID = re.compile(r"[A-Za-z0-9._:/=+-]{1,128}")


class RefusedError(Exception):
    """A request that is answered with this status and text."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.headers = status, dict(headers or {})


class Frame:
    """What all answers have: an id of the request, its time, one form of errors, and the end of connections.

    Args:
        app: the routes.
        service: which counts.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service
        self._first, self._numbers = secrets.token_hex(4), itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if REQUEST_ID.fullmatch(given) else self._next_id()
        begun, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                more = [(b"x-request-id", request_id.encode())]
                more += [(b"connection", b"close")] if self.service.draining else []
                message["headers"] = [*message.get("headers", ()), *more]
            await send(message)

        try:
            await self._answered(scope, receive, sending)
        finally:
            self.service.note(scope, status, time.perf_counter() - begun, request_id)

    def _next_id(self) -> str:
        """Give an id, without a call of the system: in it this thread would let those that compute go first."""
        return f"{self._first}{next(self._numbers):08x}"

    async def _answered(
        self, scope: Scope, receive: Receive, send: Callable[[Message], Awaitable[None]]
    ) -> None:
        started = False

        async def noticing(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, noticing)
        except RefusedError as error:
            answer: Response = JSONResponse({"error": str(error)}, error.status, error.headers)
        except Exception:
            log.exception("a request failed")
            answer = PlainTextResponse(
                '{"error": "The service failed; its log says why."}',
                500,
                media_type="application/json",
            )
        else:
            return
        if not started:
            await answer(scope, receive, noticing)
