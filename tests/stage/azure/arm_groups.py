"""Subscriptions, resource groups, providers and operations of Azure Resource Manager.

https://learn.microsoft.com/rest/api/resources (2021-04-01 and later)
"""

import re

from stage.azure.arm import FOR_ENDPOINTS, Arm
from stage.azure.arm_kinds import Json, check_tags
from stage.azure.arm_paths import Address
from stage.azure.errors import AzureError
from stage.azure.people import Principal
from stage.azure.server import Call, Reply
from stage.azure.shapes import Each, check

GROUPS = ("2021-04-01", "2022-09-01", "2024-03-01", "2024-07-01", "2024-11-01", "2025-03-01", "2025-04-01")
SUBSCRIPTIONS = ("2016-06-01", "2020-01-01", "2021-01-01", "2021-04-01", "2022-12-01")
# A provider tells its regions by the names that people read (learn.microsoft.com/rest/api/resources/providers/get).
TITLES = {
    "eastus": "East US",
    "eastus2": "East US 2",
    "southcentralus": "South Central US",
    "westus2": "West US 2",
    "westus3": "West US 3",
    "westeurope": "West Europe",
    "northeurope": "North Europe",
}
# As providers name them; .../rest/api/resources/providers/get.
PLACES = {
    "eastus": "East US",
    "eastus2": "East US 2",
    "southcentralus": "South Central US",
    "westus2": "West US 2",
    "westus3": "West US 3",
    "westeurope": "West Europe",
    "northeurope": "North Europe",
}
SUBSCRIPTION = "Microsoft.Resources/subscriptions"
GROUP = f"{SUBSCRIPTION}/resourceGroups"
SHAPE = {
    "location!": str,
    "tags": Each(str),
    "managedBy": str,
    "id": str,
    "name": str,
    "type": str,
    "properties": dict,
}


class Groups:
    """What is above resources."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        arm.extra.append(self)

    def __call__(self, call: Call, address: Address, principal: Principal) -> Reply | None:
        """Answers what is its own; None for anything else."""
        parts = call.path.strip("/").split("/")
        lower = [part.lower() for part in parts]
        if lower == ["subscriptions"]:
            return self._subscriptions(call, principal)
        if lower == ["tenants"]:
            return Reply(
                200,
                {
                    "value": [
                        {"id": f"/tenants/{self._arm.people.tenant}", "tenantId": self._arm.people.tenant}
                    ]
                },
            )
        if lower[0] != "subscriptions":
            return None
        if len(lower) == 2:
            _version(call, "subscriptions", SUBSCRIPTIONS)
            self._arm.roles.require(principal, f"{SUBSCRIPTION}/read", address.path)
            return Reply(200, self._subscription())
        if lower[2] == "operationresults":
            return self._arm.follow(parts[3])
        if lower[2] == "resourcegroups" and len(lower) <= 4:
            return self._group(call, address, principal)
        if lower[2] == "resources" or lower[4:] == ["resources"]:
            return self._resources(call, address, principal)
        if lower[2] == "providers" and len(lower) == 3:
            values = [self._provider(one) for one in sorted(self._known())]
            return Reply(200, {"value": values})
        if lower[2] == "providers" and (len(lower) == 4 or lower[4:] in (["register"], ["unregister"])):
            return self._registration(call, parts[3], lower[4:], principal)
        if "operationstatuses" in lower:
            return self._arm.look(parts[-1])
        return None

    def _subscription(self) -> Json:
        name = self._arm.subscription
        return {
            "id": f"/subscriptions/{name}",
            "subscriptionId": name,
            "tenantId": self._arm.people.tenant,
            "displayName": "Stage",
            "state": "Enabled",
            "authorizationSource": "RoleBased",
        }

    def _subscriptions(self, call: Call, principal: Principal) -> Reply:
        """Those in which one may do anything at all: https://learn.microsoft.com/rest/api/resources/subscriptions/list."""
        _version(call, "subscriptions", SUBSCRIPTIONS)
        mine = any(one.principal_id == principal.object_id for one in self._arm.roles.assignments.values())
        return Reply(200, {"value": [self._subscription()] if mine else []})

    def _group(self, call: Call, address: Address, principal: Principal) -> Reply:
        arm = self._arm
        _version(call, "resourceGroups", GROUPS)
        verb = {"GET": "read", "HEAD": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}[
            call.method
        ]
        arm.roles.require(principal, f"{GROUP}/{verb}", address.path)
        if not address.group:
            return Reply(200, {"value": list(arm.groups.values())})
        known = arm.groups.get(address.group.lower())
        if call.method == "PUT":
            return self._put(call, address.group, known)
        if known is None:
            if call.method == "HEAD":
                return Reply(404)
            raise AzureError(
                404, "ResourceGroupNotFound", f"Resource group '{address.group}' could not be found."
            )
        if call.method == "PATCH":
            known["tags"] = call.json().get("tags", known.get("tags", {}))
        if call.method == "DELETE":
            return self._delete(address.group)
        return Reply(204 if call.method == "HEAD" else 200, known)

    def _put(self, call: Call, name: str, known: Json | None) -> Reply:
        """Names: https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules."""
        arm, body = self._arm, call.json()
        check(SHAPE, body)
        check_tags(body.get("tags") or {})
        if not re.fullmatch(r"[-\w.()]{1,90}(?<!\.)", name):
            text = (
                f"The provided resource group name '{name}' has these invalid characters or ends with a period, or is "
                "longer than 90 characters."
            )
            raise AzureError(400, "InvalidResourceGroup", text)
        place = body["location"].replace(" ", "").lower()
        if place not in arm.locations:
            text = (
                f"The provided location '{body['location']}' is not available for resource group. List of available "
                f"regions is '{','.join(arm.locations)}'."
            )
            raise AzureError(400, "LocationNotAvailableForResourceGroup", text)
        if known and known["location"] != place:
            text = (
                f"Invalid resource group location '{place}'. The Resource group already exists in location "
                f"'{known['location']}'."
            )
            raise AzureError(409, "InvalidResourceGroupLocation", text)
        arm.groups[name.lower()] = made = {
            "id": f"/subscriptions/{arm.subscription}/resourceGroups/{known['name'] if known else name}",
            "name": known["name"] if known else name,
            "type": "Microsoft.Resources/resourceGroups",
            "location": place,
            "tags": body.get("tags") or {},
            "properties": {"provisioningState": "Succeeded"},
        }
        return Reply(200 if known else 201, made)

    def _delete(self, name: str) -> Reply:
        """All that is in a group goes with it, in the background.

        https://learn.microsoft.com/azure/azure-resource-manager/management/delete-resource-group
        """
        arm = self._arm
        gone = arm.groups[name.lower()]
        gone["properties"]["provisioningState"] = "Deleting"
        return Reply(202, None, arm.later(lambda: self.remove(name)))

    def remove(self, name: str) -> None:
        """Takes a group away with all that is in it, now."""
        arm = self._arm
        known = arm.groups.pop(name.lower(), None)
        if known is None:
            return
        for one in arm.under(known["id"]):
            if one.id.lower() in arm.resources:
                arm.remove(one, {})
        arm.forget(known["id"])

    def _resources(self, call: Call, address: Address, principal: Principal) -> Reply:
        """Everything at a place; with $filter by type or tag: https://learn.microsoft.com/rest/api/resources/resources/list."""
        arm = self._arm
        _version(call, "resources", GROUPS)
        path = address.path.rpartition("/")[0]
        arm.roles.require(
            principal, f"{GROUP}/resources/read" if address.group else f"{SUBSCRIPTION}/resources/read", path
        )
        asked = call.query.get("$filter", "")
        tag = re.fullmatch(r"tagName eq '([^']+)'( and tagValue eq '([^']+)')?", asked)
        kind = re.fullmatch(r"resourceType eq '([^']+)'", asked)
        if asked and not tag and not kind:
            raise AzureError(
                400, "InvalidFilterInQueryString", f"Invalid $filter '{asked}' specified in the query string."
            )
        found = [one for one in arm.resources.values() if one.id.lower().startswith(path.lower() + "/")]
        found = [one for one in found if one.kind.located and one.id.count("/") == 8]
        if tag:
            found = [one for one in found if tag[1] in (one.content.get("tags") or {})]
            found = [one for one in found if tag[3] in (None, one.content["tags"][tag[1]])]
        if kind:
            found = [one for one in found if one.kind.type.lower() == kind[1].lower()]
        shown = [
            {key: value for key, value in one.json().items() if key not in ("properties",)} for one in found
        ]
        return Reply(200, {"value": shown})

    def _known(self) -> set[str]:
        arm = self._arm
        played = {one.type.partition("/")[0] for one in arm.kinds.values()} | set(arm.own)
        return played | set(FOR_ENDPOINTS)

    def _provider(self, name: str) -> Json:
        state = self._arm.registered.get(name.lower(), "NotRegistered")
        where = f"/subscriptions/{self._arm.subscription}/providers/{name}"
        places = [TITLES.get(one, one) for one in self._arm.locations]
        kinds = [
            {
                "resourceType": one.type.partition("/")[2],
                "locations": places if one.located else [],
                "apiVersions": list(one.versions),
            }
            for one in self._arm.kinds.values()
            if one.type.partition("/")[0].lower() == name.lower()
        ]
        return {"id": where, "namespace": name, "registrationState": state, "resourceTypes": kinds}

    def _registration(self, call: Call, namespace: str, verb: list[str], principal: Principal) -> Reply:
        """https://learn.microsoft.com/azure/azure-resource-manager/management/resource-providers-and-types"""
        arm, scope = self._arm, f"/subscriptions/{self._arm.subscription}"
        _version(call, "providers", GROUPS)
        names = {one.lower(): one for one in self._known()}
        if namespace.lower() not in names:
            raise AzureError(
                404, "InvalidResourceNamespace", f"The resource namespace '{namespace}' is invalid."
            )
        name = names[namespace.lower()]
        if verb == ["register"] and call.method == "POST":
            arm.roles.require(principal, f"{name}/register/action", scope)
            if arm.registered.get(name.lower()) != "Registered":
                arm.registered[name.lower()] = "Registering"
            return Reply(200, self._provider(name))
        if verb or call.method != "GET":
            raise AzureError(405, "MethodNotAllowed", f"{call.method} is not allowed here: {call.path}")
        arm.roles.require(principal, f"{SUBSCRIPTION}/providers/read", scope)
        shown = self._provider(name)
        if arm.registered.get(name.lower()) == "Registering":
            arm.registered[name.lower()] = "Registered"  # the next one who looks finds it done
        return Reply(200, shown)


def _version(call: Call, kind: str, known: tuple[str, ...]) -> None:
    if call.query["api-version"] not in known:
        text = f"The api-version '{call.query['api-version']}' is invalid. The supported versions are '{','.join(known)}'."
        raise AzureError(400, "InvalidApiVersionParameter", f"{text} ({kind})")
