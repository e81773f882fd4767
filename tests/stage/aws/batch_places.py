"""Compute environments and job queues.

https://docs.aws.amazon.com/batch/latest/APIReference/API_CreateComputeEnvironment.html, API_ComputeResource.html,
API_CreateJobQueue.html and the pages beside them.
"""

import copy
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from stage.aws.batch_environment_rules import allowed, check_environment, fault
from stage.aws.batch_rules import check_name, check_tags, refusal
from stage.aws.people import ACCOUNT
from stage.aws.server import Call
from stage.clock import Clock, Deadline

SETTLING = 30  # seconds from CREATING or UPDATING to VALID or INVALID; not documented
# What the service ends by itself; of any other reason nothing is said:
# https://docs.aws.amazon.com/batch/latest/userguide/job_stuck_in_runnable_time_limit_actions.html.
ACTED_ON = (
    "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE",
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
    "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED",
)


class Places:
    """All environments and queues, by ARN.

    Args:
        busy: whether a queue, by ARN, has jobs that have not ended.
    """

    def __init__(self, clock: Clock, busy: Callable[[str], bool]) -> None:
        self._clock, self._busy = clock, busy
        self.environments: dict[str, dict[str, Any]] = {}
        self.queues: dict[str, dict[str, Any]] = {}
        self._settles: dict[str, float] = {}
        clock.watch(self._deadlines)

    @staticmethod
    def arn(kind: str, name: str, region: str) -> str:
        return name if name.startswith("arn:") else f"arn:aws:batch:{region}:{ACCOUNT}:{kind}/{name}"

    # Environments

    def create_compute_environment(self, call: Call) -> dict[str, Any]:
        given = call.given
        name = given["computeEnvironmentName"]
        arn = self.arn("compute-environment", name, call.region)
        _require(call, "CreateComputeEnvironment", arn, given.get("tags", {}))
        check_name(name, "computeEnvironmentName")
        check_tags(given.get("tags", {}))
        check_environment(given, call.region)
        allowed(call, given)
        if arn in self.environments:
            raise refusal("Object already exists")
        cluster = f"AWSBatch-{name}-{uuid.uuid4()}"
        self.environments[arn] = {
            "state": "ENABLED",
            "tags": {},
            **copy.deepcopy(given),
            "computeEnvironmentArn": arn,
            "ecsClusterArn": f"arn:aws:ecs:{call.region}:{ACCOUNT}:cluster/{cluster}",
            "containerOrchestrationType": "ECS",
            "uuid": str(uuid.uuid4()),
            "status": "CREATING",
            "statusReason": "",
        }
        self._settles[arn] = self._clock.now() + SETTLING
        return {"computeEnvironmentName": name, "computeEnvironmentArn": arn}

    def update_compute_environment(self, call: Call) -> dict[str, Any]:
        given = call.given
        arn = self.arn("compute-environment", given["computeEnvironment"], call.region)
        _require(
            call,
            "UpdateComputeEnvironment",
            arn,
            self.environments.get(arn, {}).get("tags", {}),
            "ResourceTag",
        )
        known = self._environment(arn)
        if known["status"] in ("CREATING", "UPDATING", "DELETING"):
            raise refusal("Cannot update, resource is being modified")
        changed = copy.deepcopy(known)
        changed["computeResources"] |= given.get("computeResources", {})
        changed |= {key: given[key] for key in ("state", "serviceRole") if key in given}
        check_environment({key: changed[key] for key in ("type", "computeResources")}, call.region)
        self.environments[arn] = changed | {"status": "UPDATING"}
        self._settles[arn] = self._clock.now() + SETTLING
        return {"computeEnvironmentName": known["computeEnvironmentName"], "computeEnvironmentArn": arn}

    def delete_compute_environment(self, call: Call) -> dict[str, Any]:
        arn = self.arn("compute-environment", call.given["computeEnvironment"], call.region)
        call.require("batch:DeleteComputeEnvironment", arn)
        known = self.environments.get(arn)
        if known is None:
            return {}
        if any(
            one["computeEnvironment"] == arn
            for queue in self.queues.values()
            for one in queue["computeEnvironmentOrder"]
        ):
            # As seen: https://github.com/hashicorp/terraform-provider-aws/issues/2044.
            raise refusal("Cannot delete, found existing JobQueue relationship")
        if known["state"] != "DISABLED":
            raise refusal("Cannot delete, state must be DISABLED")
        if known["status"] in ("CREATING", "UPDATING"):
            raise refusal("Cannot delete, resource is being modified")
        del self.environments[arn]
        return {}

    def describe_compute_environments(self, call: Call) -> dict[str, Any]:
        call.require("batch:DescribeComputeEnvironments", "*")
        shown, more = self._listed(call, self.environments, "compute-environment", "computeEnvironments")
        return {"computeEnvironments": shown} | more

    def settle(self, arn: str) -> None:
        """The service has done what it was asked for, or cannot."""
        self._settles.pop(arn, None)
        known = self.environments.get(arn)
        if known:
            reason = fault(known, arn.split(":")[3])
            known |= {
                "status": "INVALID" if reason else "VALID",
                "statusReason": reason or "ComputeEnvironment Healthy",
            }

    def _environment(self, arn: str) -> dict[str, Any]:
        if arn not in self.environments:
            raise refusal(f"{arn.rpartition('/')[2]} does not exist")
        return self.environments[arn]

    def _deadlines(self) -> Iterator[Deadline]:
        for arn, moment in self._settles.items():
            yield Deadline(moment, lambda arn=arn: self.settle(arn))

    # Queues

    def create_job_queue(self, call: Call) -> dict[str, Any]:
        given = copy.deepcopy(call.given)
        name = given["jobQueueName"]
        arn = self.arn("job-queue", name, call.region)
        _require(call, "CreateJobQueue", arn, given.get("tags", {}))
        check_name(name, "jobQueueName")
        check_tags(given.get("tags", {}))
        if arn in self.queues:
            raise refusal("Object already exists")
        self._check_queue({"computeEnvironmentOrder": []} | given, call.region)
        usual = {"state": "ENABLED", "tags": {}, "jobStateTimeLimitActions": [], "jobQueueType": "ECS"}
        self.queues[arn] = (
            usual | given | {"jobQueueArn": arn, "status": "VALID", "statusReason": "JobQueue Healthy"}
        )
        return {"jobQueueName": name, "jobQueueArn": arn}

    def update_job_queue(self, call: Call) -> dict[str, Any]:
        given = copy.deepcopy(call.given)
        arn = self.arn("job-queue", given.pop("jobQueue"), call.region)
        _require(call, "UpdateJobQueue", arn, self.queues.get(arn, {}).get("tags", {}), "ResourceTag")
        if arn not in self.queues:
            raise refusal(f"{arn.rpartition('/')[2]} does not exist")
        self._check_queue(given, call.region)
        changed = self.queues[arn] = self.queues[arn] | given
        return {"jobQueueName": changed["jobQueueName"], "jobQueueArn": arn}

    def delete_job_queue(self, call: Call) -> dict[str, Any]:
        arn = self.arn("job-queue", call.given["jobQueue"], call.region)
        call.require("batch:DeleteJobQueue", arn)
        if arn in self.queues and self.queues[arn]["state"] != "DISABLED":
            raise refusal("Cannot delete, state must be DISABLED")
        if self._busy(arn):
            # All its jobs are ended first, by API_DeleteJobQueue.html; here whoever deletes has to do it.
            raise refusal("Cannot delete, resource is being modified")
        self.queues.pop(arn, None)
        return {}

    def describe_job_queues(self, call: Call) -> dict[str, Any]:
        call.require("batch:DescribeJobQueues", "*")
        shown, more = self._listed(call, self.queues, "job-queue", "jobQueues")
        return {"jobQueues": shown} | more

    def queue(self, name: str, region: str) -> dict[str, Any]:
        """The queue of a name or ARN; as seen: https://github.com/base2genomics/batchit/issues/13."""
        found = self.queues.get(self.arn("job-queue", name, region))
        if found is None:
            raise refusal(f"JobQueue {name} not found.")
        return found

    def _check_queue(self, given: dict[str, Any], region: str) -> None:
        """Refuses what is wrong of what is given."""
        if given.get("priority", 0) < 0:
            raise refusal("priority must not be negative")
        order = given.get("computeEnvironmentOrder")
        if order is not None and not 1 <= len(order) <= 3:
            raise refusal("computeEnvironmentOrder must have 1 to 3 entries")
        order = order or []
        if len({one["order"] for one in order}) < len(order):
            raise refusal("computeEnvironmentOrder must not have an order twice")
        for one in order:
            one["computeEnvironment"] = self.arn("compute-environment", one["computeEnvironment"], region)
            known = self._environment(one["computeEnvironment"])
            if known["status"] != "VALID":
                # "must be in the VALID state before you can associate them": API_CreateJobQueue.html.
                raise refusal(f"{known['computeEnvironmentArn']} is not valid: {known['status']}")
        for one in given.get("jobStateTimeLimitActions", []):
            if not 600 <= one["maxTimeSeconds"] <= 86400:
                raise refusal("maxTimeSeconds must be between 600 and 86400")
            if one["action"] != "CANCEL":
                raise refusal("CANCEL is the only action of such a queue")
            if one["reason"] not in ACTED_ON:
                # The pages name four; what becomes of another text is not said: here it is refused.
                raise refusal(f"reason must be one of {', '.join(ACTED_ON)}")

    def _listed(
        self, call: Call, known: dict[str, dict[str, Any]], kind: str, names: str
    ) -> tuple[list[dict[str, Any]], dict[str, str]]:
        wanted = [self.arn(kind, one, call.region) for one in call.given.get(names, [])]
        if len(wanted) > 100:
            raise refusal(f"{names} can have at most 100 entries")
        found = [
            copy.deepcopy(one)
            for arn, one in known.items()
            if arn.split(":")[3] == call.region and (not wanted or arn in wanted)
        ]
        start, size = int(call.given.get("nextToken", "0")), min(call.given.get("maxResults", 100), 100)
        more = {"nextToken": str(start + size)} if start + size < len(found) else {}
        return found[start : start + size], more


def _require(call: Call, action: str, arn: str, tags: dict[str, str], key: str = "RequestTag") -> None:
    context = {f"aws:{key}/{name}": value for name, value in tags.items()}
    call.require(f"batch:{action}", arn, **context)
    if tags and key == "RequestTag":
        call.require("batch:TagResource", arn, **context)
