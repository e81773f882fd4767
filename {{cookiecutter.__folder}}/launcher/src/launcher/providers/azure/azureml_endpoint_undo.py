"""What is taken back of an endpoint of Azure ML: all of it, or a deployment that did not come up or did not pass."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import UserError
from ..errors import ServiceError
from . import auth as azure
from . import azureml_endpoint_access as access
from . import azureml_endpoint_calls as calls
from . import azureml_endpoint_request as asked
from . import azureml_endpoint_traffic as traffic
from .azureml_request import API

log = logging.getLogger(__name__)


@dataclass
class Begun:
    """A deployment that is being made, and what was there before it.

    Args:
        path: of the endpoint in Azure Resource Manager.
        model: whose endpoint it is.
        name: of the deployment.
        before: the endpoint as it was; None where there was none.
        again: whether the deployment was there already.
        mark: that the endpoint gets where it is new, and no other one has.
        former: who was allowed to ask before; None where nobody has begun to change that.
    """

    path: str
    model: str
    name: str
    before: dict[str, Any] | None
    again: bool
    mark: str = field(default_factory=lambda: secrets.token_hex(4))
    former: dict[str, str] | None = None

    def allow(self, members: Mapping[str, str] | None) -> bool:
        """Let those ask who are named, as `access.allow` does; tell whether that has changed anything."""
        if members is None:
            return False
        self.former = access.holders(self.path)  # before anything is given, which may fail half-way
        return access.allow(self.path, members)

    def unchanged(self) -> dict[str, Any]:
        """Read the endpoint anew, and give it.

        Raises:
            UserError: somebody else has sent the requests elsewhere meanwhile, or made it anew.
        """
        found = calls.find(self.path)
        if not found:
            raise UserError(f"The endpoint of {self.model} is gone; deploy it again.")
        if self.before:
            same = found.get("tags") == self.before.get("tags")
            same = same and traffic.parts(found) == traffic.parts(self.before)
        else:
            same = self._is_ours(found) and not traffic.parts(found)
        if not same:
            raise UserError(
                f"{self.model} has been deployed by somebody else meanwhile; look at `models deployments`, and try again."
            )
        return found

    def undo(self) -> None:
        """Put all back after a failure, which is raised afterwards: what goes wrong here is only said."""
        undone: list[Callable[[], object]] = [self._drop]
        if self.before and self.former is not None:  # else the roles go with the endpoint
            undone.append(lambda: access.allow(self.path, self.former))
        for undo in undone:
            try:
                undo()
            except UserError as error:
                what = "%s on Azure ML is not as before, and may be paid for; look at it: %s"
                log.warning(what, self.model, error)

    def _drop(self) -> None:
        """Leave the requests where they went before, and end the deployment that failed, unless it was there already.

        All is read anew: whoever was interrupted does not know how far it came.
        """
        found, known = calls.find(self.path), calls.listed(f"{self.path}/deployments")
        if not found:
            return
        parts, former = traffic.parts(found), traffic.parts(self.before) if self.before else {}
        if parts not in ({}, former) and self.name not in parts:
            log.warning(
                "%s has been changed by somebody else meanwhile; it is left alone.", self.model
            )
        elif self._is_ours(found) and all(one["name"] == self.name for one in known):
            clear(self.path, self.model)
            return
        elif self.before and self.name in parts and parts != former:
            calls.put(self.path, asked.changed(found, former, self.before["tags"]))
            calls.divided(self.path, former)
        if not self.again:
            calls.delete(f"{self.path}/deployments/{self.name}")

    def _is_ours(self, found: Mapping[str, Any]) -> bool:
        """Tell whether it is the endpoint that was made for this deployment, and not somebody else's of the same name."""
        return self.before is None and traffic.mark(found) == self.mark


def end_others(path: str, kept: set[str]) -> None:
    """Order the end of all deployments but these; what does not work is only said, for the requests go right.

    What is being changed just now is somebody else's, who ends it if it comes to nothing.
    """
    for one in calls.listed(f"{path}/deployments"):
        if one["name"] in kept or traffic.state(one) in traffic.BUSY:
            continue
        try:
            calls.delete(f"{path}/deployments/{one['name']}", wait=False)
        except ServiceError as error:
            log.warning("%s is not ended, and is paid for: %s", one["name"], error)


def clear(path: str, model: str) -> None:
    """Delete the endpoint of a model, and what was made for it: deployments, roles, environments.

    Raises:
        ServiceError: the endpoint cannot be deleted.
    """
    try:
        access.allow(path, {})  # they may outlive it, and would count for the next one of its name
    except ServiceError as error:  # as of the janitor's login, which may not take roles away
        log.debug("%s", error)
    calls.delete(path)
    workspace = path.rpartition("/onlineEndpoints/")[0]
    environments = f"{workspace}/environments/{asked.environment_name(model)}/versions"
    try:
        for one in calls.listed(environments):
            _forget(one)
    except ServiceError as error:  # a record of an image, which costs nothing
        log.debug("%s", error)


def _forget(environment: Mapping[str, Any]) -> None:
    """Delete an environment, or hide it: that the service deletes any is not known (github.com/Azure/azure-cli/issues/21957)."""
    path, of = str(environment["id"]), environment["properties"]
    try:
        azure.call("DELETE", path, api=API)
    except ServiceError:
        kept = {key: of[key] for key in ("image", "osType", "inferenceConfig") if of.get(key)}
        azure.call("PUT", path, api=API, body={"properties": {**kept, "isArchived": True}})
