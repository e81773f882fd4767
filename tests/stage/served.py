"""What serves models on the stage: the pushed images themselves, each in a container of its own."""

import json
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from servers import free_port

from stage import containers


class Served:
    """Starts the containers of images and asks them.

    Args:
        inside: environment of each container, beside PORT.
        args: what each is given.
        options: more for `docker run`.
    """

    def __init__(
        self,
        inside: Mapping[str, str] | None = None,
        args: tuple[str, ...] = (),
        options: tuple[str, ...] = (),
    ) -> None:
        self.inside, self.args, self.options = dict(inside or {}), args, options
        self.stage = f"served-{secrets.token_hex(4)}"
        self._running: dict[str, tuple[containers.Container, int]] = {}

    def starts(self, image: str, path: str = "/health") -> bool:
        """Whether a container of an image comes up and says that it is healthy."""
        if image not in self._running:
            if containers.pull(image):
                return False
            port = free_port()
            inside = {"PORT": str(port), **self.inside}
            self._running[image] = (
                containers.Container(image, self.stage, inside, self.args, options=self.options),
                port,
            )
        container, port = self._running[image]
        while container.process.poll() is None:
            try:
                return ask(port, path)[0] == 200
            except OSError:
                time.sleep(0.1)
        return False

    def __call__(self, image: str, path: str, body: bytes) -> tuple[int, Any]:
        """What an image answers to a GET, or to a POST of JSON."""
        if not self.starts(image):
            return 503, {"error": "The container does not start."}
        return ask(self._running[image][1], path, body)

    def close(self) -> None:
        """Ends all of them."""
        for container, _ in self._running.values():
            container.remove()
        containers.cleanup(self.stage)


def ask(port: int, path: str, body: bytes = b"") -> tuple[int, Any]:
    """Asks a server of this machine; OSError where nothing answers."""
    headers = {"Content-Type": "application/json"} if body else {}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body or None, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as found:
            return found.status, json.loads(found.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())
