"""All of the stage for a project on Azure: its resource group as `cloud setup` makes it, its data in Blob, its image in ACR.

What takes minutes, the bake's environment and its image, is made once (`project_of`); the subscription is made anew for
each `stage`.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from baking import BakedProject

from stage import account
from stage.account import Account, Built, Owner
from stage.azure import runner
from stage.azure.ml_jobs import Job
from stage.azure.ml_usages import ALL_LOW_PRIORITY
from stage.azure.world import World, serve
from stage.github.hub import github
from stage.github.identities import identities

PROGRAMS = Path(__file__).parent
BUNDLE = "/opt/stage/certificates.pem"  # where a workflow's job has what vouches for the stage
CONTAINER = "training"
SECRET = "a-key-that-nobody-may-see"


def project_of(baked: BakedProject, folder: Path, registry: str) -> Built:
    """Makes a bake ready whose trainings are Azure ML's; see `account.project_of`."""
    return account.project_of(baked, folder, registry, "azureml", "a100-80, cpu")


@dataclass
class Stage(Account):
    """The project, its repository on GitHub, and the subscription around both.

    Args:
        registry: host of the one on this machine that stands for ACR.
    """

    world: World
    runs: runner.Runner
    registry: str

    @property
    def store(self) -> str:
        """Name of the storage account."""
        return f"{self.slug[:19].replace('-', '')}store"

    @property
    def image(self) -> str:
        """Where images are, without a tag."""
        return f"{self.store}images.azurecr.io/{self.slug}/train"

    def jobs(self, run_id: str) -> list[str]:
        """Names of a run's jobs, oldest first; a trial is a job of its own, with its sweep's tags."""
        return [
            job.name
            for job in self.world.ml.jobs.values()
            if job.tags.get("run") == run_id and not job.parent
        ]

    def image_of(self, job: Job) -> str:
        """What a job's environment is."""
        return self.world.ml.environments.image(job.given["environmentId"])

    def submitted(self) -> int:
        """How many jobs were ever accepted."""
        return len(self.world.ml.jobs)

    def objects(self, prefix: str = "") -> list[str]:
        """Names in the container."""
        return self.world.blob.names(self.store, CONTAINER, prefix)

    def read(self, name: str) -> bytes:
        """What the container holds under a name."""
        return self.world.blob.read(self.store, CONTAINER, name)


@contextmanager
def stage(built: Built, folder: Path) -> Iterator[Stage]:
    """Makes the resource group by `cloud setup`, and puts the data into its container; everything ends with the block."""
    slug = built.project.folder.name
    with ExitStack() as opened:
        enter = opened.enter_context
        world = enter(serve(folder / "world"))
        world.acr.registry = built.registry
        owner = Owner(built.project, world.environment, folder / "setup")
        owner.make("cloud-setup", WANDB_API_KEY=SECRET)
        repository = owner.repository
        # Enough for two nodes of the row cpu, and not for one of that with a GPU.
        world.ml.usages.set(ALL_LOW_PRIORITY, 20)
        inside = {"OMP_NUM_THREADS": "1"}
        runs = enter(runner.running(world, built.registry, folder / "jobs", platform=inside))
        shared = world.at(None) | {"STAGE_IMAGES": f"{world.acr.host}={built.registry}"}
        certificates = shared["REQUESTS_CA_BUNDLE"]
        hub = enter(
            github(
                built.project.folder,
                folder / "github",
                variables=repository.variables,
                env=shared | {"REQUESTS_CA_BUNDLE": BUNDLE, "SSL_CERT_FILE": BUNDLE},
                id_token=enter(identities(world.github, repository)),
                name=repository.repository,
                mounts={
                    certificates: BUNDLE,
                    str(PROGRAMS / "az_program.py"): "/usr/local/bin/az",
                    str(PROGRAMS.parent / "docker_program.py"): "/usr/local/bin/docker",
                },
            )
        )
        laptop = shared | world.at(f"{slug[:22]}-launcher") | inside
        here = Stage(built.project, owner, hub, laptop, world, runs, built.registry)
        here.run("dvc", "push")
        yield here
