"""Buckets and folders behind one interface: gs://, s3://, az://, http(s):// and plain paths.

Credentials are the machine's own (application default, AWS profile, Azure login); none is kept here.
"""

import os
import tempfile
from pathlib import Path

import fsspec
from fsspec import AbstractFileSystem

from .errors import UserError


def fetch(uri: str, path: str | Path) -> None:
    """Copy one file from `uri` to `path`; afterwards `path` is whole, or as it was before.

    Raises:
        UserError: there is no such file, or it cannot be had or be written; names the URI.
    """
    path = Path(path)
    filesystem, remote = _open(uri)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as temporary:
            part = Path(temporary, "part")
            filesystem.get_file(remote, str(part))
            os.replace(part, path)
    except Exception as error:
        raise _explain(uri, error) from error


def list_files(uri: str) -> list[str]:
    """List the files below `uri`, however deep, as sorted paths relative to it.

    Raises:
        UserError: there is nothing below it, or it cannot be listed; names the URI.
    """
    filesystem, remote = _open(uri)
    root = remote.rstrip("/") + "/"
    try:
        filesystem.invalidate_cache()
        found = sorted(str(name) for name in filesystem.find(remote))
    except Exception as error:
        raise _explain(uri, error) from error
    names = [name.removeprefix(root) for name in found if name.startswith(root)]
    if not names:
        raise UserError(f"There is nothing at {uri}; check the name.")
    return names


def _open(uri: str) -> tuple[AbstractFileSystem, str]:
    # Company networks reach the web through a proxy that only the environment knows.
    options = {"client_kwargs": {"trust_env": True}} if uri.startswith("http") else {}
    try:
        return fsspec.url_to_fs(uri, **options)
    except Exception as error:
        raise _explain(uri, error) from error


def _explain(uri: str, error: Exception) -> UserError:
    # Each provider's library raises errors of its own kind; all that they share is their text.
    if isinstance(error, FileNotFoundError):
        return UserError(f"{uri} does not exist; check the name.")
    if isinstance(error, ImportError):
        return UserError(f"{uri} cannot be opened here: {error}.")
    reason = " ".join((str(error) or type(error).__name__).split())[:300]
    return UserError(f"{uri} cannot be read ({reason}); check the network and your login.")
