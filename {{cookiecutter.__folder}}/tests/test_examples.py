"""The worked examples learn, in seconds, what they are about; delete what belongs to one that you delete."""

import json

import hydra
import pytest
import torch
from launcher.settings.cli import refuse
from omegaconf import OmegaConf
from safetensors.torch import load_file

from {{ cookiecutter.package_name }}.config import CONFIGS, check
from {{ cookiecutter.package_name }}.examples.text import PythonReference
from {{ cookiecutter.package_name }}.train import train
from {{ cookiecutter.package_name }}.training.run_folder import RunFolder

from .conftest import ALONE, SMALL, KilledError, kill

QUIET = ("tracking=none", "trainer.device=cpu")


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """Trains an experiment in a folder of its own, and gives its metrics of the test split."""
    monkeypatch.chdir(tmp_path)

    def run(name, *overrides, run_id=None, prepare=False):
        given = [f"experiment={name}", f"run.id={run_id or name}", *QUIET, *overrides]
        with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
            whole = hydra.compose("train", given, return_hydra_config=True)
        config = OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])
        refuse(config, whole.hydra.runtime.choices, CONFIGS, check)
        if prepare:
            hydra.utils.instantiate(config.data).prepare()
        folder = RunFolder("runs", config.run.id)
        train(config, folder, ALONE)
        return json.loads(folder.metrics.read_text()) if config.evaluate else {}

    return run


def test_a_table_is_learned_better_than_its_mean(experiment):
    metrics = experiment("diabetes")
    assert metrics["test/rmse"] < 0.95 * metrics["test/baseline_rmse"]  # measured: 0.89


def test_paragraphs_are_told_apart(experiment):
    metrics = experiment("text")
    chapters = [chapter for _, chapter in PythonReference(classes=6, words=2000).split("test")]
    most = max(chapters.count(chapter) for chapter in set(chapters)) / len(chapters)
    assert metrics["test/accuracy"] > most + 0.15


def test_images_in_files_are_read_by_workers_and_a_killed_run_moves_them_alike(
    experiment, interrupt
):
    short = ("trainer.max_epochs=2", "model.width=8", "model.depth=1", "evaluate=false")
    experiment("folder_images", *short, run_id="whole", prepare=True)
    interrupt(30, kill)
    with pytest.raises(KilledError):
        experiment("folder_images", *short, "checkpoint.steps=5", run_id="killed")
    experiment("folder_images", *short, "trainer.num_workers=1", run_id="killed")
    whole, killed = (RunFolder("runs", name).weights.read_bytes() for name in ("whole", "killed"))
    assert whole == killed


def test_a_backbone_is_kept_and_a_head_is_new(experiment, small_config, tmp_path):
    train(small_config("run.id=digits", *SMALL[2:4]), RunFolder(tmp_path / "runs", "digits"), ALONE)
    small = ("model.width=8", "model.depth=1", "data.fraction=1.0")
    metrics = experiment("finetune", *small, prepare=True)
    assert metrics["test/accuracy"] > 0.7  # half of the digits are odd
    before, after = (load_file(f"runs/{name}/model.safetensors") for name in ("digits", "finetune"))
    assert torch.equal(before["features.0.0.weight"], after["features.0.0.weight"])
    assert not torch.equal(before["features.1.0.weight"], after["features.1.0.weight"])
    assert (len(before["head.3.bias"]), len(after["head.3.bias"])) == (10, 2)
