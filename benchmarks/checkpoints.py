"""What checkpoints of a 500 MB state cost: training time at one a minute, and memory.

Runs in the environment of a baked project, in its folder: `python benchmarks/checkpoints.py OUT.json time`.
"""
# pyright: reportMissingImports=false
# torch and the baked package are not in the environment of the template's own tools

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import Result, save, summary
from training import Setup, WholeBatches, by_hand, package

MEGABYTES = 500
MINUTE = 60
# How the model's and Adam's tensors share it, in layers of some megabytes each.
TENSORS = 60


def make_state() -> dict[str, Any]:
    """A state of 500 MB: weights and Adam's two averages, as a Trainer would hand it over."""
    size = MEGABYTES * 10**6 // 4 // TENSORS
    tensors = [torch.rand(size) for _ in range(TENSORS)]
    third = TENSORS // 3
    averages = zip(tensors[third : 2 * third], tensors[2 * third :], strict=True)
    return {
        "format": 1,
        "model": {f"layer{number}.weight": tensor for number, tensor in enumerate(tensors[:third])},
        "optimizer": {
            "state": {
                number: {"exp_avg": one, "exp_avg_sq": two} for number, (one, two) in enumerate(averages)
            }
        },
    }


def share_of_time(folder: Path, rounds: int) -> list[Result]:
    """How much later training is for a save, in % of a minute.

    Stretches of training without and with a save alternate. One with a save begins with it (the copy stops the
    training) and goes on until the file is published, for the writing competes for cores and memory. What it
    took longer than its steps take beside it, before and after, is what the save cost.
    """
    name = f"training time for a checkpoint of {MEGABYTES} MB a minute"
    cases = [(f"{name}; a core is free for the writing", False)]
    if hasattr(os, "sched_setaffinity"):
        cases.append((f"{name}; training and writing share one core", True))
    results = []
    for case, share in cases:
        if share:
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # the writer's thread will inherit it
        costs = save_costs(folder, rounds)
        results.append(summary("checkpoint", case, [100 * cost / MINUTE for cost in costs], "%", "< 1"))
    return results


def save_costs(folder: Path, rounds: int) -> list[float]:
    """Seconds that each of the saves has cost the training."""
    setup = Setup(["experiment=digits_cnn", "trainer.device=cpu"], str(folder), epochs=1000)
    train = by_hand(setup, WholeBatches)  # one epoch of some 20 steps, a third of a second
    store, state = package("training.checkpoint").CheckpointStore(folder / "checkpoints"), make_state()
    # The first save makes the copy's memory; it comes once a run, and `memory` is about it.
    store.save(0, state)
    store.wait()
    train()
    costs, before = [], stretch(train, lambda: False)
    for step in range(1, rounds + 1):
        start = time.perf_counter()
        store.save(step, state)
        blocked = time.perf_counter() - start
        during = stretch(train, store._writer.is_alive)
        store.wait()
        after = stretch(train, lambda: False)
        usual = (sum(before) + sum(after)) / (len(before) + len(after))
        costs.append(blocked + sum(during) - len(during) * usual)
        before = after
    return costs


def stretch(train: Callable[[], float], busy: Callable[[], bool], least: float = 3) -> list[float]:
    """Trains for `least` seconds, and on while `busy`; returns the seconds of each epoch."""
    epochs: list[float] = []
    while sum(epochs) < least or busy():
        epochs.append(train())
    return epochs


def memory(folder: Path) -> list[Result]:
    """How much memory saves take beyond the state itself, over its size, in this fresh process."""
    store, state = package("training.checkpoint").CheckpointStore(folder / "checkpoints"), make_state()
    size, before = MEGABYTES * 10**6, resident("VmRSS")
    peaks = []
    for step in range(4):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        store.save(step, state)
        store.wait()
        peaks.append((resident("VmHWM") - before) / size)
    first, *later = peaks
    name = f"peak memory beyond the state of {MEGABYTES} MB / its size"
    return [
        summary("checkpoint", f"{name}; first save", [first]),
        summary("checkpoint", f"{name}; later saves", later),
    ]


def resident(field: str) -> int:
    """Bytes that this process holds (VmRSS) or has held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def main() -> None:
    """Measures one of the two and writes the rows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("what", choices=("time", "memory"))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    # On the disk where runs are kept, not in /tmp, which may be memory.
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        folder = Path(name)
        save(args.out, share_of_time(folder, args.rounds) if args.what == "time" else memory(folder))


if __name__ == "__main__":
    main()
