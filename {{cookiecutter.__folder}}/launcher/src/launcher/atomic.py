"""Changing a file that others may change at the same moment, so that no change is lost."""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from fsspec.asyn import sync
from fsspec.implementations.local import LocalFileSystem

from .errors import UserError
from .storage import _open, _part, _persist
from .trouble import first_status, is_taken

ATTEMPTS = 50  # of writers who are in each other's way; each time one of them gets through
LONGEST_PAUSE = 0.5  # seconds between two of them

Change = Callable[[str | None], str | None]


def update_text(uri: str, change: Change, patience: float | None = None) -> None:
    """Replace a file by what `change` makes of it; of several who do so at once, each sees the other's work.

    A bucket compares the version that was read with the one that is replaced, a folder has a lock beside the file.

    Args:
        change: takes the text, None where there is no file yet, and gives the new one, None for no change. It may
            be called several times, the last time with its own work: a first try may have arrived unheard.
        patience: seconds for which passing trouble is tried again; None for `storage.PATIENCE`.

    Raises:
        UserError: it cannot be read or written, or this kind of bucket has no such comparison; names the URI. What
            `change` raises leaves the file as it is.
        StorageUnavailable: it cannot be reached.
    """
    filesystem, remote = _open(uri)
    if isinstance(filesystem, LocalFileSystem):
        _update_file(Path(remote), change)
        return
    bucket = next((BUCKETS[name] for name in filesystem.protocol if name in BUCKETS), None)
    if not bucket:
        raise UserError(
            f"{uri} cannot be shared: only folders, gs://, s3:// and abfss:// buckets compare versions here."
        )
    for _ in range(ATTEMPTS):
        text, version = _persist(partial(bucket.read, filesystem, remote), uri, "read", patience)
        new = change(text)
        if new is None or new == text:
            return
        replace = partial(bucket.replace, filesystem, remote, new, version)
        if _persist(replace, uri, "written", patience):
            return
        time.sleep(random.uniform(0, LONGEST_PAUSE))  # noqa: S311
    raise UserError(f"{uri} is being changed by too many at once; try again in a minute.")


class CloudStorage:
    """Google Cloud Storage numbers the generations of an object; 0 is that of one which is not there."""

    def read(self, filesystem: Any, remote: str) -> tuple[str | None, str]:
        """Give an object's text and version, both of one answer; None for the text where there is none."""
        bucket, _, key = remote.partition("/")
        try:
            headers, content = filesystem.call("GET", "b/{}/o/{}", bucket, key, alt="media")
        except FileNotFoundError:
            return None, "0"
        return content.decode("utf-8"), str(headers["X-Goog-Generation"])

    def replace(self, filesystem: Any, remote: str, text: str, version: str) -> bool:
        """Write an object if it still is the one of that version; tell whether it was."""
        bucket, _, key = remote.partition("/")
        url = f"{filesystem._location}/upload/storage/v1/b/{quote(bucket)}/o"
        query = {"uploadType": "media", "name": key, "ifGenerationMatch": version}
        try:
            filesystem.call("POST", url, data=text.encode(), **query)
        except Exception as error:
            if is_taken(error):
                return False
            raise
        return True


class S3:
    """S3 compares ETags: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html."""

    def read(self, filesystem: Any, remote: str) -> tuple[str | None, str]:
        """Give an object's text and version, both of one answer; None for the text where there is none."""

        async def get() -> tuple[bytes, str]:
            bucket, _, key = remote.partition("/")
            answer = await filesystem._call_s3("get_object", Bucket=bucket, Key=key)
            async with answer["Body"] as body:
                return await body.read(), str(answer["ETag"])

        try:
            content, version = cast(tuple[bytes, str], sync(filesystem.loop, get))
        except FileNotFoundError:
            return None, ""
        return content.decode("utf-8"), version

    def replace(self, filesystem: Any, remote: str, text: str, version: str) -> bool:
        """Write an object if it still is the one of that version; tell whether it was."""
        bucket, _, key = remote.partition("/")
        condition = {"IfMatch": version} if version else {"IfNoneMatch": "*"}
        try:
            filesystem.call_s3(
                "put_object", Bucket=bucket, Key=key, Body=text.encode(), **condition
            )
        except Exception as error:
            # 404: it was removed since. 409: another conditional write of it is being done, or it was removed meanwhile.
            if (
                is_taken(error)
                or isinstance(error, FileNotFoundError)
                or first_status(error) == 409
            ):
                return False
            raise
        return True


class Blob:
    """Azure compares ETags: https://learn.microsoft.com/azure/storage/blobs/concurrency-manage."""

    def read(self, filesystem: Any, remote: str) -> tuple[str | None, str]:
        """Give a blob's text and version, both of one answer; None for the text where there is none."""

        async def get() -> tuple[bytes, str]:
            container, _, name = remote.partition("/")
            async with filesystem.service_client.get_blob_client(container, name) as blob:
                stream = await blob.download_blob()
                return await stream.readall(), str(stream.properties.etag)

        try:
            content, version = cast(tuple[bytes, str], sync(filesystem.loop, get))
        except Exception as error:
            if first_status(error) == 404:
                return None, ""
            raise
        return content.decode("utf-8"), version

    def replace(self, filesystem: Any, remote: str, text: str, version: str) -> bool:
        """Write a blob if it still is the one of that version; tell whether it was."""
        condition = {"If-Match": version} if version else {"If-None-Match": "*"}
        try:
            filesystem.pipe_file(remote, text.encode(), overwrite=True, headers=condition)
        except Exception as error:
            # 412, also where it was removed since; 409 where it should not have been there.
            if is_taken(error):
                return False
            raise
        return True


# by protocol
BUCKETS: dict[str, CloudStorage | S3 | Blob] = {"gs": CloudStorage(), "s3": S3(), "abfs": Blob()}


def _update_file(path: Path, change: Change) -> None:
    with _locked(path):
        text = path.read_text(encoding="utf-8") if path.is_file() else None
        new = change(text)
        if new is not None and new != text:
            with _part(str(path)) as part:
                part.write_text(new, encoding="utf-8")
                os.replace(part, path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
