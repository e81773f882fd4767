"""A trial of a sweep in its container: its own run, the service's settings as overrides, and the result it reports."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_backend import FakeBackend, record
from launcher.errors import UserError
from launcher.records import OUTCOME, write
from launcher.records.places import Place, find
from launcher.sweeps import results as trials
from launcher.worker.cluster import Node
from launcher.worker.settings import Settings
from launcher.worker.trial import Trial, read_trial
from launcher.worker.worker import Worker
from test_worker import Scripted, attempt  # noqa: F401

LINES = [
    {"step": 5, "epoch": 0, "train/loss": 2.0},
    {"step": 10, "epoch": 0, "val/accuracy": 0.25},
    {"step": 20, "epoch": 1, "val/accuracy": 0.75},
]
# A training that measures twice, in runs/lr-2.
TRAINS = f"""
import json, pathlib
folder = pathlib.Path("runs/lr-2")
folder.mkdir(parents=True, exist_ok=True)
lines = [json.dumps(line) + "\\n" for line in {LINES!r}]
(folder / "metrics.jsonl").write_text("".join(lines))
"""


def environment(tmp_path: Path, **changes: str) -> dict[str, str]:
    usual = {
        "RUN_ID": "lr",
        "RUN_KIND": "sweep",
        "RUN_OBJECTIVE": "val/accuracy",
        "RUN_DIRECTION": "maximize",
        "RUN_OUTPUT": str(tmp_path / "bucket/runs/lr"),
        "RUN_MAX_ATTEMPTS": "5",
        "CLOUD_ML_TRIAL_ID": "2",
        "CLOUD_ML_HP_METRIC_FILE": str(tmp_path / "hypertune/output.metrics"),
    }
    return {**usual, **changes}


def trial(tmp_path: Path, *args: str, **changes: str) -> Trial:
    found, _ = read_trial(environment(tmp_path, **changes), args or ("--optimizer.lr=0.01",))
    assert found
    return found


def run(tmp_path: Path, script: str, of: Trial | None = None) -> int:
    """Runs the trial on a machine where nothing is yet."""
    machine = tmp_path / "machine"
    of = of or trial(tmp_path)
    settings = of.narrow(Settings.read(environment(tmp_path)))
    (machine / "runs").mkdir(parents=True, exist_ok=True)
    return Worker(settings, Scripted(script=script), [], machine, of).run()


def kept(tmp_path: Path, name: str) -> Any:
    return json.loads((tmp_path / "bucket/runs" / name).read_text())


def reported(tmp_path: Path) -> list[dict[str, Any]]:
    text = (tmp_path / "hypertune/output.metrics").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_what_the_service_appends_are_overrides(tmp_path):
    args = ["data=digits", "--optimizer.lr=0.001", "--model.width=16.0", "--model", "cnn", "seed=1"]
    found, overrides = read_trial(environment(tmp_path), args)
    assert found
    assert overrides == [
        "data=digits",
        "seed=1",
        "optimizer.lr=0.001",
        "model.width=16",
        "model=cnn",
    ]
    assert found.settings == {"optimizer.lr": "0.001", "model.width": "16", "model": "cnn"}


def test_any_other_job_is_no_trial_whatever_the_service_sets(tmp_path):
    env = environment(tmp_path, RUN_KIND="train")
    assert read_trial(env, ["seed=1"]) == (None, ["seed=1"])


@pytest.mark.parametrize(
    ("args", "changes", "says"),
    [
        (["--a b=1"], {}, "no setting"),
        (["--lr"], {}, "no setting"),
        (["--hydra..mode=1"], {}, "no setting"),
        (["--lr=1"], {"CLOUD_ML_TRIAL_ID": ""}, "CLOUD_ML_TRIAL_ID"),
        (["--lr=1"], {"CLOUD_ML_TRIAL_ID": "../1"}, "CLOUD_ML_TRIAL_ID"),
        (["--lr=1"], {"RUN_OBJECTIVE": ""}, "RUN_OBJECTIVE"),
    ],
)
def test_what_cannot_be_a_trial_is_refused(tmp_path, args, changes, says):
    with pytest.raises(UserError, match=says):
        read_trial(environment(tmp_path, **changes), args)


def test_it_is_a_run_of_its_own(tmp_path):
    settings = trial(tmp_path).narrow(Settings.read(environment(tmp_path)))
    assert settings.run_id == "lr-2"
    assert settings.output == str(tmp_path / "bucket/runs/lr-2")


def test_its_result_reaches_the_service_and_the_bucket(tmp_path, attempt):  # noqa: F811
    assert run(tmp_path, TRAINS) == 0
    lines = reported(tmp_path)
    # As the service's own library writes them: text, but for the time.
    assert [(line["global_step"], line["val/accuracy"], line["trial"]) for line in lines] == [
        ("10", "0.25", "2"),
        ("20", "0.75", "2"),
    ]
    assert all(isinstance(line["timestamp"], float) for line in lines)
    assert kept(tmp_path, "lr-2/outcome.json")["objective"] == 0.75
    assert kept(tmp_path, "lr/trials/2.json") == {
        "run_id": "lr-2",
        "objective": "val/accuracy",
        "direction": "maximize",
        "settings": {"optimizer.lr": "0.01"},
    }


def test_a_new_container_after_its_end_tells_the_result_again(tmp_path, attempt):  # noqa: F811
    run(tmp_path, TRAINS)
    (tmp_path / "hypertune/output.metrics").unlink()
    assert run(tmp_path, "raise SystemExit('trained twice')") == 0
    assert reported(tmp_path)[-1]["val/accuracy"] == "0.75"


def test_its_result_is_of_the_weights_that_it_keeps(tmp_path, attempt):  # noqa: F811
    script = TRAINS + """(folder / "run.json").write_text('{"kept": {"step": 10, "val/accuracy": 0.9}}')"""
    for _ in range(2):  # the second container finds it trained
        assert run(tmp_path, script) == 0
        lines = [(line["global_step"], line["val/accuracy"]) for line in reported(tmp_path)]
        assert lines == [("10", "0.25"), ("20", "0.75"), ("21", "0.9")]
        assert kept(tmp_path, "lr-2/outcome.json")["objective"] == 0.9
        (tmp_path / "hypertune/output.metrics").unlink()
        script = "raise SystemExit('trained twice')"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("pass", "measured no val/accuracy"),
        (TRAINS.replace("0.75", "float('nan')"), "val/accuracy is nan at step 20"),
    ],
)
def test_without_a_result_a_trial_fails_and_says_so(tmp_path, attempt, script, says):  # noqa: F811
    assert run(tmp_path, script) == 1
    outcome = kept(tmp_path, "lr-2/outcome.json")
    assert outcome["state"] == "failed"
    assert says in outcome["reason"]
    assert "objective" not in outcome


def test_the_folder_of_another_sweeps_trial_is_not_taken_for_its_own(tmp_path, attempt):  # noqa: F811
    trial(tmp_path, "--optimizer.lr=0.5").note()
    assert run(tmp_path, TRAINS) == 1
    assert "another run.id" in kept(tmp_path, "lr-2/outcome.json")["reason"]


def test_only_the_first_of_several_nodes_reports(tmp_path):
    settings = trial(tmp_path).narrow(Settings.read(environment(tmp_path)))
    assert Worker(settings, Node(1, 2), [], tmp_path, trial(tmp_path)).trial is None


def place(tmp_path: Path) -> Any:
    return SimpleNamespace(home=str(tmp_path / "bucket/runs"))


def found_run(**changes: Any) -> Any:
    usual = {"run_id": "lr", "record": None, "status": None, "over": False, "state": "running"}
    return SimpleNamespace(**{**usual, **changes})


def test_the_trials_of_a_sweep_are_shown_from_the_bucket(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "bucket/runs"
    for number, lr in ((1, "0.5"), (2, "0.01"), (10, "0.1")):
        trial(tmp_path, f"--optimizer.lr={lr}", CLOUD_ML_TRIAL_ID=str(number)).note()
        (home / f"lr-{number}").mkdir(parents=True)
    ended = {"state": "succeeded", "exit_code": 0, "reason": "", "objective": 0.5}
    (home / "lr-1" / OUTCOME).write_text(json.dumps(ended))
    text = "".join(json.dumps(line) + "\n" for line in LINES)
    (home / "lr-2/metrics.jsonl").write_text(text + '{"step": 30, "val/acc')
    trials.show_sweep(place(tmp_path), found_run())
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  lr-")]
    assert rows == [
        ["lr-2", "0.01", "0.75", "running"],
        ["lr-1", "0.5", "0.5", "succeeded"],
        ["lr-10", "0.1", "running"],
    ]
    assert (tmp_path / "runs/sweeps/lr.png").is_file()
    assert (tmp_path / "runs/sweeps/lr.csv").read_text().splitlines()[1].startswith("lr-2,0.01,0.75")


def test_what_is_no_sweep_or_has_not_begun_is_said(tmp_path):
    with pytest.raises(UserError, match="No trial of sweep lr has begun"):
        trials.show_sweep(place(tmp_path), found_run())
    with pytest.raises(UserError, match="is no sweep"):
        trials.show_sweep(place(tmp_path), found_run(record=SimpleNamespace(kind="train")))


def test_a_trial_is_found_by_its_own_id(tmp_path, attempt, monkeypatch):  # noqa: F811
    run(tmp_path, TRAINS)
    home = str(tmp_path / "bucket/runs")
    write(home, record("lr", backend="fake", kind="sweep"))
    where = Place("fake", "fake", FakeBackend(), home, {}, 0.0)
    found = find("lr-2", [where])
    assert (found.run_id, found.state, found.over) == ("lr-2", "succeeded", True)
    with pytest.raises(UserError, match="no run other-2"):
        find("other-2", [where])
