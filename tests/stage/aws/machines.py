"""Machine types: their processors, memory and GPUs.

Sizes: https://docs.aws.amazon.com/ec2/latest/instancetypes/ac.html and the pages beside it; which region has which type
is moto's copy of AWS's own list of offerings.
"""

import functools
from dataclasses import dataclass

from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS, INSTANCE_TYPES


@dataclass(frozen=True)
class Machine:
    """One type, by what EC2 says of it."""

    name: str
    vcpus: int
    memory: int
    gpus: int

    @property
    def registered(self) -> int:
        """MiB that a container may have: the agent and the system keep some back.

        How much is not documented; https://docs.aws.amazon.com/batch/latest/userguide/memory-management.html shows 3,768
        of 4,096 for one type, and ECS_RESERVED_MEMORY=32 besides. Here a twelfth is lost, which is that example.
        """
        return self.memory - self.memory // 12 - 32

    @property
    def quota(self) -> str:
        """The family that its quota of EC2 counts: vCPUs of G and VT, of P, or of the standard ones."""
        return {"g": "G", "p": "P"}.get(self.name[0], "standard")


@functools.cache
def types() -> dict[str, Machine]:
    """All types by name."""
    found = {}
    for name, one in INSTANCE_TYPES.items():
        gpus = sum(gpu["Count"] for gpu in one.get("GpuInfo", {}).get("Gpus", []))
        found[name] = Machine(
            name, one["VCpuInfo"]["DefaultVCpus"], one["MemoryInfo"]["SizeInMiB"], int(gpus)
        )
    return found


@functools.cache
def offered(region: str) -> frozenset[str]:
    """Names of the types that a region has in any of its zones."""
    return frozenset(one["InstanceType"] for one in INSTANCE_TYPE_OFFERINGS["region"].get(region, []))
