"""What all of Azure's hosts share here: a request finds its service by its host, faults are made, calls are recorded."""

import json
import re
import threading
import traceback
import urllib.parse
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from fnmatch import fnmatch
from typing import Any

from stage.azure.errors import AzureError
from stage.azure.people import Principal
from stage.clock import Clock
from stage.rest import LostAnswerError


@dataclass(frozen=True)
class Call:
    """One request.

    Args:
        service: arm, ml, history, mlflow, blob, acr, vault, entra, retail.
        path: with %-escapes undone.
        query: the last value of each name; `target` has all.
        body: what JSON or a form holds; {} where there is neither.
        principal: whose valid token of Entra came with it; None for nobody's.
        target: path and query as they were sent.
        headers: names in lower case.
        content: the bytes; recorded calls to the storage and the registry have none.
        during: "METHOD path" of the calls that were under way when this one came in.
    """

    service: str
    method: str
    path: str
    query: Mapping[str, str]
    body: Any
    principal: Principal | None
    host: str = ""
    target: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    during: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        """The body as a JSON object, or the request is refused."""
        kind = self.headers.get("content-type", "application/json" if not self.headers else "")
        if kind.partition(";")[0].strip().lower() != "application/json":
            text = f"The content media type '{kind or '<null>'}' is not supported. Only 'application/json' is supported."
            raise AzureError(415, "UnsupportedMediaType", text)
        try:
            found = json.loads(self.content)
        except ValueError as error:
            text = f"The request content was invalid and could not be deserialized: '{error}'."
            raise AzureError(400, "InvalidRequestContent", text) from error
        if not isinstance(found, dict):
            text = "The request content was invalid and could not be deserialized: 'an object is expected'."
            raise AzureError(400, "InvalidRequestContent", text)
        return found


@dataclass(frozen=True)
class Reply:
    """What is sent back; objects and lists go as JSON, None as an empty body.

    Args:
        cut: whether the connection breaks when half of the body is out.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False

    @property
    def content(self) -> bytes:
        if self.body is None:
            return b""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Service = Callable[[Call], Reply]


def as_json(refusal: AzureError) -> Reply:
    """A refusal as most services write it."""
    return Reply(refusal.status, refusal.json(), refusal.headers)


@dataclass
class Fault:
    """What goes wrong with the next calls whose "METHOD path" a pattern meets."""

    service: str
    pattern: str
    error: AzureError | None
    times: int | None
    kind: str = "fail"

    def meets(self, call: Call) -> bool:
        if call.service != self.service or self.times == 0:
            return False
        if not re.search(self.pattern, f"{call.method} {call.path}"):
            return False
        self.times = None if self.times is None else self.times - 1
        return True


@dataclass(frozen=True)
class Place:
    """A service behind hosts.

    Args:
        hosts: a pattern such as *.azurecr.io.
        name: of the service, or what finds it by the path.
        exists: whether a host that fits has an address.
        refuse: writes a refusal as the service does.
        locked: whether the service answers one call after the other.
        bulky: whether bodies are too large to be recorded.
    """

    hosts: str
    name: str | Callable[[str], str]
    answer: Service
    exists: Callable[[str], bool] = lambda _: True
    refuse: Callable[[AzureError], Reply] = as_json
    locked: bool = True
    bulky: bool = False


class Server:
    """Answers for all hosts; `proxy.serving` leads programs to it.

    Attributes:
        asked: the calls so far, oldest first.
        broken: faults of the stage itself, and hosts of Azure's that it does not play.
        before: called with each call before it is answered.
    """

    def __init__(self, clock: Clock, whose: Callable[[Mapping[str, str]], Principal | None]) -> None:
        self.clock, self._whose = clock, whose
        self.asked: list[Call] = []
        self.broken: list[str] = []
        self.before: Callable[[Call], None] = lambda _: None
        self._places: list[Place] = []
        self._faults: list[Fault] = []
        self._flying: list[str] = []
        self._lock = threading.Lock()

    def register(self, place: Place) -> None:
        """Adds a service; of two that fit a host the one that came later answers."""
        self._places.insert(0, place)

    def place(self, host: str) -> Place | None:
        """The service behind a host; None where no pattern fits."""
        return next((one for one in self._places if fnmatch(host, one.hosts)), None)

    def fault(
        self, kind: str, service: str, pattern: str, times: int | None, error: AzureError | None
    ) -> None:
        self._faults.append(Fault(service, pattern, error, times, kind))

    def heal(self) -> None:
        """Ends all faults."""
        self._faults.clear()

    def __call__(
        self, host: str, method: str, target: str, headers: Mapping[str, str], content: bytes
    ) -> Reply:
        """Answers one request.

        Raises:
            LostAnswerError: the connection is to break before an answer.
        """
        place = self.place(host)
        assert place is not None
        path, _, query = target.partition("?")
        name = place.name if isinstance(place.name, str) else place.name(path)
        values = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        call = Call(
            name,
            method,
            urllib.parse.unquote(path),
            values,
            _decoded(headers.get("content-type", ""), content),
            self._whose(headers),
            host,
            target,
            headers,
            content,
            tuple(self._flying),
        )
        line = f"{method} {call.path}"
        self._flying.append(line)
        try:
            reply = self._guarded(place, call)
        finally:
            self._flying.remove(line)
        stamps = {"Date": formatdate(self.clock.now(), usegmt=True), "x-ms-request-id": str(uuid.uuid4())}
        return replace(reply, headers={**stamps, **reply.headers})

    def _guarded(self, place: Place, call: Call) -> Reply:
        with self._lock:
            self.asked.append(replace(call, content=b"") if place.bulky else call)
            fault = next((one for one in self._faults if one.meets(call)), None)
        try:
            if fault and fault.error:
                raise fault.error
            self.before(call)
            if place.locked:
                with self.clock.lock:
                    reply = place.answer(call)
            else:
                reply = place.answer(call)
        except AzureError as refusal:
            reply = place.refuse(refusal)
        except LostAnswerError:
            raise
        except Exception:  # noqa: BLE001
            # A fault of the stage: it is shown where it happens, and again at the end of the world. Nobody tries a 501 again.
            self.broken.append(f"{call.method} {call.host}{call.target}\n{traceback.format_exc()}")
            return as_json(AzureError(501, "StageFailure", self.broken[-1]))
        if fault and fault.kind == "lose":
            raise LostAnswerError
        return replace(reply, cut=True) if fault and fault.kind == "cut" else reply


def _decoded(kind: str, content: bytes) -> Any:
    kind = kind.partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        return dict(urllib.parse.parse_qsl(content.decode(errors="replace"), keep_blank_values=True))
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return json.loads(content or b"{}")
        except ValueError:
            return {}
    return {}
