"""Compute instances of this project: what each is like, how all are found, stopped and removed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ...job import RUN_LABEL, Leftover, State
from ..errors import MissingError, ServiceError
from . import auth as azure
from .azureml_request import API
from .azureml_state import time

KIND = "ComputeInstance"
JUPYTER = "Jupyter Lab"  # the name of an application of an instance
# ComputeInstanceState of https://learn.microsoft.com/rest/api/azureml/compute/get; what is not here is paid for.
STATES = {
    **dict.fromkeys(("Creating", "SettingUp", "UserSettingUp", "Starting"), State.queued),
    **dict.fromkeys(("Stopped", "Deleting"), State.stopped),
    **dict.fromkeys(("CreateFailed", "SetupFailed", "UserSetupFailed", "Unusable"), State.failed),
}


@dataclass(frozen=True)
class Instance:
    """A compute instance of this project.

    Args:
        said: what the service says of it.
        workspace: its path in Azure Resource Manager.
    """

    said: Mapping[str, Any]
    workspace: str

    @property
    def name(self) -> str:
        return str(self.said["name"])

    @property
    def of(self) -> Mapping[str, Any]:
        return self.said["properties"].get("properties") or {}

    @property
    def tags(self) -> dict[str, str]:
        return dict(self.said.get("tags") or {})

    @property
    def run_id(self) -> str:
        return str(self.said["properties"].get("description") or self.tags.get(RUN_LABEL, ""))

    @property
    def allowed(self) -> str:
        return self.name  # no other one goes on with it

    @property
    def created(self) -> datetime:
        return time(str(self.said["properties"]["createdOn"]))

    @property
    def state(self) -> State:
        provisioning = str(self.said["properties"].get("provisioningState", ""))
        if provisioning in ("Failed", "Canceled"):
            return State.failed
        state = (
            "Deleting" if provisioning == "Deleting" else str(self.of.get("state") or "Creating")
        )
        return STATES.get(state, State.running)

    @property
    def has_ended(self) -> bool:
        return self.state.over

    @property
    def ending(self) -> bool:
        return self.of.get("state") in ("Stopping", "Deleting")

    @property
    def stoppable(self) -> bool:
        """Whether it may be told to stop: it is up, and was not told so before in vain."""
        failed = (self.of.get("lastOperation") or {}).get("operationStatus") == "StopFailed"
        return self.state is State.running and not self.ending and not failed

    @property
    def detail(self) -> str:
        errors = [
            *(self.said["properties"].get("provisioningErrors") or ()),
            *(self.of.get("errors") or ()),
        ]
        said = [str((each.get("error") or {}).get("message") or "") for each in errors]
        last = (self.of.get("lastOperation") or {}).get("operationTrigger")
        state = str(self.of.get("state") or "Creating")
        return next(filter(None, said), f"{state} ({last})" if last else state)

    @property
    def url(self) -> str:
        return f"https://ml.azure.com/compute/{self.name}/details?wsid={self.workspace}"

    @property
    def jupyter(self) -> str:
        """The address of Jupyter on it; empty where there is none yet."""
        found = {
            each.get("displayName"): each.get("endpointUri")
            for each in self.of.get("applications") or ()
        }
        return str(found.get(JUPYTER) or "")

    def seconds(self, now: datetime) -> float:
        """Tell how long it is paid for: never too little, as it may have been stopped and started in between."""
        stopped = (self.of.get("lastOperation") or {}).get("operationTime")
        end = time(str(stopped)) if stopped and self.state.over else now
        return max(0.0, (end - self.created).total_seconds())


class Instances:
    """The compute instances of a workspace that carry all of these labels.

    Args:
        workspace: gives its path in Azure Resource Manager.
        labels: as tags; with none nothing can be told to be ours.
    """

    def __init__(self, workspace: Callable[[], str], labels: Mapping[str, str]) -> None:
        self._workspace, self.labels = workspace, dict(labels)

    def all(self) -> list[Instance]:
        """Give all of them, newest first."""
        path = self._workspace()
        found = [
            Instance(said, path)
            for said in azure.pages(f"{path}/computes", api=API)
            if said["properties"].get("computeType") == KIND and self._is_ours(said)
        ]
        return sorted(found, key=lambda each: each.created, reverse=True)

    def of_run(self, run_id: str) -> list[Instance]:
        """Give those of one run, newest first."""
        return [each for each in self.all() if each.run_id == run_id]

    def make(self, named: str, body: Mapping[str, Any]) -> Instance:
        """Order one; it is there in some minutes."""
        path = f"{self._workspace()}/computes/{named}"
        try:
            said = azure.call("PUT", path, api=API, body=body)
        except ServiceError:
            # Perhaps only the answer was lost: what is there refuses to be made again.
            for each in self._known():
                if each.name == named:
                    return each
            raise
        return Instance({"name": named, **said}, self._workspace())

    def _known(self) -> list[Instance]:
        with suppress(ServiceError):
            return self.all()
        return []

    def stop(self, instance: Instance) -> None:
        """Order it to stop; remove it where that is not possible, for it costs as long as it is there.

        Only what runs can be stopped, and not where its disk is full (github.com/microsoft/vscode-tools-for-ai/issues/2605)
        or it hangs in a restart (github.com/MicrosoftDocs/azure-docs/issues/85756). What a stop leaves is removed too.
        """
        if instance.stoppable:
            try:
                azure.call("POST", f"{self._workspace()}/computes/{instance.name}/stop", api=API)
                return
            except ServiceError as error:
                if type(error) is not ServiceError:  # it is not this order that was refused
                    raise
        self.remove(instance.name)

    def leftovers(self) -> list[Leftover]:
        """Give those that are over: their disks cost until they are removed."""
        return [
            Leftover(
                each.name, f"compute instance {each.name} ({each.detail}) of run {each.run_id}"
            )
            for each in self.all()
            if each.state.over and not each.ending
        ]

    def remove(self, named: str) -> None:
        """Remove one, with its disk; none of that name is no error."""
        path = f"{self._workspace()}/computes/{named}?underlyingResourceAction=Delete"
        try:
            azure.call("DELETE", path, api=API)
        except MissingError:
            return

    def _is_ours(self, said: Mapping[str, Any]) -> bool:
        tags = said.get("tags") or {}
        return bool(self.labels) and RUN_LABEL in tags and self.labels.items() <= tags.items()
