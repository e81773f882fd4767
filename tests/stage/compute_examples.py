"""An order of a virtual machine that Compute Engine takes, for tests to change."""

from typing import Any

ZONE, GPU_ZONE = "us-central1-a", "us-central1-c"
FAMILY = "projects/deeplearning-platform-release/global/images/family/common-cu129-ubuntu-2204-nvidia-580"


def instance(name: str = "vm", script: str = "", zone: str = ZONE, **more: Any) -> dict[str, Any]:
    """A request that the service takes; `more` replaces fields."""
    items = [{"key": "startup-script", "value": script}] if script else []
    params = {"sourceImage": FAMILY, "diskSizeGb": "100", "diskType": f"zones/{zone}/diskTypes/pd-balanced"}
    interface = {"network": "global/networks/default", "accessConfigs": [{"type": "ONE_TO_ONE_NAT"}]}
    return {
        "name": name,
        "machineType": f"zones/{zone}/machineTypes/n1-standard-4",
        "labels": {"project": "demo", "run": name},
        "disks": [
            {"boot": True, "autoDelete": True, "initializeParams": params | {"labels": {"project": "demo"}}}
        ],
        "networkInterfaces": [interface],
        "metadata": {"items": items},
        "scheduling": {
            "provisioningModel": "SPOT",
            "instanceTerminationAction": "DELETE",
            "maxRunDuration": {"seconds": "3600"},
        },
        **more,
    }
