"""Slurm itself, by the login that SkyPilot has there: what SkyPilot does not pass on."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

CONFIG = "~/.slurm/config"  # of ssh: https://docs.skypilot.co/en/latest/reference/slurm/slurm-getting-started.html
# As SkyPilot itself logs in (sky/utils/command_runner.py), which keeps no keys of hosts.
OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "LogLevel=ERROR",
)
PATIENCE = 120.0  # seconds for all of it
STEP = 40  # seconds for one job, which may hang and not be ours
UNCUT = 80  # letters of a name that SkyPilot leaves


def let_save(host: str, cluster: str, run_id: str) -> bool:
    """Tell the worker of a run to save and end, in a step of its own on its node; tell whether it may have been told.

    A signal by `scancel` would reach SkyPilot's process alone, and what ends with that is killed.

    Args:
        host: what SkyPilot's configuration of ssh calls the Slurm cluster.
        cluster: what SkyPilot calls its own, of which it does not always tell the job's name.
    """
    config = Path(CONFIG).expanduser()
    if not host or not config.is_file():
        return False  # SkyPilot's server is on another machine, and so is its login
    options = [word for each in OPTIONS for word in ("-o", each)]
    # As SkyPilot does, for a login shell may be another one, and only that of a person knows where Slurm is.
    there = f"/bin/bash --login -c {shlex.quote(_script(cluster, run_id))}"
    words = ["ssh", "-F", str(config), *options, "--", host, there]
    # No pipes: a master of ssh's (ControlPersist) would hold them open.
    nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    try:
        return not subprocess.run(words, timeout=PATIENCE, check=False, **nowhere).returncode
    except subprocess.TimeoutExpired:
        return True
    except OSError:
        return False


def _script(cluster: str, run_id: str) -> str:
    """Give the shell's line that finds a worker and tells it."""
    # From its start, for SkyPilot's own process has the whole script among its words.
    worker = f"^[^ ]*python[0-9.]* -m launcher.worker .*run.id={re.escape(run_id)}( |$)"
    job = shlex.quote(f"^[0-9]+ {_job(cluster)}")
    jobs = (
        f"squeue --me --noheader --states=RUNNING --format='%A %j' | grep -E {job} | cut -d' ' -f1"
    )
    step = f'timeout {STEP} srun --overlap --quiet --nodes=1 --ntasks=1 --jobid="$job"'
    tell = f"{step} pkill -TERM -f {shlex.quote(worker)} </dev/null"
    # 124 is of `timeout`: the step may have got through.
    return f"told=1; for job in $({jobs}); do {tell}; case $? in 0) exit 0;; 124) told=0;; esac; done; exit $told"


def _job(cluster: str) -> str:
    """Give a pattern of the name that SkyPilot gives to the job of a cluster.

    It changes some letters, adds a word for who launched it, and cuts what has more than 120 with that
    (sky/utils/common_utils.py, make_cluster_name_on_cloud; sky/clouds/slurm.py).
    """
    name = re.sub("[._]", "-", cluster).lower()
    return f"{name}-[0-9A-Za-z-]+$" if len(name) <= UNCUT else name[:UNCUT]
