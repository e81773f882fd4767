"""Apptainer as `make engine` installs it, for a person without any right.

The tests run as root, as which Apptainer does other things than for people; so it is started in a user namespace in which
its caller is somebody with no capability, as everybody is on a login node.
"""

import os
from pathlib import Path

PROGRAM = Path("/opt/stage-apptainer/usr/bin/apptainer")
TEXT = """\
#!/bin/sh
exec unshare --user --map-user=1000 --map-group=1000 -- {program} "$@"
"""


def require() -> None:
    """It is there; else `make engine` is what is missing."""
    assert PROGRAM.exists(), f"there is no {PROGRAM}: run `make engine`"


def install(folder: Path) -> str:
    """Puts the program into a folder, which is made, and gives a PATH on which that goes first."""
    require()
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "apptainer"
    program.write_text(TEXT.format(program=PROGRAM))
    program.chmod(0o755)
    return os.pathsep.join([str(folder), os.environ["PATH"]])
