"""Models and endpoints of Vertex AI over REST: where they are, how they are listed, and operations that take their time.

Paths and fields are those of docs.cloud.google.com/vertex-ai/docs/reference/rest/v1, as google-cloud-aiplatform 2.7.0
has them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from ...errors import UserError
from ..errors import MissingError, RefusedError, UnreachableError
from . import auth as google
from . import operations
from .backend import GoogleBackend
from .operations import NotDoneError

log = logging.getLogger(__name__)
SERVICE = "aiplatform.googleapis.com"
PATIENCE = 2400.0  # seconds for an operation: a machine is found and started in minutes, and now and then in many
POLL = 5.0
LOST = 60.0  # seconds until something shows that was made by a request whose answer was lost

Resource = dict[str, Any]


@dataclass(frozen=True)
class Region:
    """Vertex AI in one project and region.

    Args:
        backend: which knows the project.
        name: such as us-central1.
    """

    backend: GoogleBackend
    name: str

    @property
    def parent(self) -> str:
        return f"projects/{self.backend.project}/locations/{self.name}"

    def at(self, where: str) -> Region:
        """Give the one that an earlier deployment has told by its `parent`; empty for this one."""
        if not where:
            return self
        _, project, _, region = where.split("/")
        cloud = OmegaConf.merge(self.backend.cloud, {"project": project})
        return Region(type(self.backend)(cloud), region)

    def url(self, name: str, version: str = "v1") -> str:
        """Give the address of a resource, or of a collection of this region where `name` is one."""
        full = name if name.startswith("projects/") else f"{self.parent}/{name}"
        return f"{google.endpoint('aiplatform', self.name)}/{version}/{full}"

    def check_api(self) -> None:
        """Refuse where Vertex AI is off.

        Raises:
            ServiceError: it is, or nobody can be asked.
        """
        project = self.backend.project
        url = f"{google.endpoint('serviceusage')}/v1/projects/{project}/services/{SERVICE}"
        try:
            state = google.call("GET", url).get("state")
        except RefusedError:  # whoever may not look is told so by the first request
            return
        if state != "ENABLED":
            raise RefusedError(
                f"The API {SERVICE} is off in project {project}",
                f"run `gcloud services enable {SERVICE} --project={project}` and wait a minute",
            )

    def get(self, name: str) -> Resource | None:
        """Give a resource; None where there is none."""
        try:
            return google.call("GET", self.url(name))
        except MissingError:
            return None

    def listed(self, path: str, kind: str, condition: str = "") -> list[Resource]:
        """Give all of a list.

        Args:
            kind: the field of an answer that holds them.
            condition: a filter.
        """
        query = {"pageSize": "100", **({"filter": condition} if condition else {})}
        found: list[Resource] = []
        while True:
            answer = google.call("GET", self.url(path), params=query)
            found += answer.get(kind, ())
            if not (token := answer.get("nextPageToken")):
                return found
            query = {**query, "pageToken": token}

    def make(
        self,
        path: str,
        body: Mapping[str, Any],
        there: Callable[[], Any],
        *,
        query: Mapping[str, str] | None = None,
        of: str = "",
        within: float | None = None,
    ) -> None:
        """Send a request that must not be carried out twice, and wait for what it makes.

        Args:
            there: looks for that, by a name that was chosen here, where the answer is lost.
            of: the resource that the operation is one of, if it was there before.
            within: seconds in which it shows; LOST where nothing is said.

        Raises:
            UserError: it is refused, has failed, or its answer is lost and it has made nothing.
        """
        try:
            self.done(google.call("POST", self.url(path), body, params=query, retry=False))
        except UnreachableError:
            log.warning("The answer is lost; looking for what Vertex AI may have begun ...")
            deadline = time.monotonic() + (LOST if within is None else within)
            while True:
                if of:
                    self.settle(of)
                if there():
                    return
                if time.monotonic() >= deadline:
                    raise
                time.sleep(POLL)

    def done(self, operation: Resource) -> Resource:
        """Wait for an operation; give what it answers.

        Raises:
            NotDoneError: it has failed, or lasts too long.
        """
        return operations.wait(operation, "Vertex AI", self.url, PATIENCE, POLL)

    def is_busy(self, name: str) -> bool:
        """Tell whether an operation of a resource is under way; none is of one that is gone."""
        try:
            found = self.listed(f"{name}/operations", "operations")
        except MissingError:
            return False
        return any(not one.get("done") for one in found)

    def settle(self, name: str) -> None:
        """Wait until a resource has no operation any more: until then nothing else is done with it.

        Raises:
            NotDoneError: that lasts too long.
        """
        deadline = time.monotonic() + PATIENCE
        said = False
        while self.is_busy(name):
            if not said:
                log.warning("Waiting until Vertex AI has done what it is at with %s ...", name)
                said = True
            if time.monotonic() > deadline:
                raise NotDoneError(f"{name} is still being changed; try again later.")
            time.sleep(POLL)


def connect() -> tuple[Region, float]:
    """Give Vertex AI in the project and the region of this project's jobs, and the USD a month that they may cost.

    Raises:
        UserError: no file of configs/cloud/ says which.
    """
    from ...records.places import places  # it knows the backends, and so imports this folder

    for place in places():
        if isinstance(place.service, GoogleBackend):
            return Region(place.service, str(place.region)), place.cap
    raise UserError("No file in configs/cloud/ is of Google Cloud; there cloud.region says where.")
