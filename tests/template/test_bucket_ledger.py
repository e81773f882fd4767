"""What several programs change in a bucket at the same moment, by the client that talks to Google."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from baking import BakedProject, clean_env
from stage.bucket import Bucket, bucket

# Each begins when all are ready: the start of Python takes longer than all that they do.
ALL_READY = """
import os, sys, time
import gcsfs  # which takes seconds
from datetime import UTC, datetime
from launcher.atomic import update_text
from launcher.errors import UserError
from launcher.money import ledger

uri, me = sys.argv[1:]
open(f"ready-{me}", "w").close()
while not os.path.exists("begin"):
    time.sleep(0.01)
"""
COUNT = """
for _ in range(10):
    update_text(uri, lambda text: (text or "") + me)
"""
RESERVE = """
try:
    ledger.reserve(uri, f"{me} x 2026-11-01", me, 1.0, 2.5, datetime(2026, 11, 1, tzinfo=UTC))
except UserError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with bucket("shared", tmp_path_factory.mktemp("bucket")) as here:
        yield here


def together(project: BakedProject, program: str, uri: str, store: Bucket, folder: Path) -> list[str]:
    """Runs a program four times at once; gives what each has complained of."""
    code = ALL_READY + program
    running = [
        subprocess.Popen(
            [project.folder / ".venv/bin/python", "-c", code, uri, me],
            cwd=folder,
            env=clean_env(**store.env, PYTHONPATH=str(project.folder / "src")),
            stderr=subprocess.PIPE,
            text=True,
        )
        for me in "abcd"
    ]
    while len(list(folder.glob("ready-*"))) < len(running):
        assert all(process.poll() is None for process in running)
        time.sleep(0.05)
    # All of them have read before the first has written.
    store.fail("POST", "/upload/", seconds=1, times=len(running))
    (folder / "begin").touch()
    return [process.communicate(timeout=600)[1] for process in running]


def test_no_change_is_lost(demo_project: BakedProject, store: Bucket, tmp_path: Path) -> None:
    assert together(demo_project, COUNT, f"{store.uri}/runs/count", store, tmp_path) == [""] * 4
    assert sorted(store.read("runs/count").decode()) == sorted("abcd" * 10)
    refused = [one for one in store.exchanges if one.status == 412]
    assert refused, "nobody was in another's way"


def test_under_a_cap_as_many_launches_succeed_as_fit(
    demo_project: BakedProject, store: Bucket, tmp_path: Path
) -> None:
    said = together(demo_project, RESERVE, f"{store.uri}/runs", store, tmp_path)
    refused = [text for text in said if text]
    assert len(refused) == 2
    assert all("could cost 1.00 USD" in text and "are reserved 2.00" in text for text in refused)
    kept = json.loads(store.read("runs/.ledger/2026-11.json"))
    assert {entry["run_id"] for entry in kept.values()} == {
        me for me, text in zip("abcd", said, strict=True) if not text
    }
