"""A job as a task of SkyPilot, in SkyPilot's own words: https://docs.skypilot.co/en/latest/reference/yaml-spec.html.

On a machine of a cluster there is Python at most, so a task without an image makes the project's locked environment
itself. It does so in a folder of the machine's own: SkyPilot's is removed at the very moment at which a job that is taken
away still saves, and is on a network's disk besides.
"""

from __future__ import annotations

import math
import re
import shlex
import zlib
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...job import Job
from .. import apptainer, shell

SLURM = "slurm"
# As SkyPilot 0.14 names them (sky/clouds), so that a typing error is told without it; others are left to SkyPilot.
CLOUDS = (
    *(
        "aws",
        "azure",
        "cudo",
        "digitalocean",
        "do",
        "fluidstack",
        "gcp",
        "hyperbolic",
        "ibm",
        "k8s",
    ),
    *("kubernetes", "lambda", "mithril", "nebius", "oci", "paperspace", "primeintellect", "runpod"),
    *("scp", "seeweb", "shadeform", SLURM, "ssh", "vast", "verda", "vsphere", "yotta"),
)
CONTAINER, SIF, ENVIRONMENT = "container", "apptainer", "environment"
# What an allocation is longer than its job: for SkyPilot's own programs and the environment, which may take as long.
SETUP_MINUTES = 20
SECRETS = (
    "~/.launcher-secrets"  # on a cluster, where whoever logs in may read the words of every process
)
KILL_AFTER = 180  # seconds that a job may go on past a limit which only it keeps: worker.KILL_AFTER and what comes after
IDLE_MINUTES = 1  # the least that SkyPilot knows
PORTS = 20000, 10000  # the first, and how many: two trainings that share a machine must not meet
IMAGE = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
ACCELERATOR = re.compile(r"[A-Za-z][\w-]*(:\d+(\.\d+)?)?")
CPUS = re.compile(r"cpu(:(?P<cpus>\d+))?(:(?P<memory>\d+))?")

HEAD = """\
work="${{TMPDIR:-/tmp}}/{name}-$SKYPILOT_NODE_RANK"
unset PYTHONPATH PYTHONHOME LD_PRELOAD
export RUN_RANK="$SKYPILOT_NODE_RANK" RUN_NODES="$SKYPILOT_NUM_NODES"
export RUN_FIRST="$(echo "$SKYPILOT_NODE_IPS" | head -n 1):{port}"
"""
# uv is where SkyPilot has put it for itself.
MAKE = """\
rm -rf "$work" && mkdir -m 700 "$work" && cp -a . "$work/project" && cd "$work/project" || exit 1
export PATH="$PATH:$HOME/.local/bin" UV_PROJECT_ENVIRONMENT="$work/venv"
command -v uv >/dev/null || {{ echo "There is no uv on this machine, and SkyPilot has brought none."; exit 1; }}
timeout {minutes}m uv sync --quiet --locked --no-default-groups --group data || exit 1
"""
# Slurm's own notices reach only a step's first process, which is SkyPilot's and ends by them; whatever is left is killed
# then (proctrack/cgroup of Slurm, proctrack_p_signal). So the job asks for its end once a minute: it may be moved. No answer
# says nothing; `date` would take an empty one for midnight.
WATCH = """\
while sleep 60 && kill -0 "$worker"; do
    end="$(squeue --noheader --jobs "$SLURM_JOB_ID" --format=%e)" && [ -n "$end" ] || continue
    end="$(date -d "$end" +%s)" || continue
    if [ $((end - $(date +%s))) -le {notice} ]; then kill -TERM "$worker"; break; fi
done >/dev/null 2>&1 &
"""
NOTICE = 180  # seconds before the end
# What the Dockerfile says; SkyPilot begins a shell of its own, by another user.
IMAGE_HEAD = """\
export PATH="/opt/venv/bin:$PATH" PYTHONPATH=/app/src:/app/launcher/src
cd /app || exit 1
"""


def kind(job: Job) -> str:
    """Tell in what a job runs: a container of the infra's, Apptainer, or an environment that it makes itself.

    Raises:
        UserError: its image is named by a tag, which may mean another one tomorrow, or by a path that the cluster has not.
    """
    if not job.image:
        return ENVIRONMENT
    if job.image.endswith(apptainer.ENDING):
        if not job.image.startswith("/"):
            raise UserError(
                f"cloud.image={job.image} is a path on the cluster: give all of it, as in /shared/{Path(job.image).name}."
            )
        return SIF
    if not IMAGE.fullmatch(job.image):
        raise UserError(
            f"cloud.image={job.image} may be another image tomorrow; give it by its digest (NAME@sha256:...), as "
            f"`docker buildx imagetools inspect {job.image}` shows it."
        )
    return CONTAINER


def cloud_of(infra: str) -> str:
    """Give the first word of an infra, such as slurm."""
    return infra.partition("/")[0].lower()


def resources(machine: str, infra: str, spot: bool) -> dict[str, Any]:
    """Give what SkyPilot is to find for one node.

    Args:
        machine: `cpu`, `cpu:8`, `cpu:8:32` (GB of memory), an accelerator such as `A100` or `H100:8`, or `type:` and what
            the infra calls a machine.

    Raises:
        UserError: it is none of these.
    """
    found: dict[str, Any] = {"infra": infra}
    if spot:
        found["use_spot"] = True
    if match := CPUS.fullmatch(machine):
        found["cpus"] = f"{match['cpus'] or 4}+"
        if match["memory"]:
            found["memory"] = f"{match['memory']}+"
    elif machine.startswith("type:"):
        found["instance_type"] = machine.removeprefix("type:")
    elif ACCELERATOR.fullmatch(machine):
        found["accelerators"] = machine if ":" in machine else f"{machine}:1"
    else:
        raise UserError(
            f"cloud.machine={machine} is no machine of SkyPilot's: give cpu, cpu:8, an accelerator such as L4 or A100:8 "
            "(`sky gpus list` has them all), or type:NAME."
        )
    return found


def body(
    job: Job,
    *,
    name: str,
    infra: str,
    root: Path,
    hours: float,
    whole: bool,
    labels: dict[str, str],
) -> dict[str, Any]:
    """Give the whole task.

    Args:
        name: of its cluster.
        infra: as SkyPilot writes it, such as slurm/mycluster.
        root: the project's folder.
        hours: that one start may run.
        whole: whether these are all that a queue allows, with what comes before the job.
        labels: of the cluster.

    Raises:
        UserError: the machine or the image is no such thing.
    """
    what, slurm = kind(job), cloud_of(infra) == SLURM
    wanted = resources(job.machine.name, infra, job.spot)
    if kind_of := job.machine.type.partition(" ")[2]:  # what was priced is what is launched
        wanted["instance_type"] = kind_of
    wanted["labels"] = labels
    # Down, never only stopped: what is stopped costs a disk. It counts once no job is at work, whoever has logged in.
    wanted["autostop"] = {"idle_minutes": IDLE_MINUTES, "down": True, "wait_for": "jobs"}
    if what == CONTAINER:
        wanted["image_id"] = f"docker:{job.image}"
    task: dict[str, Any] = {
        "name": re.sub(r"[^A-Za-z0-9-]", "-", job.run_id),
        "num_nodes": job.nodes,
    }
    if what == ENVIRONMENT:
        task["workdir"] = str(root)
    task |= {"resources": wanted, "envs": dict(job.env)}
    if job.secrets and slurm:
        task["file_mounts"] = {SECRETS: "secrets.env"}
    elif job.secrets:
        # Their values come by the launch's own environment.
        task["secrets"] = dict.fromkeys(job.secrets)
    if config := _config(what, slurm, hours, whole):
        task["config"] = config
    task["run"] = script(job, what, name, None if slurm else hours)
    return task


def _config(what: str, slurm: bool, hours: float, whole: bool) -> dict[str, Any]:
    if slurm:
        return {SLURM: {"sbatch_options": sbatch(hours, whole)}}
    if what == CONTAINER:
        # SkyPilot prepares a container as root, or by sudo, which the image has not:
        # https://github.com/skypilot-org/skypilot/issues/8566
        return {"kubernetes": {"pod_config": {"spec": {"securityContext": {"runAsUser": 0}}}}}
    return {}


def sbatch(hours: float, whole: bool) -> dict[str, Any]:
    """Give the options by which Slurm itself ends a job."""
    minutes = max(1, int(hours * 60)) if whole else math.ceil(hours * 60) + SETUP_MINUTES
    return {"time": f"{minutes // 60:02}:{minutes % 60:02}:00"}


def script(job: Job, what: str, name: str, hours: float | None) -> str:
    """Give the lines that each node runs.

    Args:
        what: the job runs in.
        hours: after which the job ends itself; None where something else ends it.
    """
    first, count = PORTS
    port = first + zlib.crc32(job.run_id.encode()) % count
    worker = f"python -m launcher.worker {shlex.join(job.args)}".strip()
    lines = HEAD.format(name=name, port=port)
    if hours is None and job.secrets:
        lines += f"set -a && . {SECRETS} && set +a || exit 1\n"
    if what == ENVIRONMENT:
        lines += MAKE.format(minutes=SETUP_MINUTES)
        worker = f'"$work/venv/bin/python"{worker.removeprefix("python")}'
    elif what == SIF:
        lines += apptainer.prepare(job.image)
        worker = apptainer.command(job.image, job.args, apptainer.binds(job.output))
    else:
        lines += IMAGE_HEAD
    if hours is not None:
        worker = f"timeout --kill-after={KILL_AFTER} {math.ceil(hours * 3600)} {worker}"
    watch = WATCH.format(notice=NOTICE) if hours is None else ""
    return lines + shell.run(worker, "" if what == CONTAINER else shell.CLEAN, watch)
