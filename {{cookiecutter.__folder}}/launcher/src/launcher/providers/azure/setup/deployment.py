"""One deployment of a resource group: whether it is needed, how it is sent, and the cause of a failure in a sentence."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from ....errors import UserError
from ...errors import MissingError, ServiceError, line
from ...steps import Steps, option
from .. import auth as azure
from ..errors import QUOTAS
from . import names as apis
from . import template as templates
from .names import Names

PATIENCE = 3600.0  # seconds; a workspace takes a minute or two
LOOKS = 720  # at one that is under way, five seconds apart
BUSY = ("Accepted", "Running", "Canceling")
WAIT = "Another deployment of {} is under way: run this again in some minutes."
# By what the services say; the first that fits.
REMEDIES = {
    "[Ss]oft.?deleted workspace": "it is kept for 14 days: recover it in the portal (Azure Machine Learning > Recently deleted), or "
    "remove it for good with `make cloud-destroy`, and run this again",
    "does not have (authorization|permission)|AuthorizationFailed": "ask an owner of the subscription for the role Owner, or to run this",
    "RequestDisallowedByPolicy|disallowed by policy": "ask whoever made that policy of your organization, or choose what it allows",
    "[Qq]uota|[Ll]imit": f"ask for more at {QUOTAS}, and run this again",
    "already (exists|taken|in use)|AlreadyTaken|AlreadyExists": "remove what has that name, or choose another in pyproject.toml ([tool.launcher])",
}
OTHERWISE = "put that right, and run this again: it goes on where it stopped"


class Deployment:
    """The project's deployment, which keeps its name, so that the group's list has one of it."""

    def __init__(self, names: Names, steps: Steps):
        self.names, self.steps = names, steps
        self.path = names.below("Microsoft.Resources/deployments", names.project.account)

    def find(self) -> dict[str, Any] | None:
        """Give the last one; None where there is none.

        Raises:
            UserError: it is not over.
        """
        try:
            found = azure.call("GET", self.path, api=apis.DEPLOYMENTS)
        except MissingError:
            return None
        if found["properties"].get("provisioningState") in BUSY:
            raise UserError(WAIT.format(self.names.group))
        return found

    def deploy(self, whole: dict[str, Any], given: dict[str, Any]) -> dict[str, str]:
        """Send it unless all of it is there already; give its outputs.

        Raises:
            UserError: it has failed; what it made stays, and the next one goes on from there.
        """
        found, mark = self.find(), templates.mark(whole, given)
        if found and self._holds(found, mark, whole):
            return _outputs(found)
        self.steps.say("resources", f"{self.names.group}: this takes some minutes")
        body = {
            "properties": {"mode": "Incremental", "template": whole, "parameters": given},
            "tags": {**self.names.tags, "mark": mark},
        }
        self.steps.changes += 1
        try:
            done = azure.wait("PUT", self.path, api=apis.DEPLOYMENTS, body=body, patience=PATIENCE)
        except ServiceError as error:
            if error.code != "DeploymentActive":
                raise self._failure(error) from error
            done = self._under_way(mark)  # it was sent, and the answer was lost
        return _outputs(done)

    def _under_way(self, mark: str) -> dict[str, Any]:
        """Wait for a deployment that is ours. Raises UserError where it is another, or fails."""
        for _ in range(LOOKS):
            found = azure.call("GET", self.path, api=apis.DEPLOYMENTS)
            if (found.get("tags") or {}).get("mark") != mark:
                break
            state = found["properties"].get("provisioningState")
            if state == "Succeeded":
                return found
            if state not in BUSY:
                raise self._failure(ServiceError(f"it ended as {state}", OTHERWISE))
            time.sleep(float(option("WAIT", "5")))
        raise UserError(WAIT.format(self.names.group))

    def _holds(self, found: dict[str, Any], mark: str, whole: dict[str, Any]) -> bool:
        """Tell whether a deployment was the same, and nothing that it made is gone."""
        properties = found["properties"]
        if properties.get("provisioningState") != "Succeeded":
            return False
        made = [str(each["id"]) for each in properties.get("outputResources") or ()]
        if (found.get("tags") or {}).get("mark") != mark or len(made) < len(whole["resources"]):
            return False
        versions = {each["type"].lower(): each["apiVersion"] for each in whole["resources"]}
        try:
            for path in made:
                azure.call("GET", path, api=versions[_kind(path)])
        except MissingError:
            return False
        return True

    def _failure(self, error: ServiceError) -> UserError:
        """Say what failed first, for that made all else fail."""
        for what, reason in self._failed():
            known = [remedy for words, remedy in REMEDIES.items() if re.search(words, reason)]
            remedy = known[0] if known else OTHERWISE
            return UserError(
                f"The deployment of {self.names.group} failed: {what}: {line(reason)}; {remedy}."
            )
        known = [remedy for words, remedy in REMEDIES.items() if re.search(words, error.what)]
        if known:
            return UserError(
                f"The deployment of {self.names.group} failed: {error.what}; {known[0]}."
            )
        return error

    def _failed(self) -> list[tuple[str, str]]:
        """Give name and reason of what failed, of the last deployment."""
        found = []
        try:
            operations = list(azure.pages(f"{self.path}/operations", api=apis.DEPLOYMENTS))
        except ServiceError:  # it was not even begun
            return []
        for each in operations:
            of = each["properties"]
            if of.get("provisioningState") == "Failed":
                target = of.get("targetResource") or {}
                what = f"{target.get('resourceName')} ({target.get('resourceType')})"
                found.append((what, _reason(of.get("statusMessage"))))
        return found


def _reason(said: Any) -> str:
    """Give the innermost text of an error that was put into others."""
    if not isinstance(said, dict):
        return str(said or "no reason given")
    error = said.get("error", said)
    if not isinstance(error, dict):
        return str(error)
    details = [each for each in error.get("details") or () if each.get("message")]
    if details:
        return _reason(details[0])
    return f"{error.get('code', '')}: {error.get('message') or json.dumps(error)}"


def _kind(path: str) -> str:
    """Give the type of what is at a path, in lower case."""
    namespace, *rest = path.lower().rpartition("/providers/")[2].split("/")
    return "/".join([namespace, *rest[::2]])


def _outputs(found: dict[str, Any]) -> dict[str, str]:
    return {
        key: str(each["value"]) for key, each in (found["properties"].get("outputs") or {}).items()
    }
