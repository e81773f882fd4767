"""The program of the container: `python -m launcher.worker OVERRIDE...`."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from ..errors import UserError
from ..job import (
    EXIT_FINAL,
    EXIT_PREEMPTED,
    EXIT_RETRY,
    RUN_DISK,
    RUN_IDLE_SECONDS,
    RUN_KIND,
    RUN_MODELS,
    RUN_RETRY_STATUS,
    Kind,
)
from ..storage import StorageUnavailable
from . import aml, disk, opt_ml
from .cluster import this_node
from .more import read_more
from .notebook import Notebook, idle_seconds
from .predict import Predict
from .settings import Settings
from .trial import read_trial
from .worker import Worker


def main() -> None:
    """Run the worker with the environment and the arguments of this process."""
    try:
        worker = make(sys.argv[1:], Path.cwd())
    except UserError as error:
        code = EXIT_RETRY if isinstance(error, StorageUnavailable) else EXIT_FINAL
        explain(str(error), code)
        if code == EXIT_FINAL:
            sys.exit(str(error))
        print(error, file=sys.stderr)
        sys.exit(service_status(code, os.environ))
    code = worker.run()
    explain(worker.log.masked(worker.reason), code)
    sys.stdout.flush()
    worker.outlast()
    os._exit(service_status(code, os.environ))  # an upload that hangs must not keep a machine


def make(words: list[str], root: Path) -> Worker:
    """Read what this process is to do, and make the environment that it says.

    Raises:
        UserError: it cannot be understood.
        StorageUnavailable: part of it is in the bucket, which does not answer.
    """
    if opt_ml.JOB in os.environ and words == opt_ml.DEFAULT_ARGUMENTS:
        words = []
    os.environ.update(aml.identity(os.environ))  # with which the bucket is read
    env, words = read_more(os.environ, words)
    os.environ.update(env)
    args = [word for word in words if not word.startswith("run.id=")]
    trial, args = read_trial(env, args)
    settings = Settings.read(env)
    if trial:
        settings = trial.narrow(settings)
    node = this_node(env, args)
    if aml.JOB in env:
        for name in aml.RANKS:
            os.environ.pop(name, None)
    if folder := env.get(RUN_DISK):
        disk.move(folder, root)
    if env.get(RUN_KIND) == Kind.notebook.value:
        return Notebook(settings, node, root, idle_seconds(env.get(RUN_IDLE_SECONDS)))
    if env.get(RUN_KIND) == Kind.predict.value:
        return Predict(settings, node, args, root, env.get(RUN_MODELS))
    return Worker(settings, node, args, root, trial)


def service_status(code: int, env: Mapping[str, str]) -> int:
    """Give the status with which this process ends: services differ in which of them makes them start it again."""
    again = env.get(RUN_RETRY_STATUS, "")
    return int(again) if code in (EXIT_RETRY, EXIT_PREEMPTED) and again.isdigit() else code


def explain(reason: str, code: int) -> None:
    """Tell a service that shows it why the job failed."""
    if code and opt_ml.JOB in os.environ:
        opt_ml.tell_failure(reason, code)


if __name__ == "__main__":
    main()
