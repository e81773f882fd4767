"""The model registry of a strict stand-in for Vertex AI: models, their versions, and the aliases that lead to them."""

from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format

from stage.google.vertex_serving_rules import ALIAS, MODEL_ID, check_model, refuse
from stage.rest import RequestError

DEFAULT = "default"


@dataclass
class ModelVersion:
    """One version: what was uploaded, and what leads to it."""

    message: Any
    aliases: set[str] = field(default_factory=set)


class Models:
    """All models of a region.

    Attributes:
        models: id -> number -> version.
        late_release: how often a model counts as deployed still after it was undeployed, as
            https://github.com/googleapis/python-aiplatform/issues/2807 has met it.
        lists_containers: whether a list of versions shows their containers; Model.container_spec is input only.
    """

    def __init__(self, parent: str) -> None:
        self.parent = parent
        self.models: dict[str, dict[str, ModelVersion]] = {}
        self.late_release, self.lists_containers = 0, True

    def checked(self, upload: Any) -> str:
        """Refuses an upload that breaks a rule; gives the id of its model."""
        check_model(upload.model)
        parent, name = upload.parent_model.rpartition("/")[2], upload.model_id
        # UploadModelRequest: a model, or a new version of one
        refuse(bool(parent) != bool(name), "model_id", "one of modelId and parentModel is required here")
        if parent:
            if parent not in self.models:
                raise RequestError(404, f"The Model does not exist: {upload.parent_model}")
            taken = {alias for one in self.models[parent].values() for alias in one.aliases}
            # What becomes of an alias that another version has is not documented: refused.
            refuse(not taken & set(upload.model.version_aliases), "model.version_aliases", "it is taken")
            return parent
        refuse(MODEL_ID.fullmatch(name), "model_id", "63 lower-case letters, digits, dashes and underscores")
        if name in self.models:
            raise RequestError(409, f"Model {name} already exists.")
        return name

    def add(self, name: str, message: Any) -> dict[str, str]:
        """Makes a version, when its operation is over; gives the response of UploadModel."""
        versions = self.models.setdefault(name, {})
        number = str(len(versions) + 1)
        aliases = set(message.version_aliases) | (set() if versions else {DEFAULT})
        versions[number] = ModelVersion(message, aliases)
        return {"model": f"{self.parent}/models/{name}", "modelVersionId": number}

    def find(self, text: str) -> tuple[str, str]:
        """Model id and number of `ID`, `ID@3` or `ID@alias`; the default one where nothing is said."""
        name, _, which = text.rpartition("/")[2].partition("@")
        for number, version in self.models.get(name, {}).items():
            if (which or DEFAULT) in version.aliases or which == number:
                return name, number
        raise RequestError(404, f"The Model does not exist: {self.parent}/models/{text}")

    def json(self, name: str, number: str) -> dict[str, Any]:
        version = self.models[name][number]
        return {
            **json_format.MessageToDict(version.message),
            "name": f"{self.parent}/models/{name}",
            "versionId": number,
            # There is no order: MergeVersionAliasesRequest
            "versionAliases": sorted(version.aliases, reverse=True),
        }

    def listed(self, name: str) -> list[dict[str, Any]]:
        """All versions, as a list shows them."""
        found = [self.json(name, number) for number in self.models[name]]
        return [
            {key: one[key] for key in one if key != "containerSpec" or self.lists_containers} for one in found
        ]

    def merge(self, text: str, aliases: list[str]) -> dict[str, Any]:
        """MergeVersionAliasesRequest: adds and, with a dash, takes away; nothing can be asked for beforehand."""
        refuse("@" in text, "name", "the version is required")
        name, number = self.find(text)
        version, others = self.models[name][number], self.models[name]
        refuse(aliases, "version_aliases", "they are required")
        for alias in aliases:
            plain = alias.removeprefix("-")
            refuse(ALIAS.fullmatch(plain), "version_aliases", f"{plain} is no alias")
            if alias.startswith("-"):
                # Model.version_aliases: exactly one version is the default
                refuse(
                    plain != DEFAULT, "version_aliases", "the default can only be given to another version"
                )
                refuse(plain in version.aliases, "version_aliases", f"{plain} does not lead there")
                continue
            held = [one for one in others.values() if plain in one.aliases and one is not version]
            # Of the default it is documented that it moves, of others nothing: refused.
            refuse(not held or plain == DEFAULT, "version_aliases", f"{plain} leads to another version")
            for one in held:
                one.aliases.discard(plain)
        version.aliases |= {alias for alias in aliases if not alias.startswith("-")}
        version.aliases -= {alias[1:] for alias in aliases if alias.startswith("-")}
        return self.json(name, number)

    def delete(self, name: str, deployed: set[str]) -> None:
        """Deletes a model with all its versions, unless one is deployed."""
        if name not in self.models:
            raise RequestError(404, f"The Model does not exist: {self.parent}/models/{name}")
        refuse(
            name not in deployed and not self.late_release,
            "",
            f"The Model {name} is deployed to an Endpoint.",
        )
        del self.models[name]
