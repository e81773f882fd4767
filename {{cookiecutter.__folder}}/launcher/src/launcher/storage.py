"""Buckets and folders behind one interface: gs://, s3://, abfss:// (and az://), http(s):// and plain paths.

Credentials are the machine's own (application default, AWS profile, Azure login); none is kept here.
Trouble that passes (no connection, a server error, too many requests) is tried again for `PATIENCE` seconds;
what a bucket refuses or does not have is an error at once.
"""

from __future__ import annotations

import logging
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from .errors import UserError
from .project import project
from .trouble import explain, first_status, is_taken, passing, reason

log = logging.getLogger(__name__)
logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it prints a traceback for what we say below
for noisy in ("botocore", "aiobotocore"):  # each client tells where it has found its login
    logging.getLogger(noisy).setLevel(logging.WARNING)
logging.getLogger("azure").setLevel(
    logging.ERROR
)  # every request, and each login that is not there

PATIENCE = float(os.environ.get("STORAGE_PATIENCE", "120"))  # seconds
FIRST_DELAY, LONGEST_DELAY = 0.5, 20.0  # seconds between two tries, doubled from one to the other
# Providers' libraries try again by themselves without a word; gcsfs took 50 s where there was no network.
SILENT = 5.0  # seconds after which somebody who waits is told
REMEMBERED = 20.0  # seconds for which a bucket that could not be reached by one question of a command is not asked another

# Of Azure: account@, or that of the project; the machine's own login, for which the Azure CLI may take its time.
ABFS = ("abfs", "abfss", "az")
ABFS_LOGIN = {"anon": False, "process_timeout": 60}
ABFS_BACKOFF = {"initial_backoff": 1, "increment_base": 1, "random_jitter_range": 1}  # seconds
Result = TypeVar("Result")
_unreachable: dict[
    str, tuple[float, float, Exception]
] = {}  # by bucket: when, tried for seconds, why
_told: set[str] = set()  # buckets of which it is said that they are waited for


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

    with _waiting(uri, patience):
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

    with _waiting(uri, patience):
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
            if is_taken(error):
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
    scheme, _, rest = uri.partition("://")
    if scheme in ABFS:
        return _open_abfs(uri, "@" in rest.partition("/")[0])
    # Company networks reach the web through a proxy that only the environment knows.
    options = {"client_kwargs": {"trust_env": True}} if uri.startswith("http") else {}
    return fsspec.url_to_fs(uri, **options)


def _open_abfs(uri: str, has_account: bool) -> tuple[AbstractFileSystem, str]:
    account = {} if has_account else {"account_name": project().bucket}
    filesystem, remote = fsspec.url_to_fs(uri, **account, **ABFS_LOGIN)
    # As it comes, the library sleeps for a minute or more before it tells that there is no network.
    with suppress(AttributeError):
        vars(filesystem.service_client._config.retry_policy).update(ABFS_BACKOFF)
    return filesystem, remote


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


@contextmanager
def _waiting(uri: str, patience: float | None) -> Iterator[None]:
    """Say what somebody waits for where so little takes so long, and do not wait again for what was out of reach.

    Only for what asks: that something could not be read is no reason not to try to write or to remove it.
    """
    _recall(uri, PATIENCE if patience is None else patience)
    timer = threading.Timer(SILENT, _tell, (uri,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _tell(uri: str) -> None:
    """Say once of a bucket that it is waited for; a folder is only slow."""
    if "://" in uri and (bucket := _bucket(uri)) not in _told:
        _told.add(bucket)
        log.warning("%s takes longer than %.0f seconds; still waiting.", uri, SILENT)


def _recall(uri: str, patience: float) -> None:
    """Refuse what was just now tried for as long, so that a command that asks a bucket five times waits once.

    Not in a job, whose last word would be lost; nor for a folder, which answers at once.
    """
    known = _unreachable.get(_bucket(uri))
    if not known or "://" not in uri or "RUN_ID" in os.environ:
        return
    ended, tried, error = known
    if patience <= tried and time.monotonic() < ended + REMEMBERED:
        raise explain(uri, "read", error, StorageUnavailable) from error


def _bucket(uri: str) -> str:
    return "/".join(uri.split("/")[:3])


def _persist(action: Callable[[], Result], uri: str, verb: str, patience: float | None) -> Result:
    """Do `action`, again and again while its trouble is of the passing kind and patience lasts."""
    began, patience = time.monotonic(), PATIENCE if patience is None else patience
    delay, until, bucket = FIRST_DELAY, began + patience, _bucket(uri)
    while True:
        try:
            result = action()
        except Exception as error:
            if not passing(error):
                raise explain(uri, verb, error) from error
            left = until - time.monotonic()
            if left <= 0:
                _told.discard(bucket)
                if first_status(error) is None:  # nobody answered; an answer is of one object
                    _unreachable[bucket] = time.monotonic(), time.monotonic() - began, error
                raise explain(uri, verb, error, StorageUnavailable) from error
            if delay == FIRST_DELAY:
                _told.add(bucket)
                log.warning("%s cannot be %s now (%s); trying again.", uri, verb, reason(error))
        else:
            _unreachable.pop(bucket, None)
            return result
        time.sleep(min(delay, left) * random.uniform(0.5, 1.0))  # noqa: S311 - so that not all come at once
        delay = min(2 * delay, LONGEST_DELAY)
