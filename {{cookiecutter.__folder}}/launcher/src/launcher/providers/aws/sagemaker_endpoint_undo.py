"""A deployment that has failed is taken back: the endpoint gets its former version again, or goes."""

from __future__ import annotations

import logging
from typing import Any

from ...deployment import Order
from ...errors import UserError
from . import sagemaker_endpoint_request as asked
from . import sagemaker_endpoint_trial as trial
from .sagemaker_endpoint_calls import CHANGING, Calls

log = logging.getLogger(__name__)
# Seconds: SageMaker deletes nothing that is Creating, which it may be for an hour
# (github.com/aws/amazon-sagemaker-examples/issues/3432).
PATIENCE = 3900.0


def undo(calls: Calls, order: Order, name: str, new: str, beside: str, former: str) -> None:
    """Put all back after a failure, which is raised afterwards: what goes wrong here is only said.

    The endpoint is read anew: whoever was interrupted does not know how far it came.

    Args:
        name: of the endpoint.
        new: the model and the configuration that were made.
        beside: the configuration for a trial, if it was made.
        former: the configuration that it had; empty where there was no endpoint.
    """
    try:
        _say(calls, order, name)
        found = calls.settled(name, PATIENCE)
        if found and found["EndpointConfigName"] not in (new, beside, former):
            # What was made stays too: somebody may have built upon it.
            log.warning("%s has been changed by somebody else meanwhile; it is left alone.", name)
            trial.end(calls, order.model, PATIENCE, new)
            return
        if found and _is_left_behind(found, (new, beside)):
            _restore(calls, order, found, former)
        trial.end(calls, order.model, PATIENCE, new)
        for config in (new, beside):
            calls.drop("delete_endpoint_config", EndpointConfigName=config)
        calls.drop("delete_model", ModelName=new)
    except UserError as error:
        log.warning(
            "%s at SageMaker is not as before, and what answers there may be paid for; look at it, or end it by `%s`: %s",
            order.model,
            asked.undeploying(order.model),
            error,
        )


def _say(calls: Calls, order: Order, name: str) -> None:
    """Say that it takes long where it does."""
    for each in (name, trial.name_of(order.model)):
        if (calls.endpoint(each) or {}).get("EndpointStatus") in CHANGING:
            print(
                f"{order} is taken back, for which SageMaker may take an hour: it deletes nothing that is Creating. "
                "Leave this running.",
                flush=True,
            )
            return


def _is_left_behind(found: dict[str, Any], made: tuple[str, ...]) -> bool:
    """Tell whether an endpoint is as this deployment has left it; SageMaker has put some back by itself."""
    return found["EndpointConfigName"] in made or found["EndpointStatus"] == "Failed"


def _restore(calls: Calls, order: Order, found: dict[str, Any], former: str) -> None:
    name = found["EndpointName"]
    if former and found["EndpointStatus"] != "Failed":
        calls.change(name, former)
        calls.has(name, former)
        return
    known = calls.tags(found["EndpointArn"])
    calls.end(name, PATIENCE)  # of one that has failed SageMaker takes nothing else
    if former:
        about = {key: known[key] for key in ("version", "until") if key in known}
        calls.start(name, former, {"model": order.model, **about})
        calls.has(name, former)
