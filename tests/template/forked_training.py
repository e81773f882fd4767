"""One of the processes of a training, which has imported torch before it is asked for. Run it with a baked project's Python.

    RANK=... LOCAL_RANK=... WORLD_SIZE=... MASTER_ADDR=127.0.0.1 python forked_training.py PACKAGE FOLDER PARENT

Training number i is asked for by FOLDER/i.json, {"words": [OVERRIDE...], "env": {NAME: VALUE}}. Each process forks a child for
it, whose words go to FOLDER/i.RANK.txt; FOLDER/i.RANK.status has its exit status when it has ended. It goes on until it is
ended, or there is no process PARENT.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from kill_often import train_in_a_child


def train(main: Callable[[], object], asked: Path, said: Path) -> int:
    """Trains in a child; gives its exit status."""
    given = json.loads(asked.read_text())

    def prepare() -> None:
        out = os.open(said, os.O_WRONLY | os.O_CREAT)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.environ |= given["env"]
        sys.path[:0] = filter(None, given["env"].get("PYTHONPATH", "").split(os.pathsep))

    child = train_in_a_child(main, given["words"], prepare)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def alive(process: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def serve() -> None:
    package, name, parent = sys.argv[1:]
    folder, rank, number = Path(name), os.environ["RANK"], 0
    main = importlib.import_module(f"{package}.train").main
    for module in ("loop", "restore", "sharding", "weights"):
        importlib.import_module(f"{package}.training.{module}")
    while alive(int(parent)):
        asked = folder / f"{number}.json"
        if not asked.exists():
            time.sleep(0.05)
            continue
        status = train(main, asked, folder / f"{number}.{rank}.txt")
        part = folder / f"{number}.{rank}.part"
        part.write_text(str(status))
        part.rename(folder / f"{number}.{rank}.status")
        number += 1


if __name__ == "__main__":
    serve()
