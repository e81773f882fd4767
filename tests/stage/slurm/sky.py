"""SkyPilot as a person has it: the program in an environment of its own, its state in a home of its own, one Slurm cluster."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers import TEMPLATE, Environment, answers, free_port

from stage.slurm.cluster import USER, Cluster, wait_until

PROGRAMS = TEMPLATE / ".tools/sky/bin"
INFRA = "stage"  # what the cluster is called there
SSH = """\
Host {name}
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {key}
    IdentitiesOnly yes
"""


# What SkyPilot makes on a node belongs to this cluster, and ends with it.
CONFIG = """\
slurm:
  cluster_configs: {{{name}: {{tmpdir: {tmp}}}}}
"""


def require() -> None:
    """SkyPilot is installed in an environment of its own; else `make loop` is what installs it."""
    assert (PROGRAMS / "sky").exists(), "there is no .tools/sky: run `make .tools/sky/installed`"


@contextmanager
def skypilot(folder: Path, cluster: Cluster | None = None) -> Iterator[Environment]:
    """Gives the environment in which `sky` knows the cluster; its API server ends with the block."""
    require()
    home = folder / "person"
    (home / ".slurm").mkdir(parents=True)
    if cluster:
        text = SSH.format(name=INFRA, port=cluster.port, user=USER, key=cluster.key)
        (home / ".slurm/config").write_text(text)
        (home / ".sky").mkdir()
        (home / ".sky/config.yaml").write_text(CONFIG.format(name=INFRA, tmp=cluster.tmp))
    port = free_port()
    env = {
        "HOME": str(home),
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
        "SKYPILOT_API_SERVER_LOCAL_PORT": str(port),
        "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
    }
    try:
        yield env
    finally:
        subprocess.run(["sky", "api", "stop"], env={**os.environ, **env}, capture_output=True, check=False)
        wait_until(lambda: not answers(port), "the API server of SkyPilot goes on")
