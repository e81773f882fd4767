"""What Compute Engine has, and where: zones, machine types, GPUs, images; a part of it, as of November 2026."""

import re
from typing import Any

# The beginning of a resource's URL, which may be left out.
ROOT = r"(?:https://(?:www|compute)\.googleapis\.com/compute/v1/)?(?:projects/(?P<project>[^/]+)/)?"

# Region -> letters of its zones.
REGIONS = {
    "us-central1": "abcf",
    "us-east1": "bcd",
    "us-east4": "abc",
    "us-west1": "abc",
    "europe-west1": "bcd",
    "europe-west4": "abc",
    "asia-southeast1": "abc",
}
ZONES = [f"{region}-{letter}" for region, letters in REGIONS.items() for letter in letters]

FAMILIES = {
    "n1-standard": (1, 2, 4, 8, 16, 32, 64, 96),
    "n1-highmem": (2, 4, 8, 16, 32, 64, 96),
    "n1-highcpu": (2, 4, 8, 16, 32, 64, 96),
    "n2-standard": (2, 4, 8, 16, 32, 48, 64, 80, 96, 128),
    "e2-standard": (2, 4, 8, 16, 32),
    "e2-highmem": (2, 4, 8, 16),
    "c2-standard": (4, 8, 16, 30, 60),
    "g2-standard": (4, 8, 12, 16, 24, 32, 48, 96),
}
MACHINES = {f"{family}-{cpus}": cpus for family, sizes in FAMILIES.items() for cpus in sizes}
MACHINES |= {"e2-micro": 2, "e2-small": 2, "e2-medium": 2}

# Machine types that come with their GPUs.
BUILT_IN: dict[str, tuple[str, int]] = {
    **{
        f"g2-standard-{cpus}": ("nvidia-l4", {24: 2, 48: 4, 96: 8}.get(cpus, 1))
        for cpus in FAMILIES["g2-standard"]
    },
    **{f"a2-highgpu-{gpus}g": ("nvidia-tesla-a100", gpus) for gpus in (1, 2, 4, 8)},
    "a2-megagpu-16g": ("nvidia-tesla-a100", 16),
    **{f"a2-ultragpu-{gpus}g": ("nvidia-a100-80gb", gpus) for gpus in (1, 2, 4, 8)},
    **{f"a3-highgpu-{gpus}g": ("nvidia-h100-80gb", gpus) for gpus in (1, 2, 4, 8)},
}
MACHINES |= {
    name: 26 * gpus if name.startswith("a3") else 12 * gpus
    for name, (_, gpus) in BUILT_IN.items()
    if name[0] == "a"
}

# GPUs that may be attached to an n1 machine: how many -> the most vCPUs beside them.
ATTACHED = {
    "nvidia-tesla-t4": {1: 48, 2: 48, 4: 96},
    "nvidia-tesla-p4": {1: 24, 2: 48, 4: 96},
    "nvidia-tesla-v100": {1: 12, 2: 24, 4: 48, 8: 96},
    "nvidia-tesla-p100": {1: 16, 2: 32, 4: 96},
}
# Zones that have a GPU, as far as there are fewer than all.
WHERE = {
    "nvidia-l4": "us-central1-[abc] us-east1-[bcd] us-east4-[ac] us-west1-[abc] europe-west1-[bc] europe-west4-. asia-southeast1-.",
    "nvidia-tesla-t4": "us-central1-. us-east1-[cd] us-east4-b us-west1-[ab] europe-west1-. europe-west4-. asia-southeast1-.",
    "nvidia-tesla-p4": "us-central1-[ac] us-east4-. europe-west4-[bc] asia-southeast1-[bc]",
    "nvidia-tesla-v100": "us-central1-. us-east1-c us-west1-[ab] europe-west4-. asia-southeast1-c",
    "nvidia-tesla-p100": "us-central1-[cf] us-east1-[bc] us-west1-[ab] europe-west1-[bd] europe-west4-a",
    "nvidia-tesla-a100": "us-central1-. us-east1-b us-west1-b europe-west4-[ab] asia-southeast1-[bc]",
    "nvidia-a100-80gb": "us-central1-[ac] us-east4-c europe-west4-a asia-southeast1-c",
    "nvidia-h100-80gb": "us-central1-[ac] us-east4-[ab] us-west1-[ab] europe-west1-b europe-west4-[bc] asia-southeast1-[bc]",
}
DISKS = ("pd-standard", "pd-balanced", "pd-ssd", "hyperdisk-balanced")
# Public images: project -> family -> gigabytes of the image.
IMAGES = {
    "deeplearning-platform-release": {
        "common-cu128-ubuntu-2204-nvidia-570": 50,
        "common-cu129-ubuntu-2204-nvidia-580": 50,
        "common-cu129-ubuntu-2404-nvidia-580": 50,
        "common-cpu-ubuntu-2204": 50,
    },
    "cos-cloud": {"cos-stable": 10},
    "debian-cloud": {"debian-12": 10, "debian-13": 10},
}


def has_gpu(gpu: str, zone: str) -> bool:
    return any(re.fullmatch(pattern, zone) for pattern in WHERE.get(gpu, "").split())


def has_machine(machine: str, zone: str) -> bool:
    return machine in MACHINES and (machine not in BUILT_IN or has_gpu(BUILT_IN[machine][0], zone))


def gpus(instance: dict[str, Any]) -> tuple[str, int]:
    """The GPU that an instance has and how many of them; ("", 0) for none."""
    machine = instance["machineType"].rpartition("/")[2]
    for one in instance.get("guestAccelerators", []):
        return one["acceleratorType"].rpartition("/")[2], one["acceleratorCount"]
    return BUILT_IN.get(machine, ("", 0))


def image_size(url: str) -> int | None:
    """Gigabytes of a public image that is named by its family; None where there is none."""
    found = re.fullmatch(rf"{ROOT}global/images/family/(?P<name>[^/]+)", url)
    return IMAGES.get(found["project"] or "", {}).get(found["name"]) if found else None
