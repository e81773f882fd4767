"""Which machine a job of AWS Batch gets, or why none.

https://docs.aws.amazon.com/batch/latest/userguide/job_stuck_in_runnable.html and the pages below it.
"""

from collections.abc import Mapping
from typing import Any

from stage.aws.batch_environment_rules import machines_of
from stage.aws.batch_jobs import BatchJob
from stage.aws.batch_places import Places
from stage.aws.machines import types
from stage.aws.quotas import EC2, Quotas

UNDETERMINED = "UNDETERMINED - Batch job is blocked, root cause is undetermined."
INVALID = "ACTION_REQUIRED - CE(s) associated with the job queue are invalid."
# The codes are documented; the words behind these two could not be read again.
TOO_LARGE = (
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job resource requirement (vCPU/memory/GPU) is higher than that can be"
    " met by the CE(s) attached to the job queue."
)
TOO_MANY = (
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - CE(s) associated with the job queue cannot meet the CPU"
    " requirement of the job."
)
NO_CAPACITY = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested for instance type [g5.xlarge]"
BUSY = "other jobs have the machines"  # nothing is said of it


class Hosts:
    """The machines of all environments.

    Args:
        jobs: id -> job.
        blocked: queue's name -> why its jobs get no machine.
    """

    def __init__(
        self, places: Places, quotas: Quotas, jobs: Mapping[str, BatchJob], blocked: Mapping[str, str]
    ) -> None:
        self._places, self._quotas, self._jobs, self._blocked = places, quotas, jobs, blocked

    def place(self, job: BatchJob) -> tuple[str, str, str]:
        """Environment and machine type for a job, and the obstacle where there is none."""
        queue = self._places.queues[job.queue]
        if why := self._blocked.get(queue["jobQueueName"]):
            return "", "", why
        order = sorted(queue["computeEnvironmentOrder"], key=lambda one: one["order"])
        known = [self._places.environments[one["computeEnvironment"]] for one in order]
        usable = [one for one in known if one["status"] == "VALID" and one["state"] == "ENABLED"]
        obstacle = TOO_LARGE if usable else INVALID
        for environment in usable:
            fitting = [name for name in machines_of(environment, job.region) if holds(name, job.needs)]
            if not fitting:
                continue
            obstacle = self._obstacle(job, environment, fitting[0])
            if not obstacle:
                return environment["computeEnvironmentArn"], fitting[0], ""
        return "", "", obstacle

    def _obstacle(self, job: BatchJob, environment: Mapping[str, Any], machine: str) -> str:
        most = environment["computeResources"]["maxvCpus"]
        if job.needs["VCPU"] > most:
            return TOO_MANY
        here = [one for one in self._running() if one.environment == environment["computeEnvironmentArn"]]
        if sum(one.needs["VCPU"] for one in here) + job.needs["VCPU"] > most:
            return BUSY
        # Nothing is documented of a quota that is too small: the reason on which no action is taken.
        return UNDETERMINED if self._over_quota(machine, environment, job.region) else ""

    def _running(self) -> list[BatchJob]:
        return [job for job in self._jobs.values() if job.status in ("STARTING", "RUNNING")]

    def _over_quota(self, name: str, environment: Mapping[str, Any], region: str) -> bool:
        machine, spot = types()[name], _spot(environment)
        used = sum(
            types()[job.machine].vcpus
            for job in self._running()
            if job.region == region
            and types()[job.machine].quota == machine.quota
            and _spot(self._places.environments[job.environment]) == spot
        )
        kind = "P5" if spot and name.startswith("p5") else machine.quota
        return used + machine.vcpus > self._quotas.value(EC2[kind, spot][0], region)


def _spot(environment: Mapping[str, Any]) -> bool:
    return environment["computeResources"]["type"] == "SPOT"


def holds(name: str, needs: Mapping[str, float]) -> bool:
    """Whether a container of these needs has room on a machine of a type."""
    machine = types()[name]
    fits = needs["VCPU"] <= machine.vcpus and needs["MEMORY"] <= machine.registered
    return fits and needs.get("GPU", 0) <= machine.gpus
