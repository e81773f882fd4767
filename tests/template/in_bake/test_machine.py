"""Threads and precision fit the machine, and a mean over unequal batches is the mean over samples."""

import os

import pytest
import torch
from hydra.utils import instantiate
from PACKAGE.config import Precision
from PACKAGE.training import distributed
from PACKAGE.training.batches import Reader
from PACKAGE.training.distributed import set_matmul_precision, set_threads, usable_cores
from PACKAGE.training.scoring import score

from .conftest import ALONE

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("text", "cores"), [("50000 100000", 1), ("150000 100000", 2), ("max 100000", 64), ("", 64)]
)
def test_a_containers_share_of_the_cores_is_what_counts(tmp_path, monkeypatch, text, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))
    (tmp_path / "cpu.max").write_text(text)
    assert usable_cores(tmp_path / "cpu.max") == cores
    assert usable_cores(tmp_path / "nowhere") == 64


def test_threads_are_few_beside_a_gpu_and_what_is_asked_for_counts_most(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr(distributed, "usable_cores", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    set_threads(None, CUDA)
    set_threads(None, CPU)
    set_threads(3, CUDA)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    set_threads(None, CPU)  # it is said already
    set_threads(5, CPU)
    assert asked == [1, 4, 3, 5]


def test_a_cpu_computes_in_full_precision_whatever_the_setting(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", asked.append)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    set_matmul_precision("high", CPU)
    set_matmul_precision("highest", CUDA)
    assert asked == ["highest"]
    assert torch.backends.cudnn.allow_tf32 is False


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_any_size_give_the_same_score(small_config, batch_size, workers):
    config = small_config()
    torch.manual_seed(0)
    data, task, model = (instantiate(config[name]) for name in ("data", "task", "model"))

    def scored(size, workers):
        reader = Reader(data, data.split("val"), workers=workers, device=CPU, seed=0)
        return score(model, task, reader, size, ALONE, Precision.fp32)

    assert scored(batch_size, workers) == pytest.approx(scored(225, 0), rel=1e-5)
