"""Training with several processes (`torchrun`), or with one as if there were no others."""

from __future__ import annotations

import math
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from launcher import UserError


@dataclass(frozen=True)
class Processes:
    """This process among all that train together.

    Args:
        rank: number of this process, 0 for the one that writes.
        count: how many there are.
        device: where this one computes.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def any(self, *flags: bool) -> list[bool]:
        """Tell for each flag whether some process has set it; the answer is the same everywhere."""
        if self.count == 1:
            return list(flags)
        votes = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return [bool(vote) for vote in votes]

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Average a CPU tensor over the processes."""
        if self.count > 1:
            dist.all_reduce(values)
            values /= self.count
        return values

    def gather(self, value: Any) -> list[Any]:
        """Collect one picklable value from each process, in order of rank, on every process."""
        values: list[Any] = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(values, value)
        return values

    def from_first(self, value: Any) -> Any:
        """Give every process the value that the first one has."""
        return self.gather(value)[0]

    def wait(self) -> None:
        if self.count > 1:
            dist.barrier()

    def stop(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()


def join_processes(device: str) -> Processes:
    """Join the processes that torchrun started, or be the only one.

    Args:
        device: auto, cpu, cuda or mps; auto takes the fastest there is.
    """
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    chosen = choose_device(device)
    if count > 1:
        if chosen.type == "cuda":
            chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(chosen)
        # gloo as well, so that flags and numbers go round without stopping the GPU
        dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
    return Processes(rank, count, chosen)


def set_threads(wanted: int | None, device: torch.device) -> None:
    """Set how many threads compute on the CPU, unless torchrun or OMP_NUM_THREADS says it.

    By default one where a GPU computes: more of them fight for the caches with the one that gives the GPU its work.
    Else one for each core that this process may use, which in a container is often fewer than the machine has.
    """
    if wanted is None and "OMP_NUM_THREADS" in os.environ:
        return
    default = 1 if device.type == "cuda" else min(torch.get_num_threads(), usable_cores())
    if (wanted or default) != torch.get_num_threads():
        torch.set_num_threads(wanted or default)


def usable_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Count the cores that this process may use, by its affinity and its control group's quota (version 2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        allowed, period = quota.read_text(encoding="utf-8").split()
        cores = min(cores or 1, max(1, math.ceil(int(allowed) / int(period))))
    except (OSError, ValueError):  # there is none: no Linux, an older kernel, or the word "max"
        pass
    return cores or 1


def set_matmul_precision(precision: str, device: torch.device) -> None:
    """Let float32 products be computed in TF32 on a GPU (`high`), or not (`highest`); a CPU's results stay exact."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = precision != "highest"


def choose_device(name: str) -> torch.device:
    """Turn auto, cpu, cuda or mps into a device that is there.

    Raises:
        UserError: it is not there.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, present in there.items() if present))
    if not there[name]:
        raise UserError(
            f"trainer.device={name}, but {_why_not(name)}; leave it at auto to do without."
        )
    return torch.device(name)


def _why_not(name: str) -> str:
    """Say why a device is not there, with what its remedy depends on: a GPU that is paid for must not stand idle."""
    if name != "cuda" or not (driver := _driver()):
        return "this machine has none"
    return (
        f"torch {torch.__version__}, built for CUDA {torch.version.cuda}, cannot use the GPU here with NVIDIA's driver "
        f"{driver} (CUDA 13 wants 580 or newer: take a torch that is built for CUDA 12, see docs/cloud.md)"
    )


def _driver() -> str:
    """Give the version of NVIDIA's driver; empty where there is none."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip().partition("\n")[0]
