"""Environments of a workspace: each version is one image, for good.

https://learn.microsoft.com/azure/machine-learning/reference-yaml-environment
"""

import copy
import re
from typing import Any

from stage.azure import ml_shapes
from stage.azure.errors import AzureError
from stage.azure.ml_listing import TYPE, stamp
from stage.azure.ml_rules import NAME, absent, invalid
from stage.azure.server import Call, Reply
from stage.clock import Clock

VERSION = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")
CHANGEABLE = ("description", "tags", "properties", "isArchived")


class Environments:
    """Those of all workspaces.

    Attributes:
        known: id in lower case -> the resource, oldest first.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.known: dict[str, dict[str, Any]] = {}

    def image(self, id: str) -> str:
        """The image that a version is."""
        return self.known[id.lower()]["properties"]["image"]

    def forget(self, path: str) -> None:
        """All that was below a path is gone."""
        self.known = {key: one for key, one in self.known.items() if not key.startswith(path.lower() + "/")}

    def __call__(self, call: Call, workspace: str, kinds: tuple[str, ...], names: tuple[str, ...]) -> Reply:
        """Answers for what is below .../environments."""
        below = f"{workspace}/environments/".lower()
        mine = [one for key, one in self.known.items() if key.startswith(below)]
        if len(kinds) == 2:
            containers = {one["id"].split("/versions/")[0]: one for one in mine}
            shown = [_container(id) for id in containers]
            if len(names) == 1 and call.method == "GET":
                return Reply(200, {"value": shown})
            found = next((one for one in shown if len(names) == 2 and one["name"] == names[1]), None)
            if call.method != "GET" or found is None:
                raise self._missing(names[-1])
            return Reply(200, found)
        if len(names) == 2:
            below += f"{names[1]}/versions/".lower()
            # Those that are archived are hidden: `listViewType` is ActiveOnly where nothing is said.
            versions = [
                one
                for one in mine
                if one["id"].lower().startswith(below) and not one["properties"]["isArchived"]
            ]
            return Reply(200, {"value": versions[::-1]})
        return self._version(call, f"{workspace}/environments/{names[1]}/versions/{names[2]}", names)

    def _version(self, call: Call, id: str, names: tuple[str, ...]) -> Reply:
        if call.method == "PUT":
            return self._put(call, id, names[1], names[2])
        found = self.known.get(id.lower())
        if found is None:
            if call.method == "DELETE":
                return Reply(204)
            raise self._missing(f"{names[1]}:{names[2]}")
        if call.method == "DELETE":
            del self.known[id.lower()]
            return Reply(200)
        return Reply(200, found)

    def _put(self, call: Call, id: str, name: str, version: str) -> Reply:
        body = call.json()
        ml_shapes.check("EnvironmentVersion", body)
        given = body["properties"]
        if not NAME.fullmatch(name) or not VERSION.fullmatch(version):
            raise invalid(f"The name of environment {name}:{version} is invalid.")
        if given.get("build") or given.get("condaFile"):
            raise absent("environments that have to be built")
        if not given.get("image"):
            raise invalid("An environment needs an image, a build or a conda file.")
        if given.get("osType", "Linux") != "Linux":
            raise absent("Windows")
        before = self.known.get(id.lower())
        if before and any(
            before["properties"].get(key) != value for key, value in given.items() if key not in CHANGEABLE
        ):
            # As seen: https://github.com/Azure/azure-cli-extensions/issues/5440; its status is not: 409, as of registries.
            text = f"Environment {name} with version {version} is already registered and cannot be changed."
            raise invalid(text, 409)
        said = {
            "environmentType": "UserCreated",
            "isAnonymous": False,
            "isArchived": False,
            "osType": "Linux",
        }
        properties = (before["properties"] if before else said) | copy.deepcopy(given)
        properties["provisioningState"] = "Succeeded"
        made = before["systemData"] if before else {"createdAt": stamp(self._clock.now())}
        self.known[id.lower()] = {
            "id": before["id"] if before else id,
            "name": version,
            "type": f"{TYPE}/environments/versions",
            "properties": properties,
            "systemData": made,
        }
        return Reply(200 if before else 201, self.known[id.lower()])

    def _missing(self, what: str) -> AzureError:
        return invalid(f"Environment {what} not found.", 404)


def _container(id: str) -> dict[str, Any]:
    name = id.rpartition("/")[2]
    return {"id": id, "name": name, "type": f"{TYPE}/environments", "properties": {"isArchived": False}}
