"""wandb, offline: one run however often it was restarted."""

import json
import shutil
from unittest.mock import MagicMock

import pytest
import wandb
from launcher import UserError

from {{ cookiecutter.package_name }}.train import train
from {{ cookiecutter.package_name }}.training.tracking import Wandb

from .conftest import ALONE, KilledError, kill
from .wandb_file import records


def read_back(folder):
    """Give all that was tracked offline for a run: run ids, configs, history rows."""
    wandb.teardown()  # its own process has then written all it was given, on a busy machine too
    ids, configs, rows = [], [], []
    for path in sorted(folder.path.glob("wandb/offline-run-*/run-*.wandb")):
        for record in records(path):
            if record.HasField("run"):
                ids.append(record.run.run_id)
                update = record.run.config.update
                configs.append({item.key: json.loads(item.value_json) for item in update})
            elif record.HasField("history"):
                items = record.history.item
                rows.append({(i.key or i.nested_key[0]): json.loads(i.value_json) for i in items})
    return ids, configs, rows


@pytest.fixture
def tracked(small_config, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    return lambda *overrides: small_config("tracking=wandb", *overrides)


@pytest.mark.parametrize("tags", ["[1,2]", f"[{'x' * 70}]"])
def test_a_tag_that_wandb_would_refuse_is_refused_with_the_settings(small_config, tags):
    with pytest.raises(UserError, match="is no tag; give words of up to 64 characters"):
        small_config("tracking=wandb", f"tracking.tags={tags}")
    assert small_config("tracking=wandb", "tracking.tags=['1',wide]").tracking.tags == ["1", "wide"]


@pytest.mark.parametrize(
    ("mode", "sentence"),
    [("Offline", "WANDB_MODE=Offline is no mode"), ("online", "there is no wandb key")],
)
def test_a_mode_that_cannot_work_is_refused_with_the_settings(
    small_config, monkeypatch, tmp_path, mode, sentence
):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))  # wherever this machine keeps a key
    monkeypatch.setenv("WANDB_MODE", mode)
    with pytest.raises(UserError, match=sentence):
        small_config("tracking=wandb")


def test_metrics_and_config_arrive_under_the_id_of_the_run(tracked, run_folder):
    train(tracked("trainer.max_epochs=1"), run_folder(), ALONE)
    ids, configs, rows = read_back(run_folder())
    assert set(ids) == {"test"}
    assert configs[0]["model"]["width"] == 8
    assert rows[-1]["val/accuracy"] == pytest.approx(
        json.loads(run_folder().metrics_log.read_text().splitlines()[-1])["val/accuracy"]
    )


def test_a_restarted_run_is_the_same_run_and_tracks_no_step_twice(tracked, run_folder, interrupt):
    interrupt(8, kill)
    with pytest.raises(KilledError):
        train(tracked("trainer.log_every=1"), run_folder(), ALONE)
    train(tracked("trainer.log_every=1"), run_folder(), ALONE)
    ids, _, rows = read_back(run_folder())
    assert set(ids) == {"test"}
    steps = [row["_step"] for row in rows if "train/loss" in row]
    assert steps == list(range(1, 13))


def test_a_run_that_goes_on_elsewhere_is_tracked_from_its_beginning(tracked, run_folder, interrupt):
    interrupt(8, kill)
    with pytest.raises(KilledError):
        train(tracked("trainer.log_every=1"), run_folder(), ALONE)
    shutil.rmtree(run_folder().path / "wandb")  # which was lost with its machine
    train(tracked("trainer.log_every=1"), run_folder(), ALONE)
    _, _, rows = read_back(run_folder())
    steps = [row["_step"] for row in rows if "train/loss" in row]
    assert steps == list(range(1, 13))


def test_the_report_says_what_was_tracked_offline(tracked, run_folder):
    config = tracked("evaluate=true", "trainer.max_epochs=1")
    train(config, run_folder(), ALONE)
    assert "- tracking: offline, once; `uv run wandb sync" in run_folder().report.read_text()


def test_pictures_and_weights_are_sent_when_online(small_config, run_folder):
    config = small_config("evaluate=true", "trainer.max_epochs=1")
    train(config, run_folder(), ALONE)
    tracker = Wandb("demo", None, [])
    tracker._run = run = MagicMock(offline=False)
    tracker.report(run_folder(), {"test/accuracy": 0.5})
    run.summary.update.assert_called_once_with({"test/accuracy": 0.5})
    assert set(run.log.call_args.args[0]) == {
        "report/learning_curves",
        "report/confusion",
        "report/mistakes",
    }
    (artifact,) = run.log_artifact.call_args.args
    assert (artifact.name, artifact.type) == ("model-test", "model")
    assert list(artifact.manifest.entries) == ["model.safetensors"]
