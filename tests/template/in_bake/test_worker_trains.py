"""Real trainings by the worker and by `launch cloud=local`: runs inside a bake, whose package is PACKAGE."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from launcher import job, records
from PACKAGE.config import ROOT
from PACKAGE.train import train
from PACKAGE.training.distributed import Processes
from PACKAGE.training.restore import agree

from .conftest import ALONE, SMALL
from .test_resume import measured


@pytest.fixture
def machine(tmp_path, digits):
    """Starts the worker in a fresh folder and a process group of its own, with a folder as bucket."""
    count = 0

    def start():
        nonlocal count
        count += 1
        folder = tmp_path / f"machine-{count}"
        folder.mkdir()
        for name in ("pyproject.toml", "configs", "src"):
            (folder / name).symlink_to(ROOT / name)
        env = {
            **os.environ,
            "RUN_ID": "test",
            "RUN_OUTPUT": f"{tmp_path}/bucket/runs/test",
            "RUN_COMMIT": "c0ffee",
            "RUN_IMAGE": "image@sha256:1",
        }
        command = [sys.executable, "-m", "launcher.worker", *LONG, f"data.folder={digits}"]
        return subprocess.Popen(command, cwd=folder, env=env, start_new_session=True)

    return start


# Seconds of training, however fast the machine: what is to be killed must not be over by then.
LONG = (*SMALL, "trainer.max_epochs=600", "checkpoint.steps=8")


def wait_for_checkpoint(folder, after):
    """Waits until there is a checkpoint of a later step than `after`; gives its step."""
    until = time.monotonic() + 600
    while time.monotonic() < until:
        steps = [int(path.name[5:13]) for path in folder.glob("checkpoints/step-*.pt")]
        if steps and max(steps) > after:
            return max(steps)
        time.sleep(0.02)
    raise AssertionError("no new checkpoint arrived")


def test_killed_and_preempted_on_other_machines_it_ends_with_the_same_bits_and_log(
    machine, small_config, run_folder, tmp_path
):
    bucket = tmp_path / "bucket/runs/test"
    killed = machine()
    wait_for_checkpoint(bucket, 0)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    step = wait_for_checkpoint(bucket, 0)  # read again: it may have saved one more before it was killed
    preempted = machine()
    wait_for_checkpoint(bucket, step)
    preempted.terminate()
    assert preempted.wait(600) == job.EXIT_PREEMPTED
    assert machine().wait(600) == 0

    folder = run_folder("undisturbed")
    train(small_config(*LONG[-2:], "run.id=undisturbed"), folder, ALONE)
    assert (bucket / "model.safetensors").read_bytes() == folder.weights.read_bytes()
    assert measured(SimpleNamespace(metrics_log=bucket / "metrics.jsonl")) == measured(folder)
    attempts = json.loads((bucket / "attempts.json").read_text())
    assert [attempt["exit_code"] for attempt in attempts] == [None, job.EXIT_PREEMPTED, 0]
    run = json.loads((bucket / "run.json").read_text())
    assert (run["commit"], run["image"]) == ("c0ffee", "image@sha256:1")
    assert len(run["starts"]) == 3


def agreed(rank, step, store, results):
    """What a process gets that has found the checkpoint of `step`."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    state = step and {"position": {"step": step}, "model": {"weight": torch.full((3,), step)}}
    found = agree(Processes(rank, 2, torch.device("cpu")), state)
    results.put((rank, found and found["model"]["weight"].tolist()))
    dist.destroy_process_group()


@pytest.mark.parametrize("steps", [(9, 12), (9, None), (None, 12), (9, 9)])
def test_processes_that_found_different_checkpoints_take_the_first_ones(steps, tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [
        context.Process(target=agreed, args=(rank, step, tmp_path / "store", results))
        for rank, step in enumerate(steps)
    ]
    for process in processes:
        process.start()
    found = dict(results.get(timeout=600) for _ in steps)
    for process in processes:
        process.join()
    assert found[0] == found[1] == (steps[0] and [steps[0]] * 3)


def test_launch_trains_here_for_real(digits, tmp_path):
    for name in ("pyproject.toml", "configs", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/digits").symlink_to(digits)
    command = [sys.executable, "-m", "launcher.commands.launch", "cloud=local"]
    done = subprocess.run(
        [*command, "cloud.machine=process", "run.id=a", *SMALL, "trainer.max_epochs=1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "runs/a"
    assert json.loads((folder / records.OUTCOME).read_text())["state"] == "succeeded"
    assert (folder / "model.safetensors").is_file()
    assert len(list((folder / "checkpoints").glob("step-*.pt"))) > 0
    record = records.read(str(tmp_path / "runs"), "a")
    assert record
    assert record.worst_case_usd == 0
    assert "Run a starts in runs/a" in done.stdout
