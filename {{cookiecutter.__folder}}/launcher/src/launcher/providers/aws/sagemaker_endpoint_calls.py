"""Endpoints of SageMaker with their configurations and models: made, looked at, changed, deleted.

Models and configurations never change, and each has a name that nobody else has: that one "already exists" is the try whose
answer was lost. SageMaker puts an update that fails back by itself and then says InService, now and then without a reason
(github.com/hashicorp/terraform-provider-aws/issues/39099 and /48997): so it is always looked at what an endpoint really has.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from ...errors import UserError
from ...project import project
from ..errors import MissingError, ServiceError
from . import auth as aws
from . import sagemaker_endpoint_request as asked
from .sagemaker_endpoint_request import Where

PATIENCE = 2400.0  # seconds for an endpoint to come up or to change; SageMaker itself gives up after an hour at most
KNOWN = (
    30.0  # seconds until what was made is known everywhere: CreateEndpoint reads what may be old
)
POLL = 5.0
CHANGING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
LOGS = "/aws/sagemaker/Endpoints"


class NotDoneError(UserError):
    """An endpoint is not as it was to be."""


class Calls:
    """SageMaker in one account and region, as far as endpoints go."""

    def __init__(self, where: Where) -> None:
        self.where = where

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call an operation of SageMaker. Raises ServiceError."""
        return aws.call("sagemaker", operation, self.where.region, **parameters)

    def endpoint(self, name: str) -> dict[str, Any] | None:
        """Give an endpoint; None where there is none."""
        return self._found("describe_endpoint", EndpointName=name)

    def config(self, name: str) -> dict[str, Any] | None:
        """Give a configuration; None where there is none."""
        return self._found("describe_endpoint_config", EndpointConfigName=name) if name else None

    def _found(self, operation: str, **which: str) -> dict[str, Any] | None:
        try:
            return self.call(operation, **which)
        except MissingError:
            return None

    def tags(self, arn: str) -> dict[str, str]:
        """Give the tags of something; none of what is gone."""
        try:
            found = list(
                aws.pages("sagemaker", "list_tags", "Tags", self.where.region, ResourceArn=arn)
            )
        except MissingError:
            return {}
        return {one["Key"]: one["Value"] for one in found}

    def is_ours(self, arn: str) -> bool:
        """Tell by its tags whether this project has made it."""
        found = self.tags(arn)
        return found.get("project") == project().slug and "model" in found

    def of_project(self, kind: str = "model") -> Iterator[tuple[str, dict[str, str]]]:
        """Give the name of each endpoint of this project that has a tag of this kind, with its tags."""
        start = f"{project().slug}-"
        for one in self._listed("list_endpoints", "Endpoints", start):
            if one["EndpointName"].startswith(start):
                tags = self.tags(one["EndpointArn"])
                if tags.get("project") == project().slug and kind in tags:
                    yield one["EndpointName"], tags

    def _listed(self, operation: str, key: str, contains: str) -> list[dict[str, Any]]:
        named = {"NameContains": contains}
        return list(aws.pages("sagemaker", operation, key, self.where.region, **named))

    def make(self, operation: str, body: dict[str, Any]) -> None:
        """Make a model or a configuration, which has a name of its own."""
        try:
            self.call(operation, **body)
        except ServiceError as error:
            if "already exist" not in str(error):
                raise

    def start(self, name: str, config: str, tags: dict[str, str]) -> None:
        """Make an endpoint.

        Raises:
            UserError: somebody else makes it just now.
        """
        deadline = time.monotonic() + KNOWN
        body = {"EndpointName": name, "EndpointConfigName": config, "Tags": asked.tags(tags)}
        while True:
            try:
                self.call("create_endpoint", **body)
                return
            except MissingError:  # the configuration, which was made a moment ago
                if time.monotonic() >= deadline:
                    raise
            except ServiceError as error:
                if "already exist" not in str(error):
                    raise
                self._check_mine(name, config)
                return
            time.sleep(min(POLL, 1))

    def change(self, name: str, config: str) -> None:
        """Have an endpoint take another configuration.

        Raises:
            UserError: somebody else changes it just now.
        """
        deadline = time.monotonic() + KNOWN
        while True:
            try:
                self.call("update_endpoint", EndpointName=name, EndpointConfigName=config)
                return
            except MissingError:
                if time.monotonic() >= deadline or not self.endpoint(name):
                    raise
            except ServiceError as error:
                if "in-progress" not in str(error) and "in progress" not in str(error):
                    raise
                self._check_mine(name, config)
                return
            time.sleep(min(POLL, 1))

    def _check_mine(self, name: str, config: str) -> None:
        """Refuse to go on where an endpoint is on its way to another configuration than ours."""
        found = self.endpoint(name) or {}
        pending = found.get("PendingDeploymentSummary") or {}
        if config not in (found.get("EndpointConfigName"), pending.get("EndpointConfigName")):
            raise UserError(
                f"Somebody else changes the endpoint {name} just now; try again in some minutes."
            )

    def check_still(self, name: str, config: str) -> None:
        """Refuse to replace what somebody else has deployed since.

        Raises:
            UserError: an endpoint has another configuration than this one.
        """
        if (self.endpoint(name) or {}).get("EndpointConfigName") != config:
            raise UserError(
                f"Somebody else has changed the endpoint {name} meanwhile; see `uv run models deployments`, and deploy again if "
                "that is still meant."
            )

    def settled(self, name: str, patience: float | None = None) -> dict[str, Any] | None:
        """Wait until an endpoint does not change any more; give it, None where there is none.

        Args:
            patience: seconds; None for `PATIENCE`, here and below.

        Raises:
            NotDoneError: it takes too long.
        """
        patience = PATIENCE if patience is None else patience
        deadline = time.monotonic() + patience
        while (found := self.endpoint(name)) and found["EndpointStatus"] in CHANGING:
            if time.monotonic() > deadline:
                raise NotDoneError(
                    f"The endpoint {name} is {found['EndpointStatus']} for {patience / 60:.0f} minutes; look at SageMaker's console."
                )
            time.sleep(POLL)
        return found

    def has(self, name: str, config: str) -> dict[str, Any]:
        """Wait for an endpoint, and give it once it answers with a configuration.

        Raises:
            NotDoneError: it does not.
        """
        found = self.settled(name) or {"EndpointStatus": "gone"}
        if found["EndpointStatus"] == "InService" and found["EndpointConfigName"] == config:
            return found
        why = found.get("FailureReason") or f"it is {found['EndpointStatus']}, and no reason given"
        raise NotDoneError(
            f"SageMaker has not brought {config} up: {' '.join(str(why).split()).rstrip('.')}; see the log group {LOGS}/{name}."
        )

    def end(self, name: str, patience: float | None = None) -> None:
        """Delete an endpoint, and wait until it is gone: until then its role must stay. What is gone is no error."""
        if self.settled(name, patience) is None:
            return
        try:
            self.call("delete_endpoint", EndpointName=name)
        except MissingError:
            return
        except ServiceError:
            if (self.endpoint(name) or {}).get("EndpointStatus") not in (None, "Deleting"):
                raise
        if self.settled(name, patience):
            raise NotDoneError(f"The endpoint {name} is not deleted; look at SageMaker's console.")

    def retire(self, configs: tuple[str, ...], keep: tuple[str, ...]) -> None:
        """Delete configurations that are out of use, and their models.

        Only those: what else has such a name may be what somebody makes just now.

        Args:
            keep: configurations that stay, and their models with them.
        """
        gone = [name for name in configs if name and name not in keep]
        kept = {one for name in keep for one in self._models(name)}
        models = {one for name in gone for one in self._models(name)} - kept
        for name in gone:
            self.drop("delete_endpoint_config", EndpointConfigName=name)
        for name in sorted(models):
            self.drop("delete_model", ModelName=name)

    def sweep(self, endpoint: str) -> bool:
        """Delete all configurations and models that were made for an endpoint; tell whether there was any."""
        configs = self._made(endpoint, "list_endpoint_configs", "EndpointConfig")
        models = self._made(endpoint, "list_models", "Model")
        for name in configs:
            self.drop("delete_endpoint_config", EndpointConfigName=name)
        for name in models:
            self.drop("delete_model", ModelName=name)
        return bool(configs or models)

    def _models(self, config: str) -> list[str]:
        found = self.config(config)
        return [one["ModelName"] for one in found["ProductionVariants"]] if found else []

    def _made(self, endpoint: str, operation: str, kind: str) -> list[str]:
        found = self._listed(operation, f"{kind}s", f"{endpoint}-v")
        return [
            one[f"{kind}Name"]
            for one in found
            if asked.is_of(endpoint, one[f"{kind}Name"]) and self.is_ours(one[f"{kind}Arn"])
        ]

    def drop(self, operation: str, **which: str) -> None:
        """Delete something; what is gone is no error."""
        try:
            self.call(operation, **which)
        except MissingError:
            return

    def drop_log(self, endpoint: str) -> None:
        """Delete the log of an endpoint, which SageMaker would keep for ever."""
        try:
            aws.call(
                "logs",
                "delete_log_group",
                self.where.region,
                logGroupName=f"{LOGS}/{endpoint}",
            )
        except MissingError:
            return
