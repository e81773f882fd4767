"""The replicas of a custom job, and the environment that the service gives to the container of each."""

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from servers import free_port

from stage import containers

if TYPE_CHECKING:
    from stage.google.vertex_replicas import Replicas


@dataclass(frozen=True)
class Settings:
    """How the stand-in runs jobs; see `vertex`.

    Args:
        host: machine spec -> options for `docker run`: what a container sees of the machine.
    """

    platform: dict[str, str]
    mirrors: dict[str, str]
    seconds_per_hour: float
    grace_seconds: float
    queue_seconds: float
    error_seconds: float = 0
    hasty: bool = False
    host: Callable[[Any], tuple[str, ...]] = lambda _: ()


@dataclass(frozen=True)
class Trial:
    """What a custom job gets that is a trial of a tuning job.

    Args:
        env: beside the environment of every job.
        args: appended to those of the job.
        options: for `docker run`, such as the folder that the service reads the metric from.
    """

    env: dict[str, str] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class Node:
    """One replica: what it runs, and the container that runs it now."""

    def __init__(self, pool: Any, number: int, index: int) -> None:
        self.pool, self.machine, self.index = pool.container_spec, pool.machine_spec, index
        self.kind = f"workerpool{number}"
        self.task = f"{self.kind}-{index}"
        self.port = free_port()
        self.container: containers.Container | None = None
        self.readers: list[threading.Thread] = []
        self.taken = False  # its machine is being taken away
        self.since = 0.0


def environment(job: "Replicas", node: Node) -> dict[str, str]:
    """The platform's variables, the service's, then the job's own with $(NAME) replaced."""
    identity, spec = job.identity, job.spec
    account = (
        spec.service_account or f"service-{identity.number}@gcp-sa-aiplatform-cc.iam.gserviceaccount.com"
    )
    env = {**job.settings.platform, **identity.metadata(account)}
    env |= {"CLOUD_ML_PROJECT_ID": identity.number, "CLOUD_ML_JOB_ID": job.id}
    env["CLUSTER_SPEC"] = json.dumps(_cluster(job, node))
    if spec.HasField("base_output_directory"):
        output = spec.base_output_directory.output_uri_prefix.rstrip("/")
        folders = {
            "AIP_MODEL_DIR": "model",
            "AIP_CHECKPOINT_DIR": "checkpoints",
            "AIP_TENSORBOARD_LOG_DIR": "logs",
        }
        env |= {name: f"{output}/{folder}/" for name, folder in folders.items()}
    for variable in node.pool.env:
        env[variable.name] = expand(variable.value, env)
    return env


def _cluster(job: "Replicas", node: Node) -> dict[str, Any]:
    cluster: dict[str, list[str]] = {}
    for one in job.nodes:
        cluster.setdefault(one.kind, []).append(f"127.0.0.1:{one.port}")
    task = {"type": node.kind, "index": node.index}
    args = json.dumps({"job_args": list(node.pool.args)})
    return {"cluster": cluster, "environment": "cloud", "task": task, "job": args}


def expand(value: str, known: Mapping[str, str]) -> str:
    """Replaces $(NAME) by a known variable's value; $$(NAME) is an escaped $(NAME), unknown names stay."""

    def replace(found: re.Match[str]) -> str:
        if found[0].startswith("$$"):
            return found[0][1:]
        return known.get(found[1], found[0])

    return re.sub(r"\$?\$\(([A-Za-z_]\w*)\)", replace, value)
