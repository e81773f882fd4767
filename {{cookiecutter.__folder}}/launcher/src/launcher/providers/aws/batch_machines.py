"""What a job of Batch asks of its machine: all of it, so that no second job is put beside it."""

from __future__ import annotations

from ...errors import UserError
from ...job import Machine

# vCPUs and GiB of each type in the price table (https://aws.amazon.com/ec2/instance-types/).
SIZES = {
    "m7i.xlarge": (4, 16),
    "m7i.2xlarge": (8, 32),
    "g4dn.xlarge": (4, 16),
    "g4dn.12xlarge": (48, 192),
    "g5.xlarge": (4, 16),
    "g5.12xlarge": (48, 192),
    "g6.xlarge": (4, 16),
    "g6.12xlarge": (48, 192),
    "g6e.xlarge": (4, 32),
    "p4d.24xlarge": (96, 1152),
    "p5.4xlarge": (16, 256),
    "p5.48xlarge": (192, 2048),
}
# What the ECS agent finds on a machine is less, for the kernel has taken its part, and a job that asks for more waits
# for ever. Seen were 97.5 % of 8 GiB (docs.aws.amazon.com/batch/latest/userguide/memory-management.html), 95.9 % of 32
# (github.com/aws/containers-roadmap/issues/2231) and 96.9 % of 512 (github.com/meta-pytorch/torchx/issues/795).
# Of the types above none was found, so this stays well below: too little does no harm.
SHARE = 0.9
# Docker gives a container 64 MB of shared memory, with which loaders of data die. This is a limit and not set aside:
# what is used of it counts for the container's memory, by which the whole is bounded.
SHARED_MIB = 8192  # for each GPU, and at least so much


def resources(machine: Machine) -> list[dict[str, str]]:
    """Give what the job asks for.

    Raises:
        UserError: the type is in the price table and not here.
    """
    cpus, _ = _size(machine)
    asked = [
        {"type": "VCPU", "value": str(cpus)},
        {"type": "MEMORY", "value": str(memory(machine))},
    ]
    return [*asked, {"type": "GPU", "value": str(machine.gpus)}] if machine.gpus else asked


def memory(machine: Machine) -> int:
    """Give the MiB that a job may ask for, and then may not exceed.

    Raises:
        UserError: as `resources`.
    """
    _, gib = _size(machine)
    return int(gib * 1024 * SHARE)


def shared_memory(machine: Machine) -> int:
    """Give the MiB of /dev/shm."""
    return SHARED_MIB * max(1, machine.gpus)


def _size(machine: Machine) -> tuple[int, int]:
    if machine.type not in SIZES:
        raise UserError(
            f"How large {machine.type} is, is not known: add it to SIZES in {__name__}, or choose another cloud.machine."
        )
    return SIZES[machine.type]
