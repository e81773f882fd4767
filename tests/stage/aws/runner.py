"""Containers of the jobs, started from the pushed image as each service would, and watched until they end.

SageMaker: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html and
-dockerfile.html; Batch: https://docs.aws.amazon.com/batch/latest/userguide/job_env_vars.html.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stage import containers
from stage.aws import journal
from stage.aws.batch_jobs import BatchJob
from stage.aws.hosts import Keys, batch_host, may_log, may_pull, training_host
from stage.aws.registry import Mirror
from stage.aws.training import TrainingJob
from stage.aws.world import World
from stage.containers import Container
from stage.tending import Attempt, Tending


class Running(Attempt):
    """The containers of one attempt of a job.

    Attributes:
        logs: whether its role may write to the log.
        signalled: whether SIGTERM was sent.
    """

    def __init__(
        self, job: TrainingJob | BatchJob, started: list[tuple[str, Container]], logs: bool, folder: Path
    ) -> None:
        super().__init__(started)
        self.job, self.logs, self.folder, self.signalled = job, logs, folder, False


class Runner(Tending):
    """Runs what is submitted.

    Attributes:
        platform: environment of every container beside the job's own.
    """

    def __init__(
        self, world: World, mirror: Mirror, folder: Path, platform: dict[str, str], speed: float
    ) -> None:
        super().__init__(world, f"aws-{folder.name}", speed)
        self.mirror, self.folder, self.platform, self.keys = mirror, folder, platform, Keys(world)

    # A test's hands

    def lose(self, name: str, notice: float = 0) -> None:
        """Takes the machines of a job away.

        Args:
            notice: seconds from SIGTERM to the end; neither service documents a signal, so usually there is none.
        """
        with self.world.clock.lock:
            running = self.running.pop(name)
        if notice:  # without the lock, for what it does with its last seconds asks the world
            for _, container in running.started:
                container.stop(notice)
        with self.world.clock.lock:
            running.kill()
            running.remove()
            if isinstance(running.job, TrainingJob):
                self.world.sagemaker.interrupt(name)
            else:
                self.world.batch.lose_host(running.job.id)

    def job(self, name: str) -> TrainingJob | BatchJob:
        found = [job for (_, known), job in self.world.sagemaker.jobs.items() if known == name]
        return found[0] if found else self.world.batch.job(name)

    # The service's

    def look_around(self) -> None:
        self._trainings()
        self._batch()

    def _trainings(self) -> None:
        world = self.world.sagemaker
        for job in list(world.jobs.values()):
            running = self.running.get(job.name)
            if running:
                self._look(running, job.name, job.state == "Stopping", job.over)
            elif job.secondary == "Starting" and self.capacity.is_set():
                if why := may_pull(
                    job.given["RoleArn"], job.given["AlgorithmSpecification"]["TrainingImage"]
                ):
                    world.fail(job.name, why)
                    continue
                world.start(job.name)
                started, folder = training_host(self, job)
                self._watch(job.name, Running(job, started, may_log(job.given["RoleArn"]), folder))

    def _batch(self) -> None:
        world = self.world.batch
        for job in list(world.jobs.values()):
            running = self.running.get(job.id)
            if running:
                self._look(running, job.id, job.stopping, job.status != "RUNNING")
            elif job.status == "RUNNABLE" and self.capacity.is_set() and world.has_room(job.id):
                world.start(job.id)
                if job.status == "RUNNING":
                    self._watch(job.id, Running(job, batch_host(self, job), True, self.folder))

    def _watch(self, name: str, running: Running) -> None:
        self.running[name] = running
        running.read(lambda node, stream: self._read(running, node, stream))

    def _read(self, running: Running, node: str, stream: Any) -> None:
        job = running.job
        for line in stream:
            text = line.decode(errors="replace").rstrip("\r\n")
            if isinstance(job, TrainingJob):
                self.world.sagemaker.read(job, text)
            else:
                job.lines.append(text)
            if running.logs:
                group = journal.TRAINING if isinstance(job, TrainingJob) else journal.BATCH
                journal.write(job.region, group, node, [text], self.world.clock.now())

    def _look(self, running: Running, name: str, stopping: bool, over: bool) -> None:
        """Signals, kills or ends the containers of an attempt, as the job's state wants it."""
        codes = running.codes()
        if over:
            running.kill()
        elif all(code is not None for code in codes) or any(codes):
            # One node that fails ends the others': the training job has one state.
            self._finish(running, name, max((code for code in codes if code), default=0))
        elif stopping and not running.signalled:
            running.signalled = True
            for _, container in running.started:
                containers.docker("kill", "--signal", "TERM", container.name, check=False)
            return
        else:
            return
        running.remove()
        del self.running[name]

    def _finish(self, running: Running, name: str, code: int) -> None:
        job = running.job
        # The engine may hear later of the one than of the other.
        killed = code == 137 or any(
            containers.inspect(one.name)["State"]["OOMKilled"] for _, one in running.started
        )
        running.end_of_lines()
        if isinstance(job, TrainingJob):
            said = running.folder / "output/failure"
            self.world.sagemaker.finish(name, code, said.read_text(errors="replace") if said.exists() else "")
        else:
            # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html.
            reason = "OutOfMemoryError: Container killed due to memory usage" if killed else ""
            self.world.batch.finish(name, code, reason)


@contextlib.contextmanager
def running(
    world: World, registry: str, folder: Path, platform: dict[str, str] | None = None, speed: float = 1
) -> Iterator[Runner]:
    """Runs the jobs of a world in containers while the block lasts; none is left behind.

    Args:
        registry: host (127.0.0.1:5000) of the registry that stands in for the bytes of ECR.
        platform: environment of every container beside the job's own.
        speed: seconds of the world in one of this machine.
    """
    containers.require()
    mirror = Mirror(world, registry)
    runner = Runner(world, mirror, folder, dict(platform or {}), speed)
    world.server.before = mirror.before
    runner.start()
    try:
        yield runner
    finally:
        runner.close()
        world.server.before = lambda _: None
    assert not runner.faults, runner.faults[0]
