"""A run that was interrupted ends as if it had not been."""

import json
import os
import signal

import pytest
from launcher import UserError
from safetensors.torch import load_file

from {{ cookiecutter.package_name }}.train import train
from {{ cookiecutter.package_name }}.training.checkpoint import CheckpointStore

from .conftest import ALONE, KilledError, kill


def measured(folder):
    """The lines of metrics.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in folder.metrics_log.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "samples_per_second"} for line in lines]


@pytest.fixture
def undisturbed(small_config, run_folder):
    """A run without interruption: its weights' bytes and its log."""
    folder = run_folder("undisturbed")
    train(small_config("run.id=undisturbed"), folder, ALONE)
    return folder.weights.read_bytes(), measured(folder)


@pytest.mark.parametrize("step", [1, 3, 4, 5, 7, 12])
def test_killed_before_any_step_it_ends_with_the_same_bits_and_log(
    small_config, run_folder, interrupt, undisturbed, step
):
    interrupt(step, kill)
    with pytest.raises(KilledError):
        train(small_config(), run_folder(), ALONE)
    train(small_config(), run_folder(), ALONE)
    assert (run_folder().weights.read_bytes(), measured(run_folder())) == undisturbed


def test_sigterm_saves_that_very_step_and_exits_143(
    small_config, run_folder, interrupt, undisturbed, capsys
):
    interrupt(5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as stopped:
        train(small_config("checkpoint.steps=null"), run_folder(), ALONE)
    assert stopped.value.code == 143
    assert [path.name[:13] for path in run_folder().checkpoints.iterdir()] == ["step-00000005"]
    train(small_config(), run_folder(), ALONE)
    assert (run_folder().weights.read_bytes(), measured(run_folder())) == undisturbed


def terminate(*_, between=lambda: None, **__):
    """Stands for a validation: a signal comes, and then the next batch."""
    os.kill(os.getpid(), signal.SIGTERM)
    between()


def test_sigterm_during_a_validation_does_not_wait_for_it(
    small_config, run_folder, monkeypatch, undisturbed
):
    from {{ cookiecutter.package_name }}.training import loop

    with monkeypatch.context() as patch:
        patch.setattr(loop, "score", terminate)
        with pytest.raises(SystemExit):
            train(small_config(), run_folder(), ALONE)
    train(small_config(), run_folder(), ALONE)
    assert (run_folder().weights.read_bytes(), measured(run_folder())) == undisturbed


def test_a_second_sigterm_does_not_end_the_saving(
    small_config, run_folder, monkeypatch, undisturbed
):
    from {{ cookiecutter.package_name }}.training import loop

    plain = loop.Trainer.save

    def saving(trainer):
        terminate()
        plain(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "score", terminate)
        patch.setattr(loop.Trainer, "save", saving)
        with pytest.raises(SystemExit):
            train(small_config("checkpoint.steps=null"), run_folder(), ALONE)
    assert [path.name[:13] for path in run_folder().checkpoints.iterdir()] == ["step-00000004"]
    train(small_config(), run_folder(), ALONE)
    assert (run_folder().weights.read_bytes(), measured(run_folder())) == undisturbed


def test_a_lost_log_begins_anew_and_the_run_goes_on(small_config, run_folder, interrupt):
    interrupt(8, kill)
    with pytest.raises(KilledError):
        train(small_config(), run_folder(), ALONE)
    run_folder().metrics_log.unlink()
    interrupt(11, kill)
    with pytest.raises(KilledError):
        train(small_config(), run_folder(), ALONE)
    train(small_config(), run_folder(), ALONE)
    steps = [(line["step"], "train/loss" in line) for line in measured(run_folder())]
    assert len(steps) == len(set(steps))
    assert steps[-1] == (12, False)


def test_a_finished_run_is_not_trained_again(small_config, run_folder, interrupt):
    train(small_config(), run_folder(), ALONE)
    for step in range(1, 13):
        interrupt(step, kill)
    train(small_config(), run_folder(), ALONE)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("model.width=16", r"model.width=16 \(was 8\)"),
        ("optimizer.lr=0.5", r"optimizer.lr=0.5 \(was 0.002\)"),
        ("trainer.batch_size=32", r"trainer.batch_size=32 \(was 64\)"),
        ("trainer.max_epochs=5", "restore.from=test restore.mode=continue"),
    ],
)
def test_other_settings_are_refused_by_name(small_config, run_folder, override, sentence):
    train(small_config("trainer.max_epochs=1"), run_folder(), ALONE)
    with pytest.raises(UserError, match=sentence):
        train(small_config("trainer.max_epochs=1", override), run_folder(), ALONE)


def test_settings_that_change_no_result_may_change(small_config, run_folder):
    train(small_config(), run_folder(), ALONE)
    train(small_config("trainer.log_every=1", "checkpoint.keep=5"), run_folder(), ALONE)


def test_another_run_can_be_continued_longer(small_config, run_folder):
    train(small_config(), run_folder(), ALONE)
    longer = ("run.id=longer", "restore.from=test", "trainer.max_epochs=4")
    train(small_config(*longer), run_folder("longer"), ALONE)
    steps = [line["step"] for line in measured(run_folder("longer"))]
    assert min(steps) > 12
    assert max(steps) == 16


def test_a_longer_run_goes_on_at_the_rate_of_its_own_schedule(small_config, run_folder):
    train(small_config("trainer.log_every=1"), run_folder(), ALONE)
    longer = ("run.id=longer", "restore.from=test", "trainer.max_epochs=4", "trainer.log_every=1")
    train(small_config(*longer), run_folder("longer"), ALONE)
    train(small_config("run.id=whole", *longer[2:]), run_folder("whole"), ALONE)
    rates = {
        name: {line["step"]: line["lr"] for line in measured(run_folder(name)) if "lr" in line}
        for name in ("longer", "whole")
    }
    assert rates["longer"] == {step: rates["whole"][step] for step in rates["longer"]}
    assert min(rates["longer"]) == 13


def test_a_schedule_that_was_planned_cannot_be_made_longer(small_config, run_folder):
    planned = (
        *("~scheduler.warmup", "~scheduler.final", "+scheduler.max_lr=0.01"),
        "scheduler._target_=torch.optim.lr_scheduler.OneCycleLR",
    )
    train(small_config(*planned), run_folder(), ALONE)
    longer = ("run.id=longer", "restore.from=test", "trainer.max_epochs=4")
    with pytest.raises(UserError, match="planned for 12 steps and cannot go on to 16"):
        train(small_config(*planned, *longer), run_folder("longer"), ALONE)


def test_training_does_not_wait_for_a_slow_disk(small_config, run_folder, monkeypatch):
    saved, save = [], CheckpointStore.save

    def saving(store, step, state):
        saved.append(step)
        save(store, step, state)

    monkeypatch.setattr(CheckpointStore, "writing", True)
    monkeypatch.setattr(CheckpointStore, "save", saving)
    train(small_config("checkpoint.steps=null", "checkpoint.minutes=0"), run_folder(), ALONE)
    assert saved == [12]


@pytest.mark.parametrize("source", ["test", "runs/test", "runs/test/model.safetensors"])
def test_weights_alone_can_be_taken_from_another_run(
    small_config, run_folder, tmp_path, monkeypatch, source
):
    monkeypatch.chdir(tmp_path)
    train(small_config(), run_folder(), ALONE)
    fresh = (f"restore.from={source}", "restore.mode=weights", "optimizer.lr=0.0", "run.id=fine")
    train(small_config(*fresh, "optimizer.weight_decay=0.0"), run_folder("fine"), ALONE)
    before, after = load_file(run_folder().weights), load_file(run_folder("fine").weights)
    assert all((before[name] == after[name]).all() for name in before)
    assert max(line["step"] for line in measured(run_folder("fine"))) == 12


def test_weights_of_another_model_are_refused(small_config, run_folder):
    train(small_config("trainer.max_epochs=1"), run_folder(), ALONE)
    other = ("run.id=fine", "restore.from=test", "restore.mode=weights", "model.width=16")
    with pytest.raises(UserError, match="do not fit the model"):
        train(small_config(*other), run_folder("fine"), ALONE)


def test_two_processes_cannot_train_the_same_run(run_folder):
    with run_folder().locked(), pytest.raises(UserError, match=f"by process {os.getpid()}"):
        run_folder().locked().__enter__()


def test_a_run_that_has_been_trained_for_as_long_is_not_gone_on_with(small_config, run_folder):
    train(small_config(), run_folder(), ALONE)
    with pytest.raises(UserError, match=r"restore\.from=test was trained for 3 epochs"):
        train(small_config("run.id=on", "restore.from=test"), run_folder("on"), ALONE)
    assert not run_folder("on").weights.exists()
