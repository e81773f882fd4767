"""`dvc pull` of prepared data against Google's plain client that fetches the same objects, from an emulator."""

import json
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from baking import BakedProject, clean_env
from measure import Result, alternate, ratios, summary, timed
from stage.bucket import Bucket, bucket

# All objects below a prefix of a bucket, into a folder. The project's requirements do not hold this client.
PLAIN = """
import sys
from pathlib import Path
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

bucket, folder = sys.argv[1], Path(sys.argv[2])
for blob in Client("bench", AnonymousCredentials()).list_blobs(bucket, prefix="dvc/"):
    path = folder / blob.name
    path.parent.mkdir(parents=True, exist_ok=True)
    blob.download_to_filename(path)
"""


def measure(project: BakedProject, rounds: int) -> list[Result]:
    """Pushes one data set, then fetches it in turn with empty caches; the same for the other one."""
    rows: list[Result] = []
    with TemporaryDirectory(dir=project.folder.parent, prefix=".bench-") as name:
        for data in ("digits", "shapes"):
            folder = Path(name, data)
            folder.mkdir()
            copy = sources(project, folder / "project", data)
            # A bucket of its own, so that both fetch the same and nothing else.
            with bucket(f"{project.folder.name}-bucket", folder) as store:
                rows += fetched(copy, project.folder / ".venv/bin", store, data, rounds)
    return rows


def sources(project: BakedProject, folder: Path, data: str) -> Path:
    """A folder that holds the data set and DVC's settings, as a clone would after `dvc repro`."""
    shutil.copytree(project.folder / "data" / data, folder / "data" / data)
    shutil.copytree(project.folder / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    out = f"data/{data}"
    (folder / "dvc.yaml").write_text(
        json.dumps({"stages": {"prepare": {"cmd": "true", "outs": [out]}}})  # JSON is YAML too
    )
    return folder


def fetched(folder: Path, programs: Path, store: Bucket, data: str, rounds: int) -> list[Result]:
    """The rows of one data set that lies in `folder`."""
    env, requests, moved = clean_env(**store.env), {}, {}

    def dvc(*words: str) -> float:
        return timed((programs / "dvc", *words), cwd=folder, env=env)

    def counted(name: str, fetch: Callable[[], float]) -> float:
        store.exchanges.clear()
        seconds = fetch()
        requests[name], moved[name] = len(store.exchanges), store.bytes_down
        return seconds

    def pull() -> float:
        shutil.rmtree(folder / ".dvc/cache")
        shutil.rmtree(folder / f"data/{data}")
        return counted("dvc", lambda: dvc("pull", f"data/{data}"))

    def plain() -> float:
        target = folder / "plain"
        with suppress(FileNotFoundError):
            shutil.rmtree(target)
        command = (sys.executable, "-c", PLAIN, store.name, target)
        return counted("plain", lambda: timed(command, env=env))

    dvc("commit", "--force")
    dvc("push")
    size = sum(store.objects().values())
    members = {"dvc": pull, "plain": plain, "start": lambda: dvc("--help")}
    seconds = alternate(members, rounds)
    name = f"{data}, {size / 1e6:.1f} MB in {len(store.objects())} objects"
    return [
        summary("data", f"{name}: `dvc pull` / plain client", ratios(seconds["dvc"], seconds["plain"])),
        summary("data", f"{name}: `dvc --help` / plain client", ratios(seconds["start"], seconds["plain"])),
        summary("data", f"{name}: bytes received / size", [moved["dvc"] / size]),
        summary("data", f"{name}: requests of `dvc pull`", [requests["dvc"]], "requests"),
        summary("data", f"{name}: requests of the plain client", [requests["plain"]], "requests"),
    ]
