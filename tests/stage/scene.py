"""All of the stage at once: a bake whose cloud is prepared, its data in the bucket, and everything that a push meets."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from baking import BakedProject

from stage import containers, slow
from stage.bucket import Bucket, bucket
from stage.github.hub import GitHub, github
from stage.google.batch import Batch, BatchJob, batch
from stage.google.cloudrun import CloudRun, cloudrun
from stage.google.identity import Account, Identity, identity
from stage.google.project import NUMBER, PROJECT
from stage.google.roles import grants
from stage.google.setup import Setup, google_setup
from stage.google.vertex import TrainingJob, Vertex, vertex
from stage.google.vertex_checks import agents_of
from stage.registry import registry
from stage.results import QUICK, Results, read_all
from stage.served import Served


@dataclass
class Stage(Results):
    """The project, its repository on GitHub, and the cloud around them."""

    project: BakedProject
    folder: Path
    setup: Setup
    identity: Identity
    bucket: Bucket
    registry: str
    vertex: Vertex
    batch: Batch
    services: CloudRun
    served: Served
    github: GitHub
    launcher: Account
    trainer: Account
    laptop: dict[str, str] = field(default_factory=dict)

    @property
    def image(self) -> str:
        """Where images are pushed, without a tag."""
        return f"{self.registry}/{PROJECT}/{self.project.folder.name}/train"

    def run(self, *command: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs one of the project's programs as a person who is logged in on a laptop would."""
        environment = self.laptop | env
        return self.project.run("uv", "run", "--no-sync", *command, check=check, timeout=600, **environment)

    def launch(self, *overrides: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """`launch cloud=vertex` on a machine without a GPU, for training is real here."""
        settings = ("cloud=vertex", "cloud.machine=cpu", *overrides)
        return self.run("launch", *settings, check=check, **env)

    def start(self, run_id: str, *overrides: str, **env: str) -> TrainingJob:
        """Launches a run under this id and gives its job."""
        self.launch(f"run.id={run_id}", *overrides, check=True, **env)
        return self.vertex.job(run_id)

    def batch_job(self, run_id: str, *overrides: str, **env: str) -> BatchJob:
        """Launches a run on Google Cloud Batch without a GPU under this id and gives its job."""
        settings = ("cloud=batch", "cloud.machine=cpu", f"run.id={run_id}", *overrides)
        self.run("launch", *settings, check=True, **env)
        return self.batch.job(run_id)

    def commit(self, message: str, **files: str) -> None:
        """Commits new contents of files; names are given with __ for a slash and _dot_ for a dot."""
        for name, text in files.items():
            path = self.project.folder / name.replace("__", "/").replace("_dot_", ".")
            path.write_text(text, encoding="utf-8")
        self.project.run("git", "add", "-A")
        self.project.run("git", "commit", "-q", "-m", message)

    def results(self, run_id: str) -> dict[str, bytes]:
        """What the bucket holds of a run: path in its folder -> content."""
        prefix = f"runs/{run_id}/"
        found = read_all(lambda: self.bucket.objects(prefix), self.bucket.read)
        return {name.removeprefix(prefix): content for name, content in found.items()}

    def submitted(self) -> int:
        """How many jobs were ever accepted."""
        return len(self.vertex.jobs())


@contextmanager
def stage(project: BakedProject, folder: Path) -> Iterator[Stage]:
    """Prepares the cloud of a bake whose environment is installed, and puts its data into the bucket.

    Nothing is pushed yet. Everything ends with the block.
    """
    slug = project.folder.name
    with ExitStack() as opened:
        enter = opened.enter_context
        setup = enter(google_setup(folder / "setup"))
        project.run("git", "remote", "add", "origin", f"https://github.com/{setup.github.repository}.git")
        project.run("make", "cloud-setup", f"PROJECT={PROJECT}", check=True, timeout=600, **setup.env)
        variables = setup.github.variables
        known = enter(
            identity(
                PROJECT,
                NUMBER,
                repository_id=str(setup.github.repository_id),
                owner_id=str(setup.github.owner_id),
                pool=f"{slug}-github",
                condition=condition(setup),
                subject=provider(setup)["attributeMapping"]["google.subject"],
            )
        )
        launcher, trainer = accounts(setup, known, variables["GCP_SERVICE_ACCOUNT"])
        store = enter(bucket(f"{slug}-bucket", folder))
        # While working on the loop, a folder that stays saves the minutes in which torch's layer is pushed.
        host = enter(registry(Path(os.environ.get("STAGE_REGISTRY", folder / "registry")).absolute()))
        platform = store.env | known.env
        inside = platform | {"OMP_NUM_THREADS": "1"}
        agents = agents_of(setup.project)
        jobs = enter(vertex(known, registries=(host,), platform=inside, agents=agents, grace_seconds=60))
        machines = enter(batch(known, registries=(host,), platform=inside, logs=jobs.handle))
        # As whoever the image says, on a disk of its own: https://docs.cloud.google.com/run/docs/container-contract
        served = Served(inside={"K_SERVICE": slug})
        opened.callback(served.close)
        services = enter(cloudrun(known, served, registries=(host,)))
        image = f"{host}/{PROJECT}/{slug}/train"
        shared = platform | jobs.env | machines.env | services.env
        hub = enter(
            github(
                project.folder,
                folder / "github",
                # The registry on this machine stands in for the one that setup has made.
                variables=variables | {"CLOUD_IMAGE": image},
                env=shared
                | {
                    "GHA_ENDPOINT_OVERRIDE_sts": f"{known.url}/v1",
                    "GHA_ENDPOINT_OVERRIDE_iamcredentials": f"{known.url}/v1",
                },
                id_token=known.github,
                name=setup.github.repository,
            )
        )
        login = known.credentials(folder / "login.json", launcher)
        laptop = shared | {
            "GOOGLE_APPLICATION_CREDENTIALS": str(login),
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "CLOUD_IMAGE": image,
            "OMP_NUM_THREADS": "1",
        }
        scene = Stage(
            *(project, folder, setup, known, store, host, jobs, machines, services, served),
            *(hub, launcher, trainer, laptop),
        )
        scene.run("dvc", "repro")
        scene.run("dvc", "push")
        # The project's own tests are run by test_generated.py; here the workflow's first job only has to wait for some.
        makefile = project.read("Makefile")
        slow.digits(project)
        scene.commit(
            "Which data",
            Makefile=re.sub(r"(?m)^(check|test):.*\n(\t.*\n)+", "", makefile) + QUICK,
            # A new account has no L4, and a T4 would not be used: its driver is too old for torch (test_faults.py).
            configs__cloud__vertex_dot_yaml=re.sub(
                r"(?m)^machine: \[.*?\]", "machine: [l4, cpu]", project.read("configs/cloud/vertex.yaml")
            ),
        )
        opened.callback(remove_images, host)
        yield scene


def remove_images(host: str) -> None:
    """Takes what was pulled from a registry, or pushed to it, off the engine; its build cache stays.

    By its names, and not by its id: another stage may have the same image by a name of its own.
    """
    form = "{{.Repository}}:{{.Tag}} {{.Repository}}@{{.Digest}}"
    for deep in (f"{host}/*/*", f"{host}/*/*/*"):  # names of ECR, and of Artifact Registry
        found = containers.docker("images", "--digests", "--format", form, deep).stdout.split()
        if names := [name for name in found if not name.endswith("<none>")]:
            containers.docker(
                "rmi", *dict.fromkeys(names), check=False
            )  # with the last of its names others go


def provider(setup: Setup) -> dict:
    """The identity provider as `make cloud-setup` made it."""
    return next(setup.resources[key] for key in setup.resources if key[0] == "provider")


def condition(setup: Setup):
    """The identity provider's condition as `make cloud-setup` made it, for `==` joined by `&&`."""
    text = provider(setup)["attributeCondition"]
    wanted = dict(re.findall(r'assertion\.(\w+) == "([^"]*)"', text))
    assert text == " && ".join(f'assertion.{name} == "{value}"' for name, value in wanted.items())
    return lambda claims: all(str(claims.get(name)) == value for name, value in wanted.items())


def accounts(setup: Setup, known: Identity, email: str) -> tuple[Account, Account]:
    """The launcher and the trainer with the roles that `make cloud-setup` has granted them, and no others."""
    trainer_email = email.replace("-launch@", "-trainer@")
    found = []
    for each in (email, trainer_email):
        member = f"serviceAccount:{each}"
        roles = {role for role, who in setup.project.roles("project", PROJECT) if who == member}
        found.append(known.account(each, *sorted(roles), repository=each == email))
        found[-1].grants = grants(setup.project, each)
    launcher, trainer = found
    for kind, name in setup.resources:
        if kind == "repository":
            may = setup.project.roles(kind, name)
            trainer.granted[name] = {role for role, who in may if who == f"serviceAccount:{trainer_email}"}
    acting = setup.project.roles("account", trainer_email)
    launcher.granted[trainer_email] = {role for role, who in acting if who == f"serviceAccount:{email}"}
    return launcher, trainer
