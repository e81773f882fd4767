"""The program of the container: `python -m launcher.worker OVERRIDE...`."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from ..errors import UserError
from ..job import (
    EXIT_PREEMPTED,
    EXIT_RETRY,
    RUN_IDLE_SECONDS,
    RUN_KIND,
    RUN_RETRY_STATUS,
    Kind,
)
from .cluster import this_node
from .notebook import Notebook, idle_seconds
from .settings import Settings
from .trial import read_trial
from .worker import Worker


def main() -> None:
    """Run the worker with the environment and the arguments of this process."""
    args = [arg for arg in sys.argv[1:] if not arg.startswith("run.id=")]
    try:
        trial, args = read_trial(os.environ, args)
        settings = Settings.read(os.environ)
        if trial:
            settings = trial.narrow(settings)
        node, root = this_node(os.environ, args), Path.cwd()
        if os.environ.get(RUN_KIND) == Kind.notebook.value:
            idle = idle_seconds(os.environ.get(RUN_IDLE_SECONDS))
            worker = Notebook(settings, node, root, idle)
        else:
            worker = Worker(settings, node, args, root, trial)
    except UserError as error:
        sys.exit(str(error))
    code = service_status(worker.run(), os.environ)
    sys.stdout.flush()
    os._exit(code)  # an upload that hangs must not keep a machine


def service_status(code: int, env: Mapping[str, str]) -> int:
    """Give the status with which this process ends: services differ in which of them makes them start it again."""
    again = env.get(RUN_RETRY_STATUS, "")
    return int(again) if code in (EXIT_RETRY, EXIT_PREEMPTED) and again.isdigit() else code


if __name__ == "__main__":
    main()
