"""The worked examples reach what the README says of them, and a sweep goes on where it was stopped."""

import csv
import json
import shutil

import pytest
from baking import BakedProject


@pytest.fixture(scope="module")
def prepared(demo_project: BakedProject) -> BakedProject:
    """The demo with the digits and the rendered scenes made."""
    demo_project.run("uv", "run", "prepare", "data=digits")
    demo_project.run("uv", "run", "prepare", "data=shapes")
    return demo_project


def train(project: BakedProject, run: str, *overrides: str) -> dict[str, float]:
    """Trains a run and returns its metrics on the test split."""
    project.run("uv", "run", "train", f"run.id={run}", "tracking=none", *overrides, timeout=1800)
    return json.loads(project.read(f"runs/{run}/metrics.json"))


def test_digits_are_recognized(prepared: BakedProject) -> None:
    metrics = train(prepared, "digits")
    assert metrics["test/accuracy"] >= 0.97


# A quarter of the scenes, few channels and a high rate: twenty seconds on one core. `make examples` trains them whole.
SMALL_UNET = (
    *("data.fraction=0.25", "model.width=8", "trainer.max_epochs=4"),
    *("trainer.batch_size=8", "optimizer.lr=1e-2"),
)


def test_a_small_segmentation_finds_most_of_the_shapes(prepared: BakedProject) -> None:
    metrics = train(prepared, "small-unet", "experiment=shapes_unet", *SMALL_UNET)
    assert metrics["test/mean_iou"] >= 0.5  # measured: 0.69; naming all of it background gives 0.19
    assert prepared.has_file("runs/small-unet/plots/predictions.png")


def test_a_small_depth_estimation_beats_predicting_the_mean(prepared: BakedProject) -> None:
    metrics = train(prepared, "small-depth", "experiment=shapes_depth", *SMALL_UNET)
    assert metrics["test/rmse"] * 2 <= metrics["test/baseline_rmse"]  # measured: a factor of 2.7


def test_a_tenth_of_the_data_is_enough_to_try_things(prepared: BakedProject) -> None:
    train(prepared, "tenth", "data.fraction=0.1", "trainer.max_epochs=1")
    steps = [json.loads(line)["step"] for line in prepared.read("runs/tenth/metrics.jsonl").splitlines()]
    assert max(steps) == 2  # 135 of 1,347 images, 64 a step


def test_a_compiled_model_learns_the_same(prepared: BakedProject) -> None:
    if not shutil.which("g++"):
        pytest.skip("torch.compile needs a C++ compiler: install g++")
    short = ("trainer.max_epochs=2", "model.width=16")
    plain, compiled = (
        train(prepared, "plain", *short),
        train(prepared, "compiled", *short, "trainer.compile=default"),
    )
    assert compiled["test/loss"] == pytest.approx(plain["test/loss"], rel=0.05)


def test_a_sweep_makes_a_table_and_the_same_command_trains_no_trial_twice(prepared: BakedProject) -> None:
    command = ("uv", "run", "train", "sweep=lr", "run.id=lr", "trainer.max_epochs=1", "tracking=none")
    first = prepared.run(*command, "hydra.sweeper.n_trials=2").stdout
    assert "trials, best first" in first
    again = prepared.run(*command, "hydra.sweeper.n_trials=3").stdout
    assert again.count("has finished") == 2
    table = again.rpartition("table")[2].split()[0]
    rows = list(csv.DictReader(prepared.read(table).splitlines()))
    assert {row["run"] for row in rows} == {"lr-0", "lr-1", "lr-2"}
    scores = [float(row["val/accuracy"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert len({row["optimizer.lr"] for row in rows}) == 3
