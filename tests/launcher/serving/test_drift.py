"""What is met is compared with what the model was tested on."""

import json
from pathlib import Path

import numpy as np
import pytest
from launcher.serving.app import Service
from launcher.serving.drift import FEWEST, Drift
from launcher.serving.model import Model
from launcher.serving.settings import Settings
from model_files import make
from starlette.testclient import TestClient

TESTED = {"inputs": {"mean": 8.0, "spread": 4.0}, "class": {"0": 0.5, "1": 0.5}}


def met(mean: float, decided: list[str]) -> Drift:
    drift = Drift(TESTED, ["dark", "bright"])
    drift.add({"inputs": np.full((FEWEST, 4), mean)}, decided * FEWEST)
    return drift


@pytest.mark.parametrize(
    ("mean", "decided", "expected"),
    [
        (8.0, ["dark", "bright"], {"inputs": 0.0, "class": 0.0}),
        (14.0, ["dark", "bright"], {"inputs": 1.5, "class": 0.0}),
        (8.0, ["dark"], {"inputs": 0.0, "class": 0.5}),
        (8.0, ["grey"], {"inputs": 0.0, "class": 1.0}),
    ],
)
def test_the_distance_is_of_means_in_spreads_and_of_decisions(
    mean: float, decided: list[str], expected: dict[str, float]
):
    assert met(mean, decided).distances() == pytest.approx(expected)


def test_only_what_is_far_is_said():
    assert met(8.0, ["dark", "bright"]).said() == ""
    assert "inputs by 1.50" in met(14.0, ["dark", "bright"]).said()


def test_a_few_instances_say_nothing():
    drift = Drift(TESTED, ["dark", "bright"])
    drift.add({"inputs": np.full((FEWEST - 1, 4), 100.0)}, ["dark"])
    assert drift.distances() == {}


def test_a_service_tells_it_as_a_metric_without_its_own_warming_up(tmp_path: Path):
    folder = make(tmp_path, "digits")
    signature = json.loads((folder / "signature.json").read_text())
    (folder / "signature.json").write_text(json.dumps(signature | {"statistics": TESTED}))
    service = Service(Model(folder, "digits@v1"), Settings())
    service.warm_up()
    client = TestClient(service.app())
    assert 'drift{what="inputs"}' not in client.get("/metrics").text
    bright = [[[16] * 8] * 8]
    assert client.post("/predict", json={"instances": [bright] * FEWEST}).status_code == 200
    assert 'drift{what="inputs"} 2.0' in client.get("/metrics").text
    assert 'drift{what="class"} 0.5' in client.get("/metrics").text
