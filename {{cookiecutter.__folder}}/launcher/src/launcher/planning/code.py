"""The working tree's code as a small archive: `launch code=worktree` lays it over the image.

It holds what git tracks or would add of `CODE_PARTS`, and nothing else: no data, no results, no credentials. The same
files give the same bytes, so the archive is named by its digest, and uploaded once.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import tempfile
from pathlib import Path

from ..errors import UserError
from ..identity import git
from ..job import CODE_PARTS
from ..storage import StorageUnavailable, list_files, store

PATIENCE = 30.0  # seconds
LARGEST = 10 * 2**20  # bytes; code is a hundredth of that, so more is a mistake


def pack(root: Path) -> bytes:
    """Pack the project at `root` into a .tar.gz.

    Raises:
        UserError: there is no code there, or it is so large that it must hold something else.
    """
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in _files(root):
            path = root / name
            info = tarfile.TarInfo(name)
            info.size, info.mode = (
                path.stat().st_size,
                0o755 if path.stat().st_mode & 0o100 else 0o644,
            )
            with path.open("rb") as file:
                archive.addfile(info, file)
    packed = gzip.compress(plain.getvalue(), mtime=0)
    if len(packed) > LARGEST:
        raise UserError(
            f"src and configs are {len(packed) / 2**20:.0f} MB when packed: move what is no code to data/, "
            "or list it in .gitignore."
        )
    return packed


def uri(packed: bytes, bucket: str) -> str:
    """Give where in a bucket an archive belongs."""
    return f"{bucket.rstrip('/')}/code/{hashlib.sha256(packed).hexdigest()}.tar.gz"


def upload(packed: bytes, uri: str) -> bool:
    """Upload an archive unless it is there; tell whether it was uploaded."""
    folder, _, name = uri.rpartition("/")
    try:
        if name in list_files(folder, patience=PATIENCE):
            return False
    except StorageUnavailable:
        raise
    except UserError:
        pass  # nothing there yet; what else is wrong, the upload says
    with tempfile.NamedTemporaryFile(suffix=".tar.gz") as file:
        file.write(packed)
        file.flush()
        store(file.name, uri, patience=PATIENCE)
    return True


def _files(root: Path) -> list[str]:
    listed = git(
        "-C",
        str(root),
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
        "--",
        *CODE_PARTS,
    )
    if listed is None:
        raise UserError("code=worktree asks git which files are code: run `git init` here first.")
    # A file that git still knows may be gone, and a link could lead anywhere.
    names = sorted(set(listed.split("\0")) - {""})
    names = [name for name in names if (root / name).is_file() and not (root / name).is_symlink()]
    if not any(name.startswith("src/") for name in names):
        raise UserError(
            f"There is no code in {root / 'src'}: start launch in the project's folder."
        )
    return names
