"""Models that answer at endpoints of SageMaker: one for each, private, without a machine or with one that is always on."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from ...deployment import Check, Deployment, Order
from ...errors import UserError
from ..errors import MissingError, RefusedError
from . import auth as aws
from . import sagemaker_endpoint_price as price
from . import sagemaker_endpoint_request as asked
from . import sagemaker_endpoint_state as states
from . import sagemaker_endpoint_trial as trial
from .backend import AwsBackend
from .sagemaker_endpoint_ask import asking
from .sagemaker_endpoint_calls import Calls
from .sagemaker_endpoint_image import taken
from .sagemaker_endpoint_request import PLACE, Where
from .sagemaker_endpoint_undo import undo

log = logging.getLogger(__name__)
SETUP = "run `make cloud-setup`, which makes it"


def connect() -> Endpoints:
    """Give SageMaker in the account and the region of this project's jobs.

    Raises:
        UserError: no file of configs/cloud/ says which, or there is no login.
    """
    from ...records.places import places  # it knows the backends, and so imports this folder

    for place in places():
        if isinstance(backend := place.service, AwsBackend):
            where = Where(backend.account, backend.region)
            return Endpoints(where, place.cap, backend.reference())
    raise UserError("No file in configs/cloud/ is of AWS; there cloud.region says where.")


class Endpoints:
    """Endpoints of one account and region.

    Args:
        cap: USD a month that an endpoint may cost where nothing else is said.
        image: one that trains; those that serve are in the repository beside it.
    """

    SETTINGS = asked.SETTINGS
    REMOTE = True

    def __init__(self, where: Where, cap: float = 0, image: str = "") -> None:
        self._where, self.cap, self.image = where, cap, image
        self.calls = Calls(where)

    @property
    def where(self) -> str:
        """The account and the region, as a note of a deployment keeps them."""
        return str(self._where)

    def at(self, where: str) -> Endpoints:
        """Give the same in the account and the region of an earlier deployment."""
        if not where or where == self.where:
            return self
        account, _, region = where.partition("/")
        return Endpoints(Where(account, region), self.cap, self.image)

    def prepare(self, order: Order) -> float:
        """Say the price, and refuse what SageMaker would refuse later; give USD that it could cost at most.

        Raises:
            UserError: a setting is wrong, it could cost too much, or setup has not made what it needs.
        """
        self._check_account()
        asked.check(order, self._where)
        beside = self._price_beside(order)
        print(price.said(order, self._where.region, self.cap, beside))
        if until := order.settings.get("until"):
            print(f"The janitor removes it after {until}.")
        self._check_setup(asked.check_image(self.image, self._where))
        self._check_kind(order, self._answering(order.model))
        return price.most_usd(order, self._where.region, beside)

    def deploy(self, order: Order, check: Check) -> Deployment:
        """Bring a version up on trial, and let it answer once it has passed.

        Raises:
            UserError: it does not come up or does not pass; then all is as before.
        """
        self._check_account()
        asked.check(order, self._where)
        order = replace(order, image=taken(order.image, self._where))
        name = asked.endpoint_name(order.model)
        new, beside = asked.version_name(order), asked.version_name(order)
        standing = self._answering(order.model) or self._cleared(order.model)
        former = standing["EndpointConfigName"] if standing else ""
        percent = int(order.settings.get("traffic", "100")) if former else 100
        self._check_kind(order, standing)
        try:
            before, config = self._make(order, new, former, percent)
            if former:
                has = trial.tried(self.calls, order, config, beside, former, check)
                self.calls.check_still(name, has)
                self.calls.change(name, new)
            else:
                self.calls.make("create_endpoint_config", config)
                self.calls.start(name, new, asked.about(order))
            self.calls.has(name, new)
            if not former:
                check(asking(self._where, name))
            self._note_end(order, name)
        except BaseException:
            undo(self.calls, order, name, new, beside, former)
            raise
        self._tidy(name, (former, self._before(former), beside), (new, before))
        said = "" if percent == 100 else f"{percent} % of the requests"
        return Deployment(order.model, order.version, PLACE, self._url(name), percent, said)

    def rollback(self, model: str) -> Deployment:
        """Let the version answer that did so before.

        Raises:
            UserError: there is none.
        """
        self._check_account()
        name, standing = asked.endpoint_name(model), self._answering(model)
        former = self._before(standing["EndpointConfigName"]) if standing else ""
        config = self.calls.config(former)
        if not standing or not config:
            raise UserError(
                f"{model} has no version before at SageMaker; deploy one: uv run models deploy {model}@vN to={PLACE}."
            )
        self.calls.change(name, former)
        self.calls.has(name, former)
        # What was rejected is not kept as the one before: a second rollback would lead to it.
        self._tidy(name, (standing["EndpointConfigName"],), (former,))
        number = states.version(config, asked.MAIN, former)
        return Deployment(model, number, PLACE, self._url(name))

    def remove(self, model: str) -> bool:
        """Delete the endpoint of a model, with its versions and its log; tell whether there was anything."""
        self._check_account()
        name = asked.endpoint_name(model)
        found = bool(self._mine(model))
        self.calls.end(name)
        found |= trial.end(self.calls, model)
        found |= self.calls.sweep(name)
        # Also where nothing is left: SageMaker may have written after its end, and of what has failed the log stays.
        for each in (name, trial.name_of(model)):
            trial.forget(self.calls, each)
        return found

    def deployments(self) -> list[Deployment]:
        """Give what answers there, of this project: each version that gets requests."""
        self._check_account()
        found = []
        for name, tags in self.calls.of_project():
            if endpoint := self.calls.endpoint(name):
                config = self.calls.config(endpoint["EndpointConfigName"])
                found += states.told(endpoint, config, tags, self._url(name))
        return found

    def _check_account(self) -> None:
        if (mine := aws.account()) != self._where.account:
            raise UserError(
                f"The login is for account {mine}, and this is in {self._where.account}: log in to that one, or set AWS_PROFILE."
            )

    def _check_setup(self, repository: str) -> None:
        """Refuse to build an image that nothing could take. Who may not look is told so by the first request."""
        region, role = self._where.region, self._where.role.rpartition("/")[2]
        wanted = (
            (f"role {role}", ("iam", "get_role", None), {"RoleName": role}),
            (
                f"repository {repository} in ECR",
                ("ecr", "describe_repositories", region),
                {"repositoryNames": [repository]},
            ),
        )
        for what, (service, operation, there), which in wanted:
            try:
                aws.call(service, operation, there, **which)
            except MissingError as error:
                raise UserError(f"There is no {what}; {SETUP}.") from error
            except RefusedError:
                continue

    def _check_kind(self, order: Order, standing: dict[str, Any] | None) -> None:
        """Refuse to turn an endpoint with a machine into one without, or the other way round."""
        config = self.calls.config(standing["EndpointConfigName"]) if standing else None
        if config and asked.is_serverless(config) == ("machine" in order.settings):
            has = "no machine" if asked.is_serverless(config) else "a machine"
            raise UserError(
                f"The endpoint of {order.model} has {has}, and SageMaker cannot change that while it answers; give the same, or "
                f"first: {asked.undeploying(order.model)}."
            )

    def _price_beside(self, order: Order) -> float | None:
        """Give the price of an hour of the version that would keep the other requests; None for none."""
        standing = (
            self._mine(order.model) if int(order.settings.get("traffic", "100")) < 100 else None
        )
        config = self.calls.config(standing["EndpointConfigName"]) if standing else None
        main = asked.variant(config, asked.MAIN) if config else None
        return price.standing(main, self._where.region)

    def _mine(self, model: str) -> dict[str, Any] | None:
        """Give the endpoint of a model.

        Raises:
            UserError: it is somebody else's.
        """
        name = asked.endpoint_name(model)
        found = self.calls.endpoint(name)
        if found and not self.calls.is_ours(found["EndpointArn"]):
            raise UserError(
                f"The endpoint {name} is not of this project; register {model} by another name=..."
            )
        return found

    def _answering(self, model: str) -> dict[str, Any] | None:
        """Give the endpoint of a model if it answers.

        Raises:
            UserError: it is being changed just now.
        """
        found = self._mine(model)
        if not found or found["EndpointStatus"] == "Failed":
            return None
        if found["EndpointStatus"] == "OutOfService":  # for good
            raise UserError(
                f"The endpoint {found['EndpointName']} is OutOfService, which another version would not mend; run "
                f"`{asked.undeploying(model)}`, and deploy again."
            )
        if found["EndpointStatus"] not in ("InService", "UpdateRollbackFailed"):
            raise UserError(
                f"The endpoint {found['EndpointName']} is {found['EndpointStatus']} just now; try again in some minutes."
            )
        return found

    def _cleared(self, model: str) -> None:
        """Delete what has failed: SageMaker allows nothing else with it."""
        if found := self._mine(model):
            self.calls.end(found["EndpointName"])
            self.calls.retire((found["EndpointConfigName"],), ())

    def _make(
        self, order: Order, new: str, former: str, percent: int
    ) -> tuple[str, dict[str, Any]]:
        """Make the model of a version; give the configuration that a rollback will lead to, and what its own is made of.

        As long as the requests are divided, that is the one from before; so it is where the same version is deployed again.
        """
        config, before, beside = self.calls.config(former), former, None
        if config:
            main = asked.variant(config, asked.MAIN)
            divided = len(config["ProductionVariants"]) > 1
            same = bool(main) and asked.version_of(main["ModelName"]) == order.version
            if divided or same:
                before = self._before(former) or former
            beside = main if percent < 100 else None
        self.calls.make("create_model", asked.model(order, new, self._where))
        return before, asked.configuration(order, new, before, beside, percent)

    def _before(self, config: str) -> str:
        """Give the configuration that a rollback from another one leads to, if it is still there."""
        if not config:
            return ""
        tags = self.calls.tags(self._where.arn("endpoint-config", config))
        before = tags.get(asked.BEFORE, "")
        return before if self.calls.config(before) else ""

    def _note_end(self, order: Order, name: str) -> None:
        """Have the endpoint itself tell its version and its last day."""
        arn = self._where.arn("endpoint", name)
        self.calls.call("add_tags", ResourceArn=arn, Tags=asked.tags(asked.about(order)))
        if "until" not in order.settings and "until" in self.calls.tags(arn):
            self.calls.call("delete_tags", ResourceArn=arn, TagKeys=["until"])

    def _tidy(self, name: str, old: tuple[str, ...], keep: tuple[str, ...]) -> None:
        """Delete earlier versions, which cost nothing: that one stays is no failure of what was done."""
        try:
            self.calls.retire(old, keep)
        except UserError as error:
            log.warning("Earlier versions of %s stay: %s", name, error)

    def _url(self, name: str) -> str:
        return f"https://runtime.sagemaker.{self._where.region}.amazonaws.com/endpoints/{name}/invocations"


def remove_all(account: str, region: str) -> list[str]:
    """Remove every endpoint of this project; give their models.

    Raises:
        UserError: one cannot be removed.
    """
    there = Endpoints(Where(account, region))
    models = {
        tags[kind]: None
        for kind in ("model", trial.TRIAL)
        for _, tags in there.calls.of_project(kind)
    }
    return [model for model in models if there.remove(model)]
