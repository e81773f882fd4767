"""Running `launch` in a test: a priced machine, a folder as bucket, and a provider that is none."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_backend import FakeBackend
from launcher import providers as backends
from launcher.commands import launch
from launcher.records import places

# Priced as a machine of a cloud; what would be asked of the cloud is asked of a FakeBackend.
PRICED = (
    "cloud.backend=vertex",
    "cloud.region=us-central1",
    "cloud.machine=l4",
    "cloud.max_hours=2",
    "cloud.max_cost_usd=10",
    "cloud.max_month_usd=50",
    "cloud.max_attempts=5",
)


@dataclass
class Launched:
    """What a launch has said and done: its exit status or last sentence, and its output."""

    status: object
    out: str
    err: str


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> FakeBackend:
    fake = FakeBackend()
    monkeypatch.setattr(backends, "connect", lambda cloud: fake)
    monkeypatch.setattr(places, "connect", lambda cloud: fake)
    return fake


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    return tmp_path / "bucket"


@pytest.fixture
def run_launch(
    backend: FakeBackend,
    bucket: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Launched]:
    """Runs `launch` with a priced machine, a folder as bucket, and the given settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # the program sets it, and it must not outlive a test
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.setenv("GITHUB_REF_NAME", "main")

    def run(*settings: str) -> Launched:
        monkeypatch.setattr(sys, "argv", ["launch", *PRICED, f"cloud.bucket={bucket}", *settings])
        status: object = 0
        try:
            launch.main()
        except SystemExit as end:
            status = end.code
        said = capsys.readouterr()
        return Launched(status, said.out, said.err)

    return run
