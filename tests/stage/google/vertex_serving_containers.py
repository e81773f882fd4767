"""What answers behind an endpoint: a function in the place of containers, or the real image in a container of its own.

A container is told by AIP_ variables where it is to answer, and counts once its health route says 200:
https://docs.cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
"""

import json
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from servers import free_port

from stage import containers
from stage.patience import deadline

# What an image answers: its name, a path and a body; the status and the JSON.
Serve = Callable[[str, str, bytes], tuple[int, Any]]


class Backend(Protocol):
    """Starts, asks and ends what is deployed, by its id."""

    def start(self, number: str, image: str, env: Mapping[str, str]) -> bool:
        """Whether it has become healthy."""
        ...

    def ask(self, number: str, route: str, body: bytes) -> tuple[int, Any]: ...

    def stop(self, number: str) -> None: ...


class Functions:
    """A function for all images.

    Attributes:
        broken: images that never become healthy.
        running: id -> image.
    """

    def __init__(self, serve: Serve) -> None:
        self.serve = serve
        self.broken, self.running = set[str](), dict[str, str]()

    def start(self, number: str, image: str, env: Mapping[str, str]) -> bool:
        if image in self.broken:
            return False
        self.running[number] = image
        return True

    def ask(self, number: str, route: str, body: bytes) -> tuple[int, Any]:
        return self.serve(self.running[number], route, body)

    def stop(self, number: str) -> None:
        del self.running[number]


class RealContainers:
    """The image itself, on this machine.

    Args:
        mirrors: host of an image -> host that it is really pulled from.
        seconds: in which a container has to be healthy.
    """

    def __init__(self, mirrors: Mapping[str, str], seconds: float = 60) -> None:
        self.stage, self.mirrors, self.seconds = f"serving-{secrets.token_hex(4)}", mirrors, seconds
        self.running: dict[str, tuple[containers.Container, int]] = {}
        self.pulled: set[str] = set()

    def start(self, number: str, image: str, env: Mapping[str, str]) -> bool:
        host, _, rest = image.partition("/")
        name = f"{self.mirrors.get(host, host)}/{rest}"
        if containers.pull(name):
            return False
        self.pulled.add(name)
        port = free_port()
        given = {**env, "AIP_HTTP_PORT": str(port)}
        container = containers.Container(name, self.stage, given)
        self.running[number] = (container, port)
        until = deadline(self.seconds)
        while container.process.poll() is None and time.monotonic() < until:
            if self._get(f"http://127.0.0.1:{port}{env['AIP_HEALTH_ROUTE']}", None)[0] == 200:
                return True
            time.sleep(0.1)
        self.stop(number)
        return False

    def ask(self, number: str, route: str, body: bytes) -> tuple[int, Any]:
        return self._get(f"http://127.0.0.1:{self.running[number][1]}{route}", body)

    def stop(self, number: str) -> None:
        self.running.pop(number)[0].remove()

    def close(self) -> None:
        containers.cleanup(self.stage)
        if self.pulled:
            containers.docker("rmi", "--force", *self.pulled, check=False)

    def _get(self, url: str, body: bytes | None) -> tuple[int, Any]:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")
        except OSError:
            return 0, {}
