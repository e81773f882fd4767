"""Versions of models in the model registry of Vertex AI: a copy of what the bucket says, and what endpoints are made of.

One model for each name, and in it a version for each version of ours. Vertex AI numbers by itself, so a version of ours
is the one that has the alias `v7`. An alias is moved without a condition: `mergeVersionAliases` has none, so it is no
compare-and-swap, and of two who move one at the same moment the later one wins. The bucket decides; `models mirror`
again puts that right.
"""

from __future__ import annotations

import re
from typing import Any

from ...errors import UserError
from ...mirror import Entry
from ...project import project
from . import auth as google
from .cloudrun_request import REGISTRIES
from .vertex_api import Region, Resource
from .vertex_api import connect as region

DEFAULT, CHAMPION = "default", "champion"
# UploadModelRequest.model_id, and Model.version_aliases
MODEL = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
ALIAS = re.compile(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]")
LONGEST = 63  # characters of a label: 64 by the types, 63 by cloud.google.com/compute/docs/labeling-resources
DIGEST = 32  # of the 64 characters of an image's digest
PORT, HEALTH, PREDICT = 8080, "/health", "/predict"
START_SECONDS = 1800  # for a machine and its container; two hours are the most
UPLOADING = 600.0  # for an upload, which copies the image
CONSOLE = "https://console.cloud.google.com/vertex-ai/models/locations"


def connect() -> Models:
    """Give the registry in the project and the region of this project's jobs.

    Raises:
        UserError: no file of configs/cloud/ says which.
    """
    return Models(region()[0])


class Models:
    """The model registry of one project and region, as `launcher.mirror.Mirror` describes it."""

    IMAGE = True

    def __init__(self, where: Region) -> None:
        self.region = where

    def prepare(self) -> None:
        """Refuse what cannot work, before an image is made.

        Raises:
            UserError: there is no login, or the API is off.
        """
        self.region.check_api()

    def put(self, entry: Entry) -> str:
        """Show a version, with its aliases; what is there already stays.

        Returns:
            The name of its version there, and the page that shows it.

        Raises:
            UserError: it is not taken.
        """
        found = self.have(entry)
        number = found.rpartition("@")[2]
        where = f"{self.region.name}/models/{model_id(entry.model)}/versions/{number}"
        return f"{found}, {CONSOLE}/{where}?project={self.region.backend.project}"

    def have(self, entry: Entry) -> str:
        """Give the name of the version there, such as projects/P/locations/R/models/M@3; made where there is none.

        Raises:
            UserError: it is not taken.
        """
        check(entry)
        name = f"{self.region.parent}/models/{model_id(entry.model)}"
        if not (found := self._find(name, entry)):
            self._upload(name, entry)
            found = self._find(name, entry)
        if not found:
            raise UserError(
                f"Vertex AI has taken {entry} and does not show it; try again in a minute."
            )
        full = f"{name}@{found['versionId']}"
        self._lead(name, found, entry)
        return full

    def _lead(self, name: str, version: Resource, entry: Entry) -> None:
        """Let the aliases lead to a version that lead to it in the bucket, and no others."""
        have, want = set(version.get("versionAliases", ())), wanted(entry)
        for other in self._versions(name):
            # Whether one that another version has is moved or refused is not documented, but of `default`.
            taken = (want - {DEFAULT}) & set(other.get("versionAliases", ()))
            if taken and other["versionId"] != version["versionId"]:
                self._merge(name, other, [f"-{alias}" for alias in sorted(taken)])
        gone = have - want - {DEFAULT}  # that one can only be given to another version
        if change := [*sorted(want - have), *(f"-{alias}" for alias in sorted(gone))]:
            self._merge(name, version, change)

    def _merge(self, name: str, version: Resource, change: list[str]) -> None:
        url = self.region.url(f"{name}@{version['versionId']}:mergeVersionAliases")
        google.call("POST", url, {"versionAliases": change}, retry=True)  # twice is as once

    def _versions(self, name: str) -> list[Resource]:
        return self.region.listed(f"{name}:listVersions", "models")

    def _find(self, name: str, entry: Entry) -> Resource | None:
        """Find a version: by its alias, or where that was never given, by what it says of itself.

        One with another image is another one: its container never changes.
        """
        model = self.region.get(name)
        if not model:
            return None
        if (model.get("labels") or {}).get("project") != project().slug:
            raise UserError(
                f"The model {name} is not of this project; register {entry.model} by another name=..."
            )
        alias = f"v{entry.version}"
        fits = [
            one
            for one in self._versions(name)
            if _has_image(one, entry)
            and (
                alias in one.get("versionAliases", ())
                or one.get("versionDescription") == description(entry)
            )
        ]
        return min(fits, key=lambda one: alias not in one.get("versionAliases", ()), default=None)

    def _upload(self, name: str, entry: Entry) -> None:
        body: dict[str, Any] = {"model": describe(entry)}
        if self.region.get(name):
            body["parentModel"] = name
        else:
            body["modelId"] = model_id(entry.model)
        there = lambda: self._find(name, entry)
        self.region.make("models:upload", body, there, within=UPLOADING)


def check(entry: Entry) -> None:
    """Refuse what Vertex AI would.

    Raises:
        UserError: its name is too long, or its image is elsewhere.
    """
    model_id(entry.model)
    host = entry.image.partition("/")[0]
    if not REGISTRIES.fullmatch(host):
        raise UserError(
            f"Vertex AI takes no image of {host}; set CLOUD_IMAGE or cloud.repository to one in Artifact Registry."
        )


def model_id(model: str) -> str:
    """Give what a model of ours is called there.

    Raises:
        UserError: it would be too long.
    """
    name = f"{project().slug}-{model}"
    if not MODEL.fullmatch(name):
        raise UserError(
            f"{name} cannot name a model of Vertex AI, which has at most 63 characters; register {model} by a shorter name=..."
        )
    return name


def describe(entry: Entry) -> dict[str, Any]:
    """Describe a version, as `Model` of the API.

    Its aliases are given afterwards: one that another version has would be refused here, or not.
    """
    return {
        "displayName": model_id(entry.model),
        "versionDescription": description(entry),
        "labels": labels(entry),
        "containerSpec": {
            "imageUri": entry.image,
            "ports": [{"containerPort": PORT}],
            # Both, for each is by default the same long path.
            "healthRoute": HEALTH,
            "predictRoute": PREDICT,
            "deploymentTimeout": f"{START_SECONDS}s",
        },
    }


def description(entry: Entry) -> str:
    """Say which version it is and where it comes from."""
    commit = entry.made.get("commit") or "unknown"
    return f"{entry}: run {entry.run}, commit {commit}, {entry.uri}"


def labels(entry: Entry) -> dict[str, str]:
    """Give the labels by which it is found again."""
    found = {
        "project": project().slug,
        "model": entry.model,
        "version": f"v{entry.version}",
        "run": entry.run,
        "kind": entry.kind,
        "image": entry.image.rpartition(":")[2][:DIGEST],
    }
    return {key: label(text) for key, text in found.items() if text}


def _has_image(version: Resource, entry: Entry) -> bool:
    """Tell whether a version is of an image; by its label where the list leaves out the image, which is for input."""
    if image := version.get("containerSpec", {}).get("imageUri"):
        return image == entry.image
    return (version.get("labels") or {}).get("image") == labels(entry)["image"]


def label(text: str) -> str:
    """Write what a label can hold: lower-case letters, digits, dashes and underscores."""
    return re.sub(r"[^a-z0-9_-]", "-", text.lower())[:LONGEST]


def wanted(entry: Entry) -> set[str]:
    """Give the aliases that a version has to have; `default`, which exactly one has, goes with the champion.

    An alias of ours that Vertex AI does not know how to write is left out.
    """
    found = {f"v{entry.version}", *filter(ALIAS.fullmatch, entry.aliases)} - {DEFAULT}
    return found | ({DEFAULT} if CHAMPION in found else set())
