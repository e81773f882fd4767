"""A workspace of Azure ML on the stage, for the tests of its backend: emptied for each, made once for a file of them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from azureml_jobs import job
from azureml_world import Place, fast, workspace
from launcher.providers.azure import azureml_request
from launcher.storage import write_text

FIRST = azureml_request.name("run-1", 1)
SECOND = azureml_request.name("run-1", 2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with workspace(tmp_path_factory.mktemp("azure")) as place:
        yield place


@pytest.fixture
def place(made: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The workspace without a job, and an empty bucket."""
    fast(monkeypatch)
    made.clear()
    made.bucket = tmp_path / "bucket"
    return made


def run(place: Place, seconds: float = 100) -> None:
    place.backend().submit(job())
    place.world.pass_time(10)
    place.world.ml.start(FIRST)
    place.world.pass_time(seconds)


def note(place: Place, *seconds: float) -> None:
    """What a worker notes of its starts."""
    began = place.backend().now().isoformat()
    attempts = [{"started": began, "seconds": each} for each in seconds]
    write_text(f"{place.bucket}/runs/run-1/attempts.json", json.dumps(attempts))
