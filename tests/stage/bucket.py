"""A bucket whose network fails when a test says so: a proxy in front of fake-gcs-server.

The emulator itself stores whole objects only, so whatever a fault leaves behind is what a client has done.
"""

import http.client
import json
import re
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from servers import google

from stage.bucket_proxy import Proxy, Session
from stage.rest import serving

PERMISSIONS = {
    *(f"storage.objects.{verb}" for verb in ("create", "delete", "get", "list", "update")),
    *("storage.buckets.get", "storage.buckets.list"),
    *(f"storage.multipartUploads.{verb}" for verb in ("abort", "create", "list", "listParts")),
}


@dataclass
class Fault:
    """What goes wrong with the next requests that match.

    Args:
        method, path: regular expressions; the path with its query, not decoded (%2F), is searched.
        times: how many requests it meets; None for all until it is removed.
        status: answer this instead (503, 429, 403 ...), without asking the emulator.
        cut_request: cut the connection after so many bytes of the request's body; the emulator gets none of them.
        cut_response: the emulator does what is asked, but the connection is cut after so many bytes of its answer's body.
        seconds: wait so long first.
        skip: so many matching requests pass before.
    """

    method: str = ".*"
    path: str = ""
    times: int | None = 1
    status: int | None = None
    cut_request: int | None = None
    cut_response: int | None = None
    seconds: float = 0.0
    skip: int = 0
    hits: int = 0

    def takes(self, method: str, path: str) -> bool:
        if not re.fullmatch(self.method, method) or not re.search(self.path, path):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        self.hits += 1
        return True


@dataclass
class Exchange:
    """One request as the proxy saw it; bytes are of the bodies, the status is 0 when the connection was cut."""

    method: str
    path: str
    sent: int = 0
    received: int = 0
    status: int = 0
    started: float = field(default_factory=time.monotonic)


class Bucket:
    """The bucket as a test handles it.

    Attributes:
        name, uri: of the bucket.
        env: leads Google's clients to the proxy.
        exchanges: every request, in order.
        permissions: what testIamPermissions grants.
        location: where the bucket says that it is; None leaves it to the emulator (US-CENTRAL1).
    """

    def __init__(self, name: str) -> None:
        self.name, self.uri = name, f"gs://{name}"
        self.url = self.upstream = ""
        self.exchanges: list[Exchange] = []
        self.permissions = set(PERMISSIONS)
        self.location: str | None = None
        self.open = 0  # requests that are not over
        self.sessions: dict[str, Session] = {}  # resumable uploads by their id
        self.conditional = threading.Lock()  # held by an upload that has a condition
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    @property
    def env(self) -> dict[str, Any]:
        # Without the second one gcsfs asks Google itself what kind of bucket this is.
        return {"STORAGE_EMULATOR_HOST": self.url, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}

    # Faults

    def fail(self, method: str = ".*", path: str = "", **what: Any) -> Fault:
        """Adds a fault (see `Fault`) and gives it: its `hits` tell how often it struck."""
        fault = Fault(method, path, **what)
        with self._lock:
            self._faults.append(fault)
        return fault

    def heal(self) -> None:
        """Removes all faults."""
        with self._lock:
            self._faults.clear()

    def begin(self, method: str, path: str) -> tuple[Exchange, Fault]:
        """Notes a request, and says what is to go wrong with it: an empty fault for nothing."""
        exchange = Exchange(method, path)
        with self._lock:
            self.exchanges.append(exchange)
            fault = next((fault for fault in self._faults if fault.takes(method, path)), Fault())
            self.open += 1
        return exchange, fault

    def end(self) -> None:
        """Notes that a request is over, in whatever way."""
        with self._lock:
            self.open -= 1

    # What was asked

    def count(self, method: str = ".*", path: str = "") -> int:
        """How many requests matched two regular expressions."""
        return sum(
            1 for one in self.exchanges if re.fullmatch(method, one.method) and re.search(path, one.path)
        )

    @property
    def bytes_up(self) -> int:
        return sum(one.sent for one in self.exchanges)

    @property
    def bytes_down(self) -> int:
        return sum(one.received for one in self.exchanges)

    # What is in it, past all faults

    def objects(self, prefix: str = "") -> dict[str, int]:
        """Name -> bytes of the objects whose names start with a prefix."""
        query, found = {"prefix": prefix, "maxResults": "1000"}, {}
        while True:
            page = json.loads(
                self._direct("GET", f"/storage/v1/b/{self.name}/o?{urllib.parse.urlencode(query)}")
            )
            found |= {one["name"]: int(one["size"]) for one in page.get("items", [])}
            if not page.get("nextPageToken"):
                return found
            query["pageToken"] = page["nextPageToken"]

    def read(self, name: str) -> bytes:
        """An object's content; raises KeyError where there is none."""
        return self._direct(
            "GET", f"/storage/v1/b/{self.name}/o/{urllib.parse.quote(name, safe='')}?alt=media"
        )

    def generation(self, name: str) -> str:
        """Which of its contents an object has; "0" where there is none."""
        path = f"/storage/v1/b/{self.name}/o/{urllib.parse.quote(name, safe='')}"
        try:
            return str(json.loads(self._direct("GET", path))["generation"])
        except KeyError:
            return "0"

    def write(self, name: str, content: bytes) -> None:
        """Puts an object there, as somebody else would."""
        path = f"/upload/storage/v1/b/{self.name}/o?uploadType=media&name={urllib.parse.quote(name, safe='')}"
        self._direct("POST", path, content)

    def remove(self, name: str) -> None:
        self._direct("DELETE", f"/storage/v1/b/{self.name}/o/{urllib.parse.quote(name, safe='')}")

    def _direct(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        try:
            connection.request(
                method, path, body, {"Content-Type": "application/octet-stream"} if body is not None else {}
            )
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status == 404:
            raise KeyError(path)
        assert answer.status < 300, (answer.status, content)
        return content


@contextmanager
def bucket(name: str, folder: Path, port: int = 0) -> Iterator[Bucket]:
    """Runs fake-gcs-server with an empty bucket and the proxy in front of it, while the block lasts.

    Args:
        folder: where the emulator's log goes.
        port: of the proxy; 0 takes a free one.
    """
    here = Bucket(name)
    with google(name, folder) as env:
        here.upstream = str(env["STORAGE_EMULATOR_HOST"]).removeprefix("http://")
        with serving(type("BucketProxy", (Proxy,), {"bucket": here}), port) as here.url:
            yield here
