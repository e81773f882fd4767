"""A run that is killed, again and again, ends with the same bits; what cannot be written is said."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from baking import BakedProject, clean_env

QUICK = ("tracking=none", "evaluate=false", "model.width=16", "trainer.log_every=3")


@pytest.fixture(scope="module")
def project(demo_project: BakedProject) -> BakedProject:
    """The demo with the digits made."""
    demo_project.run("uv", "run", "prepare", "data=digits")
    return demo_project


def train(project: BakedProject, *overrides: str, check: bool = True):
    return project.run(".venv/bin/train", *overrides, check=check)


def outcome(project: BakedProject, run: str) -> tuple[bytes, list[dict]]:
    """The bits of a run's weights, and its log without what depends on the clock."""
    folder = project.folder / "runs" / run
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("samples_per_second", None)
    return (folder / "model.safetensors").read_bytes(), lines


def test_killed_many_times_it_ends_with_the_same_bits_and_log(project: BakedProject) -> None:
    settings = (*QUICK, "trainer.max_epochs=20", "model.dropout=0.1", "checkpoint.steps=2")
    train(project, *settings, "run.id=undisturbed")
    seed = random.randrange(10**6)
    script = Path(__file__).with_name("kill_often.py")
    shutil.rmtree(project.folder / "runs/killed", ignore_errors=True)
    result = project.run(".venv/bin/python", str(script), project.package, "40", str(seed), *settings)
    killed = re.search(r"killed (\d+) times, (\d+) of them while a checkpoint", result.stdout)
    assert killed, result.stdout + result.stderr
    assert int(killed[1]) >= 20, f"seed {seed}: {killed[0]}"
    assert int(killed[2]) >= 5, f"seed {seed}: {killed[0]}"
    assert outcome(project, "killed") == outcome(project, "undisturbed"), f"seed {seed}"


PATCHED = str(Path(__file__).with_name("patched_training.py"))


def stop_midway(
    project: BakedProject, *command: str, group: bool = False, at: str = "epoch 2", signals=(signal.SIGTERM,)
) -> tuple[int, str]:
    """Runs a training into its second or third epoch, sends it SIGTERM, and gives its status and what else it said.

    Args:
        group: whether all its processes are sent it, as a scheduler or a terminal does.
        at: how the line begins after which it is sent.
        signals: what is sent, one after the other.
    """
    process = subprocess.Popen(
        [project.folder / ".venv/bin" / command[0], *command[1:]],
        cwd=project.folder,
        env=clean_env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    for line in process.stdout:
        if line.startswith(at):
            for number in signals:
                os.killpg(process.pid, number) if group else process.send_signal(number)
            break
    rest = process.stdout.read()
    return process.wait(), rest


def test_sigterm_exits_143_and_the_same_command_continues(project: BakedProject) -> None:
    settings = (*QUICK, "trainer.max_epochs=8")
    train(project, *settings, "run.id=whole")
    status, said = stop_midway(project, "train", *settings, "run.id=stopped")
    assert status == 143, said
    assert re.search(r"Run stopped is saved at step \d+; the same command continues it", said)
    train(project, *settings, "run.id=stopped")
    assert outcome(project, "stopped") == outcome(project, "whole")


def test_sigterm_to_all_its_processes_saves_with_workers_too(project: BakedProject) -> None:
    settings = (*QUICK, "trainer.max_epochs=8", "trainer.num_workers=2")
    train(project, *settings, "run.id=whole-workers")
    for attempt in range(4):  # without a care for it three of four failed
        run = f"run.id=group-{attempt}"
        status, said = stop_midway(project, "train", *settings, run, group=True)
        assert (status, said.count("is saved at step"), said.count("Traceback")) == (143, 1, 0), said
    train(project, *settings, "run.id=group-3")
    assert outcome(project, "group-3") == outcome(project, "whole-workers")


def test_two_processes_that_are_stopped_continue_to_the_same_bits(project: BakedProject) -> None:
    module = ("-m", f"{project.package}.train", *QUICK, "trainer.max_epochs=8")
    command = ("torchrun", "--nproc-per-node=2", *module)
    torchrun = (f".venv/bin/{command[0]}", *command[1:])
    project.run(*torchrun, "run.id=pair")
    status, said = stop_midway(project, *command, "run.id=stopped-pair")
    assert status != 0
    assert said.count("is saved at step") == 1
    again = project.run(*torchrun, "run.id=stopped-pair")
    assert again.stdout.count("Run stopped-pair goes on at") == 1
    assert outcome(project, "stopped-pair") == outcome(project, "pair")


def test_two_processes_do_not_wait_for_their_validation_to_end(project: BakedProject) -> None:
    settings = (project.package, "slow-validation", *QUICK, "trainer.max_epochs=2", "trainer.batch_size=8")
    command = ("torchrun", "--nproc-per-node=2", PATCHED, *settings)
    status, said = stop_midway(project, *command, "run.id=stopped-validation", at="validating")
    assert status != 0
    assert said.count("is saved at step 168") == 1, said  # the last of the first epoch: nothing of it is lost
    assert said.count("validating") < 2 * 28, said  # of 225 samples, 4 a process
    module = ("-m", f"{project.package}.train", *settings[2:])
    for run in ("stopped-validation", "whole-validation"):
        project.run(".venv/bin/torchrun", "--nproc-per-node=2", *module, f"run.id={run}")
    assert outcome(project, "stopped-validation") == outcome(project, "whole-validation")


def test_a_process_may_have_nothing_to_validate(project: BakedProject) -> None:
    settings = (project.package, "one-to-validate", *QUICK, "trainer.max_epochs=1", "run.id=one")
    for processes in ("1", "2"):
        run = f"run.id=one-{processes}"
        project.run(".venv/bin/torchrun", f"--nproc-per-node={processes}", PATCHED, *settings[:-1], run)
    one, two = (outcome(project, f"one-{processes}")[1][-1]["val/loss"] for processes in "12")
    assert one == pytest.approx(two, rel=0.1)


def test_ended_while_its_data_is_opened_it_leaves_nothing_in_the_way(project: BakedProject) -> None:
    settings = (project.package, "slow-data", *QUICK, "trainer.max_epochs=1", "run.id=early")
    status, said = stop_midway(project, "python", PATCHED, *settings, at="opening")
    assert status in (-signal.SIGTERM, 143)
    assert "Traceback" not in said
    train(project, *QUICK, "trainer.max_epochs=1", "run.id=early")


def test_an_impatient_second_ctrl_c_ends_at_once_and_the_run_goes_on(project: BakedProject) -> None:
    settings = (*QUICK, "trainer.max_epochs=8")
    twice = (signal.SIGINT, signal.SIGINT)
    status, said = stop_midway(project, "train", *settings, "run.id=impatient", signals=twice)
    assert status in (130, 1, -signal.SIGINT), said
    train(project, *settings, "run.id=impatient")
    train(project, *settings, "run.id=patient")
    assert outcome(project, "impatient") == outcome(project, "patient")


def test_of_two_runs_with_one_id_the_second_is_refused(project: BakedProject) -> None:
    settings = (project.package, "slow-data", *QUICK, "run.id=twice")
    first = subprocess.Popen(
        [project.folder / ".venv/bin/python", PATCHED, *settings],
        cwd=project.folder,
        env=clean_env(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert first.stdout
        assert "opening" in (line for line in map(str.strip, first.stdout))
        second = train(project, *QUICK, "run.id=twice", check=False)
        assert second.returncode == 1
        assert f"is being trained by process {first.pid}" in one_sentence(second)
    finally:
        first.kill()
        first.wait()


@pytest.fixture
def in_small_disk(project: BakedProject):
    """Runs a shell script in the project with runs/small on a disk of its own, of one megabyte."""
    (project.folder / "runs/small").mkdir(parents=True, exist_ok=True)
    mount = "mount -t tmpfs -o size=1m tmpfs runs/small"
    # The second way is for a CI runner, which may forbid the first and allows sudo.
    for way in (("unshare", "-rm"), ("sudo", "-n", "-E", "unshare", "-m")):
        if shutil.which(way[0]) and not project.run(*way, "sh", "-c", mount, check=False).returncode:
            return lambda script: project.run(*way, "sh", "-c", f"{mount}\n{script}", check=False)
    return pytest.skip("this machine does not let us mount a small disk (unshare -rm)")


def one_sentence(result: subprocess.CompletedProcess[str]) -> str:
    (line,) = result.stderr.strip().splitlines()
    return line


def test_a_full_disk_is_one_sentence_and_room_lets_it_go_on(in_small_disk) -> None:
    command = (
        f"train {' '.join(QUICK)} trainer.max_epochs=3 checkpoint.steps=2 run.root=runs/small run.id=full"
    )
    train_it = f"PATH=$PWD/.venv/bin:$PATH {command}"
    result = in_small_disk(f"dd if=/dev/zero of=runs/small/filler bs=1k count=700 2>/dev/null; {train_it}")
    assert result.returncode == 1
    assert "No space left on device" in one_sentence(result)
    assert "type the same command again" in result.stderr or "make room" in result.stderr
    result = in_small_disk(
        "dd if=/dev/zero of=runs/small/filler bs=1k count=700 2>/dev/null\n"
        f"{train_it} 2>/dev/null && exit 9\nrm runs/small/filler; {train_it}"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Run full goes on at" in result.stdout


def test_a_read_only_folder_is_one_sentence(in_small_disk) -> None:
    result = in_small_disk(
        "mount -o remount,ro runs/small; PATH=$PWD/.venv/bin:$PATH "
        f"train {' '.join(QUICK)} run.root=runs/small run.id=readonly"
    )
    assert result.returncode == 1
    assert "Read-only file system" in one_sentence(result)
    assert "run.root=" in result.stderr
