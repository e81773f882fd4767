"""ECR's registry at its own name: a proxy of this machine speaks as it, by TLS, and looks at who asks.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html; which rights pull and push take:
https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html and -pull-iam.html. Of a push it answers the first
question only, whether it may begin: the bytes go to the registry of this machine directly (`docker_program.py`).
"""

import http.client
import json
import re
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from moto.ecr.models import ecr_backends

from stage.aws.errors import AwsError
from stage.aws.people import ACCOUNT
from stage.aws.world import World
from stage.rest import serving
from stage.tunnel import lead_through

PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/]+)/?")
RIGHTS = {
    ("GET", "manifests"): "BatchGetImage",
    ("HEAD", "manifests"): "BatchGetImage",
    ("GET", "blobs"): "GetDownloadUrlForLayer",
    ("HEAD", "blobs"): "BatchCheckLayerAvailability",
    ("POST", "blobs"): "InitiateLayerUpload",
}
# What a push asks for one after the other; whoever lacks one has uploaded for nothing.
PUSHES = ("InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload", "PutImage")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class Registry:
    """The registry of the world's region.

    Args:
        host: of the registry on this machine that holds the bytes.
        url: of the proxy.
        certificates: what vouches for it, and for the rest of the world, in one file.
    """

    world: World
    host: str
    url: str
    certificates: Path

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which programs find it."""
        return {
            "HTTPS_PROXY": self.url,
            "REQUESTS_CA_BUNDLE": str(self.certificates),
            "STAGE_IMAGES": f"{host_of(self.world)}={self.host}",
        }


def host_of(world: World) -> str:
    """The host of ECR in the world's region."""
    return f"{ACCOUNT}.dkr.ecr.{world.region}.amazonaws.com"


@contextmanager
def registry_of(world: World, host: str, folder: Path) -> Iterator[Registry]:
    """Speaks as ECR's registry while the block lasts.

    Args:
        host: of the registry on this machine that holds the bytes, by ECR's names.
        folder: for the certificate.
    """
    folder.mkdir(parents=True, exist_ok=True)
    certificate = _certificate(folder, host_of(world))
    bundle = folder / "certificates.pem"
    known = CERTIFICATES.read_text() if CERTIFICATES.exists() else ""
    bundle.write_text(known + certificate.read_text().partition("-----BEGIN PRIVATE")[0])
    with serving(_proxy(world, host, certificate)) as url:
        yield Registry(world, host, url, bundle)


def _certificate(folder: Path, host: str) -> Path:
    """A certificate of a host and its key in one file; it vouches for itself."""
    path, key = folder / "ecr.pem", folder / "ecr.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=ecr"]
    names = ["-addext", f"subjectAltName=DNS:{host}", "-out", str(path), "-keyout", str(key)]
    subprocess.run([*command, *names], check=True, capture_output=True)
    path.write_text(path.read_text() + key.read_text())
    return path


def _proxy(world: World, host: str, certificate: Path) -> type[BaseHTTPRequestHandler]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    ecr = host_of(world)

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            """Be silent."""

        def do_CONNECT(self) -> None:
            """Speaks as ECR from here on; whatever else is asked for is led through."""
            name, _, port = self.path.partition(":")
            if name != ecr:
                lead_through(self, name, int(port))
                return
            self.send_response(200)
            self.end_headers()
            self.connection = context.wrap_socket(self.connection, server_side=True)
            self.rfile = self.connection.makefile("rb")
            self.wfile = self.connection.makefile("wb", 0)  # type: ignore[assignment]
            self.close_connection = False

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, body = _answer(world, host, self.command, self.path, self.headers)
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            if self.command != "HEAD" or "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = answer  # noqa: N815

    return Proxy


Answer = tuple[int, dict[str, str], bytes]


def _answer(world: World, host: str, method: str, path: str, headers: Any) -> Answer:
    """What ECR says: to those who may ask, what the registry of this machine has."""
    session = world.ecr.whose(headers.get("Authorization", ""))
    if session is None:
        login = {"Www-Authenticate": f'Basic realm="https://{host_of(world)}/",service="ecr.amazonaws.com"'}
        return 401, login, b"Not Authorized\n"
    if path in ("/v2", "/v2/"):
        return 200, {}, b"{}"
    found = PATH.fullmatch(path)
    if not found or (method, found["kind"]) not in RIGHTS:
        return _refusal(405, "UNSUPPORTED", f"The stage does not know {method} {path}")
    name, right = found["name"], RIGHTS[method, found["kind"]]
    where = f"arn:aws:ecr:{world.region}:{ACCOUNT}:repository/{name}"
    with world.clock.lock:
        try:
            for action in PUSHES if right in PUSHES else (right,):
                world.people.require(session, f"ecr:{action}", [where])
        except AwsError as error:
            return _refusal(403, "DENIED", error.message)
        if name not in ecr_backends[ACCOUNT][world.region].repositories:
            text = f"The repository with name '{name}' does not exist in the registry with id '{ACCOUNT}'"
            return _refusal(404, "NAME_UNKNOWN", text)
    if method == "POST":
        return 202, {"Location": f"{path}stage"}, b""
    return _passed_on(host, method, path, headers)


def _refusal(status: int, code: str, message: str) -> Answer:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return status, {"Content-Type": "application/json; charset=utf-8"}, body


def _passed_on(host: str, method: str, path: str, headers: Any) -> Answer:
    connection = http.client.HTTPConnection(host, timeout=60)
    try:
        given = {"Accept": headers["Accept"]} if headers.get("Accept") else {}
        connection.request(method, path, headers=given)
        answer = connection.getresponse()
        kept = ("Content-Type", "Docker-Content-Digest")
        return (
            answer.status,
            {key: answer.headers[key] for key in kept if key in answer.headers},
            answer.read(),
        )
    finally:
        connection.close()
