"""What Azure Resource Manager does in the background, and how a client sees how far it is.

https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations: it is under way at the first look, and done at
the second.
"""

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from stage.azure.arm_kinds import Resource
from stage.azure.errors import AzureError
from stage.azure.server import Reply

HOST = "management.azure.com"


class Operations:
    """Everything that is or was under way.

    Attributes:
        retry_after: seconds that a client is asked to wait between two looks.
    """

    def __init__(self, subscription: str, place: str, resources: Mapping[str, Resource]) -> None:
        self.subscription, self._place, self._resources = subscription, place, resources
        self.retry_after = 0
        self.operations: dict[str, tuple[str, int, AzureError | None]] = {}
        self._later: dict[str, tuple[int, Callable[[], None]]] = {}

    def operation(self, target: str, namespace: str, failure: AzureError | None = None) -> dict[str, str]:
        """Headers that tell where to ask how far something is: it is under way at the first look, done at the second."""
        name = str(uuid.uuid4())
        self.operations[name] = (target, 1, failure)
        where = f"/subscriptions/{self.subscription}/providers/{namespace}/locations/{self._place}"
        url = f"https://{HOST}{where}/operationStatuses/{name}?api-version=2024-01-01"
        return {"Azure-AsyncOperation": url, "Retry-After": str(self.retry_after)}

    def later(self, does: Callable[[], None] = lambda: None) -> dict[str, str]:
        """Headers of something that is done in the background, when it is looked at the second time; see `follow`."""
        name = str(uuid.uuid4())
        self._later[name] = (1, does)
        url = (
            f"https://{HOST}/subscriptions/{self.subscription}/operationresults/{name}?api-version=2021-04-01"
        )
        return {"Location": url, "Retry-After": str(self.retry_after)}

    def follow(self, name: str) -> Reply:
        """How far something is whose headers `later` has made."""
        if name not in self._later:
            raise AzureError(404, "OperationNotFound", f"The operation '{name}' could not be found.")
        left, does = self._later[name]
        if left > 0:
            self._later[name] = (left - 1, does)
            return Reply(202, None, {"Retry-After": str(self.retry_after)})
        self._later[name] = (0, lambda: None)
        does()
        return Reply(200)

    def look(self, name: str) -> Reply:
        """How far an operation is. https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations"""
        if name not in self.operations:
            raise AzureError(404, "OperationNotFound", f"The operation '{name}' could not be found.")
        target, left, failure = self.operations[name]
        self.operations[name] = (target, left - 1, failure)
        if left > 0:
            again = {"Retry-After": str(self.retry_after)}
            return Reply(200, {"id": f"/{name}", "name": name, "status": "InProgress"}, again)
        if found := self._resources.get(target.lower()):
            found.pending = 0
        said: dict[str, Any] = {
            "id": f"/{name}",
            "name": name,
            "status": "Failed" if failure else "Succeeded",
        }
        return Reply(200, said | (failure.json() if failure else {}))
