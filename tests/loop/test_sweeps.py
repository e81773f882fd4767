"""A sweep of the cloud on the stage of test_loop.py: from one file to trials, their results and a table, under one price."""

import csv
import json
import re
import time

import pytest
import yaml
from stage.google.vertex import CANCELLED, SUCCEEDED, TuningJob
from stage.patience import deadline
from stage.scene import Stage

pytestmark = pytest.mark.usefixtures("pushed")
SHORT = ("sweep=lr", "hydra.sweeper.n_trials=3", "cloud.parallel=2", "tracking=none")


@pytest.fixture(scope="module")
def sweep(stage: Stage, pushed: object) -> TuningJob:
    """A sweep of three short trials, two at a time, that has ended."""
    said = stage.launch(*SHORT, "run.id=lr", "trainer.max_epochs=2", "model.width=choice(8,16)").stdout
    assert re.search(r"at most +1\.\d\d USD: 3 trials of 1 node, 2 hours", said), said
    return stage.vertex.wait_for_sweep("lr", timeout=400)


def test_every_trial_is_a_run_whose_result_the_service_was_told(stage: Stage, sweep: TuningJob) -> None:
    shown = sweep.json()
    assert sweep.state == SUCCEEDED, shown["trials"]
    assert (len(sweep.trials), sweep.most_at_once) == (3, 2)
    for trial in shown["trials"]:
        results = stage.results(f"lr-{trial['id']}")
        lines = [json.loads(line) for line in results["metrics.jsonl"].decode().splitlines()]
        reached = [line["val/accuracy"] for line in lines if "val/accuracy" in line]
        told = {metric["metricId"]: metric["value"] for metric in trial["finalMeasurement"]["metrics"]}
        assert len(reached) == 2
        assert told == {"val/accuracy": reached[-1]}
        outcome = json.loads(results["outcome.json"])
        assert (outcome["state"], outcome["objective"]) == ("succeeded", reached[-1])
        given = {each["parameterId"]: each["value"] for each in trial["parameters"]}
        config = yaml.safe_load(results["config.yaml"])
        assert config["optimizer"]["lr"] == pytest.approx(given["optimizer.lr"])
        assert config["model"]["width"] == given["model.width"]
        assert config["trainer"]["max_epochs"] == 2
        assert config["evaluate"] is False  # as the sweep's file says
        assert "model.safetensors" in results


def test_the_table_has_the_best_first(stage: Stage, sweep: TuningJob) -> None:
    said = stage.run("runs", "sweep", "lr").stdout
    assert "3 of 3 trials" in said
    rows = list(csv.DictReader(stage.project.read("runs/sweeps/lr.csv").splitlines()))
    scores = [float(row["val/accuracy"]) for row in rows]
    assert {row["run"] for row in rows} == {"lr-1", "lr-2", "lr-3"}
    assert scores == sorted(scores, reverse=True)
    assert {row["state"] for row in rows} == {"succeeded"}
    order = [said.index(row["run"]) for row in rows]
    assert order == sorted(order)
    given = {f"lr-{trial.number}": trial.parameters["optimizer.lr"] for trial in sweep.trials}
    assert {row["run"]: float(row["optimizer.lr"]) for row in rows} == pytest.approx(given)
    plot = stage.project.folder / "runs/sweeps/lr.png"
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_it_is_one_run_with_the_time_of_all_trials(stage: Stage, sweep: TuningJob) -> None:
    listed = stage.run("runs", "list").stdout
    assert re.search(r"\blr\b.* succeeded", listed), listed
    assert not re.search(r"\blr-\d", listed)
    paid = sum(trial.job.machine_seconds for trial in sweep.trials if trial.job)
    found = re.search(r"([\d.]+) h", stage.run("runs", "cost", "lr").stdout)
    assert found
    assert float(found[1]) * 3600 >= paid - 36  # it is printed in hundredths of an hour
    assert "[trial 2] " in stage.run("runs", "logs", "lr").stdout


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (("cloud.max_cost_usd=1",), r"could cost 1\.\d\d USD \(3 trials x .*n_trials"),
        (("model.width=choice(8,wide)",), r"model\.width: the choices"),
        (("optimizer.lr=tag(log,interval(0,1))",), r"optimizer\.lr: a logarithmic scale"),
        (("model=glob(*)",), r"model: .*glob"),
        (("optimizer.lrr=choice(1,2)",), r"did you mean optimizer\.lr\?"),
        (("hydra.sweeper.direction=[maximize,minimize]",), r"hydra\.sweeper\.direction"),
        (("run.id=lr",), r"choose another run\.id"),
    ],
)
def test_what_cannot_be_a_tuning_job_is_refused_by_its_name(
    stage: Stage, sweep: TuningJob, settings: tuple[str, ...], says: str
) -> None:
    before = len(stage.vertex.sweeps())
    done = stage.launch(*SHORT, "run.id=refused", *settings, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert re.search(says, said), said
    assert "Traceback" not in said
    assert len(stage.vertex.sweeps()) == before


def test_stopping_a_sweep_ends_all_its_trials(stage: Stage) -> None:
    stage.launch(
        *SHORT, "run.id=endless-sweep", "data=slow", "trainer.max_epochs=100000", "checkpoint.steps=50"
    )
    sweep = stage.vertex.sweep("endless-sweep")
    until = deadline(200)
    while sum("epoch 1/" in line for line in sweep.lines()) < 2:
        assert time.monotonic() < until, sweep.lines()[-40:]
        time.sleep(0.1)
    assert "0 of 3 trials" in stage.run("runs", "sweep", "endless-sweep").stdout
    stage.run("runs", "stop", "endless-sweep")
    stage.vertex.wait_for_sweep("endless-sweep", timeout=100)
    assert sweep.state == CANCELLED
    assert [trial.job.state for trial in sweep.trials if trial.job] == [CANCELLED, CANCELLED]
    assert stage.vertex.containers() == []
    assert "stopped" in stage.run("runs", "sweep", "endless-sweep").stdout
