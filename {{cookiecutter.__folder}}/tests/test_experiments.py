"""Every experiment that configs/experiment names can be composed, and what it builds fits together."""

from collections.abc import Callable

import hydra
import pytest
import torch
from hydra.utils import instantiate
from launcher import UserError

from {{ cookiecutter.package_name }}.config import CONFIGS
from {{ cookiecutter.package_name }}.data.base import ImageData
from {{ cookiecutter.package_name }}.training.batches import Reader
from {{ cookiecutter.package_name }}.training.trees import call

IN_FILES = {"folder_images"}  # which test_examples.py makes
MADE: dict[str, Callable[[int], torch.Tensor]] = {
    "Classification": lambda size: torch.zeros(2, dtype=torch.int64),
    "Segmentation": lambda size: torch.zeros(2, size, size, dtype=torch.int64),
    "Depth": lambda size: torch.rand(2, 1, size, size),
}
EXPERIMENTS = sorted({path.stem for path in (CONFIGS / "experiment").glob("*.yaml")} - IN_FILES)


def batch(data, task):
    """Give a batch of the data; one of random numbers where the data is images, which would have to be made."""
    if isinstance(data, ImageData) and type(task).__name__ in MADE:
        inputs = torch.rand(2, data.channels, data.size, data.size)
        return inputs, MADE[type(task).__name__](data.size)
    try:
        split = data.split("val")
    except (OSError, UserError) as error:
        pytest.skip(f"its data is not here: {error}")
    reader = Reader(data, split, workers=0, device=torch.device("cpu"), seed=0)
    return next(reader.read([list(range(min(3, reader.samples)))]))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_composes_and_its_model_takes_a_step(name):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = hydra.compose("train", [f"experiment={name}"])
    data, model, task = (instantiate(config[section]) for section in ("data", "model", "task"))
    inputs, targets = batch(data, task)
    predictions = call(model, inputs)
    task.loss(predictions, targets).backward()
    assert all(
        torch.isfinite(weight.grad).all()
        for weight in model.parameters()
        if weight.grad is not None
    )
    for metric in task.metrics().values():
        metric.update(predictions, targets)
        float(metric.compute())
    for picture in task.pictures().values():
        picture.update(inputs, targets, predictions.detach())
        picture.draw()


def test_the_mean_baseline_is_the_error_of_predicting_the_mean():
    from {{ cookiecutter.package_name }}.training.tasks import MeanBaseline

    metric, targets = MeanBaseline(), torch.rand(5, 1, 4, 4)
    for part in targets.split(2):
        metric.update(torch.zeros_like(part), part)
    assert metric.compute() == pytest.approx(targets.std(correction=0).item(), rel=1e-6)
