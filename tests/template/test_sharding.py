"""A model that is divided over two processes learns the same, and any number of processes goes on with it.

With gloo on CPUs; nobody has run it on several GPUs.
"""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from baking import BakedProject, clean_env
from servers import free_port
from stage.patience import deadline
from test_resume import outcome, stop_midway

Train = Callable[..., str]

SHARDED = (
    *("tracking=none", "evaluate=false", "model.width=16", "optimizer=sgd", "optimizer.lr=0.05"),
    *("trainer.max_epochs=3", "trainer.log_every=1", "trainer.shard=fsdp", "trainer.accumulate=2"),
)


@pytest.fixture(scope="module")
def project(demo_project: BakedProject) -> BakedProject:
    demo_project.run("uv", "run", "prepare", "data=digits")
    return demo_project


class Trainer:
    """Processes that have imported torch, and train together when they are asked to: so a training costs no start.

    Args:
        folder: empty; for what they are asked, and what they say.
    """

    def __init__(self, project: BakedProject, processes: int, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.asked = folder, 0
        command = [project.folder / ".venv/bin/python", Path(__file__).with_name("forked_training.py")]
        self.processes = []
        for rank in range(processes):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
            env = clean_env(**place, MASTER_ADDR="127.0.0.1", OMP_NUM_THREADS="1")  # as torchrun has it
            started = subprocess.Popen(
                [*command, project.package, folder, str(os.getpid())], cwd=project.folder, env=env
            )
            self.processes.append(started)

    def train(self, *overrides: str, **env: str) -> str:
        """Trains, and gives what was said."""
        number, self.asked = self.asked, self.asked + 1
        given = {"words": [*SHARDED, *overrides], "env": {"MASTER_PORT": str(free_port()), **env}}
        part = self.folder / "part"
        part.write_text(json.dumps(given))
        part.rename(self.folder / f"{number}.json")
        ranks, until = range(len(self.processes)), deadline(100)
        paths = [self.folder / f"{number}.{rank}.status" for rank in ranks]
        while not all(path.exists() for path in paths):
            assert time.monotonic() < until, self._said(number)
            assert all(process.poll() is None for process in self.processes), (
                "it cannot be imported: see above"
            )
            time.sleep(0.05)
        assert [path.read_text() for path in paths] == ["0" for _ in ranks], self._said(number)
        return self._said(number)

    def end(self) -> None:
        """Ends the processes."""
        for process in self.processes:
            process.terminate()
            process.wait()

    def _said(self, number: int) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob(f"{number}.*.txt")))


@pytest.fixture(scope="module")
def trainers(project: BakedProject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Trainer]]:
    """One of one process, and one of two."""
    folder = tmp_path_factory.mktemp("trainers")
    found = [Trainer(project, number, folder / str(number)) for number in (1, 2)]
    yield found
    for each in found:
        each.end()


@pytest.fixture
def train(trainers: list[Trainer]) -> Train:
    """Trains a run with as many processes, and gives what was said."""

    def train(run: str, processes: int, *overrides: str, **env: str) -> str:
        return trainers[processes - 1].train(*overrides, f"run.id={run}", **env)

    return train


def losses(project: BakedProject, run: str, key: str = "train/loss") -> list[float]:
    lines = map(json.loads, project.read(f"runs/{run}/metrics.jsonl").splitlines())
    return [line[key] for line in lines if key in line]


def test_two_processes_learn_what_one_does_and_what_copies_do(project: BakedProject, train: Train) -> None:
    short = ("trainer.max_epochs=1", "optimizer.groups=[{max_dims: 1, weight_decay: 0.0}]")
    train("shares", 2, *short)
    train("copies", 2, *short, "trainer.shard=null")
    train("whole", 1, *short)
    for other in ("copies", "whole"):
        # The first steps: later ones magnify what is lost by rounding.
        assert losses(project, "shares")[:8] == pytest.approx(losses(project, other)[:8], rel=1e-4)


def test_a_divided_run_that_is_stopped_ends_with_the_same_bits(project: BakedProject, train: Train) -> None:
    train("undivided", 2)
    command = ("torchrun", "--nproc-per-node=2", "-m", f"{project.package}.train", *SHARDED)
    status, said = stop_midway(project, *command, "run.id=divided")
    assert status != 0
    assert said.count("is saved at step") == 1, said
    train("divided", 2)
    assert outcome(project, "divided") == outcome(project, "undivided")


def test_another_number_of_processes_goes_on_with_it(project: BakedProject, train: Train) -> None:
    train("changing", 2, "trainer.max_epochs=1")
    for number, (processes, epochs) in enumerate([(1, 2), (2, 3)]):
        source = f"restore.from={'changing' if number == 0 else 'changing-0'}"
        said = train(f"changing-{number}", processes, f"trainer.max_epochs={epochs}", source)
        assert re.search(rf"Run changing-{number} starts from changing", said)
    steps = [json.loads(line)["step"] for line in project.read("runs/changing-1/metrics.jsonl").splitlines()]
    assert (min(steps), max(steps)) == (43, 63)
    assert losses(project, "changing-1")[-1] < 0.5 * losses(project, "changing")[0]
    # Its weights are whole: one process takes them, with Adam this time, and two do.
    for processes in (1, 2):
        fine = ("restore.mode=weights", "restore.from=changing-1", "trainer.max_epochs=1", "optimizer=adamw")
        train(f"fine-{processes}", processes, *fine)
        assert losses(project, f"fine-{processes}")[0] < 0.5 * losses(project, "changing")[0]


def test_what_was_not_tried_with_it_is_refused(project: BakedProject) -> None:
    for override in ("trainer.ema=0.9", "trainer.compile=default", "trainer.precision=fp16"):
        done = project.run(".venv/bin/train", *SHARDED, override, "--check", check=False)
        assert done.returncode == 1
        assert "trainer.shard does not go together with" in done.stderr


AWKWARD = (
    "model._target_=awkward_model.Awkward",
    "model.width=32",
    "optimizer.lr=0.1",
    "trainer.max_epochs=1",
)


def train_awkward(train: Train, run: str, processes: int, *overrides: str, shard: bool = True) -> str:
    """Trains a model with tied weights and nested containers, which checks that it is nowhere whole but on the CPU."""
    env = {"PYTHONPATH": str(Path(__file__).parent), "DIVIDED": str(int(shard and processes > 1))}
    how = () if shard else ("trainer.shard=null",)
    return train(run, processes, *AWKWARD, *how, *overrides, **env)


def test_tied_weights_and_nested_containers_are_divided(project: BakedProject, train: Train) -> None:
    train_awkward(train, "awkward", 2)
    train_awkward(train, "awkward-copies", 2, shard=False)
    train_awkward(train, "awkward-whole", 1)
    for other in ("awkward-copies", "awkward-whole"):
        for key, rel in (("train/loss", 1e-4), ("gradient_norm", 1e-3)):
            assert losses(project, "awkward", key)[:8] == pytest.approx(
                losses(project, other, key)[:8], rel=rel
            )


def test_only_the_first_process_reads_what_a_divided_run_goes_on_from(
    project: BakedProject, train: Train
) -> None:
    """With AdamW, whose state is as large as two models."""
    adam = ("optimizer=adamw", "optimizer.lr=0.003", "monitor.keep=last")
    train_awkward(train, "read-once", 2, *adam)
    assert "read-on starts from" in train_awkward(
        train, "read-on", 2, *adam, "trainer.max_epochs=2", "restore.from=read-once"
    )
    assert "has finished at epoch 2" in train_awkward(train, "read-on", 2, *adam, "trainer.max_epochs=2")
    train_awkward(train, "read-on-whole", 1, *adam, "trainer.max_epochs=2", "restore.from=read-once")
    assert losses(project, "read-on")[:8] == pytest.approx(losses(project, "read-on-whole")[:8], rel=1e-3)
    weights = ("restore.mode=weights", "restore.skip=[classes.*]")
    train_awkward(train, "read-weights", 2, *weights, "restore.from=read-once")
    train_awkward(train, "read-file", 2, *weights, "restore.from=runs/read-once/model.safetensors")
    assert losses(project, "read-weights") == losses(project, "read-file")


def test_what_cannot_be_read_is_said_by_all_processes_in_one_sentence(project: BakedProject) -> None:
    command = (".venv/bin/torchrun", "--nproc-per-node=2", "-m", f"{project.package}.train", *SHARDED)
    done = project.run(*command, "restore.from=nothing", "run.id=no-source", check=False)
    assert done.returncode == 1
    assert done.stderr.count("restore.from=nothing: there is no run with checkpoints by that name;") == 2
    assert "closed by peer" not in done.stderr
