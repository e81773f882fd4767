"""A model that is divided over two processes learns the same, and any number of processes goes on with it.

With gloo on CPUs; nobody has run it on several GPUs.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from baking import BakedProject
from test_resume import outcome, stop_midway

SHARDED = (
    *("tracking=none", "evaluate=false", "model.width=16", "optimizer=sgd", "optimizer.lr=0.05"),
    *("trainer.max_epochs=3", "trainer.log_every=1", "trainer.shard=fsdp", "trainer.accumulate=2"),
)


@pytest.fixture(scope="module")
def project(demo_project: BakedProject) -> BakedProject:
    demo_project.run("uv", "run", "prepare", "data=digits")
    return demo_project


def train(project: BakedProject, run: str, processes: int, *overrides: str, **env: Any) -> str:
    """Trains, and gives what was said."""
    command = (".venv/bin/torchrun", f"--nproc-per-node={processes}", "-m", f"{project.package}.train")
    return project.run(*command, *SHARDED, *overrides, f"run.id={run}", **env).stdout


def losses(project: BakedProject, run: str, key: str = "train/loss") -> list[float]:
    lines = map(json.loads, project.read(f"runs/{run}/metrics.jsonl").splitlines())
    return [line[key] for line in lines if key in line]


def test_two_processes_learn_what_one_does_and_what_copies_do(project: BakedProject) -> None:
    short = ("trainer.max_epochs=1", "optimizer.groups=[{max_dims: 1, weight_decay: 0.0}]")
    train(project, "shares", 2, *short)
    train(project, "copies", 2, *short, "trainer.shard=null")
    train(project, "whole", 1, *short)
    for other in ("copies", "whole"):
        # The first steps: later ones magnify what is lost by rounding.
        assert losses(project, "shares")[:8] == pytest.approx(losses(project, other)[:8], rel=1e-4)


def test_a_divided_run_that_is_stopped_ends_with_the_same_bits(project: BakedProject) -> None:
    train(project, "undivided", 2)
    command = ("torchrun", "--nproc-per-node=2", "-m", f"{project.package}.train", *SHARDED)
    status, said = stop_midway(project, *command, "run.id=divided")
    assert status != 0
    assert said.count("is saved at step") == 1, said
    train(project, "divided", 2)
    assert outcome(project, "divided") == outcome(project, "undivided")


def test_another_number_of_processes_goes_on_with_it(project: BakedProject) -> None:
    train(project, "changing", 2, "trainer.max_epochs=1")
    for number, (processes, epochs) in enumerate([(1, 2), (2, 3)]):
        source = f"restore.from={'changing' if number == 0 else 'changing-0'}"
        said = train(project, f"changing-{number}", processes, f"trainer.max_epochs={epochs}", source)
        assert re.search(rf"Run changing-{number} starts from changing", said)
    steps = [json.loads(line)["step"] for line in project.read("runs/changing-1/metrics.jsonl").splitlines()]
    assert (min(steps), max(steps)) == (43, 63)
    assert losses(project, "changing-1")[-1] < 0.5 * losses(project, "changing")[0]
    # Its weights are whole: one process takes them, with Adam this time, and two do.
    for processes in (1, 2):
        fine = ("restore.mode=weights", "restore.from=changing-1", "trainer.max_epochs=1", "optimizer=adamw")
        train(project, f"fine-{processes}", processes, *fine)
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


def train_awkward(
    project: BakedProject, run: str, processes: int, *overrides: str, shard: bool = True
) -> str:
    """Trains a model with tied weights and nested containers, which checks that it is nowhere whole but on the CPU."""
    env = {"PYTHONPATH": str(Path(__file__).parent), "DIVIDED": str(int(shard and processes > 1))}
    how = () if shard else ("trainer.shard=null",)
    return train(project, run, processes, *AWKWARD, *how, *overrides, **env)


def test_tied_weights_and_nested_containers_are_divided(project: BakedProject) -> None:
    train_awkward(project, "awkward", 2)
    train_awkward(project, "awkward-copies", 2, shard=False)
    train_awkward(project, "awkward-whole", 1)
    for other in ("awkward-copies", "awkward-whole"):
        for key, rel in (("train/loss", 1e-4), ("gradient_norm", 1e-3)):
            assert losses(project, "awkward", key)[:8] == pytest.approx(
                losses(project, other, key)[:8], rel=rel
            )


def test_only_the_first_process_reads_what_a_divided_run_goes_on_from(project: BakedProject) -> None:
    """With AdamW, whose state is as large as two models."""
    adam = ("optimizer=adamw", "optimizer.lr=0.003", "monitor.keep=last")
    train_awkward(project, "read-once", 2, *adam)
    assert "read-on starts from" in train_awkward(
        project, "read-on", 2, *adam, "trainer.max_epochs=2", "restore.from=read-once"
    )
    assert "has finished at epoch 2" in train_awkward(project, "read-on", 2, *adam, "trainer.max_epochs=2")
    train_awkward(project, "read-on-whole", 1, *adam, "trainer.max_epochs=2", "restore.from=read-once")
    assert losses(project, "read-on")[:8] == pytest.approx(losses(project, "read-on-whole")[:8], rel=1e-3)
    weights = ("restore.mode=weights", "restore.skip=[classes.*]")
    train_awkward(project, "read-weights", 2, *weights, "restore.from=read-once")
    train_awkward(project, "read-file", 2, *weights, "restore.from=runs/read-once/model.safetensors")
    assert losses(project, "read-weights") == losses(project, "read-file")


def test_what_cannot_be_read_is_said_by_all_processes_in_one_sentence(project: BakedProject) -> None:
    command = (".venv/bin/torchrun", "--nproc-per-node=2", "-m", f"{project.package}.train", *SHARDED)
    done = project.run(*command, "restore.from=nothing", "run.id=no-source", check=False)
    assert done.returncode == 1
    assert done.stderr.count("restore.from=nothing: there is no run with checkpoints by that name;") == 2
    assert "closed by peer" not in done.stderr
