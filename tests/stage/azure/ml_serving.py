"""Containers that answer for deployments of online endpoints, started from the pushed image as Azure ML would."""

import http.client
import threading
import time

from stage import containers
from stage.azure.hosts import pulled

PORT = 8080  # that the environments' routes name
TIMEOUT = 30


class Serving:
    """Starts a container for each deployment, for `Endpoints.start`.

    Args:
        registry: host of the one of this machine that stands for ACR.
        stage: value of the label that clean-up finds the containers by.
    """

    def __init__(self, registry: str, stage: str) -> None:
        self.registry, self.stage = registry, stage

    def __call__(self, image: str, env: dict[str, str]) -> "Served":
        """Fetches an image and starts it; LookupError where that cannot be had."""
        return Served(pulled(image, self.registry), self.stage, env)


class Served:
    """One container, which answers at a port of this machine that it is given."""

    def __init__(self, image: str, stage: str, env: dict[str, str]) -> None:
        published = ("--publish", f"127.0.0.1::{PORT}")
        self._container = containers.Container(image, stage, env, options=published, network="bridge")
        self._lines: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(stream,), daemon=True)
            for stream in (self._container.process.stdout, self._container.process.stderr)
        ]
        for reader in self._readers:
            reader.start()
        self._address = ""

    def _read(self, stream: object) -> None:
        for line in stream:  # type: ignore[attr-defined]
            self._lines.append(line.decode(errors="replace").rstrip())

    def ready(self, path: str) -> bool | None:
        """As a probe finds it; None where it has ended."""
        if self._container.process.poll() is not None:
            return None
        try:
            return self.ask("GET", path, b"", "")[0] == 200
        except OSError:
            time.sleep(0.2)  # a look takes as long, so that nobody looks a thousand times
            return False

    def ask(self, method: str, path: str, body: bytes, kind: str) -> tuple[int, bytes]:
        if not self._address:
            found = containers.docker("port", self._container.name, str(PORT), check=False).stdout.split()
            if not found:
                raise ConnectionError("the container has no port yet")
            self._address = found[0]
        connection = http.client.HTTPConnection(self._address, timeout=TIMEOUT)
        try:
            connection.request(method, path, body or None, {"Content-Type": kind} if kind else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    def lines(self) -> list[str]:
        if self._container.process.poll() is not None:  # then all that it has said belongs to them
            for reader in self._readers:
                reader.join(TIMEOUT)
        return list(self._lines)

    def close(self) -> None:
        self._container.kill()
        self._container.remove()
        for reader in self._readers:
            reader.join(TIMEOUT)
