"""Two clouds that are none, a folder as the bucket of one, and `runs` as a person calls it, for its tests."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_backend import FakeBackend
from launcher.commands import runs
from launcher.records import places

CONFIG = """
backend: %s
project: null
region: null
bucket: %s
image: null
repository: null
service_account: null
labels: {}
machine: l4
nodes: 1
spot: true
max_hours: 2.0
max_cost_usd: 10.0
max_month_usd: 50.0
max_attempts: 1
secrets: {}
one_per_branch: false
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "bucket/runs"


@pytest.fixture
def backends(project_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeBackend]:
    """Two clouds: `one`, whose bucket is a folder, and `two`."""
    found = {"one": FakeBackend(), "two": FakeBackend()}
    (tmp_path / "configs/cloud").mkdir(parents=True)
    shutil.copy(project_root / "pyproject.toml", tmp_path)
    for name in found:
        bucket = tmp_path / ("bucket" if name == "one" else "bucket-two")
        text = CONFIG % (name, bucket)
        (tmp_path / f"configs/cloud/{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("launcher.project.find_root", lambda folder: tmp_path)
    monkeypatch.setattr(places, "connect", lambda cloud: found[cloud.backend])
    monkeypatch.setattr(places, "_said", {})
    return found


@pytest.fixture
def run(
    backends: dict[str, FakeBackend],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """Runs `runs` and gives what it printed, and the sentence with which it ended, if it did."""

    def call(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["runs", *words])
        end = ""
        try:
            runs.main()
        except SystemExit as ended:
            end = f"ended: {ended.code}"
        return capsys.readouterr().out + end

    return call


def row(table: str, run_id: str) -> list[str]:
    return next(line for line in table.splitlines() if f" {run_id} " in line).split()
