"""All jobs of a subscription, what happens to them by itself, and a test's hands on them."""

from collections.abc import Iterator
from typing import Any

from stage.azure.arm import Arm
from stage.azure.ml_assets import Environments
from stage.azure.ml_compute_api import Computes
from stage.azure.ml_computes import Compute
from stage.azure.ml_endpoints import Endpoints
from stage.azure.ml_jobs import ATTEMPT, Job
from stage.azure.ml_models import Models
from stage.azure.ml_rules import identity_of
from stage.azure.ml_tuning import Sweep
from stage.azure.ml_usages import Held, Usages
from stage.clock import Deadline


class Jobs:
    """What is in all workspaces.

    Attributes:
        jobs: (workspace's id in lower case, name) -> job, oldest first; a sweep's trials too, after it.
        environments, endpoints, models, places, usages: the stand-ins of those, of computes and of quotas.
        measure: what `limits.timeout` of jobs counts from here on; see `ml_jobs`.
    """

    def __init__(self, arm: Arm) -> None:
        self.arm, self._clock = arm, arm.clock
        self.jobs: dict[tuple[str, str], Job | Sweep] = {}
        self.environments = Environments(arm.clock)
        self.usages = Usages(self._held)
        self.endpoints = Endpoints(arm, self.environments, lambda: self.usages)
        self.models = Models(arm)
        self.places = Computes(arm, lambda: self.usages, lambda id: any(self._on(id)))
        self.measure = ATTEMPT
        arm.vanished.append(self._forget)
        arm.clock.watch(self._deadlines)

    # A test's hands

    def job(self, name: str) -> Job:
        """A command job or a trial by its name."""
        found = next(job for (_, known), job in self.jobs.items() if known == name)
        assert isinstance(found, Job)
        return found

    def sweep(self, name: str) -> Sweep:
        """A sweep by its name; its trials that there is room for have been started."""
        self.tune()
        found = next(job for (_, known), job in self.jobs.items() if known == name)
        assert isinstance(found, Sweep)
        return found

    @property
    def computes(self) -> dict[str, Compute]:
        """Id in lower case -> compute."""
        return self.places.known

    def compute(self, name: str) -> Compute:
        """A compute by its name."""
        return next(one for one in self.computes.values() if one.name == name)

    def start(self, name: str) -> None:
        """The machines of a job come, and its containers with them."""
        self.tune()
        job = self.job(name)
        assert self.has_room(job), f"{name} has no quota"
        job.start()
        self._settle()

    def lose(self, name: str, restarts: bool = True) -> None:
        """The machines of a job are taken away; see `Job.interrupt`."""
        self.job(name).interrupt(restarts)
        self._settle()

    def say(self, name: str, *lines: str, file: str = "user_logs/std_log.txt") -> None:
        """A container of a job prints."""
        job = self.job(name)
        job.lines += lines
        job.logs.setdefault(file, []).extend(lines)

    def finish(self, name: str, exit_code: int = 0) -> None:
        """The containers of a job have ended by themselves; it is over a second later."""
        self.job(name).finish(exit_code)
        self._settle()

    def fail(
        self, name: str, message: str = "AzureMLCompute job failed. InternalError", code: str = "ServiceError"
    ) -> None:
        """The service ends a job by its own fault."""
        self.job(name).fail(message, code)
        self._settle()

    def has_room(self, job: Job) -> bool:
        """Whether quota and the nodes of its cluster let a job start now."""
        if "computeId" not in job.given:
            return self.usages.has_room(job.size, job.machines, job.low_priority, job.region)
        cluster = self.computes[job.given["computeId"].lower()]
        return job.machines <= cluster.settings["scaleSettings"]["maxNodeCount"] - cluster.nodes

    def identity(self, job: Job) -> str:
        """ARM id of the managed identity that a job's containers have; "" for none."""
        given = job.given.get("identity") or {}
        return (
            identity_of(given, self.identities(job.workspace))
            if given.get("identityType") == "Managed"
            else ""
        )

    def identities(self, workspace: str) -> dict[str, tuple[str, str]]:
        """ARM id -> client id, object id of the user-assigned identities of a workspace."""
        found = {}
        given = self.arm.get(workspace).content.get("identity") or {}
        for name in given.get("userAssignedIdentities") or {}:
            identity = self.arm.resources.get(name.lower())
            if identity:
                found[identity.id] = (identity.properties["clientId"], identity.properties["principalId"])
        return found

    # What happens by itself

    def _held(self) -> Iterator[Held]:
        for job in self.jobs.values():
            yield from job.held()
        for compute in self.computes.values():
            yield from compute.held()
        yield from self.endpoints.held()

    def _deadlines(self) -> Iterator[Deadline]:
        for one in (*self.jobs.values(), *self.computes.values()):
            for due in one.deadlines():
                yield Deadline(due.moment, lambda happens=due.happens: self._then(happens))

    def _then(self, happens: Any) -> None:
        happens()
        self._settle()

    def _settle(self) -> None:
        self.tune()
        for cluster in self.computes.values():
            cluster.nodes = sum(job.machines for job in self._on(cluster.id))

    def _on(self, cluster: str) -> Iterator[Job]:
        """The jobs that run on a cluster."""
        for job in self.jobs.values():
            if (
                isinstance(job, Job)
                and job.running
                and job.given.get("computeId", "").lower() == cluster.lower()
            ):
                yield job

    def tune(self) -> None:
        """Starts the trials that sweeps have room for."""
        for sweep in [job for job in self.jobs.values() if isinstance(job, Sweep)]:
            for trial in sweep.advance():
                self.jobs[sweep.workspace.lower(), trial.name] = trial

    def reset(self) -> None:
        """Back to how it was before anything was asked of it, but for environments."""
        self.jobs.clear()
        self.places.known.clear()
        self.usages.reset()
        self.endpoints.reset()
        self.models.known.clear()
        self.measure = ATTEMPT

    def _forget(self, path: str) -> None:
        """A workspace, or what it was in, is gone with all it had."""
        below = path.lower() + "/"
        self.jobs = {key: job for key, job in self.jobs.items() if not f"{key[0]}/".startswith(below)}
        self.places.known = {key: one for key, one in self.computes.items() if not key.startswith(below)}
        self.environments.forget(path)
        self.endpoints.forget(path)
        self.models.forget(path)
