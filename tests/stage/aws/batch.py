"""A strict stand-in for AWS Batch on EC2."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from stage.aws import images, journal
from stage.aws.batch_definitions import Definitions
from stage.aws.batch_hosts import BUSY, Hosts
from stage.aws.batch_jobs import EXITED, BatchJob
from stage.aws.batch_listing import matches
from stage.aws.batch_places import Places
from stage.aws.batch_rules import check_submit, check_tags, refusal
from stage.aws.errors import AwsError
from stage.aws.people import ACCOUNT, role_of, trusts
from stage.aws.quotas import Quotas
from stage.aws.server import Call
from stage.clock import Clock, Deadline

# Jobs that have ended stay listed for so long. Days, it is said; how many is not known: the worse.
KEPT = 86400
NOTICED = 600  # seconds after which a job that blocks its queue says why; not documented


class Batch:
    """The service in all regions, and a test's hands on its jobs.

    Attributes:
        jobs: id -> job, oldest first; they stay here when the service has forgotten them.
        places: environments and queues.
        blocked: queue's name -> why its jobs get no machine, such as `batch_hosts.UNDETERMINED`, which real spot has said while it
            waited (https://github.com/apache/airflow/issues/38298), or `NO_CAPACITY`.
    """

    def __init__(self, clock: Clock, quotas: Quotas) -> None:
        self._clock = clock
        self.jobs: dict[str, BatchJob] = {}
        self.blocked: dict[str, str] = {}
        self.definitions = Definitions()
        self.places = Places(
            clock, lambda arn: any(job.queue == arn and not job.over for job in self.jobs.values())
        )
        self._hosts = Hosts(self.places, quotas, self.jobs, self.blocked)
        clock.watch(self._deadlines)

    # A test's hands

    def job(self, name: str) -> BatchJob:
        """A job by its id, or the newest one of a name."""
        return self.jobs.get(name) or next(job for job in reversed(self.jobs.values()) if job.name == name)

    def pull(self, name: str) -> None:
        """A machine takes the job, and pulls its image.

        Raises:
            AssertionError: there is none for it; the job says why after a while, and waits.
        """
        job = self.job(name)
        if job.status == "SUBMITTED":
            job.to("RUNNABLE")
        if job.status != "RUNNABLE":
            raise AssertionError(f"{name} cannot start: it is {job.status}.")
        environment, machine, obstacle = self._hosts.place(job)
        if obstacle:
            raise AssertionError(f"{name} gets no machine: {obstacle}")
        job.take(environment, machine)

    def start(self, name: str) -> None:
        """A machine takes the job, and its container runs, or cannot, which ends the attempt; see `pull`."""
        job = self.job(name)
        if job.status != "STARTING":
            self.pull(name)
        if job.too_long:
            job.task = ""
            job.end_attempt(None, "Container Overrides length must be at most 8192", retried=False)
            return
        role = job.container.get("jobRoleArn")
        found = role_of(role) if role else None
        image = job.container["image"]
        if role and (found is None or not trusts(found, "ecs-tasks.amazonaws.com")):
            # ECS's words: https://github.com/boto/boto3/issues/1878. Whether Batch tries again is not known: by the rules.
            job.end_attempt(
                None, f"ECS was unable to assume the role '{role}' that was provided for this task."
            )
        elif ".dkr.ecr." in image and not images.found(image, job.region):
            # Only now, not when it was submitted: https://github.com/RafalWilinski/deploy-with-serverless/issues/11.
            text = f"CannotPullContainerError: Error response from daemon: manifest for {image} not found"
            job.end_attempt(None, "Task failed to start", text)
        else:
            job.run()

    def finish(self, name: str, exit_code: int = 0, reason: str = "") -> None:
        """The container ends by itself; `reason` is ECS's, such as "OutOfMemoryError: Container killed due to memory usage"."""
        job = self._running(name)
        if job.stopping:
            job.ended_while_stopping(exit_code)
        else:
            job.end_attempt(exit_code, EXITED, reason)

    def lose_host(self, name: str) -> None:
        """The machine is taken away: nobody sees how the container ended. Whether it was warned is the launch template's."""
        job = self._running(name)
        job.end_attempt(None, f"Host EC2 (instance {job.instance}) terminated.", retried=not job.stopping)

    def say(self, name: str, *lines: str) -> None:
        """The container prints, to the log too."""
        job = self._running(name)
        job.lines.extend(lines)
        stream = job.described()["container"]["logStreamName"]
        journal.write(job.region, journal.BATCH, stream, lines, self._clock.now())

    def has_room(self, name: str) -> bool:
        """Whether a machine could take the job now."""
        return not self._hosts.place(self.job(name))[2]

    def _running(self, name: str) -> BatchJob:
        job = self.job(name)
        if job.status != "RUNNING":
            raise AssertionError(f"{name} does not run: it is {job.status}.")
        return job

    # Time

    def _deadlines(self) -> Iterator[Deadline]:
        for job in self.jobs.values():
            yield from job.deadlines()
            if job.status == "RUNNABLE":
                yield from self._waiting(job)

    def _waiting(self, job: BatchJob) -> Iterator[Deadline]:
        """The head of a queue says what blocks it, and is ended where the queue says so."""
        if not job.reason:
            if self._head(job):
                yield Deadline(max(job.since + NOTICED, self._clock.now()), lambda: self._notice(job))
            return
        for action in self.places.queues[job.queue].get("jobStateTimeLimitActions", []):
            if job.reason.startswith(action["reason"]):
                words = f"Canceled by JobStateTimeLimit action due to reason: {action['reason']}"
                yield Deadline(job.since + action["maxTimeSeconds"], lambda words=words: job.cancel(words))

    def _head(self, job: BatchJob) -> bool:
        waiting = [one for one in self.jobs.values() if one.queue == job.queue and one.status == "RUNNABLE"]
        blocked = self._hosts.place(job)[2]
        return waiting[0] is job and blocked not in ("", BUSY)

    def _notice(self, job: BatchJob) -> None:
        job.to("RUNNABLE", self._hosts.place(job)[2])

    # The service

    def __call__(self, call: Call) -> dict[str, Any]:
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", call.operation).lower()
        handles: dict[str, Callable[[Call], dict[str, Any]]] = {
            "register_job_definition": self.definitions.register,
            "deregister_job_definition": self.definitions.deregister,
            "describe_job_definitions": self.definitions.describe,
        }
        places = ("compute_environment", "job_queue", "compute_environments", "job_queues")
        _, _, what = name.partition("_")
        if what in places and hasattr(self.places, name):
            return getattr(self.places, name)(call)
        handle = handles.get(name) or getattr(self, f"_{name}", None)
        if handle is None:
            raise AwsError("NotImplemented", f"{call.operation} is not part of the stand-in.", 501)
        return handle(call)

    def _submit_job(self, call: Call) -> dict[str, Any]:
        given = call.given
        queue = self.places.arn("job-queue", given["jobQueue"], call.region)
        wanted = self.places.arn("job-definition", given["jobDefinition"], call.region)
        tags = given.get("tags", {})
        context = {f"aws:RequestTag/{key}": value for key, value in tags.items()}
        # All of them, by https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsbatch.html; the
        # definition as it was named: https://github.com/aws/aws-sdk-js/issues/4280.
        job_arn = f"arn:aws:batch:{call.region}:{ACCOUNT}:job/*"
        call.require("batch:SubmitJob", job_arn, **context)
        for arn, known in ((queue, self.places.queues), (wanted, self.definitions.known)):
            call.require("batch:SubmitJob", arn, **context, **tag_context(known.get(arn, {}).get("tags", {})))
        if tags:
            call.require("batch:TagResource", job_arn, **context)
        check_submit(given)
        place = self.places.queue(given["jobQueue"], call.region)
        if place["state"] != "ENABLED" or place["status"] != "VALID":
            raise refusal(f"JobQueue {place['jobQueueArn']} is not in state ENABLED and status VALID")
        definition = self.definitions.active(given["jobDefinition"], call.region)
        job = BatchJob(given, definition, place["jobQueueArn"], self._clock)
        self.jobs[job.id] = job
        return {"jobArn": job.arn, "jobName": job.name, "jobId": job.id}

    def _remembered(self, region: str) -> list[BatchJob]:
        """The jobs that the service still knows."""
        known = [job for job in self.jobs.values() if job.region == region]
        return [
            job
            for job in known
            if job.stopped is None or not job.over or job.stopped + KEPT > self._clock.now()
        ]

    def _describe_jobs(self, call: Call) -> dict[str, Any]:
        call.require("batch:DescribeJobs", "*")
        if not 1 <= len(call.given["jobs"]) <= 100:
            raise refusal("jobs must have 1 to 100 entries")
        wanted = {one.rpartition("/")[2] for one in call.given["jobs"]}
        # Of what is not there nothing is said.
        return {"jobs": [job.described() for job in self._remembered(call.region) if job.id in wanted]}

    def _list_jobs(self, call: Call) -> dict[str, Any]:
        given = call.given
        call.require("batch:ListJobs", "*")
        if "jobQueue" not in given:
            raise refusal("Exactly one of jobQueue, arrayJobId, multiNodeJobId has to be specified")
        queue = self.places.queue(given["jobQueue"], call.region)["jobQueueArn"]
        filters = given.get("filters", [])
        if len(filters) > 1:
            raise refusal("Only one filter can be used at a time")
        found = [job for job in self._remembered(call.region) if job.queue == queue]
        if filters:
            # jobStatus counts no more then: API_ListJobs.html.
            found = [job for job in found if matches(filters[0], job)]
            found.sort(key=lambda job: job.created, reverse=True)
        else:
            status = given.get("jobStatus", "RUNNING")
            found = [job for job in found if job.status == status]
        start, size = int(given.get("nextToken", "0")), given.get("maxResults", 100)
        if not 1 <= size <= 100:
            raise refusal("maxResults must be between 1 and 100")
        shown = {"jobSummaryList": [job.summary() for job in found[start : start + size]]}
        return shown | ({"nextToken": str(start + size)} if start + size < len(found) else {})

    def _terminate_job(self, call: Call) -> dict[str, Any]:
        job = self._addressed(call, "TerminateJob")
        job.terminate(call.given["reason"])
        return {}

    def _cancel_job(self, call: Call) -> dict[str, Any]:
        # It succeeds for a running job too, which goes on: API_CancelJob.html.
        self._addressed(call, "CancelJob").cancel(call.given["reason"])
        return {}

    def _addressed(self, call: Call, action: str) -> BatchJob:
        name = call.given["jobId"]
        job = next((one for one in self._remembered(call.region) if one.id == name), None)
        where = f"arn:aws:batch:{call.region}:{ACCOUNT}:job/{name}"
        call.require(f"batch:{action}", where, **tag_context(job.tags if job else {}))
        if not call.given["reason"] or len(call.given["reason"]) > 1024:
            raise refusal("reason must have 1 to 1024 characters")
        if job is None:
            raise refusal(f"Job {name} does not exist")
        return job

    def _list_tags_for_resource(self, call: Call) -> dict[str, Any]:
        return {"tags": dict(self._tagged(call, "ListTagsForResource"))}

    def _tag_resource(self, call: Call) -> dict[str, Any]:
        tags = self._tagged(call, "TagResource")
        check_tags(tags | call.given["tags"])
        tags.update(call.given["tags"])
        return {}

    def _untag_resource(self, call: Call) -> dict[str, Any]:
        tags = self._tagged(call, "UntagResource")
        for key in call.given["tagKeys"]:
            tags.pop(key, None)
        return {}

    def _tagged(self, call: Call, action: str) -> dict[str, str]:
        arn = call.given["resourceArn"]
        call.require(f"batch:{action}", arn)
        for known in (self.places.environments, self.places.queues, self.definitions.known):
            if arn in known:
                return known[arn]["tags"]
        job = next((one for one in self.jobs.values() if one.arn == arn), None)
        if job is None:
            raise refusal(f"Resource {arn} does not exist")
        return job.tags


def tag_context(tags: dict[str, str]) -> dict[str, str]:
    """What conditions see of a resource's tags."""
    return {f"aws:ResourceTag/{key}": value for key, value in tags.items()}
