"""Buckets and folders behind one interface: gs://, s3://, az://, http(s):// and plain paths.

Credentials are the machine's own (application default, AWS profile, Azure login); none is kept here.
Trouble that passes (no connection, a server error, too many requests) is tried again for `PATIENCE` seconds;
what a bucket refuses or does not have is an error at once.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from .errors import UserError

log = logging.getLogger(__name__)
logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it prints a traceback for what we say below
for noisy in ("botocore", "aiobotocore"):  # each client tells where it has found its login
    logging.getLogger(noisy).setLevel(logging.WARNING)

PATIENCE = float(os.environ.get("STORAGE_PATIENCE", "120"))  # seconds
FIRST_DELAY, LONGEST_DELAY = 0.5, 20.0  # seconds between two tries, doubled from one to the other

PRECONDITION_FAILED = 412
PASSING_STATUS = {408, 429, 500, 502, 503, 504}
# S3 says 409 while another conditional write of the same object, perhaps our own first try, is under way.
CONFLICT = "ConditionalRequestConflict"
PASSING_ERRNO = {
    *(errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE, errno.EBUSY),
    *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ETIMEDOUT),
}
# Of aiohttp, requests, botocore, azure-core, google-auth and gcsfs, none of which need be installed.
PASSING_CLASSES = {
    *("ConnectionError", "Timeout", "ClientConnectionError", "ClientPayloadError"),
    *("HTTPClientError", "ServiceRequestError", "ServiceResponseError", "IncompleteReadError"),
    *("ChunkedEncodingError", "TransportError", "ChecksumError", "TimeoutError"),
}
Result = TypeVar("Result")


class StorageUnavailable(UserError):  # noqa: N818 - a state of the network, not a mistake of the caller
    """The bucket did not answer, or only with server errors, however often it was tried."""


class NothingThereError(UserError):
    """There is no file at, or below, the URI; which may just mean: not yet."""


def fetch(uri: str, path: str | Path, patience: float | None = None) -> None:
    """Copy one file from `uri` to `path`; afterwards `path` is whole, or as it was before.

    Args:
        patience: seconds for which passing trouble is tried again; None for `PATIENCE`, here and below.

    Raises:
        UserError: there is no such file, or it cannot be had or be written; names the URI.
        StorageUnavailable: it cannot be reached.
    """
    path = Path(path)

    def get() -> None:
        filesystem, remote = _open(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as temporary:
            part = Path(temporary, "part")
            filesystem.get_file(remote, str(part))
            os.replace(part, path)

    _persist(get, uri, "read", patience)


def list_files(uri: str, patience: float | None = None) -> list[str]:
    """List the files below `uri`, however deep, as sorted paths relative to it.

    Raises:
        NothingThereError: there is nothing below it.
        UserError: it cannot be listed; names the URI.
        StorageUnavailable: it cannot be reached.
    """

    def find() -> list[str]:
        filesystem, remote = _open(uri)
        filesystem.invalidate_cache()
        root = remote.rstrip("/") + "/"
        found = sorted(str(name) for name in filesystem.find(remote))
        return [name.removeprefix(root) for name in found if name.startswith(root)]

    names = [name for name in _persist(find, uri, "read", patience) if not _unfinished(name)]
    if not names:
        raise NothingThereError(f"There is nothing at {uri}; check the name.")
    return names


def store(path: str | Path, uri: str, patience: float | None = None) -> None:
    """Copy one file from `path` to `uri`; what others see there is the whole file, or what was there before.

    Raises:
        UserError: there is no such file, or it cannot be written there; names the URI.
        StorageUnavailable: it cannot be reached.
    """

    def put() -> None:
        filesystem, remote = _open(uri)
        if isinstance(filesystem, LocalFileSystem):
            with _part(remote) as part:
                filesystem.put_file(str(path), str(part))
                os.replace(part, remote)
        else:
            filesystem.put_file(str(path), remote)

    if not Path(path).is_file():
        raise UserError(f"There is no file {path} to be written to {uri}.")
    _persist(put, uri, "written", patience)


def read_text(uri: str, patience: float | None = None) -> str | None:
    """Give the text of one file; None where there is none.

    Raises:
        UserError: it cannot be read, or is no text; names the URI.
        StorageUnavailable: it cannot be reached.
    """

    def cat() -> str | None:
        filesystem, remote = _open(uri)
        try:
            content: Any = filesystem.cat_file(remote)
        except FileNotFoundError:
            return None
        return content.decode("utf-8")

    return _persist(cat, uri, "read", patience)


def write_text(uri: str, text: str, new: bool = False, patience: float | None = None) -> None:
    """Write one file whole.

    Args:
        new: only if there is none yet. Of several who try at once, one succeeds. The same text counts as
            written by this call: a first try may have arrived without our hearing of it.

    Raises:
        UserError: it cannot be written, or (`new`) there is another one; names the URI.
        StorageUnavailable: it cannot be reached.
    """

    def pipe() -> bool:
        filesystem, remote = _open(uri)
        try:
            if isinstance(filesystem, LocalFileSystem):
                with _part(remote) as part:
                    part.write_text(text, encoding="utf-8")
                    (os.link if new else os.replace)(part, remote)
            else:
                filesystem.pipe_file(remote, text.encode(), mode="create" if new else "overwrite")
        except Exception as error:
            if _is_taken(error):
                content: Any = filesystem.cat_file(remote)
                return content == text.encode()
            raise
        return True

    if not _persist(pipe, uri, "written", patience):
        raise UserError(f"{uri} exists already; choose another name.")


def remove(uri: str, patience: float | None = None) -> None:
    """Remove one file; one that is not there is no error.

    Raises:
        UserError: it cannot be removed; names the URI.
        StorageUnavailable: it cannot be reached.
    """

    def rm() -> None:
        filesystem, remote = _open(uri)
        try:
            filesystem.rm_file(remote)
        except FileNotFoundError:
            return

    _persist(rm, uri, "removed", patience)


def _open(uri: str) -> tuple[AbstractFileSystem, str]:
    # Company networks reach the web through a proxy that only the environment knows.
    options = {"client_kwargs": {"trust_env": True}} if uri.startswith("http") else {}
    return fsspec.url_to_fs(uri, **options)


@contextmanager
def _part(remote: str) -> Iterator[Path]:
    """Give a name beside `remote` to write to; a bucket shows only whole objects, a folder must be helped."""
    path = Path(remote)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", suffix=".part", dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _unfinished(name: str) -> bool:
    last = name.rpartition("/")[2]
    return last.startswith(".") and last.endswith(".part")


def _persist(action: Callable[[], Result], uri: str, verb: str, patience: float | None) -> Result:
    """Do `action`, again and again while its trouble is of the passing kind and patience lasts."""
    delay, until = FIRST_DELAY, time.monotonic() + (PATIENCE if patience is None else patience)
    while True:
        try:
            return action()
        except Exception as error:
            if not _passing(error):
                raise _explain(uri, verb, error) from error
            left = until - time.monotonic()
            if left <= 0:
                raise _explain(uri, verb, error, StorageUnavailable) from error
            if delay == FIRST_DELAY:
                log.warning("%s cannot be %s now (%s); trying again.", uri, verb, _reason(error))
        time.sleep(min(delay, left) * random.uniform(0.5, 1.0))  # noqa: S311 - so that not all come at once
        delay = min(2 * delay, LONGEST_DELAY)


def _passing(error: BaseException) -> bool:
    """Tell whether the trouble may be over soon."""
    status = _first_status(error)
    if status is not None:
        return status in PASSING_STATUS or CONFLICT in f"{error} {error.__cause__}"
    if isinstance(error, FileNotFoundError | FileExistsError | PermissionError):
        return False
    if isinstance(error, OSError) and error.errno in PASSING_ERRNO:
        return True
    return bool(PASSING_CLASSES & {kind.__name__ for kind in type(error).__mro__})


def _is_taken(error: BaseException) -> bool:
    """Tell whether a condition on what is there did not hold; gcsfs has an error of its own for that."""
    return isinstance(error, FileExistsError) or _first_status(error) == PRECONDITION_FAILED


def _first_status(error: BaseException | None) -> int | None:
    """Give the HTTP status behind an error: a library may raise its own kind of error from another's."""
    while error is not None:
        status = _status(error)
        if status is not None:
            return status
        error = error.__cause__
    return None


def _status(error: Any) -> int | None:
    """Give the HTTP status that a provider's library keeps in its error, wherever it keeps it."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    for name in ("status", "status_code", "code"):
        value = str(getattr(error, name, None))
        if value.isdigit() and int(value) >= 100:
            return int(value)
    return None


def _explain(uri: str, verb: str, error: Exception, kind: type[UserError] = UserError) -> UserError:
    # Each provider's library raises errors of its own kind; all that they share is their text.
    if isinstance(error, FileNotFoundError):
        return UserError(f"{uri} does not exist; check the name.")
    if isinstance(error, ImportError):
        return UserError(f"{uri} cannot be opened here: {error}.")
    return kind(f"{uri} cannot be {verb} ({_reason(error)}); check the network and your login.")


def _reason(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:300]
