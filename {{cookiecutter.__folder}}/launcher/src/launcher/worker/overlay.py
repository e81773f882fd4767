"""Code that is newer than the image: a small archive from the bucket, laid over the code in the working directory."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from ..errors import UserError
from ..job import CODE_PARTS
from ..storage import fetch


def lay(uri: str, root: Path) -> None:
    """Replace what the archive holds of `CODE_PARTS` below `root`.

    Args:
        uri: <bucket>/code/<sha256>.tar.gz.
        root: the working directory, in a container.

    Raises:
        UserError: the archive is not what its name says, or holds something else than code.
        StorageUnavailable: the bucket does not answer.
    """
    if (root / ".git").exists():
        raise UserError(f"{root} is a git working tree; no code is laid over it.")
    with tempfile.TemporaryDirectory(prefix=".code-", dir=root) as temporary:
        packed, unpacked = Path(temporary, "packed"), Path(temporary, "unpacked")
        fetch(uri, packed)
        with packed.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != uri.rpartition("/")[2].removesuffix(".tar.gz"):
            raise UserError(f"The code at {uri} is damaged: its content does not match its name.")
        _unpack(packed, unpacked, uri)
        for part in sorted(unpacked.iterdir()):
            _replace(part, root / part.name)


def _unpack(packed: Path, folder: Path, uri: str) -> None:
    folder.mkdir()
    try:
        with tarfile.open(packed, "r:gz") as archive:
            members = archive.getmembers()
            for member in members:
                if not _is_code(member):
                    raise UserError(f"The code at {uri} holds {member.name}, which is no code.")
            if hasattr(tarfile, "data_filter"):  # Python 3.11 has it since 3.11.4
                archive.extraction_filter = tarfile.data_filter
            archive.extractall(folder, members)  # noqa: S202 - looked through above
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(f"The code at {uri} cannot be unpacked ({error}).") from error


def _is_code(member: tarfile.TarInfo) -> bool:
    first, *inner = member.name.split("/")
    return first in CODE_PARTS and ".." not in inner and (member.isfile() or member.isdir())


def _replace(new: Path, old: Path) -> None:
    # Removed, not renamed: a folder of the image's own layers cannot be renamed in a container.
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old)
    else:
        old.unlink(missing_ok=True)
    os.replace(new, old)
