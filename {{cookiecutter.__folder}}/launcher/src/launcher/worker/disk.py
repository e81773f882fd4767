"""Data and results on the disk that has room for them, where the project's folder is on a small one."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..errors import UserError
from ..records import LOCAL_HOME

LARGE = ("data", LOCAL_HOME, ".dvc/cache")


def move(disk: str, root: Path) -> None:
    """Put links to folders of `disk` where the project has what is large; what is there already goes along.

    Where the disk cannot be written to all stays where it is, which does for what is small.

    Raises:
        UserError: the project's folder cannot be written to.
    """
    try:
        Path(disk).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"Data and results stay in {root}: {disk} cannot be used ({error}).", flush=True)
        return
    for name in LARGE:
        here, there = root / name, Path(disk, name)
        if here.is_symlink() or not here.parent.is_dir():  # a project need not have DVC
            continue
        try:
            there.mkdir(parents=True, exist_ok=True)
            if here.is_dir():
                shutil.copytree(here, there, symlinks=True, dirs_exist_ok=True)
                shutil.rmtree(here)
            here.symlink_to(there)
        except OSError as error:
            raise UserError(f"{here} cannot be moved to {there} ({error}).") from error
