"""Google Cloud and GitHub for `make cloud-setup`: the real gcloud talks to a project that lives in this process.

gcloud goes through a proxy that ends TLS, so every API is met, also one that has no setting for another address. `gh` is a
program of ours that takes exactly the arguments which the real one documents.
"""

import os
import re
import shutil
import ssl
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stage.github.gh_program import GitHub
from stage.google.apis import READS, answer
from stage.google.gcloud_server import gcloud
from stage.google.project import Project
from stage.rest import Answer, Request, RequestError, _Handler, serving

GH = Path(__file__).parents[1] / "github" / "gh_program.py"


@dataclass(frozen=True)
class Call:
    """One request to Google, and what came back."""

    method: str
    url: str
    body: bytes
    code: int

    @property
    def writes(self) -> bool:
        return self.method != "GET" and not READS.search(self.url.partition("?")[0])


@dataclass
class Setup:
    """The stage for `cloud setup` and `cloud destroy`.

    Args:
        env: what leads gcloud and gh here; merge it into the environment of the scripts.
        project: what is in the Google Cloud project.
        github: what is in the GitHub repository.
        requests: what gcloud has asked, in order.
        faults: (regular expression of method and URL, status): the next request that matches is refused so.
    """

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    project: Project = field(default_factory=Project)
    requests: list[Call] = field(default_factory=list)
    faults: list[tuple[str, int]] = field(default_factory=list)

    @property
    def resources(self) -> dict[tuple[str, str], dict[str, Any]]:
        return self.project.resources

    @property
    def github(self) -> GitHub:
        return GitHub.load(self.folder / "github.json")

    @property
    def commands(self) -> list[str]:
        """The command lines of all calls of gcloud and gh, one each."""
        log = self.folder / "commands.log"
        return log.read_text().splitlines() if log.exists() else []

    @property
    def written(self) -> list[str]:
        """What was changed: method and URL of each request that is not a look."""
        return [f"{call.method} {call.url}" for call in self.requests if call.writes]

    def answer(self, request: Request) -> Answer:
        host, _, path = request.path.removeprefix("/").partition("/")
        query = urllib.parse.urlencode(request.query, doseq=True)
        url = f"https://{host}/{path}" + (f"?{query}" if query else "")
        plain = Request(
            request.method, urllib.parse.unquote(f"/{path}"), request.query, request.headers, request.body
        )
        try:
            self._fail(f"{request.method} {url}")
            reply = answer(self.project, host, plain)
        except RequestError as refusal:
            reply = Answer(refusal.json(), refusal.code)
        self.requests.append(Call(request.method, url, request.body, reply.code))
        return reply

    def _fail(self, line: str) -> None:
        for fault in self.faults:
            if re.search(fault[0], line):
                self.faults.remove(fault)
                raise RequestError(fault[1], "Refused, because the test wants it so.")


@contextmanager
def google_setup(folder: Path, repository: str = "octo-org/leaves") -> Iterator[Setup]:
    """An empty project and a new repository; `folder` is for the programs' own files. Needs gcloud and openssl."""
    if shutil.which("gcloud") is None:
        pytest.skip("gcloud is not installed: the Google Cloud CLI is needed to try cloud-setup")
    folder.mkdir(parents=True, exist_ok=True)
    setup = Setup(folder)
    GitHub(repository=repository).save(folder / "github.json")
    certificate = _certificate(folder)
    with serving(_proxy(setup, certificate)) as url:
        setup.env = _environment(folder, certificate, url)
        yield setup
    unknown = [call for call in setup.requests if call.code == 501]
    assert not unknown, f"the stand-in knows no such method: {unknown}"


def _certificate(folder: Path) -> Path:
    """A certificate for Google's hosts and its key in one file; it vouches for itself."""
    path, key = folder / "google.pem", folder / "google.key"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=googleapis.com",
    ]
    names = ["-addext", "subjectAltName=DNS:*.googleapis.com", "-out", str(path), "-keyout", str(key)]
    subprocess.run([*command, *names], check=True, capture_output=True)
    path.write_text(path.read_text() + key.read_text())
    return path


def _proxy(setup: Setup, certificate: Path) -> type[_Handler]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    class Proxy(_Handler):
        host = ""

        def do_CONNECT(self) -> None:  # noqa: N802
            """Speaks as the host that is asked for from here on."""
            self.host = self.path.partition(":")[0]
            self.send_response(200)
            self.end_headers()
            self.connection = context.wrap_socket(self.connection, server_side=True)
            self.rfile = self.connection.makefile("rb")
            self.wfile = self.connection.makefile("wb", 0)
            self.close_connection = False

        def parse_request(self) -> bool:
            parsed = super().parse_request()
            if parsed and self.host:
                self.path = f"/{self.host}{self.path}"
            return parsed

    Proxy.handle_request = staticmethod(setup.answer)
    return Proxy


def _environment(folder: Path, certificate: Path, url: str) -> dict[str, str]:
    """What makes gcloud and gh come here, with a record of their command lines in commands.log."""
    programs, config = folder / "bin", folder / "gcloud"
    programs.mkdir()
    config.mkdir()
    (folder / "token").write_text("a-token")
    log = folder / "commands.log"
    # What a program was started with is what `ps` shows to everybody on the machine; so is its environment, to its user.
    _program(
        programs / "gcloud",
        # Where the launcher finds the other stand-ins is not where this one is: all of gcloud's own calls come here.
        "unset $(env | grep -o '^CLOUDSDK_API_ENDPOINT_OVERRIDES_[A-Z]*')\n"
        f'cat /proc/$$/environ >> {folder}/environments.log\necho "gcloud $*" >> {log}\nexec {gcloud()} "$@"',
    )
    _program(programs / "gh", f'echo "gh $*" >> {log}\nexec {sys.executable} {GH} {folder}/github.json "$@"')
    address = urllib.parse.urlsplit(url)
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "CLOUDSDK_CONFIG": str(config),
        "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(folder / "token"),
        "CLOUDSDK_PROXY_TYPE": "http",
        "CLOUDSDK_PROXY_ADDRESS": str(address.hostname),
        "CLOUDSDK_PROXY_PORT": str(address.port),
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE": str(certificate),
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
        "WAIT": "0",
        "SETTLE": "0",
    }


def _program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
