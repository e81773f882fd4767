"""What runs the containers of endpoints: a function in their place, or Docker as SageMaker does it."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stage import containers
from stage.aws.registry import Mirror
from stage.aws.world import World
from stage.containers import Container

Key = tuple[str, str, str]  # endpoint, configuration, variant
PORT = 8080  # https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
PING_SECONDS = 180  # in which /ping has to answer, without a machine: serverless-endpoints.html
ANSWER_SECONDS = 60  # your-algorithms-inference-code.html


class Pretended:
    """Answers by a function of the image and the JSON that is asked.

    Attributes:
        broken: images that do not start.
        running: the image of each container.
    """

    def __init__(self, answer: Callable[[str, Any], tuple[int, Any]]) -> None:
        self._answer = answer
        self.broken, self.running = set[str](), dict[Key, str]()

    def start(self, key: Key, image: str, environment: dict[str, str]) -> bool:
        if image not in self.broken:
            self.running[key] = image
        return image not in self.broken

    def ask(self, key: Key, body: bytes, kind: str) -> tuple[int, bytes]:
        status, said = self._answer(self.running[key], json.loads(body))
        return status, json.dumps(said).encode()

    def stop(self, key: Key) -> None:
        self.running.pop(key, None)


class Docker:
    """Runs the image as `docker run IMAGE serve`, with nothing that could be written, and asks it at its port.

    Whose user it runs as is the image's. SageMaker's documentation wants root, for it copies a model's files into the
    container; here there are none to copy, and what it does then nobody says.
    """

    def __init__(self, mirror: Mirror, stage: str) -> None:
        self._mirror, self.stage = mirror, stage
        self._containers: dict[Key, tuple[Container, int]] = {}

    def start(self, key: Key, image: str, environment: dict[str, str]) -> bool:
        name = self._mirror.pull(image)
        # Its port is the container's own, so that two versions can be there at a time.
        options = ("--read-only", "--cap-drop", "ALL", "--publish", f"127.0.0.1::{PORT}")
        container = Container(name, self.stage, environment, ["serve"], options=options, network="bridge")
        deadline = time.monotonic() + PING_SECONDS
        while time.monotonic() < deadline and container.process.poll() is None:
            port = self._port(container)
            if port and self._pings(port):
                self._containers[key] = (container, port)
                return True
            time.sleep(0.1)
        container.remove()
        return False

    def _port(self, container: Container) -> int:
        found = containers.docker("port", container.name, f"{PORT}/tcp", check=False).stdout.split()
        return int(found[0].rpartition(":")[2]) if found else 0

    def _pings(self, port: int) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def ask(self, key: Key, body: bytes, kind: str) -> tuple[int, bytes]:
        url = f"http://127.0.0.1:{self._containers[key][1]}/invocations"
        request = urllib.request.Request(url, body, {"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def stop(self, key: Key) -> None:
        if key in self._containers:
            container, _ = self._containers.pop(key)
            container.stop(30)  # from SIGTERM to SIGKILL: your-algorithms-inference-code.html
            container.remove()


@contextmanager
def hosting(world: World, registry: str) -> Iterator[Docker]:
    """Runs the containers of a world's endpoints while the block lasts; none is left behind.

    Args:
        registry: host (127.0.0.1:5000) of the registry that stands in for the bytes of ECR.
    """
    containers.require()
    mirror = Mirror(world, registry)
    host = Docker(mirror, f"aws-endpoints-{time.monotonic_ns() % 10**9}")
    world.sagemaker.endpoints.host = host
    world.server.before = mirror.before
    try:
        yield host
    finally:
        world.sagemaker.endpoints.host = None
        world.server.before = lambda _: None
        containers.cleanup(host.stage)
