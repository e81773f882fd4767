"""Settings, jobs and a small AWS Batch below boto3, for the tests of its backend.

What is asked and what is answered must fit botocore's model. A job runs nowhere: tests write what becomes of it.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import botocore.client
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from launcher.job import Job, Machine
from launcher.providers.aws import auth
from omegaconf import DictConfig, OmegaConf
from stage.aws import bench
from stage.aws.shapes import check, check_answer
from stage.aws.world import World, serve

REGION, ACCOUNT = "us-east-1", "123456789012"
ARN = f"arn:aws:batch:{REGION}:{ACCOUNT}"
L4 = Machine("l4", "g6.xlarge", "L4", 1)
T4X4 = Machine("t4x4", "g4dn.12xlarge", "T4", 4)
CPU = Machine("cpu", "m7i.2xlarge")
DIGEST = "sha256:" + "a" * 64
# docs.aws.amazon.com/batch/latest/userguide/job_stuck_in_runnable_capacity.html
CAPACITY = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
QUOTAS = ("L-3819A6DF", "L-DB2E81BA")  # vCPUs of G and VT, on spot and on demand
TIERS = {
    "spot": {"type": "SPOT", "allocationStrategy": "SPOT_PRICE_CAPACITY_OPTIMIZED", "bidPercentage": 70},
    "demand": {"type": "EC2", "allocationStrategy": "BEST_FIT_PROGRESSIVE"},
}
NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
QUEUES = ("demo-l4-spot", "demo-l4-demand", "demo-cpu-spot")


def cloud(**changes: Any) -> DictConfig:
    settings = {
        "backend": "batch",
        "project": None,
        "region": REGION,
        "zones": None,
        "driver": None,
        "bucket": "s3://demo-bucket",
        "image": None,
        "repository": "demo/train",
        "service_account": "demo-trainer",
        "labels": {"project": "demo"},
        "max_attempts": 3,
        "max_hours": 1.5,
    }
    return OmegaConf.create({**settings, **changes})


def job(**changes: Any) -> Job:
    settings = {
        "run_id": "run-1",
        "image": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/demo/train@{DIGEST}",
        "args": ("trainer.max_epochs=2", "run.id=run-1"),
        "machine": L4,
        "max_hours": 1.5,
        "env": {"RUN_ID": "run-1", "RUN_MAX_ATTEMPTS": "3"},
        "labels": {"run": "run-1"},
        "output": "s3://demo-bucket/runs/run-1",
    }
    return Job(**{**settings, **changes})


def at(hour: int, minute: int = 0) -> int:
    """Milliseconds of a time on the day of the tests."""
    return int(datetime(2026, 1, 1, hour, minute, tzinfo=UTC).timestamp() * 1000)


def attempt(start: int, stop: int | None = None, reason: str = "", **container: Any) -> dict[str, Any]:
    """One of a job's attempts as the service describes it."""
    times = {"startedAt": start, **({"stoppedAt": stop} if stop else {})}
    return {**times, "statusReason": reason, "container": container}


class BatchWorld:
    """The service. Tests change `queues`, `environments` and `jobs` (by id) as they like.

    Attributes:
        asked: each operation and its parameters.
        faults: of an operation, what its next calls come to: see `lose` and `refuse`.
        definitions: by ARN.
        lines: of each stream of the log, in pages.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.faults: dict[str, list[Callable[[], None]]] = {}
        self.queues = {name: self.queue(name) for name in QUEUES}
        self.environments = {name: self.environment(name) for name in QUEUES}
        self.definitions: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.lines: dict[str, list[list[str]]] = {}
        self.hidden: set[str] = set()  # ids that no list has yet
        self._numbers = itertools.count(1)

    @staticmethod
    def queue(name: str, **changes: Any) -> dict[str, Any]:
        order = [{"order": 1, "computeEnvironment": f"{ARN}:compute-environment/{name}"}]
        shared = {"jobQueueArn": f"{ARN}:job-queue/{name}", "priority": 1, "computeEnvironmentOrder": order}
        return {"jobQueueName": name, "state": "ENABLED", "status": "VALID", **shared, **changes}

    @staticmethod
    def environment(name: str, **changes: Any) -> dict[str, Any]:
        cluster = f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{name}_Batch_77"
        arns = {"computeEnvironmentArn": f"{ARN}:compute-environment/{name}", "ecsClusterArn": cluster}
        return {"computeEnvironmentName": name, **arns, "state": "ENABLED", "status": "VALID", **changes}

    def add(self, job_id: str, status: str = "RUNNING", run_id: str = "run-1", **more: Any) -> dict[str, Any]:
        """A job of this project; what is given replaces what it has."""
        container = {"environment": [{"name": "RUN_ID", "value": run_id}], **more.pop("container", {})}
        self.jobs[job_id] = {
            "jobArn": f"{ARN}:job/{job_id}",
            "jobId": job_id,
            "jobName": f"demo-{run_id}-{job_id}",
            "jobQueue": f"{ARN}:job-queue/demo-l4-spot",
            "jobDefinition": f"{ARN}:job-definition/demo-train:1",
            "status": status,
            "createdAt": at(10),
            "startedAt": at(11),
            "tags": {"project": "demo", "run": run_id},
            "attempts": [],
            "container": container,
            **more,
        }
        return self.jobs[job_id]

    def lose(self, operation: str, *, done: bool = True) -> None:
        """Has the next call's answer lost, after it was carried out, or before."""

        def fault() -> None:
            raise ReadTimeoutError(endpoint_url="https://batch")

        fault.done = done  # type: ignore[attr-defined]
        self.faults.setdefault(operation, []).append(fault)

    def refuse(self, operation: str, code: str, message: str = "no", status: int = 400) -> None:
        """Has the next call refused."""

        def fault() -> None:
            metadata: Any = {"HTTPStatusCode": status}
            said: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}
            raise ClientError(said, operation)

        self.faults.setdefault(operation, []).append(fault)

    def sent(self, operation: str) -> list[dict[str, Any]]:
        """The parameters of all calls of an operation."""
        return [parameters for name, parameters in self.asked if name == operation]

    def __call__(self, client: Any, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        model = client.meta.service_model
        check(model.operation_model(operation), parameters)
        assert client.meta.region_name == REGION
        self.asked.append((operation, parameters))
        waiting = self.faults.get(operation)
        fault = waiting.pop(0) if waiting else None
        if fault and not getattr(fault, "done", False):
            fault()
        answer = getattr(self, f"on_{operation}")(**parameters)
        check_answer(model.operation_model(operation), answer)
        if fault:
            fault()
        return {**answer, "ResponseMetadata": {"HTTPHeaders": {"date": format_datetime(NOW, usegmt=True)}}}

    def on_GetCallerIdentity(self) -> dict[str, Any]:  # noqa: N802
        return {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/ann", "UserId": "ann"}

    def on_DescribeJobQueues(self, jobQueues: list[str] | None = None, **page: Any) -> dict[str, Any]:  # noqa: N802, N803
        found = [each for name, each in self.queues.items() if jobQueues is None or name in jobQueues]
        return _page("jobQueues", found, page)

    def on_DescribeComputeEnvironments(self, computeEnvironments: list[str]) -> dict[str, Any]:  # noqa: N802, N803
        names = [name.rpartition("/")[2] for name in computeEnvironments]
        return {"computeEnvironments": [self.environments[name] for name in names]}

    def on_ListJobs(  # noqa: N802
        self,
        jobQueue: str,  # noqa: N803
        filters: list[dict[str, Any]] | None = None,
        jobStatus: str = "RUNNING",  # noqa: N803
        **page: Any,
    ) -> dict[str, Any]:
        """With a filter the state is ignored, without one and without a state only what runs is given."""
        assert jobQueue in self.queues
        found = []
        for one in self.jobs.values():
            if one["jobQueue"] != f"{ARN}:job-queue/{jobQueue}" or one["jobId"] in self.hidden:
                continue
            if filters:
                [[value]] = [each["values"] for each in filters if each["name"] == "JOB_NAME"]
                start, name = value.removesuffix("*").lower(), one["jobName"].lower()
                fits = name.startswith(start) if value.endswith("*") else name == start
            else:
                fits = one["status"] == jobStatus
            if fits:
                keys = ("jobArn", "jobId", "jobName", "status", "statusReason", "createdAt")
                found.append({key: one[key] for key in keys if key in one})
        return _page("jobSummaryList", found, page)

    def on_DescribeJobs(self, jobs: list[str]) -> dict[str, Any]:  # noqa: N802
        assert len(jobs) <= 100
        return {"jobs": [self.jobs[one] for one in jobs if one in self.jobs]}

    def on_RegisterJobDefinition(self, **given: Any) -> dict[str, Any]:  # noqa: N802
        name, revision = given["jobDefinitionName"], len(self.definitions) + 1
        arn = f"{ARN}:job-definition/{name}:{revision}"
        names = {"jobDefinitionName": name, "jobDefinitionArn": arn, "revision": revision}
        self.definitions[arn] = {**given, **names, "status": "ACTIVE"}
        return names

    def on_DescribeJobDefinitions(self, jobDefinitionName: str, status: str, **page: Any) -> dict[str, Any]:  # noqa: N802, N803
        found = [
            each
            for each in self.definitions.values()
            if (each["jobDefinitionName"], each["status"]) == (jobDefinitionName, status)
        ]
        return _page("jobDefinitions", found, page)

    def on_DeregisterJobDefinition(self, jobDefinition: str) -> dict[str, Any]:  # noqa: N802, N803
        self.definitions[jobDefinition]["status"] = "INACTIVE"
        return {}

    def on_SubmitJob(self, **given: Any) -> dict[str, Any]:  # noqa: N802
        definition = self.definitions[given["jobDefinition"]]
        assert definition["status"] == "ACTIVE"
        assert given["jobQueue"] in self.queues
        number = next(self._numbers)
        made = self.add(
            f"job-{number}",
            "SUBMITTED",
            jobName=given["jobName"],
            jobQueue=self.queues[given["jobQueue"]]["jobQueueArn"],
            jobDefinition=given["jobDefinition"],
            tags=given["tags"],
            createdAt=at(10) + number,
        )
        made["container"]["environment"] = definition["containerProperties"]["environment"]
        return {key: made[key] for key in ("jobArn", "jobId", "jobName")}

    def on_TerminateJob(self, jobId: str, reason: str) -> dict[str, Any]:  # noqa: N802, N803
        if self.jobs[jobId]["status"] not in ("SUCCEEDED", "FAILED"):
            self.jobs[jobId] |= {"status": "FAILED", "isTerminated": True, "statusReason": reason}
            self.jobs[jobId]["stoppedAt"] = at(12)
        return {}

    def on_FilterLogEvents(  # noqa: N802
        self,
        logGroupName: str,  # noqa: N803
        logStreamNamePrefix: str,  # noqa: N803
        startTime: int,  # noqa: N803
        nextToken: str = "0",  # noqa: N803
    ) -> dict[str, Any]:
        """A page may be empty and not the last one."""
        assert (logGroupName, startTime) == ("/aws/batch/job", at(10))
        pages, number = self.lines[logStreamNamePrefix], int(nextToken)
        streams = [logStreamNamePrefix, f"{logStreamNamePrefix}-another"]
        events = [
            {"timestamp": at(11), "message": message, "logStreamName": stream}
            for stream in streams
            for message in pages[number]
        ]
        more = {"nextToken": f"{number + 1}"} if number + 1 < len(pages) else {}
        return {"events": events, **more}

    def on_DescribeContainerInstances(self, cluster: str, containerInstances: list[str]) -> dict[str, Any]:  # noqa: N802, N803
        assert cluster == "demo-l4-spot_Batch_77"
        [arn] = containerInstances
        return {"containerInstances": [{"containerInstanceArn": arn, "ec2InstanceId": "i-0123456789abcdef0"}]}


def _page(key: str, found: list[dict[str, Any]], page: dict[str, Any]) -> dict[str, Any]:
    """Two at a time, so that whoever takes the first page for all there is is found out."""
    first = int(page.get("nextToken", 0))
    more = {"nextToken": str(first + 2)} if first + 2 < len(found) else {}
    return {key: found[first : first + 2], **more}


def batch_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchWorld]:
    """Takes the place of what boto3 sends, for one test."""
    made = BatchWorld()
    monkeypatch.setattr(
        botocore.client.BaseClient,
        "_make_api_call",
        lambda client, operation, parameters: made(client, operation, parameters),
    )
    monkeypatch.setattr(auth, "_ahead", None)
    auth._identity.cache_clear()
    yield made
    auth._identity.cache_clear()


@contextmanager
def on_stage(folder: Path) -> Iterator[World]:
    """An account as `make cloud-setup` leaves it, with queues for l4."""
    with serve(folder) as made:
        bench.role(made, "demo-trainer", "ecs-tasks.amazonaws.com")
        bench.role(made, "demo-machine", "ec2.amazonaws.com")
        iam = bench.client(made, "iam")
        iam.create_instance_profile(InstanceProfileName="demo-machine")
        iam.add_role_to_instance_profile(InstanceProfileName="demo-machine", RoleName="demo-machine")
        bench.client(made, "logs").create_log_group(logGroupName="/aws/batch/job")
        for code in QUOTAS:
            made.quotas.set(code, 64)
        for tier in TIERS:
            make_queue(made, f"demo-l4-{tier}", tier)
        yield made


def make_queue(world: World, name: str, tier: str) -> None:
    ec2, service = bench.client(world, "ec2"), bench.client(world, "batch")
    resources = {
        **TIERS[tier],
        "minvCpus": 0,
        "maxvCpus": 16,
        "instanceTypes": ["g6.xlarge"],
        "subnets": [ec2.describe_subnets()["Subnets"][0]["SubnetId"]],
        "securityGroupIds": [ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]],
        "instanceRole": "demo-machine",
        "ec2Configuration": [{"imageType": "ECS_AL2023_NVIDIA"}],
    }
    asked: dict[str, Any] = {"computeEnvironmentName": name, "type": "MANAGED", "computeResources": resources}
    service.create_compute_environment(**asked)
    world.pass_time(60)
    order = [{"order": 1, "computeEnvironment": name}]
    wait = {
        "state": "RUNNABLE",
        "action": "CANCEL",
        "maxTimeSeconds": 86400,
        "reason": CAPACITY,
    }
    service.create_job_queue(
        jobQueueName=name, priority=1, computeEnvironmentOrder=order, jobStateTimeLimitActions=[wait]
    )
