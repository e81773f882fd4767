"""Models that answer at endpoints of Vertex AI: one dedicated endpoint for each, always on, and a machine for each version.

A deployed version that gets no requests cannot be asked: an endpoint has no tags, and its parts of the requests cannot
be passed over (github.com/googleapis/python-aiplatform/issues/827). So a new version is asked at an endpoint that is made
for that and nobody else knows, and that is removed again: it costs a machine for some minutes, and no request meets a
version that was never asked. Then it is deployed beside the one that answers, with no requests; then it gets its part;
and where that is all of them it is asked once more, and the requests go back at once if it does not pass.

The models stay in the model registry after `remove`: they show what the bucket has, and cost nothing there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ...deployment import Check, Deployment, Order
from ...errors import UserError
from ...mirror import Entry
from ..errors import ServiceError, UnreachableError
from . import auth as google
from . import vertex_endpoint_access as access
from . import vertex_endpoint_end as ending
from . import vertex_endpoint_request as asked
from . import vertex_endpoint_traffic as traffic
from .cloudrun_request import members
from .operations import NotDoneError
from .vertex_api import Region, Resource
from .vertex_api import connect as region
from .vertex_endpoint_ask import asking, example
from .vertex_models import Models

log = logging.getLogger(__name__)
PLACE = traffic.PLACE
FRESH = 300.0  # seconds in which somebody may be at what looks as if it was left


def connect() -> Endpoints:
    """Give the endpoints in the project and the region of this project's jobs.

    Raises:
        UserError: no file of configs/cloud/ says which.
    """
    return Endpoints(*region())


class Endpoints:
    """The endpoints of one project and region.

    Args:
        cap: USD a month that one may cost where nothing else is said.
    """

    SETTINGS = asked.SETTINGS
    REMOTE = True

    def __init__(self, where: Region, cap: float) -> None:
        self.region, self.cap = where, cap

    @property
    def where(self) -> str:
        """The project and the region, as a note of a deployment keeps them."""
        return self.region.parent

    def at(self, where: str) -> Endpoints:
        """Give the same in the project and the region of an earlier deployment."""
        return Endpoints(self.region.at(where), self.cap)

    def prepare(self, order: Order) -> float:
        """Say the price, and refuse what Vertex AI would refuse later; give USD that it could cost at most.

        Raises:
            UserError: a setting is wrong, it could cost too much, or the API is off.
        """
        asked.check(order)
        self.region.check_api()
        found = [one for one in self._of(order.model) if not traffic.is_trial(one)]
        kept = [each for one in found for each in traffic.kept(one, order)]
        former = max((asked.costs(one, self.region.name) for one in kept), default=0.0)
        print(asked.said_cost(order, self.region.name, self.cap, former))
        return asked.most_usd(order, self.region.name, former)

    def deploy(self, order: Order, check: Check) -> Deployment:
        """Try a version at an endpoint of its own, deploy it beside the one that answers, and give it its requests.

        Raises:
            UserError: it does not start or does not pass; then the requests go where they went.
        """
        asked.check(order)
        entry, instance = _entry(order), example(order)
        before = self._standing(order.model)
        model = Models(self.region).have(entry)
        if before is None:
            made = self._first(order, model, check, instance)
            return Deployment(order.model, order.version, PLACE, traffic.url(made))
        number = traffic.same(before, order, model)
        if not number:
            self._try(order, model, check, instance)
        return self._beside(before, order, model, number, check, instance)

    def rollback(self, model: str) -> Deployment:
        """Send all requests to the version that had them before, and end the one that was rejected.

        Raises:
            UserError: there is none.
        """
        found = self._main(model)
        if not found or not (former := traffic.before(found)):
            raise UserError(
                f"{model} has no version before on Vertex AI; deploy one: uv run models deploy {model}@vN to={PLACE}."
            )
        version = asked.version_of(traffic.there(found)[former])
        marks = {key: one for key, one in found["labels"].items() if key != asked.BEFORE}
        made = self._change(found, {former: 100}, {**marks, "version": f"v{version}"})
        ending.keep(self.region, found, former)
        return Deployment(model, version, PLACE, traffic.url(made))

    def remove(self, model: str) -> bool:
        """End all that is deployed of a model, and delete its endpoints; tell whether there was any."""
        found = self._of(model)
        for one in found:
            ending.end(self.region, one["name"])
        return bool(found)

    def deployments(self) -> list[Deployment]:
        """Give all of this project that costs there, also what gets no requests."""
        found = self.region.listed("endpoints", "endpoints", traffic.condition())
        ours = [one for one in found if "model" in one.get("labels", {})]
        return [told for one in ours for told in traffic.deployments(one)]

    def _of(self, model: str) -> list[Resource]:
        return self.region.listed("endpoints", "endpoints", traffic.condition(model))

    def _main(self, model: str) -> Resource | None:
        """Give the endpoint of a model.

        Raises:
            UserError: there are two.
        """
        found = [one for one in self._of(model) if not traffic.is_trial(one)]
        if len(found) > 1:
            names = " and ".join(one["name"] for one in found)
            raise UserError(
                f"{model} has more than one endpoint, {names}; begin anew: uv run models undeploy {model} to={PLACE}."
            )
        return found[0] if found else None

    def _standing(self, model: str) -> Resource | None:
        """Give the endpoint of a model, if anything answers there; what is left of an earlier attempt is removed.

        Raises:
            UserError: somebody is at it just now.
        """
        for one in self._of(model):
            name = one["name"]
            if self.region.is_busy(name):
                raise UserError(f"{name} is being changed just now; try again in some minutes.")
            if traffic.is_trial(one) or not traffic.parts(one):
                if traffic.age(one, google.now()) < FRESH:
                    raise UserError(
                        f"{name} was begun just now, and somebody may be at it; try again in {FRESH / 60:.0f} minutes."
                    )
                log.warning("Removing %s, which an earlier attempt has left.", name)
                ending.end(self.region, name)
        return self._main(model)

    # What is made

    def _first(self, order: Order, model: str, check: Check, instance: Any) -> Resource:
        """Make the endpoint; until it passes nobody knows it, and it says that it is a trial."""
        name = f"{self.region.parent}/endpoints/{asked.endpoint_id(order)}"
        number = asked.new_id()
        try:
            self._create(name, asked.endpoint(order, **{asked.TRIAL: "true"}))
            made = self._add(name, order, number, model, asked.most(order), all_of_it=True)
            check(asking(self.region, made, number, order, instance))
            access.allow(self.region, name, members(order.settings))
            now = self.region.get(name) or made
            return self._change(now, {number: 100}, asked.labels(order))
        except BaseException:
            self._undo(order.model, lambda: ending.end(self.region, name))
            raise

    def _try(self, order: Order, model: str, check: Check, instance: Any) -> None:
        """Ask a version where nobody else does; nothing of it is left."""
        name = f"{self.region.parent}/endpoints/{asked.endpoint_id(order)}"
        number = asked.new_id()
        try:
            self._create(name, asked.endpoint(order, **{asked.TRIAL: "true"}))
            made = self._add(name, order, number, model, 1, all_of_it=True)
            check(asking(self.region, made, number, order, instance))
        finally:
            self._undo(order.model, lambda: ending.end(self.region, name))

    def _beside(
        self,
        before: Resource,
        order: Order,
        model: str,
        number: str,
        check: Check,
        instance: Any,
    ) -> Deployment:
        """Deploy beside what answers, where it is not there yet, and send it its part of the requests.

        Args:
            number: the id of just this that is deployed already; empty where nothing is.
        """
        name, old = before["name"], traffic.proven(before, number)
        percent = int(order.settings.get("traffic", "100"))
        if percent < 100 and not old:
            raise UserError(
                f"There is no version before {order} on Vertex AI that could take the other {100 - percent} %; "
                "leave traffic= out."
            )
        added, policy = "" if number else asked.new_id(), None
        try:
            if added:
                self._add(name, order, added, model, asked.most(order))
                number = added
            policy = access.allow(self.region, name, members(order.settings))
            now = self.region.get(name) or {}
            if traffic.parts(now) != traffic.parts(before):
                raise NotDoneError(f"{name} has been changed by somebody else meanwhile.")
            marks = asked.labels(order, **({asked.BEFORE: old} if old else {}))
            made = self._change(now, traffic.split(number, percent, old), marks)
            if percent == 100:
                check(asking(self.region, made, number, order, instance))
        except BaseException:
            self._undo(
                order.model,
                lambda: self._put_back(before, number),
                lambda: access.restore(self.region, name, policy),
                lambda: self._take_away(name, added),
            )
            raise
        self._undo(order.model, lambda: ending.keep(self.region, before, number, old))
        said = "" if percent == 100 else f"{percent} % of the requests"
        return Deployment(order.model, order.version, PLACE, traffic.url(made), percent, said)

    def _create(self, name: str, body: dict[str, Any]) -> None:
        number = name.rpartition("/")[2]
        there = lambda: self.region.get(name)
        self.region.make("endpoints", body, there, query={"endpointId": number})

    def _add(
        self,
        name: str,
        order: Order,
        number: str,
        model: str,
        most: int,
        all_of_it: bool = False,
    ) -> Resource:
        """Deploy a version; without `all_of_it` it gets no requests, and those of the others stay as they are."""
        body: dict[str, Any] = {"deployedModel": asked.deployed(order, number, model, most)}
        if all_of_it:
            body["trafficSplit"] = {"0": 100}  # the one that is being deployed
        there = lambda: number in traffic.there(self.region.get(name) or {})
        self.region.make(f"{name}:deployModel", body, there, of=name)
        return self.region.get(name) or {}

    def _change(
        self, endpoint: Resource, parts: dict[str, int], labels: dict[str, str]
    ) -> Resource:
        """Send the requests elsewhere, in seconds; refused where somebody has changed the endpoint since it was seen.

        Where the answer is lost, the endpoint tells whether it was done.
        """
        body = {"trafficSplit": parts, "labels": labels, "etag": endpoint["etag"]}
        query = {"updateMask": "trafficSplit,labels"}
        try:
            return google.call("PATCH", self.region.url(endpoint["name"]), body, params=query)
        except UnreachableError:
            now = self.region.get(endpoint["name"]) or {}
            if (traffic.parts(now), now.get("labels")) != (parts, labels):
                raise
            return now

    # What is ended

    def _put_back(self, before: Resource, number: str) -> None:
        """Send the requests where they went; they are read anew: whoever was interrupted does not know how far it came."""
        now = self.region.get(before["name"]) or {}
        if traffic.parts(now) == traffic.parts(before):
            return
        if number not in traffic.parts(now):
            log.warning("%s has been changed by somebody else meanwhile.", before["name"])
            return
        self._change(now, traffic.parts(before), before["labels"])

    def _take_away(self, name: str, number: str) -> None:
        if number:
            self.region.settle(name)
            now = self.region.get(name) or {}
            if number in traffic.there(now) and number not in traffic.parts(now):
                ending.undeploy(self.region, name, number)

    def _undo(self, model: str, *steps: Callable[[], None]) -> None:
        """Put things back; what goes wrong here is only said, for there may be an error already."""
        for step in steps:
            try:
                step()
            except (UserError, ServiceError) as error:
                log.warning(
                    "%s on Vertex AI is not as it should be, and may cost: %s See: uv run models deployments",
                    model,
                    error,
                )


def _entry(order: Order) -> Entry:
    """Give a version as the model registry gets it.

    Raises:
        UserError: it is in no bucket, or not whole.
    """
    from ...models import mirror, places, versions  # they know the providers

    home = order.uri.removesuffix(f"/{order.model}/v{order.version}")
    if home != places.bucket():
        raise UserError(
            f"{order} is in {home}; Vertex AI shows what is in the bucket: uv run models register run=ID to=bucket."
        )
    return mirror.entry(versions.need(home, order.model, order.version), order.image)
