"""Models of a workspace, each version for good; and the datastores that they lie on.

https://learn.microsoft.com/rest/api/azureml/model-versions (2025-12-01) and .../datastores; their pages name the patterns.
"""

import copy
import re
from typing import Any

from stage.azure import ml_shapes
from stage.azure.arm import Arm
from stage.azure.arm_kinds import Kind, Writing
from stage.azure.errors import AzureError
from stage.azure.ml_listing import TYPE, stamp
from stage.azure.ml_rules import absent, invalid
from stage.azure.server import Call, Reply
from stage.azure.shapes import ANY
from stage.azure.workspace_kind import ml_versions

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}")
# Of what azure-ai-ml sends: its LONG_URI_FORMAT; shorter forms are made that before.
URI = re.compile(
    r"azureml://subscriptions/(?P<subscription>[^/]+)/resourcegroups/(?P<group>[^/]+)/workspaces/(?P<workspace>[^/]+)"
    r"/datastores/(?P<store>[A-Za-z0-9_]+)/paths/(?P<path>.+)",
    re.IGNORECASE,
)
CHANGEABLE = ("description", "tags", "stage", "isArchived", "isAnonymous")
DATASTORES = "Microsoft.MachineLearningServices/workspaces/datastores"


class Models:
    """Those of all workspaces.

    Attributes:
        known: id in lower case -> the resource, oldest first.
    """

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self.known: dict[str, dict[str, Any]] = {}

    def forget(self, path: str) -> None:
        """All that was below a path is gone."""
        self.known = {key: one for key, one in self.known.items() if not key.startswith(path.lower() + "/")}

    def __call__(self, call: Call, workspace: str, kinds: tuple[str, ...], names: tuple[str, ...]) -> Reply:
        """Answers for what is below .../models."""
        if len(names) < 3 and (len(names) < 2 or kinds[-1].lower() != "versions" or call.method != "GET"):
            raise absent("lists of models")
        if len(names) < 3:
            return self._list(call, f"{workspace}/models/{names[1]}/versions")
        id = f"{workspace}/models/{names[1]}/versions/{names[2]}"
        found = self.known.get(id.lower())
        if call.method == "PUT":
            return self._put(call, id, names, found)
        if found is None:
            if call.method == "DELETE":
                return Reply(204)
            raise invalid(f"Model {names[1]}:{names[2]} not found.", 404)
        if call.method == "DELETE":
            del self.known[id.lower()]
            return Reply(200)
        return Reply(200, found)

    def _list(self, call: Call, path: str) -> Reply:
        """Versions of a model that are not archived (`listViewType`), one in each answer; how many in truth is not documented."""
        mine = [one for key, one in self.known.items() if key.startswith(f"{path}/".lower())]
        mine = [one for one in mine if not one["properties"].get("isArchived")]
        start = int(call.query.get("$skip") or 0)
        said: dict[str, Any] = {"value": mine[start : start + 1]}
        if start + 1 < len(mine):
            query = f"api-version={call.query['api-version']}&$skip={start + 1}"
            said["nextLink"] = f"https://management.azure.com{path}?{query}"
        return Reply(200, said)

    def _put(self, call: Call, id: str, names: tuple[str, ...], found: dict[str, Any] | None) -> Reply:
        body = call.json()
        ml_shapes.check("ModelVersion", body)
        given = body["properties"]
        if not NAME.fullmatch(names[1]) or not names[2]:
            raise invalid(f"The name of model {names[1]}:{names[2]} is invalid.")
        if given.get("modelType", "custom_model") != "custom_model":
            raise absent(given["modelType"])
        self._check_uri(given.get("modelUri") or "", id)
        if found:
            self._check_change(found["properties"], given, names)
        properties = copy.deepcopy(given) | {"provisioningState": "Succeeded"}
        made = found["systemData"] if found else {"createdAt": stamp(self._arm.clock.now())}
        self.known[id.lower()] = {
            "id": id,
            "name": names[2],
            "type": f"{TYPE}/models/versions",
            "properties": properties,
            "systemData": made,
        }
        return Reply(200 if found else 201, self.known[id.lower()])

    def _check_change(self, before: dict[str, Any], given: dict[str, Any], names: tuple[str, ...]) -> None:
        """Assets are immutable but for what describes them: concept-azure-machine-learning-v2.md, and of environments `ml_assets`.

        That properties can only be added is the description's of endpoints; here it is taken for the same.
        """
        fixed = {
            key for key in (*before, *given) if key not in (*CHANGEABLE, "properties", "provisioningState")
        }
        if any(before.get(key) != given.get(key) for key in fixed):
            text = f"Model {names[1]} with version {names[2]} is already registered and cannot be changed."
            raise invalid(text, 409)
        own, now = before.get("properties") or {}, given.get("properties") or {}
        if any(now.get(key) != value for key, value in own.items()):
            raise invalid("Properties of a model can be added, but not removed or altered.", 409)

    def _check_uri(self, uri: str, id: str) -> None:
        """A path on a datastore of this workspace: how-to-manage-models.md, "Supported paths"."""
        found, parts = URI.fullmatch(uri), id.split("/")
        if not found:
            raise invalid(f"modelUri {uri!r} is no path on a datastore.")
        here = (parts[2], parts[4], parts[8])
        if tuple(found[each].lower() for each in ("subscription", "group", "workspace")) != tuple(
            each.lower() for each in here
        ):
            raise invalid(f"modelUri {uri} is of another workspace.")
        workspace = "/".join(parts[:9])
        if f"{workspace}/datastores/{found['store']}".lower() not in self._arm.resources:
            raise invalid(f"Datastore {found['store']} not found.", 404)


def datastore() -> Kind:
    """A container that a workspace knows, and by whose right it is opened: .../how-to-datastore."""

    def check(writing: Writing) -> None:
        body = {key: one for key, one in writing.body.items() if key in ("properties",)}
        ml_shapes.check("Datastore", body)
        given = body["properties"]
        if given["datastoreType"] != "AzureBlob" or given["credentials"]["credentialsType"] != "None":
            raise absent("datastores other than of blobs, and with credentials")
        if not re.fullmatch(r"[a-z0-9_]{1,255}", writing.name):
            # "can contain only alphanumeric characters and underscores", in lower case: azure-ai-ml, Datastore.name
            raise AzureError(400, "ValidationError", f"The name {writing.name} of the datastore is invalid.")
        if not given.get("accountName") or not given.get("containerName"):
            raise AzureError(400, "ValidationError", "accountName and containerName are required.")

    return Kind(
        DATASTORES,
        ml_versions(),
        r".+",
        ("ValidationError", "Datastore name {0} is invalid."),
        ANY,
        located=False,
        stateful=False,
        check=check,
    )
