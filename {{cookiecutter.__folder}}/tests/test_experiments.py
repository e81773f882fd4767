"""Every experiment that configs/experiment names can be composed, and what it builds fits together."""

import hydra
import pytest
import torch
from hydra.utils import instantiate

from {{ cookiecutter.package_name }}.config import CONFIGS

EXPERIMENTS = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_model_task_and_metrics_fit_the_data(name):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = hydra.compose("train", [f"experiment={name}", "model.width=8"])
    model, task = instantiate(config.model), instantiate(config.task)
    size = config.data.size
    images = torch.rand(2, config.data.channels, size, size)
    predictions = model(images)
    targets = {
        "Classification": torch.zeros(2, dtype=torch.int64),
        "Segmentation": torch.zeros(2, size, size, dtype=torch.int64),
        "Depth": torch.rand(2, 1, size, size),
    }[type(task).__name__]

    loss = task.loss(predictions, targets)
    loss.backward()
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters())
    for metric in task.metrics().values():
        metric.update(predictions, targets)
        assert torch.isfinite(metric.compute())
    for picture in task.pictures().values():
        picture.update(images, targets, predictions.detach())
        assert picture.draw()


def test_the_mean_baseline_is_the_error_of_predicting_the_mean():
    from {{ cookiecutter.package_name }}.training.tasks import MeanBaseline

    metric, targets = MeanBaseline(), torch.rand(5, 1, 4, 4)
    for part in targets.split(2):
        metric.update(torch.zeros_like(part), part)
    assert metric.compute() == pytest.approx(targets.std(correction=0).item(), rel=1e-6)
