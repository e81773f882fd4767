"""The best is kept, training stops when nothing gets better, and both survive a kill."""

import json

import pytest
import torch
from launcher import UserError
from safetensors.torch import load_file

from {{ cookiecutter.package_name }}.evaluate import write_report
from {{ cookiecutter.package_name }}.train import train
from {{ cookiecutter.package_name }}.training import loop
from {{ cookiecutter.package_name }}.training.checkpoint import CheckpointStore
from {{ cookiecutter.package_name }}.training.weights import chosen_weights

from .conftest import ALONE, KilledError, kill


@pytest.fixture
def validations(monkeypatch):
    """Lets the validations of trainings give these losses, one after the other, and notes the weights of each."""

    def give(*losses):
        seen = []

        def score(model, *_, **__):
            seen.append({name: weight.clone() for name, weight in model.state_dict().items()})
            return {"loss": losses[len(seen) - 1], "accuracy": 0.5}

        monkeypatch.setattr(loop, "score", score)
        return seen

    return give


def equal(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("keep", "number"), [("best", 1), ("last", 2)])
def test_the_best_weights_are_kept_or_the_last_ones(
    small_config, run_folder, validations, keep, number
):
    seen = validations(1.0, 0.5, 0.7)
    position = train(small_config(f"monitor.keep={keep}"), run_folder(), ALONE)
    assert equal(load_file(run_folder().weights), seen[number])
    assert position.best
    assert (position.best["epoch"], position.best["val/loss"], position.worse) == (2, 0.5, 1)
    state = CheckpointStore(run_folder().checkpoints).load_newest()
    assert state
    assert equal(chosen_weights(state), seen[number])


def test_a_metric_may_be_the_better_the_larger_it_is(small_config, run_folder, validations):
    validations(1.0, 0.5, 0.7)
    position = train(small_config("monitor.mode=max"), run_folder(), ALONE)
    assert position.best
    assert position.best["epoch"] == 1


def test_what_is_no_number_is_never_the_best(small_config, run_folder, validations):
    nan = float("nan")
    validations(nan, 0.5, nan)
    position = train(small_config("trainer.max_epochs=3"), run_folder(), ALONE)
    assert position.best
    assert (position.best["epoch"], position.worse) == (2, 1)


def test_a_run_whose_metric_never_was_a_number_keeps_the_last_weights_and_is_reported(
    small_config, run_folder, validations
):
    validations(*[float("nan")] * 3)
    assert train(small_config(), run_folder(), ALONE).best is None
    write_report(run_folder(), torch.device("cpu"))
    assert "weights: the last; val/loss never was a number" in run_folder().report.read_text()
    text = (run_folder().path / "run.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["kept"]["val/loss"] is None


def test_a_run_that_has_not_been_validated_has_no_report(small_config, run_folder, interrupt):
    interrupt(4, kill)
    with pytest.raises(KilledError):
        train(small_config(), run_folder(), ALONE)
    with pytest.raises(UserError, match="has not finished an epoch; train it for longer"):
        write_report(run_folder(), torch.device("cpu"))


def test_training_stops_when_nothing_gets_better(small_config, run_folder, validations):
    validations(1.0, 0.5, 0.5, 0.6, 0.4)
    settings = ("trainer.max_epochs=9", "monitor.patience=2")
    position = train(small_config(*settings), run_folder(), ALONE)
    assert (position.epoch, position.worse) == (4, 2)
    assert train(small_config(*settings), run_folder(), ALONE).epoch == 4  # it has finished


def test_more_patience_lets_it_go_on(small_config, run_folder, validations):
    validations(1.0, 1.0, 0.5, 0.4)
    settings = ("trainer.max_epochs=3", "monitor.patience=1")
    assert train(small_config(*settings), run_folder(), ALONE).epoch == 2
    more = (*settings[:1], "monitor.patience=2")
    assert train(small_config(*more), run_folder(), ALONE).epoch == 3


@pytest.mark.parametrize("step", [3, 4, 6, 7, 9, 10, 12])
def test_validations_in_mid_epoch_survive_a_kill(small_config, run_folder, interrupt, step):
    def outcome(folder):
        lines = [json.loads(line) for line in folder.metrics_log.read_text().splitlines()]
        for line in lines:
            line.pop("samples_per_second", None)
        return folder.weights.read_bytes(), lines

    every = ("trainer.validate_every=3", "checkpoint.steps=1")
    train(small_config(*every, "run.id=whole"), run_folder("whole"), ALONE)
    steps = [line["step"] for line in outcome(run_folder("whole"))[1] if "val/loss" in line]
    assert steps == [3, 4, 6, 8, 9, 12]
    interrupt(step, kill)
    with pytest.raises(KilledError):
        train(small_config(*every), run_folder(), ALONE)
    train(small_config(*every), run_folder(), ALONE)
    assert outcome(run_folder()) == outcome(run_folder("whole"))


def test_a_sweep_is_told_what_the_kept_weights_have_reached(
    small_config, run_folder, validations, monkeypatch
):
    from {{ cookiecutter.package_name }}.train import reached

    validations(1.0, 0.5, 0.7)
    config = small_config("objective=val/loss")
    position = train(config, run_folder(), ALONE)
    assert reached(config, position) == 0.5
    config.monitor.keep = "last"
    assert reached(config, position) == 0.7


def test_a_step_that_is_no_number_can_be_left_out(small_config, run_folder, monkeypatch):
    from {{ cookiecutter.package_name }}.training.tasks import Classification

    calls, plain = iter(range(1, 100)), Classification.loss

    def loss(task, predictions, targets):
        whole = plain(task, predictions, targets)
        return whole * float("nan") if next(calls) == 2 else whole

    monkeypatch.setattr(Classification, "loss", loss)
    config = small_config("trainer.bad_step=skip", "trainer.log_every=2")
    position = train(config, run_folder(), ALONE)
    assert position.step == 12
    assert all(weight.isfinite().all() for weight in load_file(run_folder().weights).values())


def test_a_head_can_be_exchanged(small_config, run_folder):
    train(small_config(), run_folder(), ALONE)
    before = load_file(run_folder().weights)
    other = ("run.id=fine", "restore.from=test", "restore.mode=weights", "optimizer.lr=0.0")
    other += ("optimizer.weight_decay=0.0", "data.classes=12")
    from {{ cookiecutter.package_name }}.train import build
    from {{ cookiecutter.package_name }}.training.restore import restore

    config = small_config(*other, "restore.skip=['head.*']")
    trainer = build(config, run_folder("fine"), ALONE)
    restore(trainer, config, run_folder("fine"))
    after = trainer.model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before if "features" in name)
    assert after["head.3.weight"].shape[0] == 12
