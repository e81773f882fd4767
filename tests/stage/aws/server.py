"""One HTTP server for all of AWS: it finds out which service is meant, and who asks, and hands the request on."""

import io
import logging
import socket
import threading
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from stage.aws import authority, wire
from stage.aws.errors import AwsError
from stage.aws.people import People, Session
from stage.aws.shapes import check, check_answer
from stage.aws.wire import Raw, Reply
from stage.clock import Clock
from stage.rest import LostAnswerError


@dataclass(frozen=True)
class Call:
    """One operation that was asked for.

    Args:
        service: as in signatures: sagemaker, batch, s3.
        given: its parameters; {} for what moto answers.
        session: whose keys signed it; None where nobody's had to.
    """

    service: str
    operation: str
    region: str
    given: dict[str, Any]
    session: Session | None
    people: People

    def require(self, action: str, *resources: str, **context: Any) -> None:
        """Refuses the call where its keys do not allow an action; context with __ for the colon of its keys."""
        assert self.session is not None
        keys = {name.replace("__", ":"): value for name, value in context.items() if value is not None}
        # With every request: docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html.
        keys["aws:RequestedRegion"] = self.region
        self.people.require(self.session, action, resources, keys)


Service = Callable[[Call], dict[str, Any]]


@dataclass
class Fault:
    """What goes wrong with the next calls of an operation; see `Server.fail`."""

    service: str
    operation: str
    error: AwsError | None
    times: int | None

    def meets(self, call: Call) -> bool:
        if (call.service, call.operation) != (self.service, self.operation) or self.times == 0:
            return False
        self.times = None if self.times is None else self.times - 1
        return True


@dataclass
class Server:
    """Dispatches by the service in a signature's scope, as AWS's own hosts cannot be had here.

    Args:
        own: the stand-ins by service, or by service:operation; moto answers for the others.
        before: called with each call before it is answered.
        runtime: asks SageMaker's endpoints, which sign as SageMaker itself does and have bodies of any kind.
        broken: faults of the stage itself.
    """

    clock: Clock
    people: People
    region: str
    own: Mapping[str, Service] = field(default_factory=dict)
    before: Callable[[Call], None] = lambda _: None
    asked: list[Call] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    extra: dict[str, Callable[[Raw], Reply]] = field(default_factory=dict)
    runtime: Callable[[Call, Raw], Reply] | None = None
    _faults: list[Fault] = field(default_factory=list)
    _moto: Any = field(default_factory=lambda: DomainDispatcherApplication(create_backend_app))

    def fail(
        self,
        service: str,
        operation: str,
        code: str = "ServiceUnavailable",
        message: str = "Please try again.",
        *,
        status: int = 503,
        times: int | None = 1,
    ) -> None:
        """Has the next calls of an operation refused.

        Args:
            times: how many; None for all until `heal`.
        """
        self._faults.append(Fault(service, operation, AwsError(code, message, status), times))

    def lose(self, service: str, operation: str, times: int | None = 1) -> None:
        """Has the next calls carried out and their answers lost: the connection breaks."""
        self._faults.append(Fault(service, operation, None, times))

    def heal(self) -> None:
        self._faults.clear()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        raw = _read(environ)
        try:
            with self.clock.lock:
                reply = self._answer(raw, environ)
        except LostAnswerError:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError from None  # which the server takes for a client that has gone
        words = {200: "OK", 206: "Partial Content", 304: "Not Modified", 404: "Not Found"}
        headers = [*reply.headers.items(), ("Date", formatdate(self.clock.now(), usegmt=True))]
        if not any(name.lower() == "content-length" for name in reply.headers) and raw.method != "HEAD":
            headers.append(("Content-Length", str(len(reply.body))))
        start_response(f"{reply.status} {words.get(reply.status, 'Status')}", headers)
        return [] if raw.method == "HEAD" else [reply.body]

    def _answer(self, raw: Raw, environ: dict[str, Any]) -> Reply:
        for prefix, handle in self.extra.items():
            if raw.path.startswith(prefix):
                return handle(raw)
        if raw.path.startswith("/moto-api"):
            return self._pass_on(environ, raw)
        service, region = scope(raw, self.region)
        name = str(uuid.uuid4())
        try:
            return self._serve(service, region, raw, environ, name)
        except AwsError as refusal:
            return wire.encode_error(_model_of(service, raw), refusal, name)
        except LostAnswerError:
            raise
        except Exception:  # noqa: BLE001
            # A fault of the stage: it is shown where it happens, and again at the end of the world.
            self.broken.append(traceback.format_exc())
            error = AwsError("StageFailure", self.broken[-1], 500)
            return wire.encode_error(_model_of(service, raw), error, name)

    def _serve(self, service: str, region: str, raw: Raw, environ: dict[str, Any], name: str) -> Reply:
        unsigned = service == "sts" and raw.form.get("Action") == "AssumeRoleWithWebIdentity"
        session = None if unsigned else self.people.asking(raw.headers, service)
        target = raw.headers.get("x-amz-target", "").rpartition(".")[2]
        if service == "sagemaker" and not target and session:
            return self._invoke(Call(service, "InvokeEndpoint", region, {}, session, self.people), raw)
        mine = self.own.get(service) or self.own.get(f"{service}:{target}")
        if mine:
            return self._mine(mine, service, region, raw, session, name)
        assert session is not None
        asked = authority.read(service, raw)
        call = Call(service, asked.operation, region, {}, session, self.people)
        fault = self._record(call)
        authority.require(self.people, session, asked, region)
        self.before(call)
        reply = self._pass_on(environ, raw)
        if fault:
            raise LostAnswerError
        return reply

    def _invoke(self, call: Call, raw: Raw) -> Reply:
        fault = self._record(call)
        assert self.runtime
        reply = self.runtime(call, raw)
        if fault:
            raise LostAnswerError
        return reply

    def _mine(
        self, mine: Service, service: str, region: str, raw: Raw, session: Session | None, name: str
    ) -> Reply:
        operation, given = wire.decode(_model_of(service, raw), raw)
        call = Call(service, operation.name, region, given, session, self.people)
        fault = self._record(call)
        check(operation, given, "ClientException" if service == "batch" else "ValidationException")
        self.before(call)
        answer = mine(call)
        check_answer(operation, answer)
        if fault:
            raise LostAnswerError
        return wire.encode(_model_of(service, raw), operation, answer, name)

    def _record(self, call: Call) -> Fault | None:
        """Remembers a call, and refuses it where a fault says so; gives the fault that loses its answer."""
        self.asked.append(call)
        fault = next((one for one in self._faults if one.meets(call)), None)
        if fault and fault.error:
            raise fault.error
        return fault

    def _pass_on(self, environ: dict[str, Any], raw: Raw) -> Reply:
        said: dict[str, Any] = {}

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
            said["status"], said["headers"] = int(status.split()[0]), headers

        environ["wsgi.input"] = io.BytesIO(raw.body)
        content = self._moto(environ, start)
        body = b"".join(content)
        getattr(content, "close", lambda: None)()
        headers = {name: value for name, value in said["headers"] if name.lower() != "date"}
        return Reply(said["status"], body, headers)


def _model_of(service: str, raw: Raw) -> str:
    """The name of botocore's model for a service of a signature."""
    names = {
        "servicequotas": "service-quotas",
        "monitoring": "cloudwatch",
        "tagging": "resourcegroupstaggingapi",
    }
    return names.get(service, service)


def scope(raw: Raw, region: str) -> tuple[str, str]:
    """Service and region of a request: from its signature's scope, else from what an unsigned one asks for."""
    text = raw.headers.get("authorization", "")
    if "Credential=" in text:
        _, _, found, service, _ = text.partition("Credential=")[2].partition(",")[0].split("/")
        return service.lower(), found
    if raw.form.get("Action") in ("AssumeRoleWithWebIdentity", "GetCallerIdentity"):
        return "sts", region
    target = raw.headers.get("x-amz-target", "").partition(".")[0].lower()
    return ("sagemaker" if target == "sagemaker" else "s3"), region


def _read(environ: dict[str, Any]) -> Raw:
    length = environ.get("CONTENT_LENGTH")
    stream = environ["wsgi.input"]
    chunked = environ.get("wsgi.input_terminated")
    body = stream.read() if chunked else stream.read(int(length)) if length else b""
    environ["CONTENT_LENGTH"] = str(len(body))
    headers = {
        name.removeprefix("HTTP_").replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_") or name in ("CONTENT_TYPE", "CONTENT_LENGTH")
    }
    path, _, query = environ.get("RAW_URI", environ["PATH_INFO"]).partition("?")
    return Raw(environ["REQUEST_METHOD"], path, query, headers, body)


class _Handler(MotoRequestHandler):
    def send_response(self, code: int, message: str | None = None) -> None:
        """Without the Date of this machine's clock, which the standard library adds."""
        self.send_response_only(code, message)

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Be silent: tests read the recorded calls."""


@contextmanager
def serving(server: Server, port: int = 0) -> Iterator[str]:
    """Answers on a loopback port while the block lasts; gives the address."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    httpd = make_server("127.0.0.1", port, server, threaded=True, request_handler=_Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}"
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
