"""Every experiment that configs/experiment names can be composed, and what it builds fits together."""

import hydra
import pytest
import torch
from hydra.utils import instantiate

from {{ cookiecutter.package_name }}.config import CONFIGS
from {{ cookiecutter.package_name }}.data.base import ImageData
from {{ cookiecutter.package_name }}.training.batches import Reader
from {{ cookiecutter.package_name }}.training.trees import call

IN_FILES = {"folder_images"}  # which test_examples.py makes
EXPERIMENTS = sorted({path.stem for path in (CONFIGS / "experiment").glob("*.yaml")} - IN_FILES)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_composes_and_its_model_takes_a_step(name):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = hydra.compose("train", [f"experiment={name}"])
    data, model, task = (instantiate(config[section]) for section in ("data", "model", "task"))
    if isinstance(data, ImageData):  # which would have to be made, or fetched
        inputs = torch.rand(2, data.channels, data.size, data.size)
        targets = {
            "Classification": torch.zeros(2, dtype=torch.int64),
            "Segmentation": torch.zeros(2, data.size, data.size, dtype=torch.int64),
            "Depth": torch.rand(2, 1, data.size, data.size),
        }[type(task).__name__]
    else:
        reader = Reader(data, data.split("val"), workers=0, device=torch.device("cpu"), seed=0)
        inputs, targets = next(reader.read([[0, 1, 2]]))
    predictions = call(model, inputs)
    task.loss(predictions, targets).backward()
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters())
    for metric in task.metrics().values():
        metric.update(predictions, targets)
        assert torch.isfinite(metric.compute())
    for picture in task.pictures().values():
        picture.update(inputs, targets, predictions.detach())
        picture.draw()


def test_the_mean_baseline_is_the_error_of_predicting_the_mean():
    from {{ cookiecutter.package_name }}.training.tasks import MeanBaseline

    metric, targets = MeanBaseline(), torch.rand(5, 1, 4, 4)
    for part in targets.split(2):
        metric.update(torch.zeros_like(part), part)
    assert metric.compute() == pytest.approx(targets.std(correction=0).item(), rel=1e-6)
