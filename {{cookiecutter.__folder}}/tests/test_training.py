"""What the loop promises of a whole training."""

import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from launcher import UserError
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import nn

from {{ cookiecutter.package_name }}.evaluate import write_report
from {{ cookiecutter.package_name }}.train import train
from {{ cookiecutter.package_name }}.training.metrics_log import read_metrics

from .conftest import ALONE, SMALL

CPU = torch.device("cpu")
# SGD: Adam divides by the size of a gradient, and so makes much of a rounding in a tiny one.
PLAIN = ("optimizer=sgd", "optimizer.lr=0.05", "model.dropout=0.0")


def difference(first, second):
    """The largest difference between two runs' weights."""
    a, b = load_file(first.weights), load_file(second.weights)
    return max((a[name] - b[name]).abs().max().item() for name in a)


def test_the_loss_falls_and_the_report_is_written(small_config, run_folder):
    config = small_config(
        "data.fraction=1.0", "model.depth=2", "model.width=16", "optimizer.lr=0.01"
    )
    history = train(config, run_folder(), ALONE).history
    assert history[-1]["val/loss"] < 0.5 * history[0]["val/loss"]

    metrics = write_report(run_folder(), CPU)
    assert metrics["test/accuracy"] > 0.8
    assert json.loads(run_folder().metrics.read_text()) == metrics
    report = run_folder().report.read_text()
    for picture in run_folder().path.glob("plots/*.png"):
        assert f"plots/{picture.name}" in report
    assert {path.name for path in run_folder().path.iterdir()} == {
        "checkpoints",
        "config.yaml",
        "metrics.json",
        "metrics.jsonl",
        "model.safetensors",
        "plots",
        "report.md",
        "run.json",
    }


def test_the_report_can_be_made_from_the_checkpoint_alone(small_config, run_folder):
    folder = run_folder()
    train(small_config(), folder, ALONE)
    before = write_report(folder, CPU)
    for path in folder.path.iterdir():
        if path.is_file():
            path.unlink()
    assert write_report(folder, CPU) == before
    assert (folder.plots / "learning_curves.png").stat().st_size > 10_000


def test_a_report_of_no_run_is_refused(run_folder):
    with pytest.raises(UserError, match="There is no run with checkpoints"):
        write_report(run_folder("nothing"), CPU)


def test_accumulated_parts_give_the_weights_of_the_whole_batch(small_config, run_folder):
    train(small_config(*PLAIN), run_folder(), ALONE)
    parts = small_config(*PLAIN, "run.id=parts", "trainer.accumulate=4")
    train(parts, run_folder("parts"), ALONE)
    assert difference(run_folder(), run_folder("parts")) < 1e-5


def test_two_processes_give_the_weights_of_one(small_config, run_folder, digits, tmp_path):
    train(small_config(*PLAIN, "trainer.max_epochs=1"), run_folder(), ALONE)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    given = (f"data.folder={digits}", "run.id=two", "trainer.max_epochs=1")
    subprocess.run(
        [*command, "-m", "{{ cookiecutter.package_name }}.train", *SMALL, *PLAIN, *given],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert difference(run_folder(), run_folder("two")) < 1e-5
    assert len(read_metrics(run_folder("two").metrics_log)) == 1


def test_workers_change_nothing(small_config, run_folder):
    train(small_config("trainer.max_epochs=1"), run_folder(), ALONE)
    config = small_config("trainer.max_epochs=1", "run.id=workers", "trainer.num_workers=1")
    train(config, run_folder("workers"), ALONE)
    assert difference(run_folder(), run_folder("workers")) == 0


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_trains(small_config, run_folder, precision):
    config = small_config(f"trainer.precision={precision}", "model.width=16", "optimizer.lr=0.01")
    history = train(config, run_folder(), ALONE).history
    assert history[-1]["val/loss"] < history[0]["val/loss"] < 2.5
    assert all(weight.dtype == torch.float32 for weight in load_file(run_folder().weights).values())


def test_a_loss_that_is_no_number_stops_at_its_step_and_is_not_saved(
    small_config, run_folder, monkeypatch, no_rehearsal
):
    from {{ cookiecutter.package_name }}.training.tasks import Classification

    losses = iter([1.0, 1.0, 1.0, float("nan")])
    plain = Classification.loss
    monkeypatch.setattr(
        Classification, "loss", lambda *args: plain(*args) * next(losses, float("nan"))
    )
    with pytest.raises(UserError, match="The training loss is nan at step 4"):
        train(small_config(), run_folder(), ALONE)
    assert [path.name[:13] for path in run_folder().checkpoints.iterdir()] == ["step-00000003"]


def test_a_gradient_that_is_no_number_stops_at_its_step_and_is_not_saved(
    small_config, run_folder, monkeypatch, no_rehearsal
):
    from {{ cookiecutter.package_name }}.training.tasks import Classification

    calls, plain = iter(range(1, 100)), Classification.loss

    def loss(task, predictions, targets):
        whole = plain(task, predictions, targets)
        # A root of 0 is 0, but its slope is not: the loss shows nothing.
        return whole + (predictions * 0).sum().sqrt() if next(calls) == 3 else whole

    monkeypatch.setattr(Classification, "loss", loss)
    config = small_config("checkpoint.steps=1", "trainer.clip_norm=null")
    with pytest.raises(UserError, match="The gradient's norm is nan at step 3"):
        train(config, run_folder(), ALONE)
    saved = sorted(path.name[:13] for path in run_folder().checkpoints.iterdir())
    assert saved[-1] == "step-00000002"


def test_a_step_that_is_left_out_leaves_no_trace_in_running_statistics(small_config):
    from {{ cookiecutter.package_name }}.training.step import Stepper
    from {{ cookiecutter.package_name }}.training.tasks import Classification

    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2))
    settings: Any = OmegaConf.to_object(small_config("trainer.bad_step=skip").trainer)
    optimizer = torch.optim.SGD(model.parameters())
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    stepper = Stepper(settings, model, Classification(2, {}), optimizer, schedule, ALONE)
    good = torch.rand(8, 4), torch.zeros(8, dtype=torch.int64)
    stepper.take(*good)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    stepper.take(torch.full((8, 4), float("nan")), torch.zeros(8, dtype=torch.int64))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    stepper.take(*good)
    assert not torch.equal(model.state_dict()["0.running_mean"], before["0.running_mean"])


@pytest.mark.parametrize("bad", [0, 1])
def test_a_validation_loss_that_is_no_number_is_not_left_out(
    small_config, run_folder, monkeypatch, no_rehearsal, bad
):
    from {{ cookiecutter.package_name }}.training.tasks import Classification

    plain, seen = Classification.loss, []

    def loss(task, predictions, targets):
        whole = plain(task, predictions, targets)
        if torch.is_grad_enabled():
            return whole
        seen.append(len(targets))
        return whole * float("nan") if len(seen) - 1 == bad else whole

    monkeypatch.setattr(Classification, "loss", loss)
    with pytest.raises(UserError, match="The loss is nan on a split that"):
        train(small_config("trainer.batch_size=16"), run_folder(), ALONE)
    assert len(seen) > 2  # one of several batches


def test_an_empty_split_is_refused():
    from {{ cookiecutter.package_name }}.config import Precision
    from {{ cookiecutter.package_name }}.training.batches import Reader
    from {{ cookiecutter.package_name }}.training.scoring import score

    nobody: Any = None  # whom nobody asks
    empty: Any = []
    reader = Reader(nobody, empty, workers=0, device=CPU, seed=0)
    with pytest.raises(UserError, match="A split is empty"):
        score(torch.nn.Identity(), nobody, reader, 4, ALONE, Precision.fp32)


def test_tied_weights_are_written_under_both_names(tmp_path):
    from {{ cookiecutter.package_name }}.training.run_folder import RunFolder
    from {{ cookiecutter.package_name }}.training.weights import save_weights

    first, second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    second.weight = first.weight
    model = torch.nn.Sequential(first, second)
    folder = RunFolder(tmp_path, "tied")
    folder.path.mkdir(parents=True)
    save_weights(folder, model.state_dict())
    found = load_file(folder.weights)
    assert set(found) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert found["0.weight"].equal(found["1.weight"])
    assert found["0.weight"].equal(first.weight)
    model.load_state_dict(found)
    assert first.weight is second.weight


def test_too_little_data_for_one_batch_is_said(small_config, run_folder):
    with pytest.raises(UserError, match=r"fewer than trainer\.batch_size=512"):
        train(small_config("trainer.batch_size=512"), run_folder(), ALONE)


@pytest.mark.parametrize("name", ["cosine", "constant"])
def test_schedules_reach_the_full_rate_and_end_where_they_say(small_config, name):
    from hydra.utils import instantiate

    config = small_config(f"scheduler={name}", "scheduler.warmup=0.2")
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    schedule = instantiate(config.scheduler)(optimizer, total_steps=10)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == 0.5
    assert max(rates) == 1.0
    assert optimizer.param_groups[0]["lr"] == {"cosine": pytest.approx(0.0), "constant": 1.0}[name]
