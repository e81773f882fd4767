"""Each experiment's model, untrained, as ONNX: what it takes, that it predicts the same, and that the batch is free."""

import hydra
import pytest
import torch
from hydra.utils import instantiate

from PACKAGE.config import CONFIGS
from PACKAGE.training.exporting import Exported

SETTINGS = {
    "digits_cnn": ([["batch", 1, 8, 8]], "classification"),
    "shapes_unet": ([["batch", 3, 64, 64]], "segmentation"),
    "shapes_depth": ([["batch", 3, 64, 64]], "depth"),
    "diabetes": ([["batch", 10]], "regression"),
    "text": ([["batch", "any"], ["batch", "any"]], "classification"),
    "folder_images": ([["batch", 1, 8, 8]], "classification"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_models_of_all_experiments_can_be_exported(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["data.scenes=48", "model.width=8", "model.depth=2"] if name.startswith("shapes") else []
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = hydra.compose("train", [f"experiment={name}", *small])
    torch.manual_seed(0)
    data = instantiate(config.data)
    if hasattr(data, "prepare"):
        data.prepare()
    exported = Exported(instantiate(config.model), instantiate(config.task), data)
    exported.write(tmp_path / "model.onnx")
    parity, statistics = exported.compare(tmp_path / "model.onnx")
    assert parity["differing"] == 0
    shapes, kind = SETTINGS[name]
    signature = exported.signature()
    assert [one["shape"] for one in signature["inputs"]] == shapes
    assert signature["kind"] == kind
    # What is filled up to the longest of a batch has another mean alone than among others.
    filled = {one["name"] for one in signature["inputs"] if "any" in one["shape"]}
    assert not filled & set(statistics)
    assert ("class" in statistics) == (kind in ("classification", "segmentation"))
