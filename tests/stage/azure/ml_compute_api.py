"""What Azure ML takes and refuses of computes, and what can be done to them."""

import re
from collections.abc import Callable
from typing import Any

from stage.azure import ml_shapes
from stage.azure.arm import Arm
from stage.azure.errors import AzureError
from stage.azure.ml_computes import Compute
from stage.azure.ml_rules import absent, invalid
from stage.azure.ml_schedules import check_schedules
from stage.azure.ml_shapes import seconds
from stage.azure.ml_usages import Usages, size_of
from stage.azure.server import Call, Reply

# As the description has it; the words: https://github.com/microsoft/AzureTRE/issues/3661.
NAME = re.compile(r"[a-zA-Z](?![a-zA-Z0-9-]*-\d+$)[a-zA-Z0-9-]{2,23}")
# "A minimum of 15 mins and a maximum of three days".
IDLE = (15 * 60, 3 * 86400)
# Verb -> states in which it may be said, and where it leads.
VERBS = {
    "start": (("Stopped",), "Starting"),
    "stop": (("Running",), "Stopping"),
    "restart": (("Running",), "Restarting"),
}


class Computes:
    """Those of all workspaces.

    Attributes:
        known: id in lower case -> compute.
    """

    def __init__(self, arm: Arm, usages: Callable[[], Usages], busy: Callable[[str], bool]) -> None:
        self._arm, self._usages, self._busy = arm, usages, busy
        self.known: dict[str, Compute] = {}

    def __call__(self, call: Call, workspace: str, kinds: tuple[str, ...], names: tuple[str, ...]) -> Reply:
        """Answers for what is below .../computes."""
        if not names:
            below = workspace.lower() + "/"
            return Reply(
                200, {"value": [one.described() for key, one in self.known.items() if key.startswith(below)]}
            )
        id = f"{workspace}/computes/{names[0]}"
        if call.method == "PUT" and not kinds:
            return self._put(call, workspace, id)
        found = self.known.get(id.lower())
        if found is None:
            if call.method == "DELETE":
                return Reply(204)
            raise AzureError(404, "ResourceNotFound", f"Compute {names[0]} not found in workspace.")
        if kinds and call.method == "POST":
            return self._act(call, found, kinds[0])
        if kinds or call.method not in ("GET", "DELETE"):
            raise absent(f"{call.method} of computes")
        if call.method == "DELETE":
            return self._delete(call, found)
        found.look()
        return Reply(200, found.described())

    def _put(self, call: Call, workspace: str, id: str) -> Reply:
        body = call.json()
        ml_shapes.check("ComputeResource", body)
        place = self._arm.get(workspace).content["location"].replace(" ", "").lower()
        before = self.known.get(id.lower())
        if before:
            # An instance with a schedule cannot even be put again as it is: https://github.com/MicrosoftDocs/azure-docs/issues/80695.
            again = before.given != body or before.settings.get("schedules")
            if again and not self._scaled(before, body):
                raise invalid(f"Compute {before.name} exists already and can only be scaled.", 409)
            return Reply(200, before.described())
        check_compute(id.rpartition("/")[2], body, place, self._usages())
        made = Compute(
            id,
            {**body, "location": body["location"].replace(" ", "").lower()},
            call.principal.object_id if call.principal else "",
            self._arm.clock,
        )
        if made.instance:
            made.failure = self._failing(workspace)
            made.idles = self._idles(workspace, body.get("identity") or {})
        self.known[id.lower()] = made
        return Reply(201, made.described(), self._waiting(made))

    def _scaled(self, before: Compute, body: dict[str, Any]) -> bool:
        """Takes over new scale settings of a cluster, if nothing else is new."""
        if before.instance:
            return False
        scale = body["properties"]["properties"].get("scaleSettings")
        now = {**before.given, "properties": {**before.given["properties"]}}
        now["properties"]["properties"] = {**before.settings, "scaleSettings": scale}
        if now != {**body, "location": before.given["location"]}:
            return False
        before.settings["scaleSettings"] = scale
        return True

    def _failing(self, workspace: str) -> str:
        """Why an instance will not come up; "" where it will.

        "In the storage account, the 'Allow storage account key access' option must be enabled for compute instance creation
        to be successful": how-to-create-compute-instance.md.
        """
        account = self._arm.get(workspace).properties.get("storageAccount", "")
        found = self._arm.resources.get(account.lower())
        if found and found.properties.get("allowSharedKeyAccess") is False:
            return "Compute instance creation failed: the storage account of the workspace does not allow key access."
        return ""

    def _idles(self, workspace: str, identity: dict[str, Any]) -> bool:
        """Whether an instance that is idle can stop itself: one with a managed identity only if that may stop it.

        "The compute instance won't shut down due to inactivity unless the managed identity has contributor access":
        how-to-create-compute-instance.md#configure-idle-shutdown.
        """
        names = identity.get("userAssignedIdentities") or {}
        if not names and identity.get("type", "None") == "None":
            return True
        action = "Microsoft.MachineLearningServices/workspaces/computes/stop/action"
        for name in names:
            known = self._arm.resources.get(name.lower())
            principal = self._arm.people.by_object(known.properties["principalId"]) if known else None
            if principal and self._arm.roles.allows(principal, action, workspace):
                return True
        return False

    def _act(self, call: Call, found: Compute, verb: str) -> Reply:
        if verb == "listnodes" and not found.instance:
            return Reply(200, {"nodes": []})
        if not found.instance:
            raise invalid(f"{found.name} is no compute instance.")
        if verb == "updateidleshutdownsetting":
            idle = call.json().get("idleTimeBeforeShutdown")
            check_idle(idle)
            found.settings["idleTimeBeforeShutdown"] = idle
            found.use()
            return Reply(200)
        if verb not in VERBS:
            raise absent(verb)
        states, leads = VERBS[verb]
        if found.state not in states:
            raise invalid(f"Compute instance {found.name} is {found.state}: it cannot {verb}.", 409)
        if verb == "stop" and found.full:
            raise AzureError(
                400, "BadRequest", "StopCompute is not allowed when ComputeInstance disk is full."
            )
        found.to(leads)
        return Reply(202, None, self._waiting(found))

    def _delete(self, call: Call, found: Compute) -> Reply:
        """https://learn.microsoft.com/rest/api/azureml/compute/delete: what is to become of the machine has to be said."""
        if call.query.get("underlyingResourceAction") not in ("Delete", "Detach"):
            raise AzureError(
                400, "ValidationError", "The underlyingResourceAction query parameter is required."
            )
        if self._busy(found.id):
            raise invalid(f"Compute {found.name} has jobs that run.", 409)
        del self.known[found.id.lower()]
        return Reply(202, None, self._waiting(found))

    def _waiting(self, compute: Compute) -> dict[str, str]:
        where = f"/subscriptions/{self._arm.subscription}/providers/Microsoft.MachineLearningServices"
        url = f"https://management.azure.com{where}/locations/{compute.given['location']}/computeOperationsStatus"
        name = compute.id.replace("/", "~")
        status = f"{url}/{name}?api-version=2025-12-01"
        return {"Azure-AsyncOperation": status, "Location": status, "Retry-After": str(self._arm.retry_after)}

    def operation(self, name: str) -> Reply:
        """How far a change of a compute is."""
        found = self.known.get(name.replace("~", "/").lower())
        if found:
            found.look()
        under_way = found is not None and found.under_way
        said: dict[str, Any] = {"status": "InProgress" if under_way else "Succeeded"}
        if found and found.failure and not under_way:
            said = {"status": "Failed", "error": {"code": "BadArgument", "message": found.failure}}
        return Reply(200, said, {"Retry-After": str(self._arm.retry_after)} if under_way else {})


def check_idle(idle: str | None) -> None:
    """Refuses a time that an instance may not be idle."""
    if idle is not None and not IDLE[0] <= seconds(idle) <= IDLE[1]:
        raise AzureError(400, "BadRequest", "idleTimeBeforeShutdown must be between 15 minutes and 3 days.")


def check_compute(name: str, given: dict[str, Any], region: str, usages: Usages) -> None:
    """Refuses a compute that cannot be made."""
    kind, settings = given["properties"]["computeType"], given["properties"].get("properties") or {}
    if kind not in ("AmlCompute", "ComputeInstance"):
        raise absent(kind)
    if not NAME.fullmatch(name):
        raise AzureError(
            400,
            "InvalidResourceName",
            f"A name for an Azure ML {'Compute Instance' if kind == 'ComputeInstance' else 'Compute'} must be between 3 and 24"
            " characters in length and must use only numbers, letters and minus symbol (-) and must start with letters."
            " Numbers cannot be the ending of the name if the previous character is a minus symbol (-). Please specify a"
            " different Azure ML Instance name",
        )
    place = given.get("location", "").replace(" ", "").lower()
    if place != region and kind == "ComputeInstance":
        # A cluster may be elsewhere: how-to-create-attach-compute-cluster.md#limitations.
        raise AzureError(
            400, "BadRequest", f"A compute instance is made in its workspace's region, {region}."
        )
    if not settings.get("vmSize"):
        raise AzureError(400, "BadRequest", "The vmSize of the compute is required.")
    size, nodes, low = size_of(settings["vmSize"]), 1, settings.get("vmPriority") == "LowPriority"
    if kind == "ComputeInstance":
        idle = settings.get("idleTimeBeforeShutdown")
        if idle is not None and not IDLE[0] <= seconds(idle) <= IDLE[1]:
            raise AzureError(
                400, "BadRequest", "idleTimeBeforeShutdown must be between 15 minutes and 3 days."
            )
        check_schedules((settings.get("schedules") or {}).get("computeStartStop") or [])
    else:
        scale = settings.get("scaleSettings")
        if (
            not scale
            or not 0 <= scale.get("minNodeCount", 0) <= scale["maxNodeCount"]
            or scale["maxNodeCount"] < 1
        ):
            raise AzureError(400, "BadRequest", "scaleSettings need 0 <= minNodeCount <= maxNodeCount.")
    if usages.refusal(size, nodes, low, place) or not usages.has_room(size, nodes, low, place):
        # As seen: https://github.com/Azure/mlops-v2/issues/81.
        limit = usages.limit(size.quota, place)
        raise AzureError(
            400,
            "BadRequest",
            f"The specified subscription has a Standard {size.family} family vCPU quota of {limit} and cannot accomodate for"
            f" at least {nodes} requested managed compute node which maps to {size.cores * nodes} vCPUs.",
        )
