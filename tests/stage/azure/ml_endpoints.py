"""A strict stand-in for Azure ML's online endpoints and their deployments, as Azure Resource Manager knows them.

https://learn.microsoft.com/rest/api/azureml/online-endpoints and .../online-deployments (2025-12-01). Pages that are named
without an address are of learn.microsoft.com/azure/machine-learning; where nothing is known, it does what is worse for a client.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from stage.azure import ml_shapes
from stage.azure.arm import FOR_ENDPOINTS, Arm
from stage.azure.errors import AzureError
from stage.azure.ml_assets import Environments
from stage.azure.ml_endpoint_rules import (
    check_deployment,
    check_deployment_name,
    check_endpoint,
    check_name,
    check_traffic,
    may_assign,
    obstacle,
)
from stage.azure.ml_rules import absent, invalid
from stage.azure.ml_served import LOOKS, Container, Deployment, Endpoint
from stage.azure.ml_usages import Held, Usages, size_of
from stage.azure.server import Call, Reply

PAGE = 1  # endpoints in one answer; how many they are in truth is not documented
# Starts what answers for an image; LookupError where it cannot.
Start = Callable[[str, dict[str, str]], Container]


class Endpoints:
    """Those of all workspaces.

    Attributes:
        known: id in lower case -> endpoint.
        taken: names that other people have in the region.
        start: gives what answers for an image.
        abandoned: endpoints whose workspace has gone, and which are paid for still.
    """

    def __init__(self, arm: Arm, environments: Environments, usages: Callable[[], Usages]) -> None:
        self._arm, self._environments, self._usages = arm, environments, usages
        self.known: dict[str, Endpoint] = {}
        self.taken: set[str] = set()
        self.abandoned: list[str] = []
        self.start: Start | None = None
        self._operations: dict[str, Callable[[], dict[str, Any]]] = {}
        self._numbers = itertools.count(1)

    def held(self) -> Iterator[Held]:
        for one in self.known.values():
            yield from one.held()

    def named(self, name: str) -> Endpoint:
        """An endpoint by its name; its host's first part."""
        return next(one for one in self.known.values() if one.name.lower() == name.lower())

    @property
    def only(self) -> Endpoint:
        """The only one that there is."""
        (one,) = self.known.values()
        return one

    def reset(self) -> None:
        for one in list(self.known.values()):
            self._gone(one)
        self.known.clear()
        self.taken.clear()

    def forget(self, path: str) -> None:
        """A workspace is gone. What becomes of its endpoints is not documented: here they stay, for nobody to see."""
        for key, one in list(self.known.items()):
            if key.startswith(path.lower() + "/"):
                self.abandoned.append(one.name)
                self._gone(one)
                del self.known[key]

    def __call__(self, call: Call, workspace: str, kinds: tuple[str, ...], names: tuple[str, ...]) -> Reply:
        """Answers for what is below .../onlineEndpoints.

        Args:
            names: of the workspace, the endpoint, the deployment.
        """
        if len(names) == 1:
            return self._list(call, workspace)
        id = f"{workspace}/onlineEndpoints/{names[1]}"
        found = self.known.get(id.lower())
        if found and call.method == "GET":
            self._advance(found)
            found = self.known.get(id.lower())
        if len(kinds) == 2:
            return self._of_endpoint(call, workspace, id, found)
        if found is None:
            raise AzureError(404, "ResourceNotFound", f"Endpoint {names[1]} not found.")
        if kinds[2] != "deployments":
            raise absent(f"{kinds[2]} of endpoints with Entra's tokens")
        if len(names) == 2:
            return Reply(200, {"value": [one.described() for one in found.deployments.values()]})
        return self._of_deployment(call, found, names[2], kinds[3:])

    # Endpoints

    def _list(self, call: Call, workspace: str) -> Reply:
        mine = [one for key, one in self.known.items() if key.startswith(workspace.lower() + "/")]
        start = int(call.query.get("$skip") or 0)
        said: dict[str, Any] = {"value": [self._described(one) for one in mine[start : start + PAGE]]}
        if start + PAGE < len(mine):
            where = f"https://management.azure.com{workspace}/onlineEndpoints"
            version = call.query["api-version"]
            said["nextLink"] = f"{where}?api-version={version}&$skip={start + PAGE}"
        return Reply(200, said)

    def _of_endpoint(self, call: Call, workspace: str, id: str, found: Endpoint | None) -> Reply:
        if call.method == "PUT":
            return self._put(call, workspace, id, found)
        if found is None:
            if call.method == "DELETE":
                return Reply(204)
            raise AzureError(404, "ResourceNotFound", f"Endpoint {id.rpartition('/')[2]} not found.")
        if call.method == "GET":
            return Reply(200, self._described(found))
        if call.method != "DELETE":
            raise absent(f"{call.method} of endpoints")
        busy = [one for one in found.deployments.values() if one.state != "Deleting"]
        if found.state in ("Creating", "Updating") or any(one.state == "Creating" for one in busy):
            raise self._busy(f"Cannot delete endpoint {found.name}", found.state)
        found.state, found.looks = "Deleting", LOOKS
        return Reply(202, None, self._location(call, lambda: self._gone_yet(found)))

    def _put(self, call: Call, workspace: str, id: str, found: Endpoint | None) -> Reply:
        name, body = id.rpartition("/")[2], call.json()
        ml_shapes.check("OnlineEndpoint", _settable(body))
        region = self._arm.get(workspace).content["location"].replace(" ", "").lower()
        if found and found.state != "Succeeded":
            raise self._busy(f"Cannot update endpoint {name}", found.state)
        if found is None:
            check_name(name)
            if name.lower() in self.taken or any(
                (one.name.lower(), one.region) == (name.lower(), region) for one in self.known.values()
            ):
                # The words: https://github.com/Azure/mlops-project-template/issues/29.
                text = "There is already an endpoint with this name, Endpoint name needs to be unique within a region"
                raise invalid(text, 409)
            for namespace in FOR_ENDPOINTS:
                self._arm.require_registered(namespace)
        check_endpoint(self._arm, body, region, found)
        may_assign(self._arm, call, body, id)
        check_traffic(body["properties"].get("traffic") or {}, found)
        if found is None:
            found = Endpoint(id, _settable(body), region, self._arm.clock.now())
            self.known[id.lower()] = found
            return Reply(201, self._described(found), self._status(call, found))
        found.stale = 1 if (body["properties"].get("traffic") or {}) != found.traffic else 0
        found.given, found.state, found.looks = _settable(body), "Updating", LOOKS
        return Reply(200, self._described(found), self._status(call, found))

    def _described(self, one: Endpoint) -> dict[str, Any]:
        identities = {}
        for path in (one.given.get("identity") or {}).get("userAssignedIdentities") or {}:
            of = self._arm.get(path).properties
            identities[path] = {key: of[key] for key in ("principalId", "clientId")}
        return one.described(identities)

    # Deployments

    def _of_deployment(self, call: Call, endpoint: Endpoint, name: str, kinds: tuple[str, ...]) -> Reply:
        found = endpoint.deployments.get(name.lower())
        if call.method == "PUT" and not kinds:
            return self._put_deployment(call, endpoint, name, found)
        if found is None:
            if call.method == "DELETE":
                return Reply(204)
            # The words: https://github.com/Azure/azure-dev/issues/4037.
            raise invalid(f"Deployment {name} not found in endpoint {endpoint.name}", 404)
        if kinds == ("getlogs",) and call.method == "POST":
            ml_shapes.check("DeploymentLogsRequest", call.json())
            lines = found.container.lines() if found.container else []
            return Reply(200, {"content": "\n".join(lines[-int(call.json().get("tail") or 100) :])})
        if kinds or call.method not in ("GET", "DELETE"):
            raise absent(f"{call.method} {'/'.join(kinds)} of deployments")
        if call.method == "GET":
            return Reply(200, found.described())
        if endpoint.traffic.get(found.name):
            # how-to-safely-rollout-online-endpoints.md: a deployment is deleted once no traffic goes to it.
            text = f"Deployment {found.name} has {endpoint.traffic[found.name]} % of the traffic: set it to 0 before deletion."
            raise invalid(text)
        if found.state in ("Creating", "Updating") or endpoint.state != "Succeeded":
            raise self._busy(f"Cannot delete deployment {found.name}", found.state)
        found.state, found.looks = "Deleting", LOOKS
        return Reply(202, None, self._location(call, lambda: self._deployment_gone(endpoint, found)))

    def _put_deployment(self, call: Call, endpoint: Endpoint, name: str, found: Deployment | None) -> Reply:
        body = call.json()
        ml_shapes.check("OnlineDeployment", body)
        check_deployment_name(name)
        if endpoint.state != "Succeeded" or endpoint.settling:
            endpoint.settling = max(0, endpoint.settling - 1)
            state = endpoint.state if endpoint.state != "Succeeded" else "Updating"
            # As seen: https://github.com/Azure/azure-sdk-for-net/issues/36961.
            text = f"Cannot create a deployment in endpoint {endpoint.name} because it is in {state} provisioning state."
            raise AzureError(400, "BadRequest", text)
        if found and found.state != "Succeeded":
            raise self._busy(f"Cannot update deployment {name}", found.state)
        environment = self._environments.known.get(str(body["properties"].get("environmentId")).lower())
        check_deployment(body, endpoint, environment, name)
        config = (environment or {})["properties"]["inferenceConfig"]
        made = Deployment(f"{endpoint.id}/deployments/{name}", body, self._arm.clock.now())
        made.route, made.health = config["scoringRoute"]["path"], config["readinessRoute"]["path"]
        if found:
            self._stop(found)
        endpoint.deployments[name.lower()] = made
        self._begin(endpoint, made, (environment or {})["properties"]["image"])
        return Reply(200 if found else 201, made.described(), self._status(call, endpoint, made))

    def _begin(self, endpoint: Endpoint, made: Deployment, image: str) -> None:
        """Machines come, the image is fetched and started; or it is known by now why not."""
        size = size_of(made.given["properties"]["instanceType"])
        usages = self._usages()
        if usages.refusal(size, made.reserved, False, endpoint.region) or not usages.has_room(
            size, made.reserved, False, endpoint.region
        ):
            text = f"Not enough quota available for {size.name} in SubscriptionId {self._arm.subscription}. Current usage/limit: "
            text += f"{usages.used(endpoint.region, False, size.family)}/{usages.limit(size.quota, endpoint.region)}. "
            made.failure = ("OutOfQuota", f"{text}Additional needed: {size.cores * made.reserved}")
            return
        made.machines = True
        if text := obstacle(self._arm, endpoint, image):
            made.failure = ("BadArgument", text)
            return
        assert self.start, "nothing answers for images here: set World.ml.endpoints.start"
        try:
            made.container = self.start(image, made.given["properties"].get("environmentVariables") or {})
        except LookupError as error:
            made.failure = ("BadArgument", f"Unable to download user container image {image}: {error}")

    # What goes on

    def _advance(self, endpoint: Endpoint) -> None:
        """Whatever goes on there is a look further."""
        endpoint.advance()
        if endpoint.state == "Deleting":
            self._gone_yet(endpoint)
        for one in list(endpoint.deployments.values()):
            one.advance()
            if one.state == "Deleting":
                self._deployment_gone(endpoint, one)

    def _deployment_gone(self, endpoint: Endpoint, one: Deployment) -> bool:
        one.looks -= 1
        if one.looks > 0 or endpoint.deployments.get(one.name.lower()) is not one:
            return one.looks <= 0
        self._stop(one)
        del endpoint.deployments[one.name.lower()]
        return True

    def _gone_yet(self, one: Endpoint) -> bool:
        one.looks -= 1
        if one.looks <= 0 and self.known.get(one.id.lower()) is one:
            self._gone(one)
            del self.known[one.id.lower()]  # the roles that were given there stay: nothing says that they go
        return one.looks <= 0

    def _gone(self, one: Endpoint) -> None:
        for each in one.deployments.values():
            self._stop(each)

    def _stop(self, one: Deployment) -> None:
        if one.container:
            one.container.close()
        one.container, one.machines = None, False

    def _busy(self, what: str, state: str) -> AzureError:
        return AzureError(409, "Conflict", f"{what}: another operation is in progress there ({state}).")

    # How far it is

    def _status(self, call: Call, endpoint: Endpoint, one: Deployment | None = None) -> dict[str, str]:
        """Headers, by an address such as https://github.com/Azure/azure-sdk-for-python/issues/27624 shows."""

        def look() -> dict[str, Any]:
            self._advance(endpoint)
            state = (one or endpoint).state
            if state == "Failed" and one and one.failure:
                return {
                    "status": "Failed",
                    "error": {"code": one.failure[0], "message": one.failure[1]},
                }
            return {"status": state if state in ("Succeeded", "Failed") else "InProgress"}

        kind = "od" if one else "oe"
        name = f"{kind}:{endpoint.name}:{next(self._numbers)}"
        self._operations[name.lower()] = look
        url = f"{self._place(endpoint.region)}/mfeOperationsStatus/{name}?api-version={call.query['api-version']}"
        return {"Azure-AsyncOperation": url, "Retry-After": str(self._arm.retry_after)}

    def _location(self, call: Call, gone: Callable[[], bool]) -> dict[str, str]:
        name = f"od:{next(self._numbers)}"
        self._operations[name] = lambda: {"status": "Succeeded" if gone() else "InProgress"}
        url = f"{self._place(self._arm.locations[0])}/mfeOperationResults/{name}?api-version={call.query['api-version']}"
        return {"Location": url, "Retry-After": str(self._arm.retry_after)}

    def _place(self, region: str) -> str:
        start = f"https://management.azure.com/subscriptions/{self._arm.subscription}/providers"
        return f"{start}/Microsoft.MachineLearningServices/locations/{region}"

    def operation(self, name: str) -> dict[str, Any] | None:
        """How far something is; None where it is nothing of an endpoint."""
        look = self._operations.get(name.lower())
        return look() if look else None


def _settable(body: dict[str, Any]) -> dict[str, Any]:
    """A body without what only the service says, of identities too: those it lets pass (azure-ai-ml sends them back)."""
    return {key: value for key, value in body.items() if key not in ("id", "name", "type", "systemData")}
