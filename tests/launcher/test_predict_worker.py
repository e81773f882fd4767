"""Predictions as a job: what the worker does, also where it was taken away before or finds trouble."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import predict_world
import pytest
from launcher.errors import UserError
from launcher.job import EXIT_FINAL, EXIT_RETRY
from launcher.worker import __main__ as worker
from launcher.worker import predict
from launcher.worker.predict import Predict
from predict_world import done

registry = predict_world.registry  # fixture


@pytest.fixture
def attempt(
    registry: str, bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """Runs one start of the job on a fresh machine; gives its exit status. `program` is what predicts there."""
    usual = predict.PROGRAM
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
    env = {
        "RUN_ID": "p1",
        "RUN_OUTPUT": f"{bucket}/runs/p1",
        "RUN_KIND": "predict",
        "RUN_MODELS": registry,
        "RUN_MAX_ATTEMPTS": "3",
    }
    for name, value in env.items():
        monkeypatch.setenv(name, value)

    def run(*words: str, program: str = "") -> int:
        machine = tmp_path / f"machine-{time.monotonic_ns()}"
        machine.mkdir()
        monkeypatch.setattr(predict, "PROGRAM", "program" if program else usual)
        (tmp_path / "program.py").write_text(program)
        usual_words = ["model=digits@v1", f"input={bucket}/in", f"output={bucket}/out", "run.id=p1"]
        made = worker.make(list(words) or usual_words, machine)
        assert isinstance(made, Predict)
        return made.run()

    return run


def noted(bucket: Path, name: str) -> Any:
    path = bucket / "runs/p1" / name
    return json.loads(path.read_text()) if path.is_file() else None


MAIN = "from launcher.commands.predict import main\nmain()\n"


WITHOUT_TORCH = "import sys\nsys.modules['torch'] = None\n" + MAIN


def test_it_predicts_with_the_version_and_leaves_log_and_outcome(attempt, bucket):
    assert attempt(program=WITHOUT_TORCH) == 0
    assert done(bucket / "out") == {"0.png": "dark", "1.png": "bright", "2.png": "bright"}
    assert json.loads((bucket / "out/model.json").read_text())["model"] == "digits@v1"
    assert noted(bucket, "outcome.json")["state"] == "succeeded"
    log = (bucket / "runs/p1/worker.log").read_text()
    assert "model digits@v1" in log
    assert "3 predictions" in log
    assert not list((bucket / "runs/p1").rglob("*.onnx"))


HOLDS = """
import time
from pathlib import Path
from launcher.serving import batch
batch.PART = 2
write = batch.write_text
def held(uri, text, **more):
    write(uri, text, **more)
    if "predictions/" in uri:
        Path({held!r}).touch()
        time.sleep(600)
batch.write_text = held
"""


def test_taken_away_it_goes_on_with_what_is_not_written_yet(attempt, bucket, tmp_path):
    held = tmp_path / "held"

    def take_away() -> None:
        until = time.monotonic() + 300
        while not held.exists() and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=take_away, daemon=True).start()
    assert attempt(program=HOLDS.format(held=str(held)) + MAIN) == 128 + signal.SIGTERM
    assert noted(bucket, "outcome.json") is None
    (first,) = (bucket / "out/predictions").iterdir()
    written = first.stat().st_mtime_ns
    assert attempt() == 0
    assert first.stat().st_mtime_ns == written
    assert len(done(bucket / "out")) == 3
    assert "1 predictions, of 2 files there were some before" in (bucket / "runs/p1/worker.log").read_text()
    assert [each["exit_code"] for each in noted(bucket, "attempts.json")] == [143, 0]


def test_trouble_of_the_bucket_is_tried_again_and_other_trouble_is_not(attempt, bucket):
    down = "from launcher.serving import batch\nfrom launcher.storage import StorageUnavailable\n"
    down += "def none(*_): raise StorageUnavailable('The bucket does not answer.')\nbatch.find = none\n"
    assert attempt(program=down + MAIN) == EXIT_RETRY
    assert noted(bucket, "outcome.json") is None
    (bucket / "in/broken.png").write_bytes(b"no image")
    assert attempt() == EXIT_FINAL
    outcome = noted(bucket, "outcome.json")
    assert outcome["state"] == "failed"
    assert f"1 inputs could not be read; {bucket}/out/predictions says which" in outcome["reason"]
    assert len(done(bucket / "out")) == 4


def test_the_runtime_tells_its_maker_nothing():
    import launcher.serving.model

    assert launcher.serving.model.onnxruntime
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_a_damaged_version_predicts_nothing(attempt, bucket):
    (bucket / "models/digits/v1/model.onnx").write_bytes(b"other weights")
    assert attempt() == EXIT_FINAL
    assert "is damaged" in noted(bucket, "outcome.json")["reason"]
    assert not (bucket / "out").exists()


@pytest.mark.parametrize("words", [["input=a", "output=b"], ["model=digits@champion"]])
def test_without_a_version_there_is_nothing_to_do(words, attempt):
    with pytest.raises(UserError, match="A prediction needs model=NAME@vN"):
        attempt(*words)
