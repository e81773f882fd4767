"""A template, read and looked at: its parameters, its resources with all but runtime's values, and what depends on what.

https://learn.microsoft.com/azure/azure-resource-manager/templates/syntax and .../define-resource-dependency
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stage.azure.shapes import ANY, Each, check
from stage.azure.template_words import Asked, Part, filled, invalid, is_expression, read

SCHEMA = re.compile(
    r"https://schema\.management\.azure\.com/schemas/\d{4}-\d{2}-\d{2}/deploymentTemplate\.json#?"
)
SHAPE = {
    "$schema!": str,
    "contentVersion!": str,
    "apiProfile": str,
    "metadata": ANY,
    "parameters": Each(dict),
    "variables": dict,
    "functions": [ANY],
    "resources!": [dict],
    "outputs": Each({"type!": str, "value!": ANY, "condition": ANY, "metadata": ANY}),
}
PARAMETER = {
    "type!": ("string", "securestring", "int", "bool", "object", "secureObject", "array"),
    "defaultValue": ANY,
    "allowedValues": [ANY],
    "minValue": int,
    "maxValue": int,
    "minLength": int,
    "maxLength": int,
    "metadata": ANY,
}
KINDS = {
    "string": str,
    "securestring": str,
    "int": int,
    "bool": bool,
    "object": dict,
    "secureobject": dict,
    "array": list,
}
OWN = {"type", "apiVersion", "name", "dependsOn", "condition", "copy", "scope", "comments"}
Function = Callable[..., Any]


@dataclass
class Planned:
    """One resource of a template.

    Args:
        body: with expressions that only runtime knows.
        needs: ids, in lower case, of those that come before it.
    """

    kind: str
    version: str
    name: str
    scope: str
    id: str
    body: dict[str, Any]
    functions: Mapping[str, Function]
    needs: set[str] = field(default_factory=set)


class Template:
    """A template with its parameters' values, for a resource group.

    Raises:
        AzureError: InvalidTemplate, as the service refuses one before anything is done.
    """

    def __init__(self, given: Any, values: Any, functions: Mapping[str, Function]) -> None:
        check(SHAPE, given, "InvalidTemplate")
        if not SCHEMA.fullmatch(given["$schema"]):
            raise invalid(f"The template schema '{given['$schema']}' is not supported")
        self.given = given
        self._parameters = self._valued(given.get("parameters") or {}, values or {}, functions)
        self._base = {**functions, "parameters": self._parameter, "variables": self._variable}
        self._base["reference"] = _not_here
        self._seen: list[str] = []
        self.planned = [one for each in given["resources"] for one in self._resources(each)]
        self._connect()

    def outputs(self, reference: Function) -> dict[str, Any]:
        """What the outputs are worth, when all is done."""
        functions = {**self._base, "reference": reference}
        return {
            name: {"type": one["type"].capitalize(), "value": filled(one["value"], functions)}
            for name, one in (self.given.get("outputs") or {}).items()
        }

    def ordered(self) -> list[Planned]:
        """In an order in which each comes after what it needs.

        Raises:
            AzureError: they need each other.
        """
        left, found = list(self.planned), []
        while left:
            done = {one.id.lower() for one in found}
            ready = [one for one in left if one.needs <= done]
            if not ready:
                raise invalid(f"Circular dependency detected on resource: '{left[0].id}'")
            found += ready
            left = [one for one in left if one not in ready]
        return found

    def before(self, one: Planned) -> set[str]:
        """All that is certainly done when a resource's turn comes."""
        known, found, left = {each.id.lower(): each for each in self.planned}, set[str](), list(one.needs)
        while left:
            if (each := left.pop()) not in found:
                found.add(each)
                left += known[each].needs
        return found

    def _valued(
        self, described: dict[str, Any], values: Any, functions: Mapping[str, Function]
    ) -> dict[str, Any]:
        check(Each({"value": ANY, "reference": ANY}), values, "InvalidDeploymentContent")
        if unknown := set(values) - set(described):
            names = ", ".join(sorted(unknown))
            text = f"The following parameters were supplied, but do not correspond to any parameters defined in the template: '{names}'"
            raise invalid(text)
        found: dict[str, Any] = {}
        for name, one in described.items():
            check(PARAMETER, one, "InvalidTemplate")
            if name in values:
                found[name] = values[name].get("value")
            elif "defaultValue" in one:
                found[name] = filled(one["defaultValue"], {**functions, "parameters": found.__getitem__})
            else:
                raise invalid(f"The value for the template parameter '{name}' is not provided")
            wanted = KINDS[one["type"].lower()]
            if not isinstance(found[name], wanted) or (wanted is int and isinstance(found[name], bool)):
                text = f"Template parameter JToken type is not valid. Expected '{one['type']}' for '{name}'"
                raise invalid(text)
            if "allowedValues" in one and found[name] not in one["allowedValues"]:
                text = f"The provided value for the template parameter '{name}' is not valid: it is not one of the allowed"
                raise invalid(text)
            size = len(found[name]) if isinstance(found[name], (str, list)) else 0
            if size < one.get("minLength", 0) or size > one.get("maxLength", size):
                raise invalid(
                    f"The provided value for the template parameter '{name}' has a length that is not valid"
                )
        return found

    def _parameter(self, name: str) -> Any:
        if name not in self._parameters:
            raise invalid(f"The template parameter '{name}' is not found")
        return self._parameters[name]

    def _variable(self, name: str) -> Any:
        known = self.given.get("variables") or {}
        if name not in known or name in self._seen:
            raise invalid(f"The template variable '{name}' is not found, or is made of itself")
        self._seen.append(name)
        try:
            return filled(known[name], self._base)
        finally:
            self._seen.remove(name)

    def _resources(self, given: dict[str, Any]) -> list[Planned]:
        copies = given.get("copy")
        if copies is None:
            return self._planned(given, self._base)
        check(
            {"name!": str, "count!": ANY, "mode": ("serial", "parallel"), "batchSize": int},
            copies,
            "InvalidTemplate",
        )
        found: list[Planned] = []
        serial = str(copies.get("mode", "parallel")).lower() == "serial"
        for number in range(filled(copies["count"], self._base)):
            index = {
                **self._base,
                "copyindex": lambda *at, number=number: (
                    number + (at[-1] if at and isinstance(at[-1], int) else 0)
                ),
            }
            one = self._planned(given, index)
            if serial and found and one:
                one[0].needs.add(found[-1].id.lower())
            found += one
        self._copied[copies["name"]] = [one.id.lower() for one in found]
        return found

    @property
    def _copied(self) -> dict[str, list[str]]:
        return self.__dict__.setdefault("_copies", {})

    def _planned(self, given: dict[str, Any], functions: Mapping[str, Function]) -> list[Planned]:
        for name in ("type", "apiVersion", "name"):
            if not isinstance(given.get(name), str):
                raise invalid(f"The template resource must have the property '{name}'")
        if given["type"].lower() == "microsoft.resources/deployments" or "resources" in given:
            raise NotImplementedError(
                "nested templates and child resources inside of others are not modelled"
            )
        if is_expression(given["type"]) or is_expression(given["apiVersion"]):
            raise invalid("The template resource's type and apiVersion must be literals")
        if not filled(given.get("condition", True), functions):
            self._left_out.add(self._id(given, functions)[0].lower())
            return []
        path, name, scope = self._id(given, functions)
        body = {key: value for key, value in given.items() if key not in OWN}
        planned = Planned(given["type"], given["apiVersion"], name, scope, path, body, functions)
        planned.needs = {str(one) for one in filled(given.get("dependsOn") or [], functions)}
        return [planned]

    @property
    def _left_out(self) -> set[str]:
        return self.__dict__.setdefault("_left", set())

    def _id(self, given: dict[str, Any], functions: Mapping[str, Function]) -> tuple[str, str, str]:
        """(id, name, scope) of a resource; the segments of its name must fit those of its type."""
        name, (space, *kinds) = str(filled(given["name"], functions)), given["type"].split("/")
        names = name.split("/")
        scope = (
            str(filled(given["scope"], functions))
            if "scope" in given
            else str(functions["resourcegroup"]()["id"])
        )
        if len(kinds) != len(names):
            text = (
                f"The template resource '{name}' for type '{given['type']}' has incorrect segment lengths. A nested resource "
                "type must have identical number of segments as its resource name"
            )
            raise invalid(text)
        inside = "/".join(part for pair in zip(kinds, names, strict=True) for part in pair)
        if not scope.startswith("/"):
            raise invalid(f"The scope '{scope}' of the template resource '{name}' is not an id")
        return f"{scope}/providers/{space}/{inside}", name, scope

    def _connect(self) -> None:
        """Has each resource need others by their ids; those of conditions that are not met are left out."""
        known = {one.id.lower(): one for one in self.planned}
        if len(known) < len(self.planned):
            raise invalid("The template has two resources of the same name and type")
        short = {f"{one.kind}/{one.name}".lower(): one.id.lower() for one in self.planned}
        short |= {one.name.lower(): one.id.lower() for one in self.planned}
        for one in self.planned:
            needs = set[str]()
            for text in one.needs:
                wanted = text.lower()
                if wanted in known or wanted in short:
                    needs.add(wanted if wanted in known else short[wanted])
                elif text in self._copied:
                    needs |= set(self._copied[text])
                elif wanted not in self._left_out:
                    raise invalid(
                        f"The resource '{text}' is not defined in the template. Please see https://aka.ms/arm-template for usage details"
                    )
            one.needs = needs | self._implied(one, short)
        self.ordered()

    def _implied(self, one: Planned, short: dict[str, str]) -> set[str]:
        """What `reference('name')` says by itself. By an id it says nothing: .../define-resource-dependency#reference-and-list-functions."""
        found = set[str]()

        def look(value: Any) -> None:
            if isinstance(value, dict):
                for each in (*value.keys(), *value.values()):
                    look(each)
            elif isinstance(value, list):
                for each in value:
                    look(each)
            elif is_expression(value):
                walk(read(value))

        def walk(tree: Any) -> None:
            if isinstance(tree, Part):
                walk(tree.whole)
                walk(tree.key)
            elif isinstance(tree, Asked):
                if tree.name.lower() == "reference" and isinstance(tree.arguments[0], str):
                    found.update(
                        {short[tree.arguments[0].lower()]} if tree.arguments[0].lower() in short else ()
                    )
                for each in tree.arguments:
                    walk(each)

        look(one.body)
        return found


def _not_here(*_: Any) -> Any:
    """https://learn.microsoft.com/azure/azure-resource-manager/templates/template-functions-resource#valid-uses-1"""
    raise invalid("The template function 'reference' is not expected at this location")
