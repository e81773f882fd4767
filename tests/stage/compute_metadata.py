"""The metadata server of one VM: its name, zone and attributes, its account's tokens, and whether it is being preempted."""

import json
import time
from collections.abc import Callable
from typing import Any

from stage.google_identity import Identity
from stage.rest import Answer, Request

FLAVOR = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}
ROOT = "/computeMetadata/v1"


class Metadata:
    """Answers for one VM.

    Args:
        resource: the VM, as the API shows it.
        account: e-mail of its service account; "" for none.
        preempted: whether it has been told that it is taken away.
        poweroff: what happens when the VM shuts itself down.
    """

    def __init__(
        self,
        identity: Identity,
        resource: dict[str, Any],
        account: str,
        preempted: Callable[[], bool],
        poweroff: Callable[[], None],
    ) -> None:
        self.identity, self.resource, self.account = identity, resource, account
        self.preempted, self.poweroff = preempted, poweroff

    def handle(self, request: Request) -> Answer:
        if request.headers.get("Metadata-Flavor") != "Google" and request.path != "/":
            return Answer("Missing Metadata-Flavor:Google header.", 403, FLAVOR)
        if request.path == "/stage/poweroff" and request.method == "POST":
            self.poweroff()
            return Answer("", 200, FLAVOR)
        if request.path.startswith(f"{ROOT}/instance/service-accounts"):
            if not self.account:
                return Answer("Not Found", 404, FLAVOR)
            return self.identity.services.metadata(request, self.account)
        path = request.path.removeprefix(ROOT).strip("/")
        if not request.path.startswith(ROOT) or not path.startswith(("instance", "project")):
            return self.identity.services.metadata(request, self.account)
        return self._value(request, path.split("/"))

    def _value(self, request: Request, path: list[str]) -> Answer:
        query = {name: values[0] for name, values in request.query.items()}
        before = found = self._find(path)
        if query.get("wait_for_change", "").lower() == "true":
            deadline = time.monotonic() + float(query.get("timeout_sec", 120))
            while found == before and time.monotonic() < deadline:
                time.sleep(0.05)
                found = self._find(path)
        if found is None:
            return Answer(f"{request.path} was not found on this server.", 404, FLAVOR)
        if isinstance(found, dict) and query.get("recursive", "").lower() == "true":
            return Answer(found, 200, FLAVOR)
        if isinstance(found, dict):
            names = [f"{name}/" if isinstance(value, dict) else name for name, value in found.items()]
            return Answer("".join(f"{name}\n" for name in names), 200, FLAVOR)
        return Answer(json.dumps(found) if query.get("alt") == "json" else str(found), 200, FLAVOR)

    def _find(self, path: list[str]) -> Any:
        found: Any = {"instance": self._instance(), "project": self._project()}
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found

    def _instance(self) -> dict[str, Any]:
        zone = self.resource["zone"].rpartition("/")[2]
        items = self.resource.get("metadata", {}).get("items", [])
        machine = self.resource["machineType"].rpartition("/")[2]
        return {
            "attributes": {item["key"]: item.get("value", "") for item in items},
            "hostname": f"{self.resource['name']}.{zone}.c.{self.identity.project}.internal",
            "id": int(self.resource["id"]),
            "machine-type": f"projects/{self.identity.number}/machineTypes/{machine}",
            "maintenance-event": "NONE",
            "name": self.resource["name"],
            "preempted": "TRUE" if self.preempted() else "FALSE",
            "zone": f"projects/{self.identity.number}/zones/{zone}",
        }

    def _project(self) -> dict[str, Any]:
        return {
            "attributes": {},
            "numeric-project-id": int(self.identity.number),
            "project-id": self.identity.project,
        }
