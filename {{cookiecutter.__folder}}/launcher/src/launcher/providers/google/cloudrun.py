"""Models that answer on Cloud Run: one private service for each, that scales to zero, and a revision for each version."""

from __future__ import annotations

import logging
import time
from typing import Any

from omegaconf import OmegaConf

from ...deployment import Ask, Check, Deployment, Order, SilentError
from ...errors import UserError
from ..errors import MissingError, QuotaError, RefusedError, ServiceError, UnreachableError
from . import auth as google
from . import cloudrun_access as access
from . import cloudrun_request as asked
from . import cloudrun_traffic as traffic
from . import id_token, operations
from .backend import GoogleBackend
from .operations import NotDoneError

log = logging.getLogger(__name__)
PLACE = traffic.PLACE
PATIENCE = 600.0  # seconds for an operation
POLL = 1.0
# Changes of IAM take two minutes and now and then seven: iam/docs/access-change-propagation.
GRANTED = 420.0  # seconds until a right counts that was just given
KNOWN = 60.0  # seconds until an account is known that was just made
TIMEOUT = 60  # seconds for an answer; the first one waits for an instance


def connect() -> CloudRun:
    """Give Cloud Run in the project and the region of this project's jobs.

    Raises:
        UserError: no file of configs/cloud/ says which.
    """
    from ...records.places import places  # it knows the backends, and so imports this folder

    for place in places():
        if isinstance(place.service, GoogleBackend):
            return CloudRun(place.service, str(place.region), place.cap)
    raise UserError("No file in configs/cloud/ is of Google Cloud; there cloud.region says where.")


class CloudRun:
    """Services of one project and region.

    Args:
        backend: which knows the project.
        cap: USD a month that a service may cost where nothing else is said.
    """

    SETTINGS = asked.SETTINGS
    REMOTE = True

    def __init__(self, backend: GoogleBackend, region: str, cap: float) -> None:
        self.backend, self.region, self.cap = backend, region, cap

    @property
    def parent(self) -> str:
        return f"projects/{self.backend.project}/locations/{self.region}"

    @property
    def where(self) -> str:
        """The project and the region, as a note of a deployment keeps them."""
        return self.parent

    def at(self, where: str) -> CloudRun:
        """Give the same in the project and the region of an earlier deployment."""
        if not where:
            return self
        _, name, _, region = where.split("/")
        cloud = OmegaConf.merge(self.backend.cloud, {"project": name})
        return CloudRun(type(self.backend)(cloud), region, self.cap)

    def prepare(self, order: Order) -> float:
        """Say the price, and refuse what Cloud Run would refuse later; give USD that it could cost at most.

        Raises:
            UserError: a setting is wrong, it could cost too much, or the API is off.
        """
        asked.check(order)
        print(asked.said_cost(order, self.region, self.cap))
        if until := order.settings.get("until"):
            print(
                f"The janitor removes it after {until}, as far as `make cloud-setup` is of today."
            )
        self._check_api()
        return asked.most_usd(order, self.region)

    def _check_api(self) -> None:
        url = f"{google.endpoint('serviceusage')}/v1/projects/{self.backend.project}/services/run.googleapis.com"
        try:
            state = google.call("GET", url).get("state")
        except RefusedError:  # whoever may not look is told so by the first request
            return
        if state != "ENABLED":
            raise RefusedError(
                f"The API run.googleapis.com is off in project {self.backend.project}",
                f"run `gcloud services enable run.googleapis.com --project={self.backend.project}` and wait a minute",
            )

    def deploy(self, order: Order, check: Check) -> Deployment:
        """Make a revision that gets no requests, and give it its part of them once the check has passed.

        Raises:
            UserError: it does not start or does not pass; then the requests go where they went.
        """
        asked.check(order)
        before = self._standing(order.model)
        # A login that can ask no service is told so before anything is made.
        id_token.fetch(before["uri"] if before else f"https://{asked.service_name(order.model)}")
        revision, former = asked.revision_name(order), None
        percent = int(order.settings.get("traffic", "100")) if before else 100
        try:
            if before is None:
                made = self._first(order, revision)
                former = access.allow(self._url(made["name"]), asked.members(order.settings))
                check(self._asking(made, revision, GRANTED if former else 0))
            else:
                made = self._beside(before, order, revision)
                check(self._asking(made, revision, 0))
                # Not earlier: the version that answers is not opened for one that does not pass.
                former = access.allow(self._url(made["name"]), asked.members(order.settings))
                made = self._send(made, revision, percent, traffic.proven(before, order.version))
        except BaseException:
            self._undo(order.model, revision, before, former)
            raise
        said = "" if percent == 100 else f"{percent} % of the requests"
        return Deployment(order.model, order.version, PLACE, made["uri"], percent, said)

    def rollback(self, model: str) -> Deployment:
        """Send all requests to the revision that had them before.

        Raises:
            UserError: there is none.
        """
        found = self._get(model)
        if not found or not (former := traffic.before(found)):
            raise UserError(
                f"{model} has no version before on Cloud Run; deploy one: uv run models deploy {model}@vN to={PLACE}."
            )
        # What was rejected is not kept as the one before: a second rollback would lead to it.
        made = self._send(found, former, 100)
        return Deployment(model, asked.version_of(former), PLACE, made["uri"])

    def remove(self, model: str) -> bool:
        """Delete the service of a model, with all its revisions; tell whether there was one."""
        found = self._get(model)
        if found:
            self._delete(found)
        return bool(found)

    def deployments(self) -> list[Deployment]:
        """Give what answers there, of this project: each revision that gets requests."""
        found, token = [], ""
        while True:
            query = {"pageSize": "100", **({"pageToken": token} if token else {})}
            answer = google.call("GET", self._url(f"{self.parent}/services"), params=query)
            found += [one for one in answer.get("services", ()) if traffic.is_ours(one)]
            if not (token := answer.get("nextPageToken", "")):
                return [told for one in found for told in traffic.deployments(one)]

    def _standing(self, model: str) -> dict[str, Any] | None:
        """Give the service of a model, if it has ever answered; what is left of one that has not is deleted.

        Raises:
            UserError: it is being made just now.
        """
        found = self._get(model)
        if not found or traffic.latest(found):
            return found
        if found.get("reconciling"):
            raise UserError(f"{found['name']} is being made just now; try again in a minute.")
        self._delete(found)
        return None

    def _first(self, order: Order, revision: str) -> dict[str, Any]:
        account, is_new = access.account(self.backend.project)
        body = asked.service(order, revision, account, [asked.target(revision, 100, "")])
        query = {"serviceId": asked.service_name(order.model)}
        url = self._url(f"{self.parent}/services")
        deadline = time.monotonic() + (KNOWN if is_new else 0)
        while True:
            try:
                return self._done(google.call("POST", url, body, params=query))
            except (UnreachableError, QuotaError):
                raise
            except ServiceError:  # the account is made, and Cloud Run may not know it yet
                if time.monotonic() >= deadline:
                    raise
                time.sleep(POLL)

    def _beside(self, before: dict[str, Any], order: Order, revision: str) -> dict[str, Any]:
        account, _ = access.account(self.backend.project)
        parts = traffic.with_candidate(before, revision, f"v{order.version}")
        body = asked.service(order, revision, account, parts) | {"etag": before["etag"]}
        return self._done(google.call("PATCH", self._url(before["name"]), body))

    def _send(
        self, made: dict[str, Any], revision: str, percent: int, old: str = ""
    ) -> dict[str, Any]:
        """Send a part of the requests to a revision and the others to an old one, which is kept for a rollback.

        The new one has no tag any more: at an address of its own it could have instances besides.
        """
        parts = [asked.target(revision, percent, "")]
        if old:
            parts.append(asked.target(old, 100 - percent, asked.BEFORE))
        sent = self._divide(made, parts)
        if traffic.percent(sent, revision) != percent:
            raise NotDoneError(
                f"Cloud Run has not sent {percent} % of the requests to {revision}; look at its console."
            )
        return sent

    def _divide(self, service: dict[str, Any], parts: list[dict[str, Any]]) -> dict[str, Any]:
        body = {"traffic": parts, "etag": service["etag"]}
        query = {"updateMask": "traffic"}
        return self._done(google.call("PATCH", self._url(service["name"]), body, params=query))

    def _delete(self, service: dict[str, Any]) -> None:
        """Delete a service as it was seen; what somebody has changed since is refused."""
        query = {"etag": service["etag"]}
        self._done(google.call("DELETE", self._url(service["name"]), params=query))

    def _undo(
        self,
        model: str,
        revision: str,
        before: dict[str, Any] | None,
        policy: dict[str, Any] | None,
    ) -> None:
        """Put all back after a failure, which is raised afterwards: what goes wrong here is only said."""
        undone = [lambda: self._drop(model, revision, before)]
        if before:  # else the policy goes with the service
            undone.append(lambda: access.restore(self._url(before["name"]), policy))
        for undo in undone:
            try:
                undo()
            except UserError as error:
                log.warning("%s on Cloud Run is not as before; look at it: %s", model, error)

    def _drop(self, model: str, revision: str, before: dict[str, Any] | None) -> None:
        """Leave the requests where they went before; the revision that failed gets none and costs nothing.

        The service is read anew: whoever was interrupted does not know how far it came.
        """
        found = self._get(model)
        if not found or (before and found["etag"] == before["etag"]):
            return
        if found.get("template", {}).get("revision") != revision:
            log.warning(
                "%s has been changed by somebody else meanwhile; it is left alone.", found["name"]
            )
        elif before is None:
            self._delete(found)
        else:
            self._divide(found, traffic.parts(before))

    def _asking(self, made: dict[str, Any], revision: str, patience: float) -> Ask:
        """Give what asks one revision: at the address of its tag, or of the service where it has none.

        Args:
            patience: seconds in which a right that was just given may not count yet.
        """
        statuses = [
            one for one in made.get("trafficStatuses", ()) if one.get("revision") == revision
        ]
        at = next((one["uri"] for one in statuses if one.get("uri")), made["uri"])
        deadline = time.monotonic() + patience
        token = id_token.fetch(made["uri"])

        def ask(path: str, body: Any) -> tuple[int, Any]:
            headers = {"Authorization": f"Bearer {token}"}
            method = "GET" if body is None else "POST"
            try:
                answer = google.request(
                    *(method, at + path, body),
                    headers=headers,
                    login=False,
                    timeout=TIMEOUT,
                    retry=False,
                )
                return answer.status_code, answer.json()
            except UnreachableError as error:
                raise SilentError(str(error)) from error
            except RefusedError as error:
                if time.monotonic() < deadline:
                    time.sleep(POLL)
                    return ask(path, body)
                raise SilentError(
                    f"{error} Who deploys must be in allow=, too, and before a second version."
                ) from error
            except (ServiceError, ValueError) as error:
                raise SilentError(str(error)) from error

        return ask

    def _get(self, model: str) -> dict[str, Any] | None:
        url = self._url(f"{self.parent}/services/{asked.service_name(model)}")
        try:
            found = google.call("GET", url)
        except MissingError:
            return None
        if not traffic.is_ours(found):
            raise UserError(
                f"The service {found['name']} is not of this project; register {model} by another name=..."
            )
        return found

    def _done(self, operation: dict[str, Any]) -> dict[str, Any]:
        """Wait for an operation; give what it made."""
        return operations.wait(operation, "Cloud Run", self._url, PATIENCE, POLL)

    @staticmethod
    def _url(name: str) -> str:
        return f"{google.endpoint('run')}/v2/{name}"
