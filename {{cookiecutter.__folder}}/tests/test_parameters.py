"""Groups of parameters, frozen ones, and their average."""

import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from launcher import UserError
from launcher.settings.explain import explain
from safetensors.torch import load_file

from {{ cookiecutter.package_name }}.train import build, build_optimizer, train
from {{ cookiecutter.package_name }}.training.parameters import Average, train_mode

from .conftest import ALONE


def made(config):
    model = instantiate(config.model)
    return model, build_optimizer(config.optimizer, model)


def test_each_parameter_is_in_the_first_group_that_names_it(small_config):
    groups = "[{names: ['features.*'], max_dims: 1, weight_decay: 0.0}, {names: ['features.*'], lr: 1e-4}]"
    model, optimizer = made(small_config(f"optimizer.groups={groups}"))
    sizes = [[weight.ndim for weight in group["params"]] for group in optimizer.param_groups]
    assert sizes == [[2, 1], [1] * 4, [4, 4]]
    assert [group["lr"] for group in optimizer.param_groups] == [2e-3, 2e-3, 1e-4]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0, 0.01]
    assert sum(map(len, sizes)) == len(list(model.parameters()))


def test_frozen_parameters_keep_their_values_and_their_mode(small_config, run_folder):
    config = small_config("optimizer.frozen=['features.*']")
    trainer = build(config, run_folder(), ALONE)
    before = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    trainer.fit(None)
    for name, weight in trainer.model.state_dict().items():
        assert torch.equal(weight, before[name]) == name.startswith("features")
    train_mode(trainer.model)
    assert not any(module.training for module in trainer.model.get_submodule("features").modules())
    assert trainer.model.get_submodule("head").training


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("optimizer.frozen=['fetures.*']", "optimizer.frozen: no parameter is called fetures"),
        ("optimizer.frozen=['*']", "leaves nothing to train"),
        (
            "optimizer.groups=[{names: [heads], lr: 1.0}]",
            r"optimizer.groups\[0\].names: no parameter",
        ),
        (
            "optimizer.groups=[{max_dims: 1, wd: 0.0}]",
            r"optimizer.groups\[0\].wd is no setting of AdamW",
        ),
    ],
)
def test_a_name_that_is_none_is_refused(small_config, override, sentence):
    with pytest.raises(UserError, match=sentence):
        made(small_config(override))


def test_every_groups_rate_is_in_the_log(small_config, run_folder):
    groups = "optimizer.groups=[{names: ['head.*'], lr: 1e-4}]"
    config = small_config(groups, "scheduler=constant", "trainer.log_every=1")
    train(config, run_folder(), ALONE)
    line = run_folder().metrics_log.read_text().splitlines()[0]
    assert '"lr": 0.002, "lr/1": 0.0001' in line
    assert '"gradient_norm": ' in line


def test_the_average_follows_the_weights_and_is_what_is_kept(small_config, run_folder):
    config = small_config("trainer.ema=0.9", "monitor.keep=last")
    trainer = build(config, run_folder(), ALONE)
    trainer.fit(None)
    kept = load_file_of(config, run_folder)
    average = trainer.judged.state_dict()
    assert all(torch.equal(kept[name], average[name]) for name in kept)
    assert not any(
        torch.equal(average[name], new) for name, new in trainer.model.state_dict().items()
    )


def load_file_of(config, run_folder):
    train(config, run_folder(), ALONE)
    return load_file(run_folder().weights)


def test_an_average_is_the_mean_of_what_it_saw():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 0.0)
    average = Average(model, decay=0.5)
    for step, value in enumerate([1.0, 1.0, 1.0], start=100):
        torch.nn.init.constant_(model.weight, value)
        average.update(model, step)
    assert float(next(average.model.parameters())) == pytest.approx(1 - 0.5**3)


@pytest.mark.parametrize("scheduler", ["StepLR", "OneCycleLR"])
def test_torchs_own_schedules_can_be_named(small_config, run_folder, scheduler):
    settings = {"StepLR": "+scheduler.step_size=2", "OneCycleLR": "+scheduler.max_lr=0.01"}
    target = f"scheduler._target_=torch.optim.lr_scheduler.{scheduler}"
    config = small_config("scheduler=constant", "~scheduler.warmup", target, settings[scheduler])
    train(config, run_folder(), ALONE)
    assert run_folder().weights.exists()


def test_a_schedule_that_waits_for_a_metric_is_refused(small_config, run_folder):
    target = "scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau"
    config = small_config("scheduler=constant", "~scheduler.warmup", target)
    with pytest.raises(UserError, match="ReduceLROnPlateau waits for a metric"):
        train(config, run_folder(), ALONE)


def test_a_schedule_with_anothers_settings_is_told_how_to_leave_them_out(small_config, run_folder):
    config = small_config("scheduler._target_=torch.optim.lr_scheduler.StepLR")
    with pytest.raises(UserError, match=r"'warmup'; leave one out with ~scheduler\.<name>"):
        train(config, run_folder(), ALONE)
    assert not run_folder().path.exists()


def test_an_optimizer_that_is_not_there_is_named_by_its_section(small_config):
    with pytest.raises(InstantiationException) as wrong:
        made(small_config("optimizer._target_=torch.optim.AdamWW"))
    said = "optimizer._target_: there is no AdamWW in torch.optim; did you mean AdamW?"
    assert explain(wrong.value) == said


def test_a_run_to_start_from_that_is_not_there_is_told_how_to_make_it(small_config, run_folder):
    with pytest.raises(UserError, match=r"train it with `uv run train run\.id=nobody`"):
        train(small_config("restore.from=nobody"), run_folder(), ALONE)
    assert not run_folder().path.exists()
