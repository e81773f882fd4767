"""Computes of a workspace: clusters, which grow with their jobs, and instances, which are a person's machine.

https://learn.microsoft.com/azure/machine-learning/how-to-create-compute-instance and how-to-create-attach-compute-cluster.
"""

import copy
import datetime
from collections.abc import Iterator
from typing import Any

from stage.azure.ml_schedules import next_time
from stage.azure.ml_shapes import seconds
from stage.azure.ml_usages import Held, size_of
from stage.clock import Clock, Deadline

STEP = 120.0  # seconds of a change of state, if nobody looks twice before
LOOKS = 2
TO = {"Creating": "Running", "Starting": "Running", "Restarting": "Running", "Stopping": "Stopped"}


class Compute:
    """A cluster or an instance.

    Attributes:
        given: the request's body.
        state: of an instance, as the service says it; "" of a cluster.
        nodes: of a cluster, those that jobs have.
    """

    def __init__(self, id: str, given: dict[str, Any], by: str, clock: Clock) -> None:
        self.id, self.given, self.by, self._clock = id, copy.deepcopy(given), by, clock
        self.made = self.modified = clock.now()
        self.instance = given["properties"]["computeType"] == "ComputeInstance"
        self.state = "Creating" if self.instance else ""
        self.nodes = 0
        self.failure = ""
        self.idles = True  # whether it can stop itself when nobody uses it
        self.full = False  # its disk: "StopCompute is not allowed", github.com/microsoft/vscode-tools-for-ai/issues/2605
        self._looks, self._moved, self._active = LOOKS, clock.now(), clock.now()
        self._scheduled: dict[int, float | None] = {}

    @property
    def name(self) -> str:
        return self.id.rpartition("/")[2]

    @property
    def settings(self) -> dict[str, Any]:
        return self.given["properties"].setdefault("properties", {})

    @property
    def low_priority(self) -> bool:
        return self.settings.get("vmPriority") == "LowPriority"

    @property
    def paid(self) -> set[str]:
        """What costs money at the moment: a stopped instance keeps its disk, an empty cluster its load balancer.

        https://learn.microsoft.com/azure/machine-learning/concept-plan-manage-cost#costs-might-accrue-before-resource-deletion
        """
        if not self.instance:
            least = self.settings["scaleSettings"].get("minNodeCount", 0)
            return {"load balancer"} | ({"machine"} if max(self.nodes, least) else set())
        if self.failure:
            return set()
        return {"disk", "load balancer"} | (set() if self.state == "Stopped" else {"machine"})

    def held(self) -> Iterator[Held]:
        """The cores it has. "Stopping the compute instance doesn't release quota", and a cluster's "unprovisioned nodes
        contribute to your quota usage": how-to-create-compute-instance.md, how-to-create-attach-compute-cluster.md#delete.
        """
        nodes = 1 if self.instance else self.settings["scaleSettings"]["maxNodeCount"]
        if not self.failure:
            size = size_of(self.settings["vmSize"])
            yield Held(self.id, self.given["location"], size, nodes, self.low_priority)

    # What happens to it

    def use(self) -> None:
        """Somebody works on it now."""
        self._active = self._clock.now()

    def to(self, state: str) -> None:
        """Begins a change of state, such as Stopping."""
        self.state, self._looks = state, LOOKS
        self._moved = self.modified = self._clock.now()

    def look(self) -> None:
        """A change takes until somebody has looked twice, or its time has passed: a client that waits need not really wait."""
        if self.state in TO:
            self._looks -= 1
            if self._looks <= 0:
                self._arrive()

    @property
    def under_way(self) -> bool:
        return self.state in TO

    def _arrive(self) -> None:
        if self.failure:
            self.state = "CreateFailed"
        else:
            self.state = TO[self.state]
        self._moved = self._active = self.modified = self._clock.now()

    def deadlines(self) -> Iterator[Deadline]:
        if not self.instance or self.failure:
            return
        if self.state in TO:
            yield Deadline(self._moved + STEP, self._arrive)
            return
        idle = self.settings.get("idleTimeBeforeShutdown")
        if idle and self.state == "Running" and self.idles and not self.full:
            yield Deadline(self._active + seconds(idle), lambda: self.to("Stopping"))
        for index, one in enumerate((self.settings.get("schedules") or {}).get("computeStartStop") or []):
            if (
                self._scheduled.get(index, 0.0) is not None
                and (self._scheduled.get(index) or 0) <= self._clock.now()
            ):
                self._scheduled[index] = next_time(one, max(self._moved, self._scheduled.get(index) or 0))
            moment = self._scheduled[index]
            if moment is not None:
                yield Deadline(moment, lambda i=index, one=one: self._come(i, one["action"]))

    def _come(self, index: int, action: str) -> None:
        """A schedule's moment has come."""
        schedules = self.settings["schedules"]["computeStartStop"]
        self._scheduled[index] = next_time(schedules[index], self._clock.now())
        wanted = {"Stop": ("Running", "Stopping"), "Start": ("Stopped", "Starting")}[action]
        if self.state == wanted[0] and not (action == "Stop" and self.full):
            self.to(wanted[1])

    # What is said of it

    def described(self) -> dict[str, Any]:
        shown = copy.deepcopy(self.given)
        properties = shown["properties"]
        stamp = _stamp(self.made)
        properties |= {"createdOn": stamp, "modifiedOn": _stamp(self.modified), "isAttachedCompute": False}
        properties["computeLocation"] = shown["location"]
        properties["provisioningState"] = self.provisioning
        properties["provisioningErrors"] = None
        if self.failure:
            error = {"error": {"code": "BadArgument", "message": self.failure}}
            properties["provisioningErrors"] = [error]
        if self.instance:
            endpoint = f"https://{self.name}.{shown['location']}.instances.azureml.ms"
            applications = [
                {"displayName": name, "endpointUri": endpoint + tail}
                for name, tail in (("Jupyter", "/tree/"), ("Jupyter Lab", "/lab"))
            ]
            properties["properties"] |= {"state": self.state, "applications": applications}
        else:
            count = max(self.nodes, self.settings["scaleSettings"].get("minNodeCount", 0))
            counts = {"currentNodeCount": count, "targetNodeCount": count, "allocationState": "Steady"}
            properties["properties"] |= counts
        kind = "Microsoft.MachineLearningServices/workspaces/computes"
        return {"id": self.id, "name": self.name, "type": kind, **shown}

    @property
    def provisioning(self) -> str:
        if self.failure:
            return "Failed"
        return "Creating" if self.state == "Creating" else "Succeeded"


def _stamp(moment: float) -> str:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.0000000+00:00")
