"""Carries out a template.

The service works on all that needs nothing at the same time, in no order. Here a resource sees of the same deployment only what
it needs, so that a dependency that was forgotten shows each time.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stage.azure.arm import Arm
from stage.azure.arm_authorization import Authorization
from stage.azure.arm_kinds import Json
from stage.azure.arm_paths import parse
from stage.azure.errors import AzureError
from stage.azure.people import Principal
from stage.azure.template_words import filled
from stage.azure.templates import Planned, Template


class Run:
    """Writes resources as a template says; gives the operations, as they are listed, and what failed."""

    def __init__(self, arm: Arm, authorization: Authorization) -> None:
        self._arm, self._authorization = arm, authorization

    def __call__(self, template: Template, principal: Principal) -> tuple[list[Json], list[AzureError]]:
        """Does all that can be done; what needs something that failed is not begun."""
        made, bad = set[str](), set[str]()
        operations: list[Json] = []
        failures: list[AzureError] = []
        for one in template.ordered():
            before = template.before(one)
            if before & bad:
                bad.add(one.id.lower())
                continue
            new = one.id.lower() not in self._all()
            during = tuple(f"PUT {path}" for path in made | bad if path not in before)
            with self._hidden(made - before):
                try:
                    self._write(one, principal, during)
                except AzureError as error:
                    failures.append(error)
                    bad.add(one.id.lower())
                    operations.append(_operation(one, error))
                    continue
            operations.append(_operation(one, None))
            if new:
                made.add(one.id.lower())
        return operations, failures

    def _all(self) -> set[str]:
        roles = self._arm.roles
        scope = f"/subscriptions/{self._arm.subscription}"
        definitions = {
            f"{scope}/providers/microsoft.authorization/roledefinitions/{name}" for name in roles.definitions
        }
        return {*self._arm.resources, *roles.assignments, *definitions}

    @contextmanager
    def _hidden(self, paths: set[str]) -> Iterator[None]:
        """Has what was made just now, and is not depended on, not be there yet."""
        stores: list[dict[str, Any]] = [
            self._arm.resources,
            self._arm.roles.assignments,
            self._arm.roles.definitions,
        ]
        taken: list[tuple[dict[str, Any], str, Any]] = []
        for store in stores:
            for key in list(store):
                ours = (
                    key in paths
                    if store is not stores[2]
                    else any(path.endswith(f"/roledefinitions/{key}") for path in paths)
                )
                under = any(key.startswith(path + "/") for path in paths)
                if ours or (under and store is stores[0]):
                    taken.append((store, key, store.pop(key)))
        try:
            yield
        finally:
            for store, key, value in taken:
                store.setdefault(key, value)

    def _write(self, one: Planned, principal: Principal, during: tuple[str, ...]) -> None:
        arm = self._arm
        body = filled(one.body, {**one.functions, "reference": self.reference})
        kind = one.kind.lower()
        if kind == "microsoft.authorization/roleassignments":
            self._authorization.write(one.scope, one.name, body)
            return
        if kind == "microsoft.authorization/roledefinitions":
            self._authorization.definitions.define(body, one.name, one.scope)
            return
        address = parse(one.id)
        arm.require_places(address)
        arm.put(principal, address, arm.kinds[kind], body, one.version, during)

    def reference(self, path: str, version: str = "", full: str = "") -> Any:
        """Properties of what is there: https://learn.microsoft.com/azure/azure-resource-manager/templates/template-functions-resource#reference."""
        if not path.startswith("/"):
            found = [
                one for one in self._arm.resources.values() if one.id.lower().endswith("/" + path.lower())
            ]
            if not found:
                raise AzureError(404, "ResourceNotFound", f"The Resource '{path}' was not found.")
            one = found[-1]
        else:
            one = self._arm.get(path)
            if version:
                self._arm.version(one.kind, version)
        shown = one.json()
        return shown if full.lower() == "full" else shown.get("properties", {})


def _operation(one: Planned, error: AzureError | None) -> Json:
    name = uuid.uuid4().hex[:16].upper()
    return {
        "id": f"{one.id}/operations/{name}",
        "operationId": name,
        "properties": {
            "provisioningOperation": "Create",
            "provisioningState": "Failed" if error else "Succeeded",
            "statusCode": {400: "BadRequest", 403: "Forbidden", 404: "NotFound", 409: "Conflict"}.get(
                error.status, "Failed"
            )
            if error
            else "OK",
            "statusMessage": error.json() if error else None,
            "targetResource": {"id": one.id, "resourceType": one.kind, "resourceName": one.name},
        },
    }
