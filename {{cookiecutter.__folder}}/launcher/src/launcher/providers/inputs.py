"""Checks of what a job is fed, whatever the cloud: the code in the image, and the data in the bucket."""

from __future__ import annotations

import configparser
import subprocess
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from omegaconf import OmegaConf

from ..job import CODE_PARTS, Problem
from ..project import project
from .errors import MissingError

BUILT_IN = ("Dockerfile", "uv.lock", "pyproject.toml")  # what only a new image can change
BUILD = "commit and push, and wait until train.yml has built the image"
AT_ONCE = 16  # objects looked up at the same time


class Bucket(Protocol):
    """A provider's way to look at objects; both raise MissingError for one that is not there."""

    def head(self, bucket: str, name: str) -> object:
        """Look whether there is one."""
        ...

    def read(self, bucket: str, name: str) -> Any:
        """Give its content, which is JSON."""
        ...


def check_code(
    image: str, commit: str | None, worktree: bool, newest: bool, root: Path | None = None
) -> list[Problem]:
    """Is the code in the image the code in this folder?

    An hour of GPU on code that is not what one looks at is the dearest mistake there is, so a difference forbids the
    launch. It is only said where older code is meant: with an image that was named (`newest` False), as CI
    names the one it has just built, or where the working tree goes along (`worktree`).
    """
    fatal = newest and not worktree
    if not commit:
        what = f"The image {image} does not say which commit it was built from"
        remedy = "let train.yml build it, or send this folder's code along by code=worktree"
        return [] if worktree else [Problem(what, remedy, fatal=False)]
    try:
        differing = _differences(commit, root or project().root)
    except (OSError, subprocess.CalledProcessError):
        what = f"The image is of commit {commit[:7]}, which git does not know here"
        remedy = "run `git fetch`, or send this folder's code along by code=worktree"
        return [] if worktree else [Problem(what, remedy, fatal)]
    built_in = [name for name in differing if name in BUILT_IN]
    if worktree:
        differing = built_in
    if not differing:
        return []
    what = f"The image, of commit {commit[:7]}, does not have what has changed in {_enumerate(differing)}"
    remedy = BUILD if built_in else f"send it along by code=worktree, or {BUILD}"
    return [Problem(what, remedy, fatal)]


def _differences(commit: str, root: Path) -> list[str]:
    def git(*words: str) -> list[str]:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
        return [name for name in done.stdout.split("\0") if name]

    changed = git("diff", "-z", "--name-only", "--relative", commit, "--", *CODE_PARTS, *BUILT_IN)
    new = git("ls-files", "-z", "--others", "--exclude-standard", "--", *CODE_PARTS, *BUILT_IN)
    return sorted({*changed, *new})


def check_data(
    target: str, scheme: str, objects: Bucket, root: Path | None = None
) -> list[Problem]:
    """Is every object of a data set, as dvc.lock describes it, in the bucket?

    Args:
        scheme: of the addresses of this provider's buckets, such as gs; other remotes are not looked at.
    """
    root = root or project().root
    tracked = _tracked(target, root)
    if not tracked:
        name = Path(target).name
        what = f"{target} is not in dvc.lock"
        remedy = f"add {name} to the list in dvc.yaml, run `uv run dvc repro` and `uv run dvc push`, commit dvc.lock"
        return [Problem(what, remedy)]
    remote = _remote(root)
    if not remote.startswith(f"{scheme}://"):
        return []
    bucket, _, prefix = remote.removeprefix(f"{scheme}://").rstrip("/").partition("/")
    # Until version 3 DVC kept objects elsewhere, and did not name the hash.
    prefix = "/".join(part for part in (prefix, "files/md5" if tracked.get("hash") else "") if part)
    missing, total = _missing(bucket, prefix, tracked["md5"], objects)
    if not missing:
        return []
    what = f"{missing} of {total} objects of {target} are not in {remote}"
    return [Problem(what, "run `uv run dvc push`")]


def _tracked(target: str, root: Path) -> dict[str, Any] | None:
    """Give what DVC's files say of an output: md5, hash, size; None where they do not have it."""
    file = root / f"{target}.dvc"  # made by `dvc add`
    if file.is_file():
        return _plain(file)["outs"][0]
    lock = root / "dvc.lock"
    stages = _plain(lock).get("stages", {}) if lock.is_file() else {}
    outs = [out for stage in stages.values() for out in stage.get("outs", [])]
    return next((out for out in outs if out["path"].rstrip("/") == target.rstrip("/")), None)


def _plain(file: Path) -> Any:
    return OmegaConf.to_container(OmegaConf.load(file))


def _remote(root: Path) -> str:
    """Give the URL of DVC's default remote; empty where there is none."""
    config = configparser.ConfigParser(interpolation=None)
    config.read([root / ".dvc" / "config", root / ".dvc" / "config.local"])
    name = config.get("core", "remote", fallback="")
    return config.get(f"'remote \"{name}\"'", "url", fallback="")


def _missing(bucket: str, prefix: str, md5: str, objects: Bucket) -> tuple[int, int]:
    """Count the objects that are absent, and all of them; a folder is an object that lists its files."""

    def name(digest: str) -> str:
        return "/".join(part for part in (prefix, digest[:2], digest[2:]) if part)

    def absent(digest: str) -> bool:
        try:
            objects.head(bucket, name(digest))
        except MissingError:
            return True
        return False

    if not md5.endswith(".dir"):
        return int(absent(md5)), 1
    try:
        entries = objects.read(bucket, name(md5))
    except MissingError:
        return 1, 1
    digests = sorted({entry["md5"] for entry in entries})
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return sum(pool.map(absent, digests)), len(digests)


def _enumerate(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def locked(name: str) -> str:
    """Give the version of a package in the project's uv.lock; empty where it has none."""
    try:
        lock = tomllib.loads((project().root / "uv.lock").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    versions = [
        one.get("version", "") for one in lock.get("package", []) if one.get("name") == name
    ]
    return str(versions[-1]) if versions else ""
