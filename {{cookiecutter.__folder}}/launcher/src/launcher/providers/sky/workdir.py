"""What a job without an image takes along: what git has of this folder, and new code; no data, no results, no keys."""

from __future__ import annotations

import shutil
from fnmatch import fnmatch
from pathlib import Path

from ...errors import UserError
from ...identity import git
from ...job import CODE_PARTS

# What may be new here, and not known to git yet.
NEW = (*CODE_PARTS, "pyproject.toml", "uv.lock", ".dvc/config", "data/*.dvc")
# Of what is new, these may hold a key; one that the code needs is known to git.
KEYS = (".env*", ".netrc", "*.json", "*.pem", "*.key", "*.p12", "*.pfx", "id_rsa*", "id_ecdsa*", "id_ed25519*")  # fmt: skip


def copy(root: Path, folder: Path) -> None:
    """Copy it into a folder, which is made. SkyPilot itself would take all that a .gitignore does not name.

    Raises:
        UserError: git does not tell.
    """
    for name in _files(root):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, target, follow_symlinks=False)


def _files(root: Path) -> list[str]:
    def listed(*words: str) -> list[str] | None:
        found = git("-C", str(root), "ls-files", "-z", *words)
        return None if found is None else [name for name in found.split("\0") if name]

    known, new = listed("--cached"), listed("--others", "--exclude-standard", "--", *NEW)
    if known is None or new is None:
        raise UserError("What a job takes along is what git knows: run `git init` here first.")
    kept = [name for name in new if not any(fnmatch(Path(name).name, key) for key in KEYS)]
    # A file that git still knows may be gone.
    return sorted(name for name in {*known, *kept} if (root / name).is_file())
