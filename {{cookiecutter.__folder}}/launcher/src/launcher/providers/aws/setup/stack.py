"""A stack of CloudFormation: made, updated and deleted, with each step on a line and the cause of a failure in a sentence."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from ....errors import UserError
from ...errors import MissingError, ServiceError, line
from ...steps import Steps, option
from .. import auth as aws

CAPABILITIES = ("CAPABILITY_NAMED_IAM",)
# A stack in one of these cannot be updated, only deleted and made anew
# (docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html).
BROKEN = (
    "ROLLBACK_COMPLETE",
    "ROLLBACK_FAILED",
    "CREATE_FAILED",
    "DELETE_FAILED",
    "REVIEW_IN_PROGRESS",
)
LOOKS = 720  # at what goes on, five seconds apart: an hour
DONE = {"CREATE_COMPLETE": "made", "UPDATE_COMPLETE": "changed", "DELETE_COMPLETE": "removed"}
REMEDIES = {
    "already exists|AlreadyExists": "what has that name is no part of this stack: remove it, or rename it, and run this again",
    "not authorized|AccessDenied|UnauthorizedOperation": "an administrator must allow that to you, or run this for you",
    "[Ll]imit|[Qq]uota|[Tt]oo many": "ask for more at https://console.aws.amazon.com/servicequotas/home, or want fewer queues by "
    "MACHINES='cpu t4', and run this again",
    "[Rr]ate exceeded|[Tt]hrottl": "run this again in a minute",
}


class Stack:
    """A stack by its name, in one region.

    Args:
        name: also of the tag `project` of all that is in it.
    """

    def __init__(self, name: str, region: str, steps: Steps):
        self.name, self.region, self.steps = name, region, steps

    def find(self) -> dict[str, Any] | None:
        """Give what CloudFormation knows of it; None where there is none."""
        try:
            return self._call("describe_stacks")["Stacks"][0]
        except MissingError:
            return None
        except ServiceError as error:
            if "does not exist" not in str(error):
                raise
            return None

    def resources(self) -> dict[str, dict[str, Any]]:
        """Give what is in it now, by its names in the template."""
        operation, key = "list_stack_resources", "StackResourceSummaries"
        found = aws.pages("cloudformation", operation, key, self.region, StackName=self.name)
        return {
            each["LogicalResourceId"]: each
            for each in found
            if each["ResourceStatus"] not in ("DELETE_COMPLETE", "DELETE_SKIPPED")
        }

    def ready(self) -> dict[str, Any] | None:
        """Give it as it can be updated, once nothing else goes on; None where it is to be made.

        Raises:
            UserError: what an earlier attempt has left cannot be deleted.
        """
        found = self.settle()
        if not found or found["StackStatus"] not in BROKEN:
            return found
        self.steps.say("stack", f"{self.name}: an earlier attempt failed, so it is made anew")
        self.delete()
        return None

    def deploy(
        self, found: dict[str, Any] | None, body: str, parameters: Mapping[str, str]
    ) -> dict[str, Any]:
        """Make it, or update it; give it as it is then.

        Args:
            found: what `ready` has given.

        Raises:
            UserError: it could not be made or updated, and is as it was before.
        """
        request = {
            "TemplateBody": body,
            "Parameters": [
                {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
            ],
            "Capabilities": list(CAPABILITIES),
            "Tags": [{"Key": "project", "Value": self.name}],
            "ClientRequestToken": uuid4().hex,  # so that it is one request, however often it is sent
        }
        seen = self._events_so_far() if found else set[str]()
        try:
            self._call("update_stack" if found else "create_stack", **request)
        except ServiceError as error:
            if "No updates are to be performed" not in str(error):
                raise
            assert found
            return found
        self.steps.changes += 1
        done = self._watch(self.name, seen)
        assert done
        if done["StackStatus"] not in DONE:
            raise self._failure("made" if found is None else "updated", self.name, seen)
        return done

    def delete(self) -> bool:
        """Delete it; false where there was none.

        Raises:
            UserError: something in it cannot be deleted.
        """
        if not (found := self.settle()):
            return False
        number, seen = found["StackId"], self._events_so_far()
        self._call("delete_stack")
        self.steps.changes += 1
        done = self._watch(number, seen)
        if done and done["StackStatus"] != "DELETE_COMPLETE":
            raise self._failure("deleted", number, seen)
        return True

    def settle(self) -> dict[str, Any] | None:
        """Wait until nothing is going on, and give what there is then; None for nothing."""
        found = self.find()
        if not found:
            return None
        if found["StackStatus"] == "UPDATE_ROLLBACK_FAILED":
            self._call("continue_update_rollback")
        elif not _is_busy(found):
            return found
        self.steps.say("stack", f"{self.name}: waiting for what goes on ({found['StackStatus']})")
        return self._watch(self.name, self._events_so_far())

    def _watch(self, name: str, seen: set[str]) -> dict[str, Any] | None:
        """Print what is done until all is; give what there is then."""
        said = set(seen)
        for _ in range(LOOKS):
            try:
                found = self._call("describe_stacks", StackName=name)["Stacks"][0]
            except ServiceError as error:
                if "does not exist" not in str(error):
                    raise
                return None
            for event in self._events(name):
                status = event.get("ResourceStatus", "")
                whole = event.get("PhysicalResourceId") == event.get("StackId")
                if event["EventId"] not in said and status in DONE and not whole:
                    self.steps.say("stack", f"{event['LogicalResourceId']}: {DONE[status]}")
                said.add(event["EventId"])
            if not _is_busy(found):
                return found
            time.sleep(float(option("WAIT", "5")))
        raise UserError(
            f"CloudFormation is still at work on the stack {self.name}: run this again in a while, and it goes on from there."
        )

    def _events(self, name: str) -> list[dict[str, Any]]:
        """Give what has happened, the oldest first."""
        found = aws.pages(
            "cloudformation", "describe_stack_events", "StackEvents", self.region, StackName=name
        )
        return list(found)[::-1]

    def _events_so_far(self) -> set[str]:
        return {event["EventId"] for event in self._events(self.name)}

    def _failure(self, what: str, name: str, seen: set[str]) -> UserError:
        """Say why: what failed first, for that made all else fail."""
        for event in self._events(name):
            reason = line(event.get("ResourceStatusReason", ""))
            failed = event.get("ResourceStatus", "").endswith("_FAILED")
            if event["EventId"] not in seen and failed and "cancelled" not in reason.lower():
                where = f"{event['LogicalResourceId']} ({event['ResourceType']})"
                remedies = [text for known, text in REMEDIES.items() if re.search(known, reason)]
                remedy = (
                    remedies[0]
                    if remedies
                    else "put that right, and run this again: it goes on where it stopped"
                )
                return UserError(
                    f"The stack {self.name} could not be {what}: {where}: {reason}; {remedy}."
                )
        return UserError(
            f"The stack {self.name} could not be {what}: see its events at "
            f"https://{self.region}.console.aws.amazon.com/cloudformation/home?region={self.region}, and run this again."
        )

    def _call(self, operation: str, **parameters: Any) -> Any:
        return aws.call(
            "cloudformation", operation, self.region, **{"StackName": self.name, **parameters}
        )


def _is_busy(found: dict[str, Any]) -> bool:
    """Tell whether something goes on; what is under review waits for a person, and is nothing."""
    status = str(found["StackStatus"])
    return status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS"
