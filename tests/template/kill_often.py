"""Trains one run while killing it, over and over, and prints how often. Run it with a baked project's Python.

    python kill_often.py PACKAGE KILLS SEED OVERRIDE...

Each training is a process of its own that is forked from one that has imported torch already: a kill then costs
a fraction of a second, so that many can be tried. Every second one waits for a checkpoint to be half written.
"""

import importlib
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path


def train_in_a_child(main, overrides: list[str], prepare=lambda: None) -> int:
    """Gives the child's process id; it prepares itself first."""
    child = os.fork()
    if child == 0:
        sys.argv = ["train", *overrides]
        status = 1
        try:
            prepare()
            main()
            status = 0
        except SystemExit as error:
            print(error, file=sys.stderr)
        finally:
            if sys.exc_info()[0]:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return child


def ended(child: int) -> bool:
    """Whether it has come to its end by itself, which must be a good one."""
    done, status = os.waitpid(child, os.WNOHANG)
    if done and status != 0:
        raise SystemExit(f"a training failed with status {status}")
    return bool(done)


def half_written(run: Path) -> bool:
    return any(path.stat().st_size for path in run.glob("checkpoints/.step-*.tmp"))


def kill_once(child: int, run: Path, chance: random.Random, wait_for_write: bool) -> bool | None:
    """Kill the child at a random moment; None when it ended first, else whether it was writing a checkpoint."""
    deadline = time.monotonic() + chance.uniform(0.02, 1.5)
    while time.monotonic() < deadline or wait_for_write:
        if ended(child):
            return None
        try:
            if wait_for_write and half_written(run):
                break
        except FileNotFoundError:  # published or removed between the two looks at it
            continue
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return bool(list(run.glob("checkpoints/.step-*.tmp")))


def main() -> None:
    package, kills, seed, *overrides = sys.argv[1:]
    chance, run = random.Random(int(seed)), Path("runs/killed")
    train = importlib.import_module(f"{package}.train").main
    for module in ("train", "training.loop", "training.restore", "training.weights"):
        importlib.import_module(f"{package}.{module}")
    killed = writing = 0
    while killed < int(kills):
        child = train_in_a_child(train, ["run.id=killed", *overrides])
        outcome = kill_once(child, run, chance, wait_for_write=killed % 2 == 1)
        if outcome is None:
            break
        killed, writing = killed + 1, writing + outcome
    else:
        child = train_in_a_child(train, ["run.id=killed", *overrides])
        while not ended(child):
            time.sleep(0.05)
    print(f"killed {killed} times, {writing} of them while a checkpoint was written")


if __name__ == "__main__":
    main()
