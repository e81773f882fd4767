"""A sweep on this machine: killed and started again it ends as if it had not been; its table and plot."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from launcher.sweeps.table import Trial, draw, ranked, report

from PACKAGE.train import train

from .conftest import SMALL

PROGRAM = (sys.executable, "-m", train.__module__)
# With one trial at random only, the sampler asks what depends on the results before.
SWEEP = ("sweep=lr", "hydra.sweeper.n_trials=3", "hydra.sweeper.sampler.n_startup_trials=1")


def start(root: Path, digits: Path, *overrides: str) -> subprocess.Popen[str]:
    """Starts the sweep `lr` in a process of its own."""
    paths = (f"run.root={root}", f"data.folder={digits}", "run.id=lr")
    small = [word for word in SMALL if not word.startswith("model.width")]  # which is searched
    return subprocess.Popen(
        [*PROGRAM, *SWEEP, *small, "trainer.max_epochs=12", *paths, *overrides],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def table(root: Path) -> list[dict[str, str]]:
    with (root / "sweeps/lr.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_killed_within_a_trial_it_goes_on_and_trains_nothing_twice(tmp_path, digits):
    calm = start(tmp_path / "calm", digits)
    disturbed, second = tmp_path / "disturbed", tmp_path / "disturbed/lr-1/checkpoints"
    process = start(disturbed, digits)
    deadline = time.monotonic() + 600
    while not list(second.glob("step-*.pt")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (disturbed / "lr-1/model.safetensors").exists(), "it was not within a trial"
    weights = disturbed / "lr-0/model.safetensors"
    before = weights.read_bytes()

    again = start(disturbed, digits)
    said = again.communicate(timeout=600)[0]
    assert again.returncode == 0, said
    assert said.count("has finished") == 1
    assert said.count("goes on at") == 1
    assert weights.read_bytes() == before
    assert not (disturbed / "lr-3").exists()
    text = calm.communicate(timeout=600)[0]
    assert calm.returncode == 0, text
    assert table(disturbed) == table(tmp_path / "calm")  # its sampler has learned the same
    scores = [float(row["val/accuracy"]) for row in table(disturbed)]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert (disturbed / "sweeps/lr.png").stat().st_size > 1000


def test_a_sweep_that_could_not_go_on_is_refused(tmp_path, digits):
    process = start(tmp_path, digits, "hydra.sweeper.sampler.seed=null")
    said = process.communicate(timeout=600)[0]
    assert process.returncode == 1
    assert "hydra.sweeper.sampler.seed=0" in said
    assert "Traceback" not in said
    assert os.listdir(tmp_path) == []


TRIALS = [
    Trial("a-1", {"lr": 1e-4, "model": "cnn"}, 0.5),
    Trial("a-2", {"lr": 1e-1, "model": "unet"}, None, "failed"),
    Trial("a-3", {"lr": 1e-2, "model": "unet"}, 0.9),
    Trial("a-4", {"lr": 3e-2, "model": "cnn"}, float("nan")),
    Trial("a-5", {"lr": 2e-2, "model": "cnn"}, 0.7),
]


@pytest.mark.parametrize(
    ("maximize", "order"), [(True, ["a-3", "a-5", "a-1"]), (False, ["a-1", "a-5", "a-3"])]
)
def test_the_best_is_first_and_what_has_no_result_last(maximize, order):
    found = [trial.run_id for trial in ranked(TRIALS, maximize)]
    assert found[:3] == order
    assert set(found[3:]) == {"a-2", "a-4"}


def test_the_table_is_printed_and_kept_with_its_plot(tmp_path, capsys):
    report(TRIALS, "val/accuracy", maximize=True, stem=tmp_path / "sweeps/a.b")
    said = capsys.readouterr().out
    assert said.index("a-3") < said.index("a-5") < said.index("a-1") < said.index("a-2")
    with (tmp_path / "sweeps/a.b.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "run": "a-3",
        "lr": "0.01",
        "model": "unet",
        "val/accuracy": "0.9",
        "state": "succeeded",
    }
    assert len(rows) == 5
    assert (tmp_path / "sweeps/a.b.png").read_bytes().startswith(b"\x89PNG")


def test_the_plot_has_the_best_so_far_and_a_panel_for_each_setting():
    axes = draw(TRIALS, ["lr", "model"], "val/accuracy", maximize=True).axes
    assert [axis.get_xlabel() for axis in axes] == ["trial", "lr", "model"]
    best = axes[0].get_lines()[1]
    assert list(best.get_xdata()) == [1, 3, 5]
    assert list(best.get_ydata()) == [0.5, 0.9, 0.9]
    assert axes[1].get_xscale() == "log"
    assert [tick.get_text() for tick in axes[2].get_xticklabels()] == ["cnn", "unet"]


def test_nothing_to_draw_is_no_plot(tmp_path):
    report([TRIALS[1]], "val/accuracy", maximize=True, stem=tmp_path / "a")
    assert not (tmp_path / "a.png").exists()
    assert (tmp_path / "a.csv").exists()
