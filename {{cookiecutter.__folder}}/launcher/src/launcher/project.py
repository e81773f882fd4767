"""What the launcher knows of the project that it launches: the table `[tool.launcher]` of its pyproject.toml."""

from __future__ import annotations

import os
import sys
import tomllib
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from .errors import UserError

FILE = "pyproject.toml"


@dataclass(frozen=True)
class Project:
    """A project.

    Args:
        root: its folder.
        package: the Python package in `src/`; `python -m <package>.train` trains.
        slug: its name in labels, images and the cloud.
        cloud: gcp, aws or azure.
        region: where its bucket is, and its jobs run unless told otherwise.
        bucket: the name of its bucket or storage account.
    """

    root: Path
    package: str
    slug: str
    cloud: str
    region: str
    bucket: str

    @property
    def configs(self) -> Path:
        """The folder of its Hydra configuration."""
        return self.root / "configs"

    @property
    def account(self) -> str:
        """What the names of its accounts in the cloud begin with: 30 characters are the most that Google takes."""
        return self.slug[:22].rstrip("-")


def project() -> Project:
    """Give the project around the current folder.

    Raises:
        UserError: there is none, or its table is not complete.
    """
    return _read(find_root(Path.cwd()))


def find_root(folder: Path) -> Path:
    """Give the nearest folder, this one or one around it, that holds a project.

    Raises:
        UserError: there is none.
    """
    for each in (folder, *folder.parents):
        if _table(each / FILE):
            return each
    raise UserError(
        f"{folder} belongs to no project: start this in a folder whose {FILE} has [tool.launcher]."
    )


def enter(root: Path) -> None:
    """Go to the project's folder from one inside it, so that data/ and runs/ are always the project's own."""
    here = Path.cwd()
    if here != root and root in here.parents:
        print(f"Working in {root}, the project's folder.", file=sys.stderr, flush=True)
        os.chdir(root)


@cache
def _read(root: Path) -> Project:
    table = _table(root / FILE)
    names = [field.name for field in fields(Project) if field.name != "root"]
    missing = [name for name in names if not isinstance(table.get(name), str)]
    if missing:
        raise UserError(f"{root / FILE}: [tool.launcher] needs a text for {', '.join(missing)}.")
    return Project(root, **{name: table[name] for name in names})


def _table(path: Path) -> dict[str, Any]:
    """Give the table of a file; empty where there is no file, or none in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return {}
    try:
        tool = tomllib.loads(text).get("tool")
    except tomllib.TOMLDecodeError as error:
        if "[tool.launcher]" not in text:  # somebody else's file, further up
            return {}
        raise UserError(f"{path} is no valid TOML: {error}.") from error
    table = tool.get("launcher") if isinstance(tool, dict) else None
    return table if isinstance(table, dict) else {}
