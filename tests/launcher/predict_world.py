"""A registry and images to predict from, for the tests of predictions as a job; and what is predicted."""

import io
import json
from pathlib import Path

import pytest
from launcher.models import aliases, versions
from model_files import make
from PIL import Image

FACTS = {"metrics": {}, "gate": {}, "made": {}}


def image(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    Image.new("L", (8, 8), value).save(file, "PNG")
    path.write_bytes(file.getvalue())


@pytest.fixture
def registry(bucket: Path, tmp_path: Path) -> str:
    """Two versions of a model that tells dark from bright; the first is the champion. And three images in the bucket."""
    home = f"{bucket}/models"
    for run in ("r1", "r2"):
        versions.add(home, "digits", make(tmp_path / "new", "digits"), {**FACTS, "run": run})
    aliases.move(home, "digits", "champion", [], 1, "me")
    for number, value in enumerate([0, 250, 250]):
        image(bucket / f"in/{number}.png", value)
    return home


def done(output: Path) -> dict[str, str]:
    """What is predicted: file -> its class."""
    rows = [json.loads(line) for path in output.rglob("*.jsonl") for line in path.read_text().splitlines()]
    return {row["file"]: row.get("class", "") for row in rows}
