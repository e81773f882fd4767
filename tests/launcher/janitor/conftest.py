"""One place that the janitor looks after, and the janitor."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from fake_backend import record
from launcher import records
from launcher.janitor.chores import tidy
from launcher.janitor.github import GitHub
from launcher.money import ledger
from launcher.records.places import Place
from world import OURS, Cloud, launched


@pytest.fixture
def home(tmp_path: Path) -> str:
    return str(tmp_path / "bucket/runs")


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def place(cloud: Cloud, home: str) -> Place:
    return Place("one", "one", cloud, home, OURS, 50.0)


@pytest.fixture
def keep(home: str) -> Callable[..., records.Record]:
    """Writes the record of a launch two USD of which are reserved."""

    def write(run_id: str, hours_ago: float = 1, reserved: bool = True, **values: Any) -> records.Record:
        made = record(run_id, **launched(hours_ago, **values))
        records.write(home, made)
        if reserved:
            since = datetime.fromisoformat(made.launched)
            ledger.reserve(home, made.key, run_id, 2.0, 50.0, since)
        return made

    return write


@pytest.fixture
def sweep_up(place: Place) -> Callable[..., tuple[list[str], list[str]]]:
    """Lets the janitor work once: what it did, and its troubles."""

    def run(hub: GitHub | None = None, dry_run: bool = False, *more: Place):
        said: list[str] = []
        return said, tidy([place, *more], hub, dry_run, said.append)

    return run
