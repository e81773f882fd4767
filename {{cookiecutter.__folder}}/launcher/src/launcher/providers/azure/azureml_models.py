"""The registry of models of an Azure Machine Learning workspace, which shows what the bucket's says.

A version there points to the version's folder in the bucket by the datastore that setup has made, which has no keys: who
opens it needs a role at the bucket. https://learn.microsoft.com/azure/machine-learning/how-to-manage-models: of addresses,
a path on a datastore is the one of the forms it knows that can mean a folder of one's own account.
"""

from __future__ import annotations

import hashlib
from typing import Any

from ...errors import UserError
from ...mirror import Entry
from ...project import project
from ..errors import MissingError
from . import auth as azure
from .azureml_request import API
from .backend import AzureBackend

DATASTORE = "training"  # of setup/template.json: the container of the data
STAGES = {True: "Production", False: "Development"}  # whether it is the champion
CHAMPION = "champion"
SAME = ("modelUri", "modelType", "description", "properties", "flavors", "jobName")  # what stays
LONGEST = 256  # characters of a value


def connect() -> Models:
    """Give the registry of this project's workspace.

    Raises:
        UserError: no file of configs/cloud/ says which it is.
    """
    from ...records.places import places  # it knows the backends, and so imports this folder

    for place in places():
        if isinstance(place.service, AzureBackend):
            return Models(place.service)
    raise UserError("No file in configs/cloud/ is of Azure; there cloud.workspace says where.")


class Models:
    """Models of one workspace.

    Args:
        backend: which knows the workspace, and its bucket.
    """

    IMAGE = False

    def __init__(self, backend: AzureBackend) -> None:
        self.backend = backend

    def prepare(self) -> None:
        """Refuse a workspace that cannot reach the bucket.

        Raises:
            UserError: there is no login, or setup has made no datastore.
        """
        self.backend.who()
        try:
            azure.call("GET", f"{self.backend.path}/datastores/{DATASTORE}", api=API)
        except MissingError as error:
            raise MissingError(
                f"The workspace {self.backend.workspace} has no datastore {DATASTORE}",
                "run `make cloud-setup` again, which makes it",
            ) from error

    def put(self, entry: Entry) -> str:
        """Make a version there, or bring the one that is there up to date; give its name and page.

        What a version is never changes there either, so only its tags and its stage do.

        Raises:
            UserError: a version of that number is there with other files, or the service does not take it.
        """
        path = f"{self.backend.path}/models/{entry.model}/versions/{entry.version}"
        wanted = body(entry, self._uri(entry))
        try:
            there = azure.call("GET", path, api=API)["properties"]
        except MissingError:
            there = {}
        if there:
            mine, given = there.get("properties") or {}, wanted["properties"]["properties"]
            if mine.get("sha256") != given["sha256"]:
                raise UserError(
                    f"The workspace has another {entry}, with other files; archive it there, or register this one by another name=..."
                )
            kept = {key: there[key] for key in ("modelUri", "modelType") if key in there}
            wanted["properties"] |= {**kept, "properties": {**given, **mine}}
        azure.call("PUT", path, api=API, body=wanted)
        self._take_from_others(entry)
        page = f"https://ml.azure.com/model/{entry.model}:{entry.version}/details?wsid={self.backend.path}"
        return f"{entry.model}:{entry.version} in {self.backend.workspace}, {page}"

    def _take_from_others(self, entry: Entry) -> None:
        """Take its aliases from the model's other versions, for each leads to one."""
        versions = f"{self.backend.path}/models/{entry.model}/versions"
        for one in list(azure.pages(versions, api=API)):
            of, tags = one["properties"], dict(one["properties"].get("tags") or {})
            had = [name for name in tags.get("aliases", "").split(",") if name]
            left = [name for name in had if name not in entry.aliases]
            ours = tags.get("project") == project().slug
            if not ours or str(one["name"]) == str(entry.version) or left == had:
                continue
            tags["aliases"] = ",".join(left)
            said = {key: of[key] for key in SAME if of.get(key)}
            said |= {"tags": {name: value for name, value in tags.items() if value}}
            said |= {"stage": STAGES[CHAMPION in left]}
            path = f"{versions}/{one['name']}"
            azure.call("PUT", path, api=API, body={"properties": said})

    def _uri(self, entry: Entry) -> str:
        """Give a folder of the bucket as a path on the datastore.

        Raises:
            UserError: it is in another container.
        """
        bucket = str(self.backend.cloud.bucket or "").rstrip("/")
        home = f"abfss://{DATASTORE}@{project().bucket}.dfs.core.windows.net"
        inside = entry.uri == bucket or entry.uri.startswith(f"{bucket}/")
        if not bucket.startswith(home) or not inside:
            raise UserError(
                f"{entry} is in {entry.uri}, and the workspace's datastore is {home}; set cloud.bucket to a folder there."
            )
        here = self.backend
        start = f"azureml://subscriptions/{here.subscription}/resourcegroups/{here.group}/workspaces/{here.workspace}"
        return f"{start}/datastores/{DATASTORE}/paths/{entry.uri.removeprefix(home).strip('/')}"


def body(entry: Entry, uri: str) -> dict[str, Any]:
    """Give a version as the service has it: what never changes as properties, the rest as tags."""
    facts = {name: value for name, value in entry.made.items() if isinstance(value, str | int)}
    properties = {**facts, "run": entry.run, "sha256": digest(entry), "registry": entry.uri}
    tags = {"project": project().slug, "kind": entry.kind, "aliases": ",".join(entry.aliases)}
    # A slash is allowed in no name of a tag.
    tags |= {name.replace("/", "."): f"{value:g}" for name, value in entry.metrics.items()}
    return {
        "properties": {
            "modelType": "custom_model",
            "modelUri": uri,
            "stage": STAGES[CHAMPION in entry.aliases],
            "tags": {name: value[:LONGEST] for name, value in tags.items() if value},
            "properties": {name: str(value)[:LONGEST] for name, value in properties.items()},
        }
    }


def digest(entry: Entry) -> str:
    """Give one sha256 of all files' own, each with its name."""
    lines = [f"{about['sha256']}  {name}\n" for name, about in sorted(entry.files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
