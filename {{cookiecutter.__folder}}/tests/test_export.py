"""A trained model as ONNX: the same predictions, the same bytes, or a sentence that says why not."""

import json

import pytest
import torch
from launcher import UserError
from torch import nn
from torch.utils.data import Subset

from {{ cookiecutter.package_name }}.export import write_export
from {{ cookiecutter.package_name }}.train import train
from {{ cookiecutter.package_name }}.training import exporting

from .conftest import ALONE


@pytest.fixture
def run(small_config, run_folder):
    """A short run, and the folder of its export."""
    train(small_config(), run_folder(), ALONE)
    return run_folder()


def test_onnx_predicts_what_pytorch_does(run):
    write_export(run)
    export = run.path / "export"
    parity = json.loads((export / "parity.json").read_text())
    assert (parity["samples"], parity["differing"]) == (225, 0)
    assert parity["largest_difference"] <= exporting.TOLERANCE
    signature = json.loads((export / "signature.json").read_text())
    assert signature["inputs"] == [
        {"name": "inputs", "dtype": "uint8", "shape": ["batch", 1, 8, 8]}
    ]
    assert (signature["kind"], signature["highest"]) == ("classification", 16)
    assert len(signature["classes"]) == 10


def test_the_same_weights_give_the_same_bytes_without_paths_of_this_machine(run):
    write_export(run)
    first = (run.path / "export/model.onnx").read_bytes()
    write_export(run)
    assert (run.path / "export/model.onnx").read_bytes() == first
    assert b"/training/" not in first
    assert b".py" not in first


class Odd(nn.Module):
    """Something that ONNX has no word for."""

    def __init__(self, **settings):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, images):
        rows = images.flatten(1)
        return self.layer(rows) * torch.special.bessel_j0(rows).sum()


def test_what_onnx_does_not_know_is_named_and_is_exported_without(run, monkeypatch, caplog):
    monkeypatch.setattr(exporting.Exported, "write", _refused)
    write_export(run)
    export = run.path / "export"
    assert not (export / "model.onnx").exists()
    assert "bessel" in json.loads((export / "signature.json").read_text())["no_onnx"]
    assert (export / "model.safetensors").exists()


def _refused(self, path):
    odd = exporting.Exported(Odd(), self.task, self.data)
    return exporting_write(odd, path)


exporting_write = exporting.Exported.write


def test_an_export_that_predicts_otherwise_is_refused_and_leaves_nothing(run, monkeypatch):
    plain = exporting._session

    def other(path):
        session = plain(path)

        class Wrong:
            def run(self, names, feeds):
                return [array + 0.1 for array in session.run(names, feeds)]

        return Wrong()

    monkeypatch.setattr(exporting, "_session", other)
    with pytest.raises(UserError, match=r"differ by up to 0\.1"):
        write_export(run)
    assert not (run.path / "export").exists()


def test_a_test_split_of_one_sample_is_no_reason_to_refuse_more(run, monkeypatch):
    opened = exporting.opened
    monkeypatch.setattr(exporting, "opened", lambda data, name: Subset(opened(data, name), [0]))
    write_export(run)
    export = run.path / "export"
    assert json.loads((export / "parity.json").read_text())["samples"] == 1
    images = torch.zeros((5, 1, 8, 8), dtype=torch.uint8).numpy()
    (found,) = exporting._session(export / "model.onnx").run(None, {"inputs": images})
    assert found.shape == (5, 10)


class Scaled(nn.Module):
    """Predictions of another size, which float32 does not know to four places."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model(images) * 1e5


def test_large_predictions_are_compared_as_a_part_of_themselves(run, monkeypatch):
    before = exporting.Exported.__init__
    monkeypatch.setattr(
        exporting.Exported,
        "__init__",
        lambda self, model, task, data: before(self, Scaled(model), task, data),
    )
    write_export(run)
    parity = json.loads((run.path / "export/parity.json").read_text())
    assert parity["largest_difference"] > exporting.TOLERANCE


def test_samples_that_onnx_cannot_compute_with_are_told(run, monkeypatch):
    class Broken:
        def run(self, names, feeds):
            raise RuntimeError("Got invalid dimensions for input")

    monkeypatch.setattr(exporting, "_session", lambda path: Broken())
    with pytest.raises(UserError, match=r"cannot be computed with \(Got invalid dimensions"):
        write_export(run)


def test_a_run_that_is_none_is_refused(run_folder):
    with pytest.raises(UserError, match="no run with checkpoints"):
        write_export(run_folder("never"))
