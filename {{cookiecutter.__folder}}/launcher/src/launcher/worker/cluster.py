"""Which node of a job this is, how many processes train on it, and the command that starts them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError
from ..job import RUN_FIRST, RUN_NODES, RUN_RANK
from ..project import project
from . import aml, opt_ml

CLUSTER_SPEC = "CLUSTER_SPEC"  # set by Vertex AI: the addresses of all nodes, and which one this is
PORT = 29500  # torchrun's own default, where the service names none
OBSERVED = f"{__package__}.observed"
HOSTS = (
    "resourceconfig.json"  # of AWS: the names of all nodes, which one this is, and their network
)
NETWORK = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")  # else a library may take another one
PATIENCE = 300.0  # seconds in which a name has to be known: nodes come up one after the other


class NodesApartError(UserError):
    """The first node cannot be found: another attempt may help."""


@dataclass(frozen=True)
class Node:
    """This machine among those that train together.

    Args:
        rank: 0 for the one that writes.
        count: how many there are.
        master: host and port of the first.
        processes: how many train on this one.
        environment: that the training needs to reach the others.
    """

    rank: int = 0
    count: int = 1
    master: tuple[str, int] = ("127.0.0.1", PORT)
    processes: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether one process does it all."""
        return self.count * self.processes == 1

    def find_first(self) -> None:
        """Wait until the name of the first node is known here.

        Raises:
            NodesApartError: it is not, for minutes.
        """
        until = time.monotonic() + PATIENCE
        while self.count > 1:
            try:
                socket.getaddrinfo(*self.master)
                return
            except OSError as error:
                if time.monotonic() > until:
                    raise NodesApartError(
                        f"The first node, {self.master[0]}, cannot be found ({error})."
                    ) from error
            time.sleep(1.0)

    def command(self, args: list[str]) -> list[str]:
        """Give the command that trains on this node."""
        program = ["-m", OBSERVED, f"{project().package}.train", *args]
        if self.alone:
            return [sys.executable, *program]
        host, port = self.master
        where = ["--nnodes", str(self.count), "--node-rank", str(self.rank)]
        where += ["--master-addr", host, "--master-port", str(port)]
        each = ["--nproc-per-node", str(self.processes)]
        return [sys.executable, "-m", "torch.distributed.run", *where, *each, *program]


def this_node(env: Mapping[str, str], args: list[str]) -> Node:
    """Read from the environment which node this is, and count its GPUs.

    Raises:
        UserError: what the service says of them is not as it writes it.
    """
    processes = 1 if "trainer.device=cpu" in args else max(1, count_gpus(env))
    if opt_ml.JOB in env:
        try:
            return _among_hosts(processes)
        except UserError:
            if int(env.get(RUN_NODES, "1")) > 1:
                raise
            # The file may be closed to us, and of one node it tells nothing that matters.
            return Node(processes=processes)
    if aml.JOB in env and (count := int(env.get(RUN_NODES, "1"))) > 1:
        rank, master = aml.place(env, count)
        return Node(rank, count, master, processes)
    if RUN_FIRST in env:
        return _told(env, processes)
    text = env.get(CLUSTER_SPEC)
    if not text:
        return Node(processes=processes)
    try:
        spec = json.loads(text)
        pools = {pool: list(nodes) for pool, nodes in spec["cluster"].items()}
        task, index = str(spec["task"]["type"]), int(spec["task"]["index"])
        nodes = [(pool, number) for pool in sorted(pools) for number in range(len(pools[pool]))]
        rank = nodes.index((task, index))
        host, _, port = pools[nodes[0][0]][0].rpartition(":")
        return Node(rank, len(nodes), (host, int(port)), processes)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{CLUSTER_SPEC} cannot be understood ({error!r}): {text}") from error


def _told(env: Mapping[str, str], processes: int) -> Node:
    try:
        host, _, port = env[RUN_FIRST].rpartition(":")
        return Node(int(env[RUN_RANK]), int(env[RUN_NODES]), (host, int(port)), processes)
    except (KeyError, ValueError) as error:
        told = ", ".join(f"{name}={env.get(name)}" for name in (RUN_FIRST, RUN_RANK, RUN_NODES))
        raise UserError(f"Which node this is cannot be understood: {told}.") from error


def _among_hosts(processes: int) -> Node:
    found = opt_ml.config(HOSTS)
    if found is None:
        return Node(processes=processes)
    try:
        hosts = sorted(str(host) for host in found["hosts"])
        rank = hosts.index(found["current_host"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{HOSTS} cannot be understood ({error!r}): {found}") from error
    network = found.get("network_interface_name") if len(hosts) > 1 else None
    environment = {name: str(network) for name in NETWORK} if network else {}
    return Node(rank, len(hosts), (hosts[0], PORT), processes, environment)


def gpus_and_driver() -> str:
    """Name the machine's GPUs and their driver, as in `NVIDIA L4, driver 580.65.06`; nothing where there are none."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return ""
    names = [line.replace(", ", ", driver ", 1) for line in done.stdout.strip().splitlines()]
    return "; ".join(names)


def count_gpus(env: Mapping[str, str]) -> int:
    """Count the NVIDIA GPUs that a program started with `env` sees, without torch, which takes seconds."""
    chosen = env.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return len([one for one in chosen.split(",") if one.strip() not in ("", "-1")])
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=60
        )
        return sum(line.startswith("GPU ") for line in done.stdout.splitlines())
    except (OSError, subprocess.SubprocessError):
        gpus = Path("/proc/driver/nvidia/gpus")
        return len(list(gpus.iterdir())) if gpus.is_dir() else 0
