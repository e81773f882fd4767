"""management.azure.com: who may ask, whether what is named exists, and the life of resources.

The order of the refusals is as seen of the service: token, subscription, version, right, provider, group, resource.
https://learn.microsoft.com/azure/azure-resource-manager/management/overview and its pages on errors.
"""

from collections.abc import Callable, Mapping

from stage.azure.arm_kinds import Json, Kind, Resource, Writing
from stage.azure.arm_operations import Operations
from stage.azure.arm_paths import Address, parse
from stage.azure.errors import AzureError
from stage.azure.people import People, Principal
from stage.azure.roles import Roles
from stage.azure.server import Call, Reply, Service
from stage.clock import Clock

AUDIENCES = ("https://management.azure.com", "https://management.core.windows.net")
LOCATIONS = ("eastus", "eastus2", "southcentralus", "westus2", "westus3", "westeurope", "northeurope")
# Those that need no registration: .../management/azure-services-resource-providers ("registered by default").
ALWAYS = {"microsoft.authorization", "microsoft.resources", "microsoft.consumption", "microsoft.features"}
ALWAYS |= {"microsoft.billing", "microsoft.costmanagement", "microsoft.support", "microsoft.portal"}
# What an online endpoint needs beside its own, and of which nothing else is played: without them a new subscription's first one
# fails, and no error names them (github.com/MicrosoftLearning/mslearn-azure-ml/issues/106, its Labs' setup.sh has them since).
FOR_ENDPOINTS = ("Microsoft.PolicyInsights", "Microsoft.Cdn")


class Arm(Operations):
    """Azure Resource Manager of one subscription.

    Attributes:
        own: handlers by namespace, for what no kind of the stage's is: they are asked when the principal may.
        kinds: by type, in lower case.
        resources: by id, in lower case.
        taken: names of other people's registries, in lower case.
    """

    def __init__(self, clock: Clock, people: People, roles: Roles, subscription: str) -> None:
        self.resources: dict[str, Resource] = {}
        super().__init__(subscription, LOCATIONS[0], self.resources)
        self.clock, self.people, self.roles = clock, people, roles
        self.own: dict[str, Service] = {}
        self.kinds: dict[str, Kind] = {}
        self.groups: dict[str, Json] = {}
        self.registered: dict[str, str] = {}
        self.locations: tuple[str, ...] = LOCATIONS
        self.taken: set[str] = set()
        self.extra: list[Callable[[Call, Address, Principal], Reply | None]] = []
        self.vanished: list[Callable[[str], None]] = []
        self.vanished_workspaces: dict[str, float] = {}

    def __call__(self, call: Call) -> Reply:
        principal = self.people.require(call.headers, *AUDIENCES)
        address = parse(call.path)
        if address.subscription and address.subscription.lower() != self.subscription:
            text = f"The subscription '{address.subscription}' could not be found."
            raise AzureError(404, "SubscriptionNotFound", text)
        if not call.query.get("api-version"):
            text = "The api-version query parameter (?api-version=) is required for all requests."
            raise AzureError(400, "MissingApiVersionParameter", text)
        for handler in self.extra:
            if reply := handler(call, address, principal):
                return reply
        return self._resource(call, address, principal)

    def _resource(self, call: Call, address: Address, principal: Principal) -> Reply:
        kind = self.kinds.get(address.type.lower())
        own = self.own.get(address.namespace) if kind is None else None
        if kind is None and call.method == "POST" and (found := self._acting(call, address, principal)):
            return found
        if not address.namespace or (kind is None and own is None):
            text = (
                f"The resource type could not be found in the namespace '{address.namespace}' for api version"
            )
            raise AzureError(404, "InvalidResourceType", f"{text} '{call.query['api-version']}': {call.path}")
        if kind:
            self.version(kind, call.query["api-version"])
        self.roles.require(principal, address.action(call.method), address.path)
        self.require_registered(address.namespace)
        self.require_places(address)
        if own:
            return own(call)
        assert kind is not None
        return self._of_kind(call, kind, address, principal)

    def _of_kind(self, call: Call, kind: Kind, address: Address, principal: Principal) -> Reply:
        if not address.whole:
            if call.method != "GET":
                raise AzureError(405, "MethodNotAllowed", f"{call.method} is not allowed here: {call.path}")
            return Reply(200, {"value": [one.json() for one in self._below(address)]})
        if call.method in ("GET", "HEAD"):
            found = self.get(address.path, kind)
            found.pending = max(found.pending - 1, 0)
            return Reply(200, found.json())
        if call.method == "PUT":
            return self._put(call, kind, address, principal)
        if call.method == "PATCH":
            self.get(address.path, kind)
            return self._patch(call, kind, address, principal)
        if call.method == "DELETE":
            return self.delete(address, kind, call.query)
        raise AzureError(405, "MethodNotAllowed", f"{call.method} is not allowed here: {call.path}")

    def _acting(self, call: Call, address: Address, principal: Principal) -> Reply | None:
        """A POST to an action of a resource; None where it is not one of the stage's."""
        if address.whole:
            return None
        kind = self.kinds.get("/".join((address.namespace, *address.kinds[:-1])).lower())
        does = kind.actions.get(address.kinds[-1]) if kind else None
        if kind is None or does is None:
            return None
        self.version(kind, call.query["api-version"])
        self.roles.require(principal, address.action("POST"), address.path.rpartition("/")[0])
        found = self.get(address.path.rpartition("/")[0], kind)
        return Reply(200, does(self, found, call.body))

    def version(self, kind: Kind, asked: str) -> None:
        """https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/error-sku-not-available and -noregisteredproviderfound"""
        if asked not in kind.versions:
            name = kind.type.partition("/")[2]
            text = (
                f"No registered resource provider found for location '{self.locations[0]}' and API version '{asked}' for "
                f"type '{name}'. The supported api-versions are '{', '.join(kind.versions)}'. The supported locations are "
                f"'{', '.join(self.locations)}'."
            )
            raise AzureError(400, "NoRegisteredProviderFound", text)

    def require_registered(self, namespace: str) -> None:
        """https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/error-register-resource-provider"""
        name = namespace.lower()
        if name not in ALWAYS and self.registered.get(name) != "Registered":
            text = (
                f"The subscription is not registered to use namespace '{namespace}'. See https://aka.ms/rps-not-found for "
                "how to register subscriptions."
            )
            raise AzureError(409, "MissingSubscriptionRegistration", text)

    def require_places(self, address: Address) -> None:
        if address.group and address.group.lower() not in self.groups:
            text = f"Resource group '{address.group}' could not be found."
            raise AzureError(404, "ResourceGroupNotFound", text)
        if address.parent and "/".join(address.type.split("/")[:-1]).lower() in self.kinds:
            above = self.resources.get(address.parent.lower())
            if above is None:
                text = (
                    f"Failed to perform '{'read' if address.whole else 'write'}' on resource(s) of type '{address.type}', "
                    f"because the parent resource '{address.parent}' could not be found."
                )
                raise AzureError(404, "ParentResourceNotFound", text)

    def get(self, path: str, kind: Kind | None = None) -> Resource:
        """What exists at a path; refuses as the service does where nothing is."""
        found = self.resources.get(path.lower())
        if found:
            return found
        if kind and kind.refuse_gone:
            status, code, text = kind.refuse_gone
            raise AzureError(status, code, text.format(path.rpartition("/")[2]))
        address = parse(path)
        inside = "/".join(part for pair in zip(address.kinds, address.names, strict=True) for part in pair)
        text = (
            f"The Resource '{address.namespace}/{inside}' under resource group '{address.group}' was not found. For more "
            "details please go to https://aka.ms/ARMResourceNotFoundFix"
        )
        raise AzureError(404, "ResourceNotFound", text)

    def _below(self, address: Address) -> list[Resource]:
        """What a collection holds; of a subscription's, that of all groups."""
        return [
            one
            for one in self.resources.values()
            if one.kind.type.lower() == address.type.lower()
            and one.id.lower().startswith(address.path.lower().partition("/providers/")[0])
            and (len(address.kinds) == 1 or one.id.lower().startswith(address.path.lower() + "/"))
        ]

    def _put(self, call: Call, kind: Kind, address: Address, principal: Principal) -> Reply:
        before = self.resources.get(address.path.lower())
        made = self.put(principal, address, kind, call.json(), call.query["api-version"], call.during)
        status = 201 if before is None else 200
        if not kind.waits:
            return Reply(status, made.json())
        made.pending = 2
        return Reply(status, made.json(), self.operation(made.id, address.namespace))

    def put(
        self,
        principal: Principal,
        address: Address,
        kind: Kind,
        body: Json,
        version: str,
        during: tuple[str, ...] = (),
    ) -> Resource:
        """Writes one resource, ready at once; refuses what the kind does not take."""
        old = self.resources.get(address.path.lower())
        top = self.resources.get("/".join(address.path.split("/")[:9]).lower())
        if len(address.names) > 1 and top and top.pending:
            text = f"Resource '{top.name}' is not ready: its provisioning state must be 'Succeeded'."
            raise AzureError(409, "Conflict", text)
        writing = Writing(self, principal, address, body, old, version, during)
        kind.accept(writing)
        content = {
            name: value
            for name, value in body.items()
            if name not in ("id", "name", "type", "properties", "systemData")
        }
        content["properties"] = kind.properties_of(writing)
        made = old or Resource(address.path, kind, {}, self.clock.now())
        made.content = content
        self.resources[address.path.lower()] = made
        kind.put(writing, made)
        return made

    def _patch(self, call: Call, kind: Kind, address: Address, principal: Principal) -> Reply:
        """Writes with what is there already; objects of `properties` are merged at their top."""
        old = self.get(address.path, kind)
        body, now = call.json(), {**old.content}
        given = body.pop("properties", {})
        merged = {**now, **body, "properties": {**old.private.get("given", {}), **given}}
        version = call.query["api-version"]
        return Reply(200, self.put(principal, address, kind, merged, version, call.during).json())

    def delete(self, address: Address, kind: Kind, query: Mapping[str, str]) -> Reply:
        """Takes a resource away, with all that is below it; where that takes long, when it is asked for the second time."""
        found = self.resources.get(address.path.lower())
        if found is None:
            return Reply(200 if kind.purge(self, address.path, query) else kind.gone)
        if kind.leaves:
            return Reply(202, None, self.later(lambda: self.remove(found, query)))
        self.remove(found, query)
        return Reply(200)

    def remove(self, found: Resource, query: Mapping[str, str]) -> None:
        """Takes a resource away, with all that is below it, now."""
        for one in [*self.under(found.id), found]:
            if one.id.lower() in self.resources:
                one.kind.removed(self, one, query)
                del self.resources[one.id.lower()]
        self.forget(found.id)

    def under(self, path: str) -> list[Resource]:
        """All resources below a path, the deepest first."""
        found = [one for key, one in self.resources.items() if key.startswith(path.lower() + "/")]
        return sorted(found, key=lambda one: -one.id.count("/"))

    def forget(self, path: str) -> None:
        """Role assignments go with what they are at."""
        for key, one in list(self.roles.assignments.items()):
            if f"{one.scope.lower()}/".startswith(path.lower() + "/"):
                del self.roles.assignments[key]
        for handler in self.vanished:
            handler(path)
