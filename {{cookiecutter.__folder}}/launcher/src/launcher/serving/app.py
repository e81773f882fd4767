"""The web service: one predict behind the routes of all clouds, its health, its metrics, its page."""

from __future__ import annotations

import asyncio
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import generate_latest as exposition
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Scope

from . import page
from .frame import Frame, RefusedError
from .images import InputError
from .model import Model
from .openapi import describe
from .settings import Settings

log = logging.getLogger("serving")
IMAGES = ("image/png", "image/jpeg")
# Some services let no other route through than the one of predictions: this body asks there for the description.
DESCRIBE = b'{"describe": true}'
BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Service:
    """Answers requests with one model.

    Args:
        model: what predicts.
        settings: its limits.

    Attributes:
        ready: whether it has answered once, to itself.
        draining: whether it is about to end: connections are closed with their next answer.
    """

    def __init__(self, model: Model, settings: Settings) -> None:
        self.model, self.settings = model, settings
        self.ready = self.draining = False
        self._pool = ThreadPoolExecutor(settings.workers, "predict")
        self._waiting = self._held = 0
        registry = self.registry = CollectorRegistry()
        self._requests = Counter("requests", "Requests", ["route", "status"], registry=registry)
        about = "Time of a prediction's request"
        self._seconds = Histogram("request_seconds", about, buckets=BUCKETS, registry=registry)
        self._predictions = Counter("predictions", "Predictions", ["decided"], registry=registry)
        waiting = Gauge("waiting_requests", "Requests in work or waiting", registry=registry)
        waiting.set_function(lambda: self._waiting)
        self._drift = Gauge("drift", "How far from the test split", ["what"], registry=registry)
        info = Gauge("model_info", "The model", ["version"], registry=registry)
        info.labels(model.version).set(1)

    def app(self) -> ASGIApp:
        """Give the ASGI application."""
        routes = [
            *(Route(path, self.health) for path in self.settings.health),
            *(Route(path, self.predict, methods=["POST"]) for path in self.settings.predict),
            Route("/metrics", self.metrics),
            Route("/openapi.json", self.openapi),
        ]
        if self.settings.page:
            routes.append(Route("/", self.page))
        return Starlette(
            routes=routes,
            middleware=[Middleware(Frame, service=self)],
            exception_handlers={HTTPException: _refused},
        )

    def warm_up(self) -> None:
        """Go the whole way once, in the pool; then it is ready."""
        self._pool.submit(self.model.warm_up).result()
        self.ready = True

    async def health(self, request: Request) -> Response:
        """Tell whether it can answer, without waiting behind predictions."""
        if self.ready and not self.draining:
            return JSONResponse({"status": "ready", "registry_version": self.model.version})
        return JSONResponse({"status": "draining" if self.draining else "starting"}, 503)

    async def metrics(self, request: Request) -> Response:
        """Give counts, times and drift as Prometheus reads them."""
        for name, value in self.model.drift.distances().items():
            self._drift.labels(name).set(value)
        return Response(exposition(self.registry), media_type=CONTENT_TYPE_LATEST)

    async def openapi(self, request: Request) -> Response:
        """Describe the service to programs."""
        return JSONResponse(describe(self.model, self.settings))

    async def page(self, request: Request) -> Response:
        """Give the page for people."""
        return page.response(self.model)

    async def predict(self, request: Request) -> Response:
        """Answer with predictions.

        Raises:
            RefusedError: the request cannot be taken, or not now.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in ("application/json", *IMAGES):
            raise RefusedError(
                415,
                f"Send application/json or {' or '.join(IMAGES)}, not {kind[:80] or 'nothing'}.",
            )
        self._refuse_if_full()
        # A place in the queue is taken by what has arrived: those who send slowly keep nobody else from being answered.
        body = await self._body(request)
        self._refuse_if_full()
        if body.strip() == DESCRIBE and kind not in IMAGES:
            return await self.openapi(request)
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            decided, text = await loop.run_in_executor(self._pool, self._answer, kind, body)
        finally:
            self._waiting -= 1
        request.state.instances = len(decided)
        for name in decided:
            self._predictions.labels(name).inc()
        return Response(text, media_type="application/json")

    def _refuse_if_full(self) -> None:
        places = self.settings.workers + self.settings.queue
        if self._waiting >= places or self._held >= places * self.settings.body:
            raise RefusedError(
                503, "Too many requests wait; try again in a second.", {"Retry-After": "1"}
            )

    def _answer(self, kind: str, body: bytes) -> tuple[list[str], bytes]:
        """Read, compute and write, in a thread of the pool; give what was decided, and the answer."""
        found = self._predicted(kind, body)
        version = json.dumps(self.model.version)
        # Each by itself: one large answer would keep all other threads, and so the health, waiting while it is written.
        texts = ",".join(json.dumps(one, allow_nan=False, separators=(",", ":")) for one in found)
        answer = f'{{"predictions":[{texts}],"registry_version":{version}}}'
        return [self.model.outputs.decided(one) or "" for one in found], answer.encode()

    def _predicted(self, kind: str, body: bytes) -> list[dict[str, Any]]:
        try:
            if kind in IMAGES:
                image = self.model.inputs.decode(body)
                arrays = self.model.inputs.collate([{self.model.inputs.image: image}])
                return self.model.predict_arrays(arrays)
            instances, plain = self._asked(body)
            self._refuse_if_large(len(instances), plain)
            return self.model.predict(instances, plain)
        except InputError as error:
            raise RefusedError(400, f"{error}.") from None

    def _asked(self, body: bytes) -> tuple[list[Any], bool]:
        try:
            asked = json.loads(body, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise RefusedError(
                400, f"The body is no JSON that can be read ({type(error).__name__})."
            ) from None
        if not isinstance(asked, dict) or not isinstance(asked.get("instances"), list):
            raise RefusedError(400, 'Send {"instances": [...]}.')
        parameters = asked.get("parameters", {})
        if (
            set(asked) - {"instances", "parameters"}
            or not isinstance(parameters, dict)
            or set(parameters) - {"arrays"}
        ):
            raise RefusedError(
                400,
                'Beside instances there may be {"parameters": {"arrays": true}}, and nothing else.',
            )
        plain = parameters.get("arrays", False)
        if not isinstance(plain, bool):
            raise RefusedError(400, "parameters.arrays is true or false.")
        count = len(asked["instances"])
        if not 0 < count <= self.settings.instances:
            raise RefusedError(400, f"Send 1 to {self.settings.instances} instances, not {count}.")
        return asked["instances"], plain

    def _refuse_if_large(self, count: int, plain: bool) -> None:
        """Refuse what would be answered with more numbers than there is memory for, before it is computed."""
        values = count * self.model.outputs.numbers_each(plain)
        if count > 1 and values > self.settings.values:
            raise RefusedError(
                400,
                f"The answer would have {values:,} numbers, and {self.settings.values:,} are the most; send fewer instances at a time.",
            )

    async def _body(self, request: Request) -> bytes:
        """Read the body, within its limits of size and time."""
        most = self.settings.body
        too_large = RefusedError(
            413, f"The body is larger than {most:,} bytes.", {"Connection": "close"}
        )
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > most:
            raise too_large
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.settings.body_seconds):
                async for part in request.stream():
                    size += len(part)
                    self._held += len(part)
                    if size > most:
                        raise too_large
                    parts.append(part)
        except TimeoutError:
            raise RefusedError(408, "The body took too long.", {"Connection": "close"}) from None
        except ClientDisconnect:
            raise RefusedError(400, "The client has gone.") from None
        finally:
            self._held -= size
        return b"".join(parts)

    def note(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        """Count a request, and write a line about it; what it held is in none."""
        path = scope["path"]
        known = {*self.settings.health, *self.settings.predict, "/metrics", "/openapi.json", "/"}
        route = path if path in known else "other"
        self._requests.labels(route, str(status)).inc()
        if route in self.settings.predict:
            self._seconds.observe(seconds)
        if route in self.settings.health or route == "/metrics":
            return
        said = {
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 1),
            "request": request_id,
        }
        said |= {
            "instances": scope.get("state", {}).get("instances", 0),
            "version": self.model.version,
        }
        log.info("%s", json.dumps(said))


async def _refused(request: Request, error: Exception) -> Response:
    """Give what Starlette refuses, a route or a method, in the form of all errors."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": f"{error.detail}."}, error.status_code, error.headers)


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number")
