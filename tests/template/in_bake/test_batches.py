"""How batches are read: whatever PyTorch reads, with random numbers that a resumed run has again."""

import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from PACKAGE.training.batches import Reader, epoch_order, whole_order
from PACKAGE.training.distributed import Processes
from PACKAGE.training.trees import call, chunks, map_tensors, samples
from torch import nn
from torch.utils.data import Dataset

CPU = torch.device("cpu")


class Noisy(Dataset[Any]):
    """Each sample draws from all three generators."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[dict[str, Any], int]:
        drawn = [random.random(), float(np.random.rand()), float(torch.rand(()))]
        return {"noise": torch.tensor(drawn), "index": index}, index % 2


class Plain:
    """A data section with nothing but splits."""

    def split(self, name: str) -> Dataset[Any]:
        return Noisy()


def read(workers=0, epochs=2, first=0, seed=0):
    """The noise of each batch of all epochs, the first of them from batch `first` on."""
    reader = Reader(Plain(), Noisy(), workers=workers, device=CPU, seed=seed)
    found = []
    for epoch in range(epochs):
        order = epoch_order(40, 8, seed=seed, epoch=epoch, part=Processes(0, 1, CPU))
        start = first if epoch == 0 else 0
        found += [inputs["noise"] for inputs, _ in reader.read(order[start:], epoch, start)]
    return torch.stack(found)


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_draws_the_same_random_numbers(workers):
    assert torch.equal(read(workers), read())


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_that_is_continued_draws_what_it_would_have(workers):
    assert torch.equal(read(workers, first=3), read()[3:])


def test_no_random_number_comes_twice():
    noise = torch.cat([read().flatten(), read(seed=1).flatten()])
    assert len(noise.unique()) == len(noise)


def test_no_two_processes_draw_the_same():
    def noise(rank):
        reader = Reader(Plain(), Noisy(), workers=0, device=CPU, seed=0, rank=rank)
        return torch.cat([inputs["noise"].flatten() for inputs, _ in reader.read([[0, 1], [2, 3]])])

    both = torch.cat([noise(0), noise(1)])
    assert len(both.unique()) == len(both)


@pytest.mark.parametrize(("end", "status"), [("raise RuntimeError('lost')", 1), ("", 0)])
def test_the_program_ends_although_workers_still_read(tmp_path, end, status):
    program = tmp_path / "program.py"
    program.write_text(
        "import torch\n"
        "from PACKAGE.training.batches import Reader\n"
        "def reader():\n"
        "    split = [(torch.ones(2), 0)] * 40\n"
        "    return Reader(object(), split, workers=2, device=torch.device('cpu'), seed=0)\n"
        "readers = [reader(), reader()]\n"
        "batches = [each.read([[index] for index in range(40)]) for each in readers]\n"
        "kept = [next(each) for each in batches]\n" + end
    )
    command = [sys.executable, program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == status
    assert ("RuntimeError: lost" in done.stderr) == bool(end)


def test_reading_leaves_the_generators_of_the_training_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    read()
    assert torch.equal(torch.rand(3), expected)


def test_items_that_are_dicts_become_dicts_of_batches():
    reader = Reader(Plain(), Noisy(), workers=0, device=CPU, seed=0)
    inputs, targets = next(reader.read([[3, 5, 4]]))
    assert inputs["index"].tolist() == [3, 5, 4]
    assert inputs["noise"].shape == (3, 3)
    assert targets.tolist() == [1, 1, 0]


def test_a_section_may_collate_and_finish_its_batches():
    class Own(Plain):
        def collate(self, items):
            return len(items), torch.tensor([target for _, target in items])

        def on_device(self, inputs, targets):
            return inputs, targets.float()

    reader = Reader(Own(), Noisy(), workers=0, device=CPU, seed=0)
    inputs, targets = next(reader.read([[1, 2, 3]]))
    assert inputs == 3
    assert targets.tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize(("count", "processes"), [(10, 1), (10, 3), (1, 4), (7, 2)])
def test_every_sample_is_validated_once_and_every_process_goes_as_many_rounds(count, processes):
    orders = [whole_order(count, 6, Processes(rank, processes, CPU)) for rank in range(processes)]
    found = [index for order in orders for row in order for index in row]
    assert sorted(found) == list(range(count))
    assert len({len(order) for order in orders}) == 1


def test_models_are_called_as_their_inputs_are():
    class Sum(nn.Module):
        def forward(self, first, second=0):
            return first + second

    one = torch.ones(2)
    assert call(Sum(), one).tolist() == [1, 1]
    assert call(Sum(), (one, one)).tolist() == [2, 2]
    assert call(Sum(), {"second": one, "first": one}).tolist() == [2, 2]


def test_trees_are_divided_and_changed_as_a_whole():
    tree = {"a": torch.arange(6), "b": (torch.arange(12).view(6, 2), "word")}
    assert samples(tree) == 6
    halves = chunks(tree, 2)
    assert halves[1]["a"].tolist() == [3, 4, 5]
    assert halves[1]["b"][0].shape == (3, 2)
    assert map_tensors(lambda tensor: tensor + 1, tree)["b"][1] == "word"
