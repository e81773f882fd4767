"""All of the stage for a project on AWS: its account as `cloud setup` makes it, its data in the bucket, its image in ECR.

What takes minutes, the bake's environment and its image, is made once (`project_of`); the account is made anew for each
`stage`, as there is one world at a time in a process.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from baking import BakedProject
from moto.ecr.models import ecr_backends

from stage import account
from stage.account import Account, Built, Owner
from stage.aws import bench, ecr, runner
from stage.aws.cloudformation import as_documented
from stage.aws.ecr import host_of, registry_of
from stage.aws.people import ACCOUNT
from stage.aws.quotas import training_quota
from stage.aws.world import REGION, World, serve
from stage.github.hub import github
from stage.github.identities import identities

PROGRAMS = Path(__file__).parent
CPU = "m7i.2xlarge"  # of the price table's row cpu
DAYS = 7 * 86400.0


def project_of(baked: BakedProject, folder: Path, registry: str) -> Built:
    """Makes a bake ready whose trainings are SageMaker's; see `account.project_of`."""
    return account.project_of(baked, folder, registry, "sagemaker", "l4, cpu")


@dataclass
class Stage(Account):
    """The project, its repository on GitHub, and the account around both."""

    world: World
    runs: runner.Runner
    registry: ecr.Registry

    @property
    def image(self) -> str:
        """Where images are, without a tag."""
        return f"{host_of(self.world)}/{self.slug}/train"

    @property
    def bucket(self) -> str:
        return f"{self.slug}-bucket"

    def jobs(self, run_id: str) -> list[str]:
        """Names or ids of a run's jobs, oldest first."""
        found: list[str] = [
            job.name for job in self.world.sagemaker.jobs.values() if job.tags.get("run") == run_id
        ]
        return found + [job.id for job in self.world.batch.jobs.values() if job.tags.get("run") == run_id]

    def submitted(self) -> int:
        """How many jobs were ever accepted."""
        return len(self.world.sagemaker.jobs) + len(self.world.batch.jobs)

    def objects(self, prefix: str = "") -> list[str]:
        """Names in the bucket."""
        pages = bench.client(self.world, "s3").get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=self.bucket, Prefix=prefix)
        return [one["Key"] for page in found for one in page.get("Contents", [])]

    def read(self, name: str) -> bytes:
        """What the bucket holds under a name."""
        return bench.client(self.world, "s3").get_object(Bucket=self.bucket, Key=name)["Body"].read()


@contextmanager
def stage(built: Built, folder: Path) -> Iterator[Stage]:
    """Makes the account of a project by `cloud setup`, and puts its data into the bucket; everything ends with the block."""
    slug = built.project.folder.name
    with ExitStack() as opened:
        enter = opened.enter_context
        world = enter(serve(folder / "world"))
        enter(as_documented())
        owner = Owner(built.project, world.environment, folder / "setup")
        owner.make("cloud-setup")
        repository = owner.repository
        for tier in (False, True):
            world.quotas.set(training_quota(f"ml.{CPU}", tier), 4)
        # The CPUs of EC2 that a new account lacks for one of these machines.
        for code in ("L-34B43A08", "L-1216C47A"):
            world.quotas.set(code, 32)
        assert f"{slug}/train" in ecr_backends[ACCOUNT][REGION].repositories
        inside = {"OMP_NUM_THREADS": "1"}
        runs = enter(runner.running(world, built.registry, folder / "jobs", platform=inside))
        registry = enter(registry_of(world, built.registry, folder / "ecr"))
        shared = world.at(None) | registry.environment
        hub = enter(
            github(
                built.project.folder,
                folder / "github",
                variables=repository.variables,
                env=shared | {"REQUESTS_CA_BUNDLE": "/opt/stage/certificates.pem"},
                id_token=enter(identities(world.github, repository)),
                name=repository.repository,
                mounts={
                    str(registry.certificates): "/opt/stage/certificates.pem",
                    str(PROGRAMS / "aws_program.py"): "/usr/local/bin/aws",
                    str(PROGRAMS.parent / "docker_program.py"): "/usr/local/bin/docker",
                },
            )
        )
        laptop = shared | world.credentials(f"{slug}-launcher", "laptop", DAYS) | inside
        here = Stage(built.project, owner, hub, laptop, world, runs, registry)
        here.run("dvc", "push")
        yield here
