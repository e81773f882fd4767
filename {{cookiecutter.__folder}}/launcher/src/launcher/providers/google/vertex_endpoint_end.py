"""Ending what is deployed at an endpoint of Vertex AI, and endpoints: each version there costs a machine until then."""

from __future__ import annotations

import time

from ..errors import MissingError, UnreachableError
from . import auth as google
from . import vertex_endpoint_traffic as traffic
from .vertex_api import Region, Resource

# Seconds in which requests may still go where they went: how long a change of the parts takes is not documented.
SPREAD = 15.0


def keep(region: Region, before: Resource, *numbers: str) -> None:
    """End what is deployed besides, but for what has requests, or may have some still.

    Args:
        before: the endpoint before the last change of the parts.
        numbers: ids that stay.

    Raises:
        UserError: something cannot be ended.
    """
    now = region.get(before["name"]) or {}
    gone = [key for key in traffic.there(now) if key not in {*numbers, *traffic.parts(now)}]
    if set(gone) & set(traffic.parts(before)):
        time.sleep(SPREAD)
    for key in gone:
        undeploy(region, before["name"], key)


def end(region: Region, name: str) -> None:
    """Delete an endpoint, with all that is deployed there; that it is gone is no error.

    Raises:
        UserError: it cannot be ended.
    """
    if not region.get(name):
        return
    region.settle(name)
    found = region.get(name) or {}
    if traffic.parts(found):  # what has requests is not undeployed
        body, query = {"trafficSplit": {}}, {"updateMask": "trafficSplit"}
        google.call("PATCH", region.url(name), body, params=query, retry=True)  # twice is as once
    for key in traffic.there(found):
        undeploy(region, name, key)
    if region.get(name):
        _delete(region, name)


def _delete(region: Region, name: str) -> None:
    """Delete an endpoint; once more where the answer is lost and it is still there."""
    for last in (False, True):
        try:
            region.done(google.call("DELETE", region.url(name), retry=False))
        except MissingError:
            return
        except UnreachableError:
            region.settle(name)
            if not region.get(name):
                return
            if last:
                raise
        else:
            return


def undeploy(region: Region, name: str, number: str) -> None:
    """End what is deployed at an endpoint by an id, which has no requests.

    Raises:
        UserError: it cannot be ended.
    """
    gone = lambda: number not in traffic.there(region.get(name) or {})
    region.make(f"{name}:undeployModel", {"deployedModelId": number}, gone, of=name)
