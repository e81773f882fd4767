"""What does not fit together is said in one sentence before anything is written, and finding it changes nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra.errors import HydraException
from launcher import UserError
from launcher.settings.explain import explain
from torch import nn
from torch.utils.data import IterableDataset, TensorDataset

from {{ cookiecutter.package_name }}.train import build, train
from {{ cookiecutter.package_name }}.training.random_state import get_random_state
from {{ cookiecutter.package_name }}.training.rehearsal import rehearse

from .conftest import ALONE, SMALL

COUNT = 80


class Stream(IterableDataset):
    """Samples without a number."""

    def __iter__(self):
        return iter([])


class Own:
    """Data in which one thing is wrong."""

    def __init__(self, wrong, **settings):
        self.wrong = wrong

    def split(self, name):
        images, labels = torch.rand(COUNT, 1, 8, 8), torch.arange(COUNT) % 10
        wrong = {
            f"no {name}": lambda: TensorDataset(images[:0], labels[:0]),
            "none": lambda: None,
            "stream": lambda: Stream(),
            "file": lambda: Path("nowhere.csv").read_text(),
            "column": lambda: {}["age"],
            "double": lambda: TensorDataset(images.double(), labels),
            "negative": lambda: TensorDataset(images, labels - 1),
            f"too large in {name}": lambda: TensorDataset(images, labels + 1),
            f"last too large in {name}": lambda: TensorDataset(
                images, torch.where(torch.arange(COUNT) == COUNT - 1, 10, labels)
            ),
            "three": lambda: TensorDataset(images, labels, labels),
            "text": lambda: [("a", "b")] * COUNT,
            "names": lambda: [{"image": image, "label": 1} for image in images],
            "named": lambda: [({"picture": image}, 1) for image in images],
            "sides": lambda: [(torch.rand(number), 1) for number in range(COUNT)],
            "flat": lambda: TensorDataset(torch.rand(COUNT, 64), labels),
            f"nan in {name}": lambda: TensorDataset(images.log() * torch.inf, labels),
            "numbers": lambda: TensorDataset(images, labels.float()),
        }
        return wrong.get(self.wrong, lambda: TensorDataset(images, labels))()


class Augment:
    """Gives the images alone."""

    def __call__(self, images, targets):
        return images


OWN = {
    "no train": "The train split is empty",
    "no val": "The val split is empty",
    "no test": "The test split is empty",
    "none": "data: split('train') gives NoneType; it must give a Dataset with __len__",
    "stream": "data: split('train') gives Stream",
    "file": "data failed (opening its train split): FileNotFoundError",
    "column": "data failed (opening its train split): KeyError: 'age'",
    "double": "model failed (the train split, inputs float64 (64, 1, 8, 8)): RuntimeError",
    "negative": "In the train split: The targets run from -1 to 8, but task.outputs=10",
    "too large in val": "In the val split: The targets run from 1 to 10, but task.outputs=10",
    "last too large in test": "In the test split: The targets run from 0 to 10",
    "three": "data failed (reading its train split): ValueError: too many values",
    "text": "there is no tensor in [str, str, str, str, ...]",
    "names": "there is no tensor in str",
    "named": "inputs [picture: float32 (64, 1, 8, 8)]): TypeError",
    "sides": "data failed (reading its train split): RuntimeError",
    "flat": "model failed (the train split, inputs float32 (64, 64)): RuntimeError",
    "nan in val": "data: inputs of the val split are nan or inf, and so the loss is ",
    "numbers": "predictions float32 (64, 10), targets float32 (64,)",
}
METRIC = "+task.metrics.other={_target_: torchmetrics."
SETTINGS = [
    (["model.in_channels=3"], "model failed (the train split, inputs float32 (64, 1, 8, 8))"),
    (["task=regression"], "targets int64 (64,)): UserWarning: Using a target size"),
    (["task=segmentation"], "In the train split: Segmentation is for targets with 3 sides"),
    ([f"+augment._target_={__name__}.Augment"], "augment failed (the train split, inputs float32"),
    ([METRIC + "regression.MeanSquaredError}"], "metric failed (other of the val split, pred"),
    (
        [METRIC + "classification.MulticlassAccuracy, num_classes: 10, average: none}"],
        "metric failed (other of the val split",
    ),
    (["+task.metrics.other={_target_: torch.nn.ReLU}"], "task.metrics.other is ReLU"),
    ([f"task._target_={__name__}.Own", "+task.wrong=0"], "task._target_ gives Own, without loss"),
]


def refusal(config, folder):
    with pytest.raises((UserError, HydraException)) as refused:
        train(config, folder, ALONE)
    assert not folder.path.exists()
    said = explain(refused.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize("wrong", OWN)
def test_data_that_does_not_fit_is_named(small_config, run_folder, wrong):
    own = (f"data._target_={__name__}.Own", f"+data.wrong='{wrong}'", "evaluate=true")
    assert OWN[wrong] in refusal(small_config(*own), run_folder())


@pytest.mark.parametrize(("overrides", "said"), SETTINGS, ids=lambda each: str(each)[:40])
def test_a_section_that_does_not_fit_is_named(small_config, run_folder, overrides, said):
    assert said in refusal(small_config(*overrides), run_folder())


def test_a_worker_that_fails_is_quoted_in_one_sentence(small_config, run_folder):
    own = (f"data._target_={__name__}.Own", "+data.wrong=sides", "trainer.num_workers=1")
    said = refusal(small_config(*own), run_folder())
    assert "stack expects each tensor to be equal size" in said
    assert "Traceback" not in said


def test_only_what_is_evaluated_has_to_have_a_test_split(small_config, run_folder):
    own = (f"data._target_={__name__}.Own", "+data.wrong='no test'", "trainer.max_epochs=1")
    train(small_config(*own), run_folder(), ALONE)
    assert run_folder().weights.exists()


def test_statistics_and_random_numbers_stay_and_a_batch_is_seen(small_config, run_folder):
    trainer = build(small_config(), run_folder(), ALONE)
    seen = []
    trainer.model = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(), trainer.model)
    trainer.model.register_forward_hook(lambda *_: seen.append(torch.rand(1)))
    state = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    generators = get_random_state(ALONE.device)
    rehearse(trainer, {"train": trainer.train_data, "val": trainer.val_data})
    assert len(seen) == 2
    assert all(torch.equal(value, state[key]) for key, value in trainer.model.state_dict().items())
    after = get_random_state(ALONE.device)
    assert torch.equal(after["torch"], generators["torch"])
    assert after["python"] == generators["python"]
    assert torch.equal(after["numpy"][1], generators["numpy"][1])


@pytest.mark.parametrize("more", [(), ("augment=flip_crop",), ("trainer.num_workers=1",)])
def test_a_training_ends_with_the_bits_that_it_has_without(small_config, run_folder, request, more):
    train(small_config(*more), run_folder(), ALONE)
    request.getfixturevalue("no_rehearsal")
    train(small_config(*more, "run.id=without"), run_folder("without"), ALONE)
    assert run_folder().weights.read_bytes() == run_folder("without").weights.read_bytes()


def program(folder, *overrides, **environment):
    command = [sys.executable, "-m", "{{ cookiecutter.package_name }}.train", *SMALL, *overrides]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_refused_run_leaves_nothing_and_its_traceback_can_be_had(tmp_path, digits):
    wrong = (f"data.folder={digits}", "model.in_channels=3")
    done = program(tmp_path, *wrong)
    assert done.returncode == 1
    assert done.stderr.startswith("model failed (the train split")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
    assert "conv.py" in program(tmp_path, *wrong, HYDRA_FULL_ERROR="1").stderr


def test_a_folder_in_which_nothing_was_written_is_taken_back(tmp_path, run_folder):
    with pytest.raises(UserError), run_folder().locked():
        raise UserError
    assert list(tmp_path.iterdir()) == []
    with run_folder().locked():
        run_folder().write(run_folder().report, "one")
    with pytest.raises(UserError), run_folder("other").locked():
        raise UserError
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["test"]
