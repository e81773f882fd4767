"""Containers of the jobs, started from the pushed image as Azure ML would, and watched until they end."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stage import containers
from stage.azure import hosts
from stage.azure.hosts import Machine
from stage.azure.ml_jobs import Job
from stage.azure.world import World
from stage.containers import Container
from stage.tending import Attempt, Tending


class Running(Attempt):
    """The containers of one attempt of a job, and the machine they are on."""

    def __init__(self, job: Job, machine: Machine, started: list[tuple[str, Container]]) -> None:
        super().__init__(started)
        self.job, self.machine = job, machine

    def remove(self) -> None:
        super().remove()
        self.machine.close()


class Runner(Tending):
    """Runs what is submitted.

    Attributes:
        platform: environment of every container beside the service's and the job's own.
        user: as whom commands run; root unless a test says otherwise, for that the image's own counts is not documented.
    """

    def __init__(
        self, world: World, registry: str, folder: Path, platform: dict[str, str], speed: float, user: str
    ) -> None:
        super().__init__(world, f"azure-{folder.name}", speed)
        self.registry, self.folder, self.platform, self.user = registry, folder, platform, user

    # A test's hands

    def lose(self, name: str, notice: float = 0, restarts: bool = True) -> None:
        """Takes the machines of a job away; nothing is signalled to its containers.

        Args:
            notice: seconds before, at which the machine's metadata announces it; Azure gives 30, if it gives any.
            restarts: whether the service queues the job again, or lets it fail.
        """
        running = self.running[name]
        if notice:
            running.machine.metadata.announce(time.time() + notice)
            end = time.monotonic() + notice
            while time.monotonic() < end and None in running.codes():
                time.sleep(0.05)
        with self.world.clock.lock:
            if self.running.pop(name, None) is not running:
                raise AssertionError(f"{name} ended by itself before its machine was taken away")
            running.kill()
            running.remove()
            self.world.ml.lose(name, restarts)

    def announce(self, name: str, notice: float = 30) -> None:
        """Announces that the machines of a job will be taken away; `revoke` takes that back."""
        self.running[name].machine.metadata.announce(time.time() + notice)

    def revoke(self, name: str) -> None:
        self.running[name].machine.metadata.revoke()

    def job(self, name: str) -> Any:
        return next(job for (_, known), job in list(self.world.ml.jobs.items()) if known == name)

    # The service's

    def pull(self, image: str) -> str:
        return hosts.pulled(image, self.registry)

    def look_around(self) -> None:
        self.world.ml.tune()
        for job in list(self.world.ml.jobs.values()):
            if not isinstance(job, Job):
                continue
            running = self.running.get(job.name)
            if running:
                self._look(running)
            elif job.status == "Queued" and self.capacity.is_set() and self.world.ml.has_room(job):
                self._begin(job)

    def _begin(self, job: Job) -> None:
        """Starts an attempt; a job whose image cannot be had fails, and nothing has run of it."""
        if problem := hosts.may_pull(self.world, job):
            self.world.ml.fail(job.name, f"AzureMLCompute job failed. {problem}", "UserError")
            return
        self.world.ml.start(job.name)
        machine = Machine(self, job)
        try:
            started = hosts.start(self, job, machine)
        except LookupError as error:
            machine.close()
            image = self.world.ml.environments.image(job.given["environmentId"])
            text = f"AzureMLCompute job failed. {hosts.UNPULLED.format(image)} {error}"
            self.world.ml.fail(job.name, text, "UserError")
            return
        running = self.running[job.name] = Running(job, machine, started)
        logs = job.logs  # of this attempt: the next one has others

        def read(file: str, stream: Any) -> None:
            for line in stream:
                text = line.decode(errors="replace").rstrip("\r\n")
                logs.setdefault(file, []).append(text)
                job.lines.append(text)  # which is what a test waits for

        running.read(read)

    def _look(self, running: Running) -> None:
        """Ends the containers of an attempt as the job's state wants it, or the job as they have ended."""
        job, codes = running.job, running.codes()
        if not job.running:  # cancelled, over its time, or ended by the service: nothing is signalled
            running.kill()
        elif any(codes) or all(code is not None for code in codes):
            # One node that fails ends the others': the job has one state.
            running.kill()
            running.end_of_lines()
            self.world.ml.finish(job.name, max((code for code in codes if code), default=0))
        else:
            return
        running.remove()
        del self.running[job.name]


@contextlib.contextmanager
def running(
    world: World,
    registry: str,
    folder: Path,
    platform: dict[str, str] | None = None,
    speed: float = 1,
    user: str = "0",
) -> Iterator[Runner]:
    """Runs the jobs of a world in containers while the block lasts; none is left behind.

    Args:
        registry: host (127.0.0.1:5000) of the registry that holds the bytes of ACR.
        platform: environment of every container beside the service's and the job's own.
        speed: seconds of the world in one of this machine.
        user: as whom commands run, as `docker run --user` takes it.
    """
    containers.require()
    runner = Runner(world, registry, folder, dict(platform or {}), speed, user)
    runner.start()
    try:
        yield runner
    finally:
        runner.close()
    assert not runner.faults, runner.faults[0]
