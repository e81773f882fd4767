"""Online endpoints and their deployments as things that exist: what each is, how far it is, what it costs.

https://learn.microsoft.com/azure/machine-learning/concept-endpoints-online
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from stage.azure.ml_listing import TYPE, stamp
from stage.azure.ml_usages import Held, size_of

LOOKS = 2  # at what goes on, until it is done
HOST = "inference.ml.azure.com"
# Sizes of which no fifth more is reserved, by how they begin: reference-managed-online-endpoints-vm-sku-list.md.
EXEMPT = (
    "standard_nc24ads_a100",
    "standard_nc48ads_a100",
    "standard_nc96ads_a100",
    "standard_nc40ads_h100",
    "standard_nd",
)


class Container(Protocol):
    """What answers for an image."""

    def ready(self, path: str) -> bool | None:
        """Whether a probe of this path finds it well; None where it has ended."""
        ...

    def ask(self, method: str, path: str, body: bytes, kind: str) -> tuple[int, bytes]:
        """Status and body of its answer.

        Args:
            kind: of the body, as of Content-Type.
        """
        ...

    def lines(self) -> list[str]:
        """What it has written."""
        ...

    def close(self) -> None:
        """It ends."""
        ...


@dataclass
class Deployment:
    """So many instances of one image.

    Args:
        given: the request's body.
        looks: how many more find it going on.
        failure: code and text of why it will not come up.
        machines: whether machines are there, be it in vain: "it might pass the stage when compute is created. In that case,
            the failed deployment incurs charges": how-to-view-online-endpoints-costs.md.
        route, health: paths at which its container takes requests, and tells that it is well.
    """

    id: str
    given: dict[str, Any]
    made: float
    state: str = "Creating"
    looks: int = LOOKS
    failure: tuple[str, str] | None = None
    machines: bool = False
    container: Container | None = None
    route: str = "/score"
    health: str = "/health"

    @property
    def name(self) -> str:
        return self.id.rpartition("/")[2]

    @property
    def instances(self) -> int:
        return int(self.given["sku"]["capacity"])

    @property
    def reserved(self) -> int:
        """ "ceil(1.2 * number of instances requested for deployment)": includes/quota-allocation-online-deployment.md."""
        size = str(self.given["properties"]["instanceType"]).lower()
        return self.instances if size.startswith(EXEMPT) else math.ceil(round(1.2 * self.instances, 6))

    def advance(self) -> None:
        """What goes on is a look further: it is up once its container is well."""
        if self.state != "Creating":
            return
        self.looks -= 1
        ready = self.container.ready(self.health) if self.container else None
        if self.container and ready is None:
            # ERROR: ResourceNotReady of how-to-troubleshoot-online-endpoints.md
            text = "User container has crashed or terminated. Please see troubleshooting guide, available here: https://aka.ms/oe-tsg#error-resourcenotready"
            self.failure = self.failure or ("ResourceNotReady", text)
        if self.failure and self.looks <= 0:
            self.state = "Failed"
        elif ready and self.looks <= 0:
            self.state = "Succeeded"

    def described(self) -> dict[str, Any]:
        said = copy.deepcopy(self.given)
        said["properties"]["provisioningState"] = self.state
        made = {"createdAt": stamp(self.made)}
        kind = f"{TYPE}/onlineEndpoints/deployments"
        return {"id": self.id, "name": self.name, "type": kind, **said, "systemData": made}


@dataclass
class Endpoint:
    """A name at which deployments answer.

    Args:
        shown: parts of the requests as GET tells them, which lag behind those that count.
        stale: how many more looks find the former parts (github.com/Azure/azure-dev/pull/3881).
        settling: how many deployments are still refused although it tells that it is ready
            (github.com/Azure/azure-sdk-for-net/issues/36961).
    """

    id: str
    given: dict[str, Any]
    region: str
    made: float
    state: str = "Creating"
    looks: int = LOOKS
    deployments: dict[str, Deployment] = field(default_factory=dict)
    shown: dict[str, int] = field(default_factory=dict)
    stale: int = 0
    settling: int = 1

    @property
    def name(self) -> str:
        return self.id.rpartition("/")[2]

    @property
    def host(self) -> str:
        return f"{self.name.lower()}.{self.region}.{HOST}"

    @property
    def traffic(self) -> dict[str, int]:
        return self.given["properties"].get("traffic") or {}

    def advance(self) -> None:
        """What goes on with it is a look further."""
        if self.state in ("Creating", "Updating"):
            self.looks -= 1
            if self.looks <= 0:
                self.state = "Succeeded"

    def held(self) -> Iterator[Held]:
        """The cores that its deployments have, with those that are kept for upgrades."""
        for one in self.deployments.values():
            if one.machines:
                size = size_of(one.given["properties"]["instanceType"])
                yield Held(one.id, self.region, size, one.reserved, False)

    def described(self, identities: dict[str, dict[str, str]]) -> dict[str, Any]:
        if self.stale:
            self.stale -= 1
        else:
            self.shown = dict(self.traffic)
        said = copy.deepcopy(self.given)
        if (said.get("identity") or {}).get("userAssignedIdentities"):
            said["identity"]["userAssignedIdentities"] = identities
        own = f"/{self.id.strip('/')}".lower()
        routes = [one.route for one in self.deployments.values()]
        said["properties"] |= {
            "provisioningState": self.state,
            "scoringUri": f"https://{self.host}{routes[0] if routes else '/score'}",
            "swaggerUri": f"https://{self.host}/swagger.json",
            "traffic": dict(self.shown),
            "mirrorTraffic": {},
            "properties": {
                **(said["properties"].get("properties") or {}),
                "azureml.onlineendpointid": own,
                "AzureAsyncOperationUri": f"https://management.azure.com{own}/operation",
            },
        }
        made = {"createdAt": stamp(self.made)}
        kind = f"{TYPE}/onlineEndpoints"
        return {"id": self.id, "name": self.name, "type": kind, "kind": "Managed", **said, "systemData": made}
