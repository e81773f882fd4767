"""The program of the container: `python -m ...cloud.worker OVERRIDE...`."""

import os
import sys
from pathlib import Path

from ...errors import UserError
from .cluster import this_node
from .settings import Settings
from .worker import Worker


def main() -> None:
    """Run the worker with the environment and the arguments of this process."""
    args = [arg for arg in sys.argv[1:] if not arg.startswith("run.id=")]
    try:
        worker = Worker(Settings.read(os.environ), this_node(os.environ, args), args, Path.cwd())
    except UserError as error:
        sys.exit(str(error))
    code = worker.run()
    sys.stdout.flush()
    os._exit(code)  # an upload that hangs must not keep a machine


if __name__ == "__main__":
    main()
