"""What a test asks of the stand-in for Vertex AI, and what it does to its machines."""

import json
import re
import time
from collections.abc import Iterable

from stage import containers
from stage.google.vertex_jobs import OVER, TrainingJob
from stage.google.vertex_region import Region
from stage.google.vertex_tuning import TuningJob
from stage.patience import deadline


class Handle:
    """The jobs of one region, as a test handles them.

    Args:
        region: what is there for jobs.
        stage: value of the label that all containers carry.
    """

    def __init__(self, region: Region, stage: str) -> None:
        self.here, self.stage = region, stage
        self._jobs: dict[str, TrainingJob] = {}  # those of trials too
        self._sweeps: dict[str, TuningJob] = {}

    def jobs(self) -> list[TrainingJob]:
        """All custom jobs that were submitted, oldest first; not those that are trials."""
        return [job for job in list(self._jobs.values()) if not job.trial]

    def sweeps(self) -> list[TuningJob]:
        """All tuning jobs, oldest first."""
        return list(self._sweeps.values())

    def sweep(self, name: str) -> TuningJob:
        """The newest tuning job with this display name."""
        return next(job for job in reversed(self.sweeps()) if job.resource["displayName"] == name)

    def job(self, name: str) -> TrainingJob:
        """The newest job with this display name, or with this id or resource name."""
        for job in reversed(self.jobs()):
            if name in (job.id, job.name, job.resource["displayName"]):
                return job
        raise KeyError(name)

    def wait_for_sweep(self, name: str, timeout: float = 300) -> TuningJob:
        """Waits until a tuning job is over.

        Raises:
            AssertionError: it is not in time; with what its trials printed last.
        """
        sweep, until = self.sweep(name), deadline(timeout)
        while sweep.state not in OVER:
            if time.monotonic() > until:
                tail = "\n".join(sweep.lines()[-60:])
                raise AssertionError(f"{sweep.state}: {json.dumps(sweep.json()['trials'])}\n{tail}")
            time.sleep(0.05)
        return sweep

    def wait(self, job: TrainingJob | str, states: Iterable[str] = OVER, timeout: float = 120) -> TrainingJob:
        """Waits until a job is in one of the states (JOB_STATE_ may be left out).

        Raises:
            AssertionError: it is not in time, or it is over in another state; with what it printed last.
        """
        job = self.job(job) if isinstance(job, str) else job
        wanted = {state if state.startswith("JOB_STATE_") else f"JOB_STATE_{state}" for state in states}
        until = deadline(timeout)
        while job.state not in wanted:
            if time.monotonic() > until or job.state in OVER:
                tail = "\n".join(job.lines()[-40:])
                raise AssertionError(
                    f"{job.state} rather than {sorted(wanted)}: {job.resource.get('error')}\n{tail}"
                )
            time.sleep(0.05)
        return job

    def wait_for_line(
        self, job: TrainingJob | str, pattern: str, timeout: float = 120, count: int = 1
    ) -> str:
        """Waits until a job has printed `count` lines that a regular expression is found in; gives the last of them."""
        job = self.job(job) if isinstance(job, str) else job
        until = deadline(timeout)
        while True:
            over = job.state in OVER
            found = [line for line in job.lines() if re.search(pattern, line)]
            if len(found) >= count:
                return found[count - 1]
            if over or time.monotonic() > until:
                tail = "\n".join(job.lines()[-40:])
                raise AssertionError(
                    f"{len(found)} lines rather than {count} with {pattern!r} ({job.state}):\n{tail}"
                )
            time.sleep(0.05)

    def preempt(self, job: TrainingJob, grace_seconds: float = 30, node: int = 0) -> None:
        """Takes a node's machine away: SIGTERM, SIGKILL after the grace; then a new machine starts the container anew.

        Returns when the container is gone.
        """
        job.take_away(node, grace_seconds)

    def kill(self, job: TrainingJob, node: int = 0) -> None:
        """Takes a node's machine away without notice (SIGKILL); returns when the container is gone."""
        job.take_away(node, None)

    def sell_out(self, jobs: int = 1) -> None:
        """The next so many jobs that ask for machines find none, on spot or on demand: they end FAILED.

        A job asks when it starts, and again after each preemption. 0 lets all find some again.
        """
        self.here.sell_out(jobs)

    def containers(self, running_only: bool = True) -> list[str]:
        """Ids of the containers that are there now; `job.started` names all that ever were."""
        return containers.ids(self.stage, running_only)
