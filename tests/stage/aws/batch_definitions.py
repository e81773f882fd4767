"""Job definitions and their revisions."""

import copy
from typing import Any

from stage.aws.batch_rules import check_definition, refusal
from stage.aws.people import ACCOUNT
from stage.aws.server import Call


class Definitions:
    """All revisions, by region and ARN, oldest first."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, Any]] = {}
        self._revisions: dict[tuple[str, str], int] = {}

    def register(self, call: Call) -> dict[str, Any]:
        given = call.given
        name = given["jobDefinitionName"]
        where = f"arn:aws:batch:{call.region}:{ACCOUNT}:job-definition/{name}"
        container = given.get("containerProperties", {})
        context = {f"aws:RequestTag/{key}": value for key, value in given.get("tags", {}).items()}
        call.require("batch:RegisterJobDefinition", where, **context, batch__Image=container.get("image"))
        if given.get("tags"):
            call.require("batch:TagResource", f"{where}:*", **context)
        for key in ("jobRoleArn", "executionRoleArn"):
            if key in container:
                call.require("iam:PassRole", container[key], iam__PassedToService="ecs-tasks.amazonaws.com")
        check_definition(given)
        # A number is never used again, not even after a deregistration: API_RegisterJobDefinition.html tells of
        # increments only.
        number = self._revisions[call.region, name] = self._revisions.get((call.region, name), 0) + 1
        arn = f"{where}:{number}"
        usual = {"tags": {}, "parameters": {}, "propagateTags": False, "platformCapabilities": ["EC2"]}
        kept = usual | copy.deepcopy(given)
        kept |= {
            "jobDefinitionArn": arn,
            "revision": number,
            "status": "ACTIVE",
            "containerOrchestrationType": "ECS",
        }
        self.known[arn] = kept
        return {"jobDefinitionName": name, "jobDefinitionArn": arn, "revision": number}

    def deregister(self, call: Call) -> dict[str, Any]:
        arn = self._arn(call.given["jobDefinition"], call.region)
        tags = self.known.get(arn, {}).get("tags", {})
        context = {f"aws:ResourceTag/{key}": value for key, value in tags.items()}
        call.require("batch:DeregisterJobDefinition", arn, **context)
        if arn.count(":") != 6 or arn not in self.known:
            raise refusal(f"JobDefinition {call.given['jobDefinition']} does not exist")
        self.known[arn]["status"] = "INACTIVE"
        return {}

    def describe(self, call: Call) -> dict[str, Any]:
        given = call.given
        call.require("batch:DescribeJobDefinitions", "*")
        wanted = [self._arn(one, call.region) for one in given.get("jobDefinitions", [])]
        if len(wanted) > 100:
            raise refusal("jobDefinitions can have at most 100 entries")
        found = [
            one
            for arn, one in self.known.items()
            if arn.split(":")[3] == call.region
            and (not wanted or arn in wanted)
            and given.get("jobDefinitionName") in (None, one["jobDefinitionName"])
            and given.get("status") in (None, one["status"])
        ]
        found.sort(key=lambda one: one["revision"], reverse=True)
        start, size = int(given.get("nextToken", "0")), min(given.get("maxResults", 100), 100)
        shown = {"jobDefinitions": copy.deepcopy(found[start : start + size])}
        return shown | ({"nextToken": str(start + size)} if start + size < len(found) else {})

    def active(self, name: str, region: str) -> dict[str, Any]:
        """The revision that a job names, by ARN, name:revision, or name for the newest one that is active."""
        arn = self._arn(name, region)
        found = self.known.get(arn) or next(
            (
                one
                for one in reversed(self.known.values())
                if one["jobDefinitionArn"].rpartition(":")[0] == arn and one["status"] == "ACTIVE"
            ),
            None,
        )
        if found is None or found["status"] != "ACTIVE":
            # As seen: https://github.com/aws-samples/aws-genomics-workflows/issues/84.
            raise refusal(f"JobDefinition name {name} does not exist or is not in ACTIVE status")
        return found

    @staticmethod
    def _arn(name: str, region: str) -> str:
        return name if name.startswith("arn:") else f"arn:aws:batch:{region}:{ACCOUNT}:job-definition/{name}"
