"""Training steps per second: our loop, loops written by hand, and Lightning's, in turn in one process.

Runs in the environment of a baked project (or one that also has Lightning), in its folder, with its data made:
`python benchmarks/training.py OUT.json --where digits --members hand,ours,loader experiment=digits_cnn`.

What is timed is one epoch of optimizer steps, from the shuffling to the last step's end. Not timed for anybody:
validation, checkpoints, making the model. Ours is `Trainer.fit` itself, and pays for what it does in a step:
the check whether a checkpoint is due or a signal came, the losses it keeps, its line in metrics.jsonl and in
the log every `trainer.log_every` steps. The loops written by hand log nothing: the hardest to keep up with.
"""
# pyright: reportMissingImports=false
# torch, hydra and the baked package are not in the environment of the template's own tools

import argparse
import importlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import hydra
import torch
from gpu import how_busy
from measure import Result, alternate, ratios, save, summary
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, Dataset

# The baked package, by whatever name.
PACKAGE = next(path.parent.name for path in Path("src").glob("*/__init__.py"))


def package(module: str) -> Any:
    """A module of the baked package."""
    return importlib.import_module(f"{PACKAGE}.{module}")


class Setup:
    """What all members of a comparison have in common.

    Args:
        overrides: of the configuration `train`.
        folder: for the run.
        epochs: of the longest member, which end the learning-rate schedule.
    """

    def __init__(self, overrides: list[str], folder: str, epochs: int) -> None:
        with hydra.initialize_config_dir(str(package("config").CONFIGS), version_base="1.3"):
            self.config = hydra.compose(
                "train",
                [
                    *overrides,
                    f"trainer.max_epochs={epochs}",
                    f"run.root={folder}",
                    "run.id=bench",
                    "tracking=none",
                    "checkpoint.minutes=1000",  # none within an epoch; `checkpoints.py` measures them
                ],
            )
        self.processes = package("training.distributed").join_processes(self.config.trainer.device)
        self.device = self.processes.device
        self.bf16 = self.config.trainer.precision.name == "bf16"
        self.runs = package("training.run_folder").RunFolder(self.config.run.root, self.config.run.id)
        self.data = hydra.utils.instantiate(self.config.data)
        package("training.distributed").set_threads(self.config.trainer.threads, self.device)

    def trainer(self) -> Any:
        """A new Trainer, as `uv run train` builds it: the same weights each time."""
        return package("train").build(self.config, self.runs, self.processes)

    def end(self) -> None:
        """Waits for the device, so that work in its queue is not left to the next member."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def ours(setup: Setup) -> Callable[[], float]:
    """One epoch of `Trainer.fit` at each call."""
    trainer = setup.trainer()
    log = package("training.metrics_log").MetricsLog(
        setup.runs, package("training.tracking").NoTracker(), lines=0
    )
    train_epoch, seconds = trainer._train_epoch, 0.0

    def timed() -> None:
        nonlocal seconds
        start = time.perf_counter()
        train_epoch()
        setup.end()
        seconds = time.perf_counter() - start

    trainer._train_epoch = timed
    # It reads the epoch's last losses and then computes metrics; the second is no part of training steps.
    trainer._validate = lambda: trainer.journal.settle()

    def epoch() -> float:
        trainer.settings.max_epochs = trainer.position.epoch + 1  # `fit` stops there and can go on
        trainer.fit(log)
        return seconds

    return epoch


class WholeBatches:
    """Batches of the training split, indexed whole: as plain as it can be written."""

    def __init__(self, setup: Setup, split: Any) -> None:
        rows = slice(None) if split.rows is None else split.rows
        self.inputs, self.targets, self.scale = split.inputs[rows], split.targets[rows], setup.data.scale
        self.batch_size = setup.config.trainer.batch_size

    def __len__(self) -> int:
        return len(self.inputs) // self.batch_size

    def __iter__(self):
        order = torch.randperm(len(self.inputs), device=self.inputs.device)[: len(self) * self.batch_size]
        for index in order.view(len(self), self.batch_size):
            inputs = self.inputs.index_select(0, index).float().mul_(self.scale)
            yield inputs, self.targets.index_select(0, index).long()


class Resident(WholeBatches):
    """The same with the whole split on the device from the beginning: what a GPU can do when nothing has to come."""

    def __init__(self, setup: Setup, split: Any) -> None:
        super().__init__(setup, split)
        self.inputs, self.targets = self.inputs.to(setup.device), self.targets.to(setup.device)


class Items(Dataset):
    """The same stored bytes one by one, scaled when they are asked for: what most data sets do."""

    def __init__(self, setup: Setup, split: Any) -> None:
        whole = WholeBatches(setup, split)
        self.inputs, self.targets, self.scale = whole.inputs, whole.targets, whole.scale

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.inputs[index].float().mul_(self.scale), self.targets[index].long()


def item_by_item(setup: Setup, split: Any) -> DataLoader:
    """A default DataLoader."""
    return DataLoader(
        Items(setup, split), batch_size=setup.config.trainer.batch_size, shuffle=True, drop_last=True
    )


def by_hand(
    setup: Setup, make_batches: Callable[[Setup, Any], Iterable[tuple[Tensor, Tensor]]]
) -> Callable[[], float]:
    """One epoch at each call of the loop that everybody writes first."""
    # Only to get the same model, optimizer and schedule; the trainer itself is not used.
    parts = setup.trainer()
    model, optimizer, scheduler = parts.model, parts.optimizer, parts.scheduler
    mode = setup.config.trainer.compile
    network = torch.compile(model, mode=mode) if mode else model
    batches, clip_norm = make_batches(setup, setup.data.split("train")), setup.config.trainer.clip_norm
    device, bf16 = setup.device, setup.bf16

    def train() -> None:
        model.train()
        for inputs, targets in batches:
            inputs, targets = inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True)
            if bf16:
                with torch.autocast(device.type, torch.bfloat16):
                    predictions = network(inputs)
            else:
                predictions = network(inputs)
            loss = F.cross_entropy(predictions.float(), targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()

    def epoch() -> float:
        start = time.perf_counter()
        train()
        setup.end()
        return time.perf_counter() - start

    return epoch


def make(member: str, setup: Setup) -> Callable[[], float]:
    """The function that runs one epoch of a member and returns its seconds."""
    if member == "ours":
        return ours(setup)
    if member == "hand":
        return by_hand(setup, WholeBatches)
    if member == "resident":
        return by_hand(setup, Resident)
    if member == "loader":
        return by_hand(setup, item_by_item)
    from lightning_loop import lightning  # it is not in the baked project's environment

    return lightning(setup, WholeBatches)


def results(where: str, seconds: dict[str, list[float]]) -> list[Result]:
    """Rows of how fast ours (and Lightning's) is: seconds of the other over its own."""
    rows = [
        ("ours", "hand", f"{where}: our loop / plain loop", ">= 0.98"),
        ("ours", "resident", f"{where}: our loop / plain loop with all data on the device", ">= 0.95"),
        ("ours", "loader", f"{where}: our loop / plain loop with a default DataLoader", "> 1"),
        ("ours", "lightning", f"{where}: our loop / Lightning's Trainer", "> 1"),
        ("lightning", "hand", f"{where}: Lightning's Trainer / plain loop", ""),
    ]
    return [
        summary("training steps per second", name, ratios(seconds[other], seconds[one]), aim=aim)
        for one, other, name, aim in rows
        if one in seconds and other in seconds
    ]


def main() -> None:
    """Measures one experiment and writes the rows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--members", default="hand,ours")
    parser.add_argument("--rounds", type=int, default=5, help="after each making")
    parser.add_argument("--makings", type=int, default=4)
    parser.add_argument("--where", required=True)
    parser.add_argument("--busy", action="store_true", help="also sample how busy the GPU is")
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_intermixed_args()

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    names = args.members.split(",")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    members: dict[str, Callable[[], float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        # Our lines go to a file, as in a job: they are formatted and written, but nobody reads them here.
        logging.basicConfig(level=logging.INFO, format="%(message)s", filename=f"{folder}/log")
        setup = Setup(args.overrides, folder, args.rounds + 1)
        # Where tensors happen to lie in memory makes one loop up to 4 % faster than its own twin, for as long
        # as it lives. So all are made anew a few times, in turned order, and that evens out.
        for making in range(args.makings):
            members = {name: make(name, setup) for name in names[:: -1 if making % 2 else 1]}
            for name, each in alternate(members, args.rounds).items():
                seconds[name] += each
        rows = results(args.where, seconds)
        if args.busy:
            rows.append(how_busy(f"{args.where}: GPU busy while our loop trains", members["ours"]))
    save(args.out, rows)


if __name__ == "__main__":
    main()
