"""One Azurite for one storage account: Microsoft's own emulator of Blob, which keeps the bytes.

It takes anybody who has the account's key; who may do what is decided before it (`blob.py`).
"""

import datetime
import shutil
import urllib.parse
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import (
    AccountSasPermissions,
    BlobServiceClient,
    ContainerClient,
    ResourceTypes,
    generate_account_sas,
    generate_blob_sas,
)
from servers import TEMPLATE, free_port, running

MISSING = "Azurite is not installed; `make test` installs it where there is npm"
YEARS = datetime.timedelta(days=365)


def find() -> str | None:
    """The program; None where it is not installed."""
    return shutil.which("azurite-blob", path=str(TEMPLATE / ".tools/npm/node_modules/.bin"))


class Azurite:
    """Runs while the block lasts.

    Attributes:
        url: by which it names itself in what it lists.
        everything: a signature that may do everything.
        signatures: of the addresses that were given out.
    """

    def __init__(self, folder: Path, account: str, keys: list[str]) -> None:
        self._folder, self._account, self._keys = folder, account, keys
        self.port = free_port()
        self.url = f"http://{account}.blob.core.windows.net"
        self.signatures: set[str] = set()
        ends = datetime.datetime.now(datetime.UTC) + YEARS
        may = AccountSasPermissions.from_string("rwdlacuptfxyi")
        what = ResourceTypes(service=True, container=True, object=True)
        self.everything = generate_account_sas(account, keys[0], what, may, ends)
        # By name and not by the proxy: the stage's own looks at what is there are no calls of the world's.
        self._service = BlobServiceClient(
            f"http://127.0.0.1:{self.port}/{account}",
            credential={"account_name": account, "account_key": keys[0]},
            proxies={},
            use_env_settings=False,
        )

    def __enter__(self) -> Self:
        program = find()
        if program is None:
            raise RuntimeError(MISSING)
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [
            program,
            *("--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--location", str(self._folder)),
            *("--skipApiVersionCheck", "--disableTelemetry", "--silent"),
        ]
        accounts = f"{self._account}:{':'.join(self._keys)}"
        self._process = running(command, self.port, self._folder / "azurite.log", AZURITE_ACCOUNTS=accounts)
        self._process.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._service.close()
        self._process.__exit__(kind, error, trace)

    def client(self, container: str) -> ContainerClient:
        """Speaks for the account's owner."""
        return self._service.get_container_client(container)

    def make(self, container: str) -> None:
        """Makes a container; one that is there stays."""
        try:
            self._service.create_container(container)
        except ResourceExistsError:
            return

    def drop(self, container: str) -> None:
        """Takes a container away; one that is not there is not there."""
        try:
            self._service.delete_container(container)
        except ResourceNotFoundError:
            return

    def clear(self) -> None:
        """Takes everything away."""
        for one in self._service.list_containers():
            self._service.delete_container(one.name)

    def signature(self, container: str, name: str, seconds: float, rights: str) -> str:
        """The query of an address of a blob that holds for a while."""
        ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
        text: Any = generate_blob_sas(
            self._account, container, name, account_key=self._keys[0], permission=rights, expiry=ends
        )
        self.signatures.add(urllib.parse.parse_qs(text)["sig"][0])
        return text
