"""Models that answer on Azure Machine Learning: one managed online endpoint for each, and a deployment for each version.

An endpoint rather than Container Apps, which would scale to zero: here Entra's roles say who may ask, so that it is private
as it is. A container app with an address of its own is open to everybody, unless an application is registered in the
directory for its sign-in, which most people may not do.

What a deployment costs it costs day and night. So each has a last day, and the version before, which a rollback leads to
in seconds, is kept only until the next deployment or rollback.

https://learn.microsoft.com/azure/machine-learning/concept-endpoints-online and .../how-to-safely-rollout-online-endpoints
"""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

from ...deployment import Check, Deployment, Order
from ...errors import UserError
from ...project import project
from ..errors import MissingError, QuotaError, ServiceError
from . import auth as azure
from . import azureml_endpoint_calls as calls
from . import azureml_endpoint_request as asked
from . import azureml_endpoint_traffic as traffic
from . import quotas
from .azureml_endpoint_undo import Begun, clear, end_others
from .azureml_request import API
from .backend import IDENTITY_API, AzureBackend
from .errors import QUOTAS

PLACE = traffic.PLACE
GRANTED = 600.0  # seconds until a role counts that was just given (role-based-access-control/troubleshooting)


def connect() -> Endpoints:
    """Give the endpoints of this project's workspace.

    Raises:
        UserError: no file of configs/cloud/ says which it is.
    """
    from ...records.places import places  # it knows the backends, and so imports this folder

    for place in places():
        if isinstance(place.service, AzureBackend):
            return Endpoints(place.service, place.cap)
    raise UserError("No file in configs/cloud/ is of Azure; there cloud.workspace says where.")


class Endpoints:
    """Endpoints of one workspace.

    Args:
        backend: which knows the workspace.
        cap: USD a month that a model may cost where nothing else is said.
    """

    SETTINGS = asked.SETTINGS
    REMOTE = True

    def __init__(self, backend: AzureBackend, cap: float) -> None:
        self.backend, self.cap = backend, cap

    @property
    def where(self) -> str:
        """The workspace and its region, as a note of a deployment keeps them."""
        here = self.backend
        return f"{here.subscription}/{here.group}/{here.workspace}/{here.region}"

    def at(self, where: str) -> Endpoints:
        """Give the same in the workspace of an earlier deployment."""
        if not where:
            return self
        subscription, group, workspace, region = where.split("/")
        place = {"project": subscription, "workspace": f"{group}/{workspace}", "region": region}
        cloud = OmegaConf.merge(self.backend.cloud, place)
        return Endpoints(type(self.backend)(cloud), self.cap)

    def prepare(self, order: Order) -> float:
        """Say the price, and refuse what Azure would refuse later; give USD that it could cost at most.

        Raises:
            UserError: a setting is wrong, it could cost too much, or setup has not prepared it.
        """
        asked.check(order)
        found = self._find(order.model)
        known = calls.listed(f"{self._path(order.model)}/deployments") if found else []
        there = traffic.perhaps(known, order, self._kind(order))
        kept = self._kept(order, found, known, there) if found else None
        print(asked.said_cost(order, self.backend.region, self.cap, kept))
        print(
            f"The janitor removes it after {order.settings['until']}; `make cloud-setup` gives its login the right to."
        )
        self._server()
        if not there:
            self._check_quota(order)
        return asked.most_usd(order, self.backend.region, kept)

    def deploy(self, order: Order, check: Check) -> Deployment:
        """Make a deployment that gets no requests, and give it its part of them once the check has passed.

        Raises:
            UserError: it does not start or does not pass; then the requests go where they went.
        """
        asked.check(order)
        path = self._path(order.model)
        before = self._standing(order.model)
        wanted = asked.deployment(order, self.backend.region, self._environment(order))
        known = calls.listed(f"{path}/deployments") if before else []
        again = traffic.like(known, wanted)
        name = again or asked.deployment_name(order)
        percent = int(order.settings.get("traffic", "100")) if before else 100
        begun, new = Begun(path, order.model, name, before, bool(again)), False
        try:
            made = before or calls.put(
                path, asked.endpoint(order, self.backend.region, self._server(), begun.mark)
            )
            if not again:
                self._start(path, name, wanted)
            if (
                before is None
            ):  # whoever an endpoint of this name had let in before may not ask this one
                made = begun.unchanged()  # and only now it tells its address for sure
                new = begun.allow(asked.members(order.settings) or {})
            check(calls.asking(made, name, GRANTED if new else 0))
            if before:  # not earlier: what answers is not opened for one that does not pass
                begun.unchanged()
                begun.allow(asked.members(order.settings))
            old = traffic.proven(before, order.version, name) if before else ""
            made = self._send(begun.unchanged(), name, percent, old, asked.labels(order))
        except BaseException:
            begun.undo()
            raise
        end_others(path, {name, old})
        kept = next((one for one in known if one["name"] == old), None)
        return self._told(order, made, percent, kept)

    def rollback(self, model: str) -> Deployment:
        """Send all requests to the deployment that had them before, and end the one that was rejected.

        Raises:
            UserError: there is none.
        """
        found, path = self._find(model), self._path(model)
        known = calls.listed(f"{path}/deployments") if found else []
        there = {str(one["name"]) for one in known if traffic.state(one) == traffic.DONE}
        if not found or (former := traffic.before(found)) not in there:
            raise UserError(
                f"{model} has no version before on Azure ML; deploy one: uv run models deploy {model}@vN to={PLACE}."
            )
        version = asked.version_of(former)
        # What was rejected is not kept as the one before: a second rollback would lead to it.
        tags = {**found["tags"], "version": f"v{version}"}
        made = self._send(found, former, 100, "", tags)
        end_others(path, {former})
        return Deployment(model, version, PLACE, str(made["properties"].get("scoringUri") or ""))

    def remove(self, model: str) -> bool:
        """Delete the endpoint of a model with all its deployments, roles and environments; tell whether there was one."""
        found = self._find(model)
        if found:
            clear(self._path(model), model)
        return bool(found)

    def deployments(self) -> list[Deployment]:
        """Give what is there, of this project: each deployment, for each is paid for."""
        endpoints = azure.pages(f"{self.backend.path}/onlineEndpoints", api=API)
        return [
            told
            for one in list(endpoints)
            if traffic.is_ours(one)
            for told in traffic.deployments(one, calls.listed(f"{one['id']}/deployments"))
        ]

    # -- parts of a deployment ---------------------------------------------------------------------

    def _environment(self, order: Order) -> str:
        """Make the image known to the workspace, with where it answers; give the path. What is known is never changed."""
        below, body = asked.environment(order)
        path = f"{self.backend.path}/{below}"
        try:
            azure.call("GET", path, api=API)
        except MissingError:
            azure.call("PUT", path, api=API, body=body)
        return path

    def _start(self, path: str, name: str, wanted: dict[str, Any]) -> None:
        try:
            calls.put(f"{path}/deployments/{name}", wanted)
        except ServiceError as error:
            said = calls.last_line(f"{path}/deployments/{name}")
            what = f"{error.what} (its log ends with: {said})" if said else error.what
            remedy = error.remedy + asked.larger(wanted, error.code)
            raise type(error)(what, remedy, error.code) from error

    def _send(
        self, endpoint: dict[str, Any], name: str, percent: int, old: str, tags: dict[str, str]
    ) -> dict[str, Any]:
        """Send a part of the requests to a deployment and the others to an old one, which is kept for a rollback."""
        parts = {name: percent}
        if old and percent < 100:
            parts[old] = 100 - percent
        noted = {key: value for key, value in tags.items() if key != asked.BEFORE}
        if old:
            noted[asked.BEFORE] = old
        if mark := traffic.mark(endpoint):
            noted[asked.MARK] = mark
        path = str(endpoint["id"])
        calls.put(path, asked.changed(endpoint, parts, noted))
        if not (sent := calls.divided(path, parts)):
            raise UserError(
                f"Azure ML has not sent {percent} % of the requests to {name}; look at its endpoint in the studio."
            )
        return sent

    def _told(
        self, order: Order, made: dict[str, Any], percent: int, old: dict[str, Any] | None
    ) -> Deployment:
        said = [] if percent == 100 else [f"{percent} % of the requests"]
        if old:
            hour = asked.hourly_of(old, order, self.backend.region)
            said.append(
                f"and v{asked.version_of(str(old['name']))} stays for a rollback until the next deployment, for about {hour:.3f} USD an hour"
            )
        url = str(made["properties"].get("scoringUri") or "")
        return Deployment(order.model, order.version, PLACE, url, percent, ", ".join(said))

    # -- what is there -----------------------------------------------------------------------------

    def _path(self, model: str) -> str:
        workspace = self.backend.path
        return f"{workspace}/onlineEndpoints/{asked.endpoint_name(workspace, model)}"

    def _find(self, model: str) -> dict[str, Any] | None:
        """Give the endpoint of a model. Raises UserError where it is somebody else's."""
        found = calls.find(self._path(model))
        if found and not traffic.is_ours(found):
            raise UserError(
                f"The endpoint {found['name']} is not of this project; register {model} by another name=..."
            )
        return found

    def _standing(self, model: str) -> dict[str, Any] | None:
        """Give the endpoint of a model if anything answers there; what is left of one that has not is deleted.

        Raises:
            UserError: it, or a deployment of it, is being changed just now.
        """
        if not (found := self._find(model)):
            return None
        for one in (found, *calls.listed(f"{self._path(model)}/deployments")):
            # What ends beside one that answers is in nobody's way.
            ends = traffic.state(one) == "Deleting" and one is not found and traffic.parts(found)
            if traffic.state(one) in traffic.BUSY and not ends:
                what = "endpoint" if one is found else "deployment"
                raise UserError(
                    f"The {what} {one['name']} is {traffic.state(one)} just now; try again in some minutes."
                )
        if not traffic.parts(found):
            clear(self._path(model), model)
            return None
        return found

    def _kind(self, order: Order) -> str:
        return asked.machine(order, self.backend.region).machine.type

    def _kept(
        self, order: Order, found: dict[str, Any], known: list[dict[str, Any]], there: str
    ) -> float | None:
        """Give USD an hour of the version before, which stays; None where none does."""
        # Of an image that is not pushed yet nobody knows whether it is the one that answers there.
        name = there if "@sha256:" in order.image else ""
        old = traffic.proven(found, order.version, name)
        of = [one for one in known if one["name"] == old]
        return asked.hourly_of(of[0], order, self.backend.region) if of else None

    def _server(self) -> str:
        """Give the path of the identity that endpoints have: it may fetch images, and reads the workspace's own storage
        account, where logs and code of runs are; without that no deployment comes up.

        Raises:
            MissingError: setup has not made it.
        """
        name = f"{project().account}-server"
        group = self.backend.path.partition("/providers/")[0]
        path = f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
        try:
            azure.call("GET", path, api=IDENTITY_API)
        except MissingError as error:
            raise MissingError(
                f"There is no identity {name} in the resource group {self.backend.group}",
                "run `make cloud-setup` again, which makes it",
            ) from error
        return path

    def _check_quota(self, order: Order) -> None:
        """Refuse what the quota has no room for, with the fifth more that the service reserves for upgrades."""
        kind = self._kind(order)
        count = asked.reserved(asked.instances(order))
        if said := quotas.lacking(self.backend.path, self.backend.region, kind, count):
            raise QuotaError(
                said,
                f"give a smaller machine= or max=, end what is not needed, or ask for more at {QUOTAS}",
            )
