"""A run's folder, from the bucket to this machine."""

from __future__ import annotations

import logging
from pathlib import Path, PurePosixPath

from ..errors import UserError
from ..storage import StorageUnavailable, fetch, list_files
from . import checkpoint

log = logging.getLogger(__name__)


def fetch_run(uri: str, folder: Path) -> tuple[int, int]:
    """Copy what is below `uri` to `folder`: each file whole or not at all, checkpoints that are here not again.

    Returns:
        how many files were copied, and their bytes.

    Raises:
        UserError: it cannot be read, or a checkpoint is damaged in the bucket.
    """
    count = size = 0
    for name in list_files(uri):
        if ".." in PurePosixPath(name).parts:
            raise UserError(
                f"{uri} holds {name}, which no run writes; look at it before you fetch it."
            )
        path, named = folder / name, checkpoint.is_path(name)  # by the digest of its content
        if named and checkpoint.is_whole(path):
            continue
        try:
            fetch(f"{uri}/{name}", path)
        except StorageUnavailable:
            raise
        except UserError:
            if named and name not in list_files(uri):  # the training goes on, and has a newer one
                log.warning(
                    "%s was replaced by a newer one while this ran; fetch again for that.", name
                )
                continue
            raise
        if named and not checkpoint.is_whole(path):
            path.unlink()
            raise UserError(f"{uri}/{name} is damaged: its content does not match its name.")
        count, size = count + 1, size + path.stat().st_size
    return count, size
