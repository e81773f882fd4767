"""Addresses of Azure Resource Manager: scopes, resources, collections and actions.

https://learn.microsoft.com/rest/api/resources/resources#resource-id and
https://learn.microsoft.com/azure/role-based-access-control/resource-provider-operations for what a request takes.
"""

import re
from dataclasses import dataclass

from stage.azure.errors import AzureError

VERBS = {
    "GET": "read",
    "HEAD": "read",
    "PUT": "write",
    "PATCH": "write",
    "DELETE": "delete",
    "POST": "action",
}


@dataclass(frozen=True)
class Address:
    """What a path names.

    Args:
        scope: that comes before the last provider: a subscription, a group, a resource.
        namespace: of the provider, "" for groups and subscriptions.
        kinds, names: types and names below the provider; of a collection or an action there is a type more.
    """

    path: str
    subscription: str
    group: str
    scope: str
    namespace: str
    kinds: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def type(self) -> str:
        """Such as Microsoft.Storage/storageAccounts/blobServices, as it was written."""
        return "/".join((self.namespace, *self.kinds))

    @property
    def whole(self) -> bool:
        """Whether it names one thing, no collection and no action."""
        return len(self.kinds) == len(self.names)

    @property
    def parent(self) -> str:
        """The path of what it is below, within its provider; "" at the top."""
        return "/".join(self.path.split("/")[:-2]) if len(self.names) > 1 else ""

    def action(self, method: str) -> str:
        """What a principal has to be allowed for a request."""
        return f"{self.type}/{VERBS[method]}" if self.namespace else f"{self.type}/{VERBS[method]}"[1:]


def parse(path: str) -> Address:
    """Reads a path; keywords in any case, as the service takes them."""
    parts = [part for part in path.strip("/").split("/") if part]
    lower = [part.lower() for part in parts]
    subscription = parts[1] if lower[:1] == ["subscriptions"] and len(parts) > 1 else ""
    group = parts[3] if lower[2:3] == ["resourcegroups"] and len(parts) > 3 else ""
    where = len(lower) - 1 - lower[::-1].index("providers") if "providers" in lower else len(parts)
    scope = "/" + "/".join(parts[:where])
    rest = parts[where + 1 :]
    if not rest:
        return Address("/" + "/".join(parts), subscription, group, scope, "", (), ())
    if not re.fullmatch(r"\w+(\.\w+)*", rest[0]):
        raise AzureError(404, "InvalidResourceNamespace", f"The resource namespace '{rest[0]}' is invalid.")
    kinds, names = tuple(rest[1::2]), tuple(rest[2::2])
    return Address("/" + "/".join(parts), subscription, group, scope, rest[0], kinds, names)
