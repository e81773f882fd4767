"""Data that is larger than memory is made in parts, read as mapped files, and evaluated batch by batch."""

import multiprocessing
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from launcher import UserError
from safetensors.numpy import load_file, save

from PACKAGE.data.base import ArrayData
from PACKAGE.data.files import SplitWriter

MEGABYTE = 1 << 20
PARTS, ROWS = 24, 16  # of a megabyte each: 384 MB in all


class Large(ArrayData):
    """A split of 384 MB, made in parts of 16."""

    def make(self):
        def parts(count):
            for number in range(count):
                inputs = np.full((ROWS, MEGABYTE), number, dtype=np.uint8)
                yield {"inputs": inputs, "targets": np.full((ROWS, 1), number, dtype=np.float32)}

        return {"train": parts(PARTS), "val": parts(1), "test": parts(1)}, {"source": "nowhere"}


def make_large(folder):
    limit = own_memory("VmData") + 150 * MEGABYTE
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    Large(folder).prepare()


def own_memory(field="RssAnon"):
    """Bytes of this process that are no mapped file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def read_large(folder):
    from PACKAGE.training.batches import Reader, epoch_order
    from PACKAGE.training.distributed import Processes

    torch.set_num_threads(1)
    data, cpu = Large(folder), torch.device("cpu")
    reader = Reader(data, data.split("train"), workers=0, device=cpu, seed=0)
    order = epoch_order(PARTS * ROWS, 4, seed=0, epoch=0, part=Processes(0, 1, cpu))
    before, most, total = own_memory(), 0, 0.0
    for inputs, targets in reader.read(order):
        assert torch.allclose(inputs[:, 0] * 255, targets[:, 0])
        most, total = max(most, own_memory() - before), total + float(targets.sum())
    assert total == ROWS * sum(range(PARTS))
    # Three batches of four rows are at hand at once, as bytes and as floats: 4 MB and 16 MB; measured 60 to 100 MB, by when
    # what was used is given back. The split is 384 MB.
    assert most < 200 * MEGABYTE, most / MEGABYTE


def read_large_elsewhere(folder, method):
    """Reads as macOS (spawn) and Python 3.14 (forkserver) do: their workers are sent what they read from."""
    from PACKAGE.training.batches import Reader

    multiprocessing.set_start_method(method)
    data = Large(folder, fraction=0.5)
    split = data.split("train")
    assert split.rows is not None
    reader = Reader(data, split, workers=1, device=torch.device("cpu"), seed=0)
    for number, (_, targets) in enumerate(reader.read([[0, 1], [2, 3]])):
        rows = split.rows[2 * number : 2 * number + 2]
        assert torch.equal(targets[:, 0].long(), rows // ROWS)
    # Batches of 2 MB come back in shared memory; the data would take 384 MB of it.
    assert own_memory("RssShmem") < 50 * MEGABYTE, own_memory("RssShmem") / MEGABYTE


def test_a_split_larger_than_memory_is_made_and_read(tmp_path):
    elsewhere = [("read_large_elsewhere", (method,)) for method in ("spawn", "forkserver")]
    for step, how in [("make_large", ()), ("read_large", ()), *elsewhere]:
        arguments = (str(tmp_path / "large"), *how)
        # In a bake this file has another name.
        code = f"from {__name__} import {step}; {step}(*{arguments!r})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "large/train.safetensors").stat().st_size > PARTS * ROWS * MEGABYTE


def test_parts_give_the_bytes_that_the_library_would_write(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "inputs": rng.integers(0, 255, (10, 1, 3), dtype=np.uint8),
        "depth": rng.normal(size=(10, 2)).astype(np.float16),
        "b": rng.integers(0, 9, 10),
        "a": rng.normal(size=10),
        "c": rng.normal(size=10).astype(np.float32),
        "d": rng.integers(0, 9, 10).astype(np.int32),
        "e": rng.integers(0, 9, 10).astype(np.int16),
        "f": rng.integers(0, 9, 10).astype(np.int8),
        "g": rng.integers(0, 2, 10).astype(bool),
    }
    with SplitWriter(tmp_path / "x.safetensors") as file:
        for start in (0, 4, 9):
            end = {0: 4, 4: 9, 9: 10}[start]
            file.add({name: array[start:end] for name, array in arrays.items()})
    assert (tmp_path / "x.safetensors").read_bytes() == save(arrays)
    assert list(tmp_path.iterdir()) == [tmp_path / "x.safetensors"]
    assert all((load_file(tmp_path / "x.safetensors")[name] == arrays[name]).all() for name in arrays)


def test_parts_of_another_kind_are_refused_and_leave_nothing(tmp_path):
    with pytest.raises(UserError, match="differ in inputs"), SplitWriter(tmp_path / "x.safetensors") as file:
        file.add({"inputs": np.zeros((2, 3))})
        file.add({"inputs": np.zeros((2, 4))})
    assert list(tmp_path.iterdir()) == []


def evaluate_large():
    """Measures in a fresh process how much memory 800 images of 224x224 take to be evaluated."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from PACKAGE.config import Precision
    from PACKAGE.training.batches import Reader
    from PACKAGE.training.distributed import Processes
    from PACKAGE.training.scoring import score
    from PACKAGE.training.tasks import Classification

    class Images(torch.utils.data.Dataset):
        def __len__(self):
            return 800

        def __getitem__(self, index):
            return torch.full((3, 224, 224), float(index)), index % 2

    torch.set_num_threads(1)
    metric = {"_target_": "torchmetrics.classification.MulticlassAccuracy", "num_classes": 2}
    task = Classification(2, {"accuracy": instantiate(OmegaConf.create(metric))})
    model = torch.nn.Sequential(torch.nn.AvgPool2d(224), torch.nn.Flatten(), torch.nn.Linear(3, 2))
    cpu, data, pictures = torch.device("cpu"), object(), task.pictures()
    before, most = own_memory(), 0

    def look():
        nonlocal most
        most = max(most, own_memory() - before)

    reader = Reader(data, Images(), workers=0, device=cpu, seed=0)
    alone, fp32 = Processes(0, 1, cpu), Precision.fp32
    score(model, task, reader, 16, alone, fp32, between=look, pictures=pictures.values())
    assert all(picture.draw() for picture in pictures.values())
    look()
    assert most < 150 * MEGABYTE, most / MEGABYTE  # all of them as floats would be 460 MB


def test_a_large_split_is_not_held_while_it_is_evaluated():
    code = f"from {__name__} import evaluate_large; evaluate_large()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
