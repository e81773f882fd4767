"""A version answers on trial before it gets requests: the check alone asks it, while the version before goes on answering.

Without a machine it has an endpoint of its own meanwhile, which costs nothing while nobody asks. With a machine it is beside
the version before at the endpoint itself, with no share of the requests.
"""

from __future__ import annotations

import logging
from typing import Any

from ...deployment import Check, Order
from ...errors import UserError
from ...project import project
from ..errors import RefusedError
from . import sagemaker_endpoint_request as asked
from .sagemaker_endpoint_ask import asking
from .sagemaker_endpoint_calls import Calls

log = logging.getLogger(__name__)
TRIAL = "trial"  # tag of an endpoint that is none of a model's own: the model


def name_of(model: str) -> str:
    """Give what the endpoint for trials of a model is called."""
    return f"{asked.endpoint_name(model)}-{TRIAL}"


def tried(
    calls: Calls, order: Order, new: dict[str, Any], beside: str, former: str, check: Check
) -> str:
    """Check a version before it gets requests; give the configuration that the model's endpoint has afterwards.

    Args:
        new: what its configuration is made of, which is there afterwards.
        beside: a name for the one that has it beside the version before; not used without a machine.
        former: the one that the endpoint has.

    Raises:
        UserError: it does not come up or does not pass. What was made stays, for `undo`.
    """
    if "machine" in order.settings:
        _try_beside(calls, order, new["EndpointConfigName"], beside, former, check)
        calls.make("create_endpoint_config", new)
        return beside
    name, config = name_of(order.model), new["EndpointConfigName"]
    _clear(calls, order.model)
    calls.make("create_endpoint_config", new)
    calls.start(name, config, {TRIAL: order.model, "version": f"v{order.version}"})
    calls.has(name, config)
    check(asking(calls.where, name))
    end(calls, order.model)
    forget(calls, name)
    return former


def _try_beside(
    calls: Calls, order: Order, model: str, beside: str, former: str, check: Check
) -> None:
    name, config = asked.endpoint_name(order.model), calls.config(former)
    main = asked.variant(config, asked.MAIN) if config else None
    if main is None:
        raise UserError(
            f"The endpoint {name} has been changed by hand; first: {asked.undeploying(order.model)}."
        )
    body = asked.configuration(order, beside, former, main, 0, model)
    calls.make("create_endpoint_config", body)
    calls.check_still(name, former)
    calls.change(name, beside)
    calls.has(name, beside)
    check(asking(calls.where, name, asked.CANARY))
    calls.check_still(name, beside)  # else the model may be gone, and that is what would be said


def is_of(calls: Calls, model: str) -> bool:
    """Tell whether there is an endpoint for trials of a model, of this project's."""
    found = calls.endpoint(name_of(model))
    tags = calls.tags(found["EndpointArn"]) if found else {}
    return tags.get("project") == project().slug and tags.get(TRIAL) == model


def end(calls: Calls, model: str, patience: float | None = None, config: str = "") -> bool:
    """Delete the endpoint for trials of a model, and wait until it is gone; tell whether there was one.

    Args:
        patience: seconds; None for the usual ones.
        config: only if it has this one; else it is somebody else's trial.
    """
    if not is_of(calls, model):
        return False
    name = name_of(model)
    if config and (calls.endpoint(name) or {}).get("EndpointConfigName") != config:
        return False
    calls.end(name, patience)
    return True


def forget(calls: Calls, name: str) -> None:
    """Delete the log of an endpoint: that it stays is no failure of what was done."""
    try:
        calls.drop_log(name)
    except RefusedError as error:
        log.warning("The log of %s stays: %s", name, error)


def _clear(calls: Calls, model: str) -> None:
    """Delete a trial that was left behind.

    Raises:
        UserError: it is somebody else's, or under way.
    """
    name = name_of(model)
    if not (found := calls.endpoint(name)):
        return
    if not is_of(calls, model):
        raise UserError(
            f"The endpoint {name}, which trials of {model} would have, is another one; register {model} by another name=..."
        )
    if found["EndpointStatus"] == "Creating":
        raise UserError(
            f"Somebody else deploys {model} just now: {name} is Creating; try again in some minutes."
        )
    calls.end(name)
