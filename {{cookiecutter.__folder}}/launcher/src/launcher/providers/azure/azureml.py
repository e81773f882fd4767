"""Command and sweep jobs of Azure Machine Learning on its serverless machines, or on a cluster of one's own; and notebooks.

A job whose machine was taken away is queued again under its id by the service. Where it is ended instead, or its program
has ended with the status of network trouble, it counts as preempted here, and the janitor submits the run again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from ...errors import UserError
from ...job import Handle, Job, Kind, Leftover, Machine, Problem, Status
from ...project import project
from ...storage import write_text
from ..errors import MissingError, ServiceError
from ..handed import MORE, Handed
from ..managed import at_work, chain, without_labels
from . import auth as azure
from . import azureml_history as history
from . import azureml_notebook as notebooks
from . import azureml_request as requests
from . import azureml_tuning as tuning
from . import doctor, quotas
from .azureml_cluster import check_cluster, machines_of
from .azureml_end import end
from .azureml_find import Finder, Notes
from .azureml_found import Found
from .azureml_instances import Instance, Instances
from .backend import AzureBackend

ABILITIES = ("SWEEPS", "NODES", "NOTEBOOKS")
# `limits.timeout` is "the max run duration" of a job. Whether what it ran before its machine was taken away counts too is
# not documented, and the service does not bound its starts: so each may cost the whole time. The worker keeps count of
# all of them together (RUN_MAX_SECONDS, RUN_MAX_ATTEMPTS), and ends at once what is too much.
LIMIT_PER_ATTEMPT = True
STARTED_ONCE = ("notebook",)  # a compute instance, which nobody starts again


def connect(cloud: Any) -> AzureML:
    """Give the backend for a `cloud` section of the configuration. Needs no network."""
    return AzureML(cloud)


class AzureML(AzureBackend):
    """Backend of `job.py`. Labels of the configuration, as tags, tell this project's jobs from others."""

    SERVICE = "Azure ML"

    def __init__(self, cloud: Any):
        super().__init__(cloud)
        self._finder = Finder(lambda: self.path, self.labels, Notes(cloud.bucket))
        self._instances = Instances(lambda: self.path, self.labels)

    # -- Backend ---------------------------------------------------------------------------------

    def check(self, job: Job) -> list[Problem]:
        try:
            self.who()
            path = self.path
        except ServiceError as error:  # whatever else is asked would fail for the same reason
            return [Problem(error.what, error.remedy)]
        secrets = {variable: self._secret(name) for variable, name in job.secrets.items()}
        checks = (lambda: self._check_active(job), lambda: self._check_machine(job))
        found = doctor.examine(self.cloud, path, job, secrets, checks)
        return [*self._check_settings(job), *found]

    def _check_settings(self, job: Job) -> list[Problem]:
        """Is it something that the service can do? Asks nobody."""
        problems = tuning.check(job.search) if job.search else []
        if job.kind is Kind.notebook:
            problems += notebooks.check(job, float(self.cloud.idle_minutes))
        return problems + without_labels(self.labels)

    def _check_active(self, job: Job) -> list[Problem]:
        """Is the service there, and no other job at work in the same run folder?"""
        for found in self._of_run(job.run_id):
            if job.search and isinstance(found, Found) and found.is_sweep:
                what = f"There was a sweep {job.run_id}, whose trials have the folders of these"
                return [Problem(what, "choose another run.id")]
            if not found.has_ended:
                return [at_work(job.run_id, found.state)]
        return []

    def _check_machine(self, job: Job) -> list[Problem]:
        """Are there such machines for the job: by the quotas, or in the cluster?"""
        if job.kind is Kind.notebook:
            found = notebooks.check_storage(self.path)
            return [*found, *quotas.check(self.path, self.region, job)]
        if self.cloud.compute:
            return check_cluster(self._cluster(), job, str(self.cloud.service_account))
        return quotas.check(self.path, self.region, job)

    def allowance(self, machine: Machine, spot: bool) -> int | None:
        """Tell how many such machines the subscription's quotas, or its cluster, allow; None where that cannot be told."""
        if self.cloud.compute:
            return machines_of(self._cluster(), machine, spot)
        return quotas.allowance(self.path, self.region, machine, spot)

    def request(self, job: Job) -> dict[str, Any]:
        """Give what `submit` sends, by what it is sent to; the job's identity is looked up by that."""
        if job.kind is Kind.notebook:
            named = notebooks.name(self.path, job.run_id, project().slug, 1)
            return {f"computes/{named}": self._instance(job)}
        named = requests.name(job.run_id, 1)
        environment, image = self._image(job)
        return {
            environment: image,
            f"jobs/{named}": self._job(job, self._hand(job), self.UNKNOWN[0]),
        }

    def submit(self, job: Job) -> Handle:
        if job.kind is Kind.notebook:
            taken = [each.name for each in self._instances.all()]
            named = notebooks.free(self.path, job.run_id, project().slug, taken)
            made = self._instances.make(named, self._instance(job))
            return Handle(made.name, made.url)
        handed = self._hand(job)
        body = self._job(job, handed, self._identity())
        self._register(job)
        if handed.more and job.output:
            write_text(f"{job.output}/{MORE}", handed.more)
        named = self._finder.free(job.run_id)
        try:
            said = azure.call("PUT", f"{self.path}/jobs/{named}", api=requests.API, body=body)
        except ServiceError as error:
            # Perhaps only its answer was lost, or another launch of the run was faster: it is one job in any case.
            said = self._there(named, error)
        return Handle(named, self._page(Found({"name": named, **said})))

    def status(self, run_id: str) -> Status | None:
        found = self._of_run(run_id)
        return self._status(found[0], found) if found else None

    def logs(self, run_id: str) -> Iterator[str]:
        found = self._finder.of_run(run_id)
        if not found:
            return
        if not found[0].is_sweep:
            yield from history.lines(found[0].details)
        for number, details in found[0].trials.items():
            for line in history.lines(details):
                yield f"[trial {number + 1}] {line}"

    def stop(self, run_id: str) -> None:
        found = self._of_run(run_id)
        if not found:
            raise UserError(f"Azure ML knows no job of run {run_id}; see `uv run runs list`.")
        end([job for job in found if not job.has_ended], self.path, self._instances, self._of_run)

    def list(self) -> list[Status]:
        found = _sorted([*self._finder.all(), *self._instances.all()])
        return [self._status(job, found) for job in found]

    def leftovers(self) -> list[Leftover]:
        """Give the compute instances of notebooks that are over; all else ends with its job."""
        return self._instances.leftovers()

    def remove(self, leftover: Leftover) -> None:
        self._instances.remove(leftover.name)

    def hint(self, run_id: str) -> str:
        """Tell a person how to get at a notebook."""
        found = self._instances.of_run(run_id)
        return notebooks.hint(found[0]) if found else "notebook  it is not there yet"

    # -- what is sent ----------------------------------------------------------------------------

    def _hand(self, job: Job) -> Handed:
        environment = self._environment(job)
        if job.search:
            return tuning.hand(job, job.search, environment)
        return requests.hand(job, environment)

    def _job(self, job: Job, handed: Handed, identity: str) -> dict[str, Any]:
        training = requests.body(
            job,
            handed,
            environment=f"{self.path}/{self._image(job)[0]}",
            identity=identity,
            tags={**self.labels, **job.labels},
            experiment=project().slug,
            compute=f"{self.path}/computes/{self.cloud.compute}" if self.cloud.compute else None,
        )
        if not job.search:
            return training
        return tuning.request(job, job.search, training, handed, float(self.cloud.max_wait_hours))

    def _image(self, job: Job) -> tuple[str, dict[str, Any]]:
        """Give the environment's path below the workspace, and what it is."""
        name, version = requests.environment_version(job.image, project().slug)
        return f"environments/{name}/versions/{version}", requests.environment_body(job.image)

    def _register(self, job: Job) -> None:
        """Make the image known to the workspace; what is known is left as it is, for versions never change."""
        below, body = self._image(job)
        path = f"{self.path}/{below}"
        try:
            azure.call("GET", path, api=requests.API)
        except MissingError:
            try:
                azure.call("PUT", path, api=requests.API, body=body)
            except ServiceError:  # unless another launch was faster, or an answer was lost
                if not self._is_registered(path):
                    raise

    def _is_registered(self, path: str) -> bool:
        with suppress(ServiceError):
            return bool(azure.call("GET", path, api=requests.API))
        return False

    def _instance(self, job: Job) -> dict[str, Any]:
        return notebooks.body(
            job,
            region=self.region,
            tags={**self.labels, **job.labels},
            idle_minutes=float(self.cloud.idle_minutes),
            now=azure.now(),
        )

    def _there(self, named: str, error: ServiceError) -> dict[str, Any]:
        """Give the job of this id. Raises what kept it from being submitted where there is none."""
        try:
            found = self._finder.named(named)
        except ServiceError:
            found = None
        if not found:
            raise error
        return dict(found.said)

    # -- answers ---------------------------------------------------------------------------------

    def _of_run(self, run_id: str) -> list[Found | Instance]:
        return _sorted([*self._finder.of_run(run_id), *self._instances.of_run(run_id)])

    def _cluster(self) -> dict[str, Any]:
        return azure.call("GET", f"{self.path}/computes/{self.cloud.compute}", api=requests.API)

    def _page(self, found: Found | Instance) -> str:
        return found.url or f"https://ml.azure.com/runs/{found.name}?wsid={self.path}"

    def _status(self, found: Found | Instance, known: Sequence[Found | Instance]) -> Status:
        now = azure.now()
        return Status(
            run_id=found.run_id,
            state=found.state,
            created=found.created,
            seconds=sum(job.seconds(now) for job in chain(found, known)),
            url=self._page(found),
            detail=found.detail,
            name=found.name,
            labels=found.tags,
        )


def _sorted(jobs: list[Found | Instance]) -> list[Found | Instance]:
    return sorted(jobs, key=lambda job: job.created, reverse=True)
