"""How many cores of a kind Azure ML lets a subscription have in a region, which are its own: other VMs' do not count.

https://learn.microsoft.com/azure/machine-learning/how-to-manage-quotas, and the answers of
https://learn.microsoft.com/rest/api/azureml/usages/list and .../virtual-machine-sizes/list.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from stage.azure.errors import AzureError

# "24 to 300, depending on your subscription offer type"; specialized families and GPUs start with none.
DEDICATED, FAMILY, GPU = 24, 24, 0
# "100 to 3,000 [...] This limit is a single value across VM families". People also tell of subscriptions with none at all
# and six dedicated cores: `Usages.set` makes one of those.
LOW_PRIORITY = 100
ALL_DEDICATED = "Total Cluster Dedicated Regional vCPUs"
ALL_LOW_PRIORITY = "Total Cluster LowPriority Regional vCPUs"
SUPPORTED = ["AmlCompute", "ComputeInstance"]


@dataclass(frozen=True)
class Size:
    """A kind of machine.

    Args:
        family: as quotas name it: NCASv3_T4.
        memory: in GiB.
    """

    name: str
    family: str
    cores: int
    gpus: int
    memory: float

    @property
    def quota(self) -> str:
        """The name of its family's quota of dedicated cores."""
        return f"Standard {self.family} Family Cluster Dedicated vCPUs"


# https://learn.microsoft.com/azure/virtual-machines/sizes/overview; families as `az ml compute list-usage` shows them.
FAMILIES: dict[str, list[tuple[str, int, int, float]]] = {
    "FSv2": [(f"F{n}s_v2", n, 0, 2 * n) for n in (2, 4, 8, 16, 32, 48, 64, 72)],
    "DSv2": [("DS1_v2", 1, 0, 3.5), ("DS2_v2", 2, 0, 7), ("DS3_v2", 4, 0, 14), ("DS4_v2", 8, 0, 28)],
    "DSv3": [(f"D{n}s_v3", n, 0, 4 * n) for n in (2, 4, 8, 16, 32, 64)],
    "DASv4": [(f"D{n}as_v4", n, 0, 4 * n) for n in (2, 4, 8, 16, 32, 64)],
    "DSv5": [(f"D{n}s_v5", n, 0, 4 * n) for n in (2, 4, 8, 16, 32, 64)],
    "ESv3": [(f"E{n}s_v3", n, 0, 8 * n) for n in (2, 4, 8, 16, 32)],
    "NCSv3": [("NC6s_v3", 6, 1, 112), ("NC12s_v3", 12, 2, 224), ("NC24s_v3", 24, 4, 448)],
    "NCASv3_T4": [
        (f"NC{n}as_T4_v3", n, g, m) for n, g, m in ((4, 1, 28), (8, 1, 56), (16, 1, 110), (64, 4, 440))
    ],
    "NVADSA10v5": [
        ("NV6ads_A10_v5", 6, 1, 55),
        ("NV36ads_A10_v5", 36, 1, 440),
        ("NV72ads_A10_v5", 72, 2, 880),
    ],
    "NCADSA100v4": [(f"NC{24 * n}ads_A100_v4", 24 * n, n, 220 * n) for n in (1, 2, 4)],
    "NCadsH100v5": [("NC40ads_H100_v5", 40, 1, 320), ("NC80adis_H100_v5", 80, 2, 640)],
    "NDASv4_A100": [("ND96asr_v4", 96, 8, 900)],
    "NDAMSv4_A100": [("ND96amsr_A100_v4", 96, 8, 1900)],
    "NDSH100v5": [("ND96isr_H100_v5", 96, 8, 1900)],
}
SIZES = {
    f"standard_{name.lower()}": Size(f"Standard_{name}", family, cores, gpus, memory)
    for family, sizes in FAMILIES.items()
    for name, cores, gpus, memory in sizes
}


@dataclass(frozen=True)
class Held:
    """Cores that something has.

    Args:
        what: ARM id of a workspace's compute, or .../computes/Serverless.
    """

    what: str
    region: str
    size: Size
    nodes: int
    low_priority: bool

    @property
    def cores(self) -> int:
        return self.size.cores * self.nodes


def size_of(name: str) -> Size:
    """A kind of machine by its name, in whose letters case does not count; refuses what there is not."""
    found = SIZES.get(name.lower())
    if found is None:
        text = (
            f"The specified VM size {name} is not supported. Please refer to https://aka.ms/azureml-vm-sizes"
        )
        raise AzureError(400, "UserError", text)
    return found


class Usages:
    """The limits of a subscription in all regions, and what is used of them.

    Args:
        held: gives all that has cores now.

    Attributes:
        offered: region -> names of the sizes that it has; a region that is not in it has all.
    """

    def __init__(self, held: Callable[[], Iterable[Held]]) -> None:
        self._held = held
        self._limits: dict[tuple[str, str], int] = {}
        self.offered: dict[str, set[str]] = {}

    def set(self, name: str, limit: int, region: str = "") -> None:
        """Gives the subscription another limit.

        Args:
            name: of a quota, or of a size, which means its family's dedicated cores and enough of them in all.
            region: "" for all.
        """
        if name.lower() in SIZES:
            name = SIZES[name.lower()].quota
            self._limits[region, ALL_DEDICATED] = max(limit, self.limit(ALL_DEDICATED, region))
        assert name in (ALL_DEDICATED, ALL_LOW_PRIORITY) or name in {one.quota for one in SIZES.values()}, (
            name
        )
        self._limits[region, name] = limit

    def reset(self) -> None:
        """Gives the subscription the limits of a new one."""
        self._limits.clear()
        self.offered.clear()

    def limit(self, name: str, region: str) -> int:
        """What a quota is."""
        for key in ((region, name), ("", name)):
            if key in self._limits:
                return self._limits[key]
        if name in (ALL_DEDICATED, ALL_LOW_PRIORITY):
            return DEDICATED if name == ALL_DEDICATED else LOW_PRIORITY
        return GPU if any(one.gpus for one in SIZES.values() if one.quota == name) else FAMILY

    def used(self, region: str, low_priority: bool, family: str = "") -> int:
        """Cores that are in use of a tier, in all or of one family."""
        return sum(
            one.cores
            for one in self._held()
            if (one.region, one.low_priority) == (region, low_priority) and family in ("", one.size.family)
        )

    def refusal(self, size: Size, nodes: int, low_priority: bool, region: str) -> str:
        """Why the subscription can never have so many nodes; "" where it can.

        As seen: https://github.com/MicrosoftLearning/mslearn-dp100/issues/35 and MicrosoftDocs/mslearn-aml-labs/issues/8.
        """
        wanted = size.cores * nodes
        limits = {"total low priority vCPU": self.limit(ALL_LOW_PRIORITY, region)}
        if not low_priority:
            limits = {f"Standard {size.family} family vCPU": self.limit(size.quota, region)}
            limits["total vCPU"] = self.limit(ALL_DEDICATED, region)
        for what, limit in limits.items():
            if wanted > limit:
                return (
                    f"The specified subscription has a {what} quota of {limit} and is less than the requested job node"
                    f" count of {nodes} which maps to {wanted} vCPUs. Talk to your Subscription Admin or refer to"
                    " https://docs.microsoft.com/azure/machine-learning/how-to-manage-quotas#request-quota-increases"
                    f" to increase the {what} quota"
                )
        return ""

    def has_room(self, size: Size, nodes: int, low_priority: bool, region: str) -> bool:
        """Whether others leave enough of it now; otherwise a job waits (how-to-use-serverless-compute, Quota)."""
        wanted = size.cores * nodes
        if low_priority:
            return self.used(region, True) + wanted <= self.limit(ALL_LOW_PRIORITY, region)
        of_family = self.used(region, False, size.family) + wanted <= self.limit(size.quota, region)
        return of_family and self.used(region, False) + wanted <= self.limit(ALL_DEDICATED, region)

    def sizes(self, region: str) -> list[Size]:
        """What a region has."""
        offered = {name.lower() for name in self.offered.get(region, ())}
        return [one for key, one in SIZES.items() if region not in self.offered or key in offered]

    # What is said of it

    def listed(self, subscription: str, region: str) -> list[dict[str, Any]]:
        """Every limit and its use; a family's low priority has none of its own, which is said as -1."""
        root, kind = f"/subscriptions/{subscription}/usages", "Microsoft.MachineLearningServices"
        found = [_usage(root, f"{kind}/totalCores/usages", "Clusters", 0, 200)]
        for low, total in ((False, ALL_DEDICATED), (True, ALL_LOW_PRIORITY)):
            which = "lowPriorityCores" if low else "dedicatedCores"
            used, limit = self.used(region, low), self.limit(total, region)
            found.append(_usage(root, f"{kind}/{which}/usages", total, used, limit))
            for family in {one.family: one for one in self.sizes(region)}.values():
                name = family.quota.replace("Dedicated", "LowPriority") if low else family.quota
                limit = -1 if low else self.limit(family.quota, region)
                where = f"{root}/{name.replace(' ', '_')}"
                used = self.used(region, low, family.family)
                found.append(_usage(where, f"{kind}/vmFamily/usages", name, used, limit))
                found += self._by_compute(kind, name, region, family.family, low, limit)
        return found

    def quotas(self, subscription: str, region: str) -> list[dict[str, Any]]:
        """What families have, which workspaces share: https://learn.microsoft.com/rest/api/azureml/quotas/list."""
        found = []
        for family in {one.family: one for one in self.sizes(region)}.values():
            name = family.quota
            where = f"/subscriptions/{subscription}/quotas/{name.replace(' ', '_')}"
            kind = "Microsoft.MachineLearningServices/vmFamily/quotas"
            one = _usage(where, kind, name, 0, self.limit(name, region))
            found.append({key: value for key, value in one.items() if key != "currentValue"})
        return found

    def _by_compute(
        self, kind: str, name: str, region: str, family: str, low: bool, limit: int
    ) -> Iterable[dict[str, Any]]:
        for one in self._held():
            if (one.region, one.low_priority, one.size.family) == (region, low, family):
                where = f"{one.what}/usages/{name.replace(' ', '_')}"
                yield _usage(where, f"{kind}/workspaces/computes/usages", name, one.cores, limit)

    def sizes_listed(self, region: str) -> list[dict[str, Any]]:
        """The sizes of a region as the API describes them."""
        return [
            {
                "name": one.name,
                "family": f"standard{one.family}Family",
                "vCPUs": one.cores,
                "gpus": one.gpus,
                "osVhdSizeMB": 1047552,
                "maxResourceVolumeMB": one.cores * 16384,
                "memoryGB": one.memory,
                "lowPriorityCapable": True,
                "premiumIO": True,
                "supportedComputeTypes": SUPPORTED,
            }
            for one in self.sizes(region)
        ]


def _usage(where: str, kind: str, name: str, used: int, limit: int) -> dict[str, Any]:
    names = {"value": name, "localizedValue": name}
    return {"id": where, "type": kind, "currentValue": used, "limit": limit, "name": names, "unit": "Count"}
