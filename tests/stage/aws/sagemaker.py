"""A strict stand-in for SageMaker: its training and tuning jobs, and what `endpoints` and `packages` have besides."""

import re
from collections.abc import Iterator
from typing import Any

from stage.aws import journal, search
from stage.aws.endpoint_kinds import Kept
from stage.aws.endpoints import Endpoints
from stage.aws.errors import AwsError
from stage.aws.listing import listed, page
from stage.aws.packages import Packages
from stage.aws.people import ACCOUNT
from stage.aws.quotas import Quotas
from stage.aws.server import Call
from stage.aws.training import TrainingJob
from stage.aws.training_rules import check_job, check_quota, check_rights, check_tags, invalid
from stage.aws.tuning import TuningJob
from stage.aws.tuning_rules import check_tuning, definition_of
from stage.clock import Clock, Deadline

# Seconds after which Search knows of a change. That it is eventually consistent is documented, how long is not.
INDEX_LAG = 30


class SageMaker:
    """The service in all regions, and a test's hands on its jobs.

    Attributes:
        jobs, tunings: (region, name) -> job, oldest first; their names are taken for ever.
        endpoints, packages: what answers, and the registry of models.
    """

    def __init__(self, clock: Clock, quotas: Quotas) -> None:
        self._clock, self._quotas = clock, quotas
        self.jobs: dict[tuple[str, str], TrainingJob] = {}
        self.tunings: dict[tuple[str, str], TuningJob] = {}
        self.endpoints, self.packages = Endpoints(clock), Packages(clock)
        clock.watch(self._deadlines)

    # A test's hands

    def job(self, name: str) -> TrainingJob:
        """A training job by its name."""
        return next(job for (_, known), job in self.jobs.items() if known == name)

    def tuning(self, name: str) -> TuningJob:
        """A tuning job by its name."""
        return next(job for (_, known), job in self.tunings.items() if known == name)

    def start(self, name: str) -> None:
        """The machines come, and the containers with them."""
        self.job(name).start()

    def interrupt(self, name: str) -> None:
        """The spot machines are taken away."""
        self.job(name).interrupt()

    def finish(self, name: str, exit_code: int = 0, failure: str = "") -> None:
        """The containers end by themselves; `failure` is what they left in /opt/ml/output/failure."""
        self.job(name).finish(exit_code, failure)
        self._tune()

    def fail(self, name: str, reason: str = "InternalServerError: We encountered an internal error.") -> None:
        """The service ends the job by its own fault, or for lack of machines ("CapacityError: ...")."""
        self.job(name).fail(reason)
        self._tune()

    def say(self, name: str, *lines: str) -> None:
        """The first container prints, to the log too; metrics are read out of it as the job's expressions say."""
        job = self.job(name)
        for line in lines:
            self.read(job, line)
        stream = f"{name}/algo-1-{round(job.first_start or job.created)}"
        journal.write(job.region, journal.TRAINING, stream, lines, self._clock.now())

    def read(self, job: TrainingJob, line: str) -> None:
        """Keeps a line, and the metrics in it."""
        job.lines.append(line)
        for metric in job.given["AlgorithmSpecification"].get("MetricDefinitions", []):
            # The first group is the value: API_MetricDefinition.html.
            found = re.search(metric["Regex"], line)
            if found and found.groups():
                job.metrics[metric["Name"]] = float(found[1])

    def trials(self, name: str) -> list[TrainingJob]:
        """The training jobs of a tuning job so far."""
        self._tune()
        return self.tuning(name).trials

    def used(self, region: str, machine: str, spot: bool) -> int:
        """Machines of a type that jobs have which have not ended."""
        return sum(
            job.machines
            for (where, _), job in self.jobs.items()
            if where == region
            and not job.over
            and job.spot == spot
            and job.given["ResourceConfig"]["InstanceType"] == machine
        )

    def _deadlines(self) -> Iterator[Deadline]:
        for job in self.jobs.values():
            for one in job.deadlines():
                yield Deadline(one.moment, lambda happens=one.happens: self._then(happens))
        for tuning in self.tunings.values():
            yield from tuning.deadlines()

    def _then(self, happens: Any) -> None:
        happens()
        self._tune()

    def _tune(self) -> None:
        for tuning in self.tunings.values():
            for job in tuning.advance():
                self.jobs[tuning.region, job.name] = job
            tuning.note()

    # The service

    def __call__(self, call: Call) -> dict[str, Any]:
        handle = (
            self.endpoints.handler(call.operation)
            or self.packages.handler(call.operation)
            or getattr(self, f"_{_snake(call.operation)}", None)
        )
        if handle is None:
            raise AwsError("NotImplemented", f"{call.operation} is not part of the stand-in.", 501)
        return handle(call)

    def _create_training_job(self, call: Call) -> dict[str, Any]:
        given = call.given
        name, arn = given["TrainingJobName"], _arn(call, "training-job", given["TrainingJobName"])
        check_rights(call, arn, given)
        check_tags(given.get("Tags", []))
        check_job(call, given)
        if (call.region, name) in self.jobs:
            # Names stay taken after a job's end: API_CreateTrainingJob.html, "unique within a Region in an account".
            raise AwsError(
                "ResourceInUse",
                f"Job name must be unique within an AWS account and region, and a job with this name already exists ({arn})",
            )
        check_quota(self._quotas, call, given, self.used)
        self.jobs[call.region, name] = TrainingJob(given, call.region, self._clock)
        return {"TrainingJobArn": arn}

    def _create_hyper_parameter_tuning_job(self, call: Call) -> dict[str, Any]:
        given = call.given
        name = given["HyperParameterTuningJobName"]
        arn, definition = _arn(call, "hyper-parameter-tuning-job", name), definition_of(given)
        check_rights(call, arn, definition)
        check_tags(given.get("Tags", []))
        check_tuning(given)
        check_job(call, definition)
        if (call.region, name) in self.tunings:
            raise AwsError(
                "ResourceInUse", f"Hyperparameter tuning job name must be unique: {arn} exists already"
            )
        limits = given["HyperParameterTuningJobConfig"]["ResourceLimits"]
        # At once, not as the trials come: https://github.com/aws/amazon-sagemaker-examples/issues/1543.
        check_quota(self._quotas, call, definition, self.used, limits["MaxParallelTrainingJobs"])
        self.tunings[call.region, name] = TuningJob(given, arn, call.region, self._clock)
        return {"HyperParameterTuningJobArn": arn}

    def _describe_training_job(self, call: Call) -> dict[str, Any]:
        return self._known(call).described()

    def _stop_training_job(self, call: Call) -> dict[str, Any]:
        job = self._known(call)
        if job.state != "InProgress":
            # As seen: https://github.com/awslabs/benchmark-ai/issues/928. Of one that is stopping nobody tells.
            raise invalid(f"The request was rejected because the training job is in status {job.state}.")
        job.stop()
        return {}

    def _delete_training_job(self, call: Call) -> dict[str, Any]:
        raise AwsError("NotImplemented", "DeleteTrainingJob is not part of the stand-in.", 501)

    def _list_training_jobs(self, call: Call) -> dict[str, Any]:
        call.require("sagemaker:ListTrainingJobs", "*")
        found = [job.summary() for (region, _), job in self.jobs.items() if region == call.region]
        shown, more = listed(found, call.given, "TrainingJobName", "TrainingJobStatus")
        return {"TrainingJobSummaries": shown} | more

    def _search(self, call: Call) -> dict[str, Any]:
        call.require("sagemaker:Search", "*")
        resource = call.given["Resource"]
        kinds: dict[str, Any] = {"TrainingJob": self.jobs, "HyperParameterTuningJob": self.tunings}
        if resource not in kinds:
            raise AwsError("NotImplemented", "Search for other things is not part of the stand-in.", 501)
        moment = self._clock.now() - INDEX_LAG
        seen = [job.seen(moment) for (region, _), job in kinds[resource].items() if region == call.region]
        wanted = call.given.get("SearchExpression", {})
        found = [one for one in seen if one and search.fits(wanted, one)]
        found.sort(
            key=lambda one: one["LastModifiedTime"],
            reverse=call.given.get("SortOrder", "Descending") == "Descending",
        )
        for one in found:
            one.pop("RemoteDebugConfig", None)  # a TrainingJob has fewer members than Describe's answer
            one.pop("InfraCheckConfig", None)
        shown, more = page(found, call.given, 100)
        return {"Results": [{resource: one} for one in shown]} | more

    def _add_tags(self, call: Call) -> dict[str, Any]:
        job = self._tagged(call, "AddTags")
        check_tags(call.given["Tags"])
        tags = job.tags | {tag["Key"]: tag["Value"] for tag in call.given["Tags"]}
        if len(tags) > 50:
            raise AwsError("ResourceLimitExceeded", "A resource may have at most 50 tags.")
        job.tags = tags
        job.touched()
        return {"Tags": job.tag_list()}

    def _list_tags(self, call: Call) -> dict[str, Any]:
        shown, more = page(self._tagged(call, "ListTags").tag_list(), call.given, 50)
        return {"Tags": shown} | more

    def _delete_tags(self, call: Call) -> dict[str, Any]:
        job = self._tagged(call, "DeleteTags")
        job.tags = {key: one for key, one in job.tags.items() if key not in call.given["TagKeys"]}
        job.touched()
        return {}

    def _tagged(self, call: Call, operation: str) -> TrainingJob | TuningJob | Kept:
        arn = call.given["ResourceArn"]
        known: list[TrainingJob | TuningJob | Kept] = [*self.jobs.values(), *self.tunings.values()]
        known += [*self.endpoints.everything(), *self.packages.everything()]
        job = next((one for one in known if one.arn == arn), None)
        context = {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in call.given.get("Tags", [])}
        call.require(f"sagemaker:{operation}", arn, **context, **_tag_context(job))
        if job is None:
            raise AwsError("ResourceNotFound", f"Requested resource not found: {arn}")
        return job

    def _known(self, call: Call) -> TrainingJob:
        name = call.given["TrainingJobName"]
        job = self.jobs.get((call.region, name))
        call.require(f"sagemaker:{call.operation}", _arn(call, "training-job", name), **_tag_context(job))
        if job is None:
            # Not ResourceNotFound, which the model names: https://github.com/aws-controllers-k8s/community/pull/622.
            raise invalid("Requested resource not found.")
        return job

    # Tuning

    def _known_tuning(self, call: Call) -> TuningJob:
        name = call.given["HyperParameterTuningJobName"]
        job = self.tunings.get((call.region, name))
        arn = _arn(call, "hyper-parameter-tuning-job", name)
        call.require(f"sagemaker:{call.operation}", arn, **_tag_context(job))
        if job is None:
            raise AwsError(
                "ResourceNotFound", f"Amazon SageMaker can't find a tuning job with the name {name}"
            )
        return job

    def _describe_hyper_parameter_tuning_job(self, call: Call) -> dict[str, Any]:
        return self._known_tuning(call).described()

    def _stop_hyper_parameter_tuning_job(self, call: Call) -> dict[str, Any]:
        job = self._known_tuning(call)
        if job.state != "InProgress":
            raise invalid(f"The request was rejected because the tuning job is in status {job.state}.")
        job.stop()
        job.note()
        return {}

    def _list_hyper_parameter_tuning_jobs(self, call: Call) -> dict[str, Any]:
        call.require("sagemaker:ListHyperParameterTuningJobs", "*")
        found = [job.summary() for (region, _), job in self.tunings.items() if region == call.region]
        shown, more = listed(
            found, call.given, "HyperParameterTuningJobName", "HyperParameterTuningJobStatus"
        )
        return {"HyperParameterTuningJobSummaries": shown} | more

    def _list_training_jobs_for_hyper_parameter_tuning_job(self, call: Call) -> dict[str, Any]:
        job = self._known_tuning(call)
        wanted = call.given.get("StatusEquals")
        found = [job.trial_summary(one) for one in job.trials if wanted in (None, one.state)]
        shown, more = page(found, call.given, 10)
        return {"TrainingJobSummaries": shown} | more


def _tag_context(job: TrainingJob | TuningJob | Kept | None) -> dict[str, str]:
    tags = job.tags if job else {}
    return {
        f"{service}:ResourceTag/{key}": value
        for key, value in tags.items()
        for service in ("aws", "sagemaker")
    }


def _arn(call: Call, kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:{call.region}:{ACCOUNT}:{kind}/{name}"


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
