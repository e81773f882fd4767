"""Deployments of templates to a resource group.

https://learn.microsoft.com/rest/api/resources/deployments and
https://learn.microsoft.com/azure/azure-resource-manager/templates/deployment-modes
"""

import re
import uuid

from stage.azure.arm import Arm
from stage.azure.arm_authorization import Authorization
from stage.azure.arm_kinds import Json
from stage.azure.arm_paths import Address
from stage.azure.errors import AzureError
from stage.azure.people import Principal
from stage.azure.server import Call, Reply
from stage.azure.shapes import ANY, Each, check
from stage.azure.template_functions import of_place
from stage.azure.template_run import Run
from stage.azure.templates import Planned, Template

VERSIONS = (
    "2021-04-01",
    "2022-09-01",
    "2023-07-01",
    "2024-03-01",
    "2024-07-01",
    "2024-11-01",
    "2025-03-01",
    "2025-04-01",
)
PLACE = re.compile(
    r"(?P<group>/subscriptions/[^/]+/resourceGroups/[^/]+)/providers/Microsoft\.Resources/deployments"
    r"(/(?P<name>[^/]+))?(/(?P<verb>operations|validate|cancel))?",
    re.IGNORECASE,
)
SHAPE = {
    "location": str,
    "tags": Each(str),
    "properties!": {
        "mode!": ("Incremental", "Complete"),
        "template!": dict,
        "parameters": dict,
        "debugSetting": ANY,
        "onErrorDeployment": ANY,
        "expressionEvaluationOptions": ANY,
    },
}
ACTIONS = {"GET": "read", "HEAD": "read", "PUT": "write", "DELETE": "delete"}
SEE = "Please see https://aka.ms/arm-deployment-operations for usage details."
FAILED = (
    f"At least one resource deployment operation failed. Please list deployment operations for details. {SEE}"
)


class Deployments:
    """The deployments, by id in lower case."""

    def __init__(self, arm: Arm, authorization: Authorization) -> None:
        self._arm, self._run = arm, Run(arm, authorization)
        self.known: dict[str, Json] = {}
        self._operations: dict[str, list[Json]] = {}
        self._under_way: dict[str, str] = {}
        arm.extra.append(self)
        arm.vanished.append(self._vanish)

    def _vanish(self, path: str) -> None:
        self.known = {key: one for key, one in self.known.items() if not key.startswith(path.lower() + "/")}

    def __call__(self, call: Call, address: Address, principal: Principal) -> Reply | None:
        found = PLACE.fullmatch(address.path)
        if not found:
            return None
        if call.query["api-version"] not in VERSIONS:
            text = f"The api-version '{call.query['api-version']}' is not one of '{','.join(VERSIONS)}'."
            raise AzureError(400, "InvalidApiVersionParameter", text)
        verb = found["verb"] or ""
        right = {"operations": "operations/read", "validate": "validate/action", "cancel": "cancel/action"}
        action = right.get(verb) or ACTIONS[call.method]
        self._arm.roles.require(principal, f"Microsoft.Resources/deployments/{action}", address.path)
        if address.group.lower() not in self._arm.groups:
            raise AzureError(
                404, "ResourceGroupNotFound", f"Resource group '{address.group}' could not be found."
            )
        if not found["name"]:
            above = found["group"].lower() + "/"
            return Reply(200, {"value": [self._shown(key) for key in self.known if key.startswith(above)]})
        key = f"{found['group']}/providers/Microsoft.Resources/deployments/{found['name']}".lower()
        if call.method == "PUT" and not verb:
            return self._put(call, address, key, found["name"], principal)
        if verb == "validate" and call.method == "POST":
            self._read(call.json(), address, found["name"], principal)
            return Reply(200, {"properties": {"provisioningState": "Succeeded"}})
        if key not in self.known:
            if call.method == "DELETE":
                return Reply(204)
            raise AzureError(404, "DeploymentNotFound", f"Deployment '{found['name']}' could not be found.")
        if call.method == "DELETE":
            return self._delete(key)
        if verb == "operations":
            return Reply(200, {"value": self._operations[key]})
        shown = self._shown(key)
        if shown["properties"]["provisioningState"] == "Running" and (name := self._under_way.get(key)):
            target, left, failure = self._arm.operations[name]  # it goes on, whoever looks
            self._arm.operations[name] = (target, left - 1, failure)
        return Reply(200, shown)

    def _state(self, key: str) -> str:
        """Running until somebody has seen the operation done."""
        name = self._under_way.get(key)
        if name and self._arm.operations[name][1] >= 0:
            return "Running"
        return self.known[key]["properties"]["provisioningState"]

    def _shown(self, key: str) -> Json:
        one = self.known[key]
        if self._state(key) == "Running":
            hidden = ("outputs", "outputResources", "error")
            kept = {name: value for name, value in one["properties"].items() if name not in hidden}
            return {**one, "properties": {**kept, "provisioningState": "Running"}}
        return one

    def _delete(self, key: str) -> Reply:
        """The record goes, not what was deployed."""
        if self._state(key) == "Running":
            raise AzureError(
                409, "DeploymentBeingActive", "The deployment is still active and cannot be deleted."
            )
        del self.known[key]
        return Reply(202, None, self._arm.later())

    def _put(self, call: Call, address: Address, key: str, name: str, principal: Principal) -> Reply:
        if not re.fullmatch(r"[-\w.()]{1,64}", name):
            text = f"The deployment name '{name}' must have 1 to 64 letters, digits, -, ., (, ) and _."
            raise AzureError(400, "InvalidDeploymentName", text)
        if key in self.known and self._state(key) == "Running":
            text = (
                f"The deployment with resource id '{address.path}' cannot be saved, because this would overwrite an existing "
                "deployment which is still active. Please see https://aka.ms/arm-deploy for usage details."
            )
            raise AzureError(409, "DeploymentActive", text)
        body = call.json()
        template = self._read(body, address, name, principal)
        before = key in self.known
        operations, failures = self._run(template, principal)
        done = [
            one["properties"]["targetResource"]["id"]
            for one in operations
            if one["properties"]["provisioningState"] == "Succeeded"
        ]
        properties: Json = {
            "mode": body["properties"]["mode"],
            "provisioningState": "Failed" if failures else "Succeeded",
            "correlationId": str(uuid.uuid4()),
            "parameters": body["properties"].get("parameters") or {},
            "outputResources": [{"id": path} for path in done],
        }
        failure = None
        if failures:
            details = [(one.code, one.message) for one in failures]
            failure = AzureError(400, "DeploymentFailed", FAILED, details=details)
            properties["error"] = failure.json()["error"]
        else:
            properties["outputs"] = template.outputs(self._run.reference)
        kind = "Microsoft.Resources/deployments"
        self.known[key] = {"id": address.path, "name": name, "type": kind, "properties": properties}
        if "tags" in body:
            self.known[key]["tags"] = body["tags"]
        self._operations[key] = operations
        headers = self._arm.operation(address.path, "Microsoft.Resources", failure)
        self._under_way[key] = list(self._arm.operations)[-1]
        return Reply(200 if before else 201, self._shown(key), headers)

    def _read(self, body: Json, address: Address, name: str, principal: Principal) -> Template:
        """The template, when nothing of it is refused before it begins."""
        check(SHAPE, body)
        if body["properties"]["mode"] != "Incremental" or body["properties"].get("onErrorDeployment"):
            raise NotImplementedError("only incremental deployments are modelled")
        arm = self._arm
        group = arm.groups[address.group.lower()]
        functions = of_place(group, arm.subscription, arm.people.tenant, name)
        given = body["properties"]
        template = Template(given["template"], given.get("parameters"), functions)
        for one in template.planned:
            kind = arm.kinds.get(one.kind.lower())
            if kind:
                arm.version(kind, one.version)
            elif not one.kind.lower().startswith("microsoft.authorization/role"):
                raise AzureError(
                    400, "InvalidResourceType", f"The resource type '{one.kind}' could not be found."
                )
            self._authorize(one, principal)
            self._register(one.kind.partition("/")[0], principal)
        return template

    def _authorize(self, one: Planned, principal: Principal) -> None:
        """As in https://github.com/Azure-Samples/azure-search-openai-demo/issues/1483."""
        action = f"{one.kind}/write"
        if not self._arm.roles.allows(principal, action, one.id):
            text = (
                f"The template deployment failed with error: 'Authorization failed for template resource '{one.name}' of type "
                f"'{one.kind}'. The client '{principal.client_id}' with object id '{principal.object_id}' does not have "
                f"permission to perform action '{action}' at scope '{one.id}'.'."
            )
            raise AzureError(403, "InvalidTemplateDeployment", text)

    def _register(self, namespace: str, principal: Principal) -> None:
        """A deployment registers what it needs: .../management/resource-providers-and-types#register-resource-provider."""
        where = f"/subscriptions/{self._arm.subscription}"
        if self._arm.roles.allows(principal, f"{namespace}/register/action", where):
            self._arm.registered[namespace.lower()] = "Registered"
        self._arm.require_registered(namespace)
