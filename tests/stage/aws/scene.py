"""All of the stage for a project on AWS: its account as `cloud setup` makes it, its data in the bucket, its image in ECR.

What takes minutes, the bake's environment and its image, is made once (`project_of`); the account is made anew for each
`stage`, as there is one world at a time in a process.
"""

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baking import BakedProject
from moto.ecr.models import ecr_backends

from stage import images
from stage.aws import bench, ecr, runner
from stage.aws.batch_jobs import BatchJob
from stage.aws.cloudformation import as_documented
from stage.aws.ecr import host_of, registry_of
from stage.aws.people import ACCOUNT
from stage.aws.quotas import training_quota
from stage.aws.training import TrainingJob
from stage.aws.wire import Raw, Reply
from stage.aws.world import REGION, World, serve
from stage.github.gh_program import GitHub as Repository
from stage.github.hub import GitHub, github
from stage.results import QUICK, Results

PROGRAMS = Path(__file__).parent
GH = PROGRAMS.parent / "github/gh_program.py"
CPU = "m7i.2xlarge"  # of the price table's row cpu
DAYS = 7 * 86400.0
Job = TrainingJob | BatchJob


@dataclass(frozen=True)
class Built:
    """A project whose image is in the registry.

    Args:
        registry: host of the one on this machine that stands for ECR.
        commit: that the image was built from.
    """

    project: BakedProject
    registry: str
    commit: str


def project_of(baked: BakedProject, folder: Path, registry: str) -> Built:
    """Makes a bake ready: its environment, its data, its image by its own Dockerfile, pushed as main."""
    project = baked.copy(folder / baked.folder.name)
    project.run("uv", "sync", "--locked", "-q")
    project.run("git", "remote", "add", "origin", f"https://github.com/{Repository().repository}.git")
    project.run("uv", "run", "--no-sync", "dvc", "repro")
    makefile = project.folder / "Makefile"
    makefile.write_text(re.sub(r"(?m)^(check|test):.*\n(\t.*\n)+", "", makefile.read_text()) + QUICK)
    section = project.folder / "configs/cloud/sagemaker.yaml"
    # A new account has no GPUs; the T4 of the configuration is left out, as in the loop on Google Cloud.
    section.write_text(re.sub(r"(?m)^machine: \[.*?\]", "machine: [l4, cpu]", section.read_text()))
    project.run("git", "add", "-A")
    project.run("git", "commit", "-q", "-m", "Which data")
    commit = project.run("git", "rev-parse", "HEAD").stdout.strip()
    tag = f"stage-aws-{secrets.token_hex(4)}:main"
    images.build(project.folder, tag, "--label", f"org.opencontainers.image.revision={commit}")
    images.push(tag, f"{registry}/{baked.folder.name}/train:main")
    images.remove(tag)
    return Built(project, registry, commit)


@dataclass
class Stage(Results):
    """The project, its repository on GitHub, and the account around them.

    Args:
        laptop: environment of a person who is logged in as the launcher, and may do no more than that.
    """

    project: BakedProject
    world: World
    runs: runner.Runner
    registry: ecr.Registry
    github: GitHub
    laptop: dict[str, str]

    @property
    def slug(self) -> str:
        return self.project.folder.name

    @property
    def image(self) -> str:
        """Where images are, without a tag."""
        return f"{host_of(self.world)}/{self.slug}/train"

    @property
    def bucket(self) -> str:
        return f"{self.slug}-bucket"

    def run(self, *command: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs one of the project's programs as a person who is logged in on a laptop would."""
        words = ("uv", "run", "--no-sync", *command)
        return self.project.run(*words, check=check, timeout=1800, **self.laptop | env)

    def launch(self, backend: str, run_id: str, *overrides: str, check: bool = True, **env: str) -> Any:
        """Launches a run without a GPU, for training is real here."""
        settings = (f"cloud={backend}", "cloud.machine=cpu", f"run.id={run_id}", *overrides)
        return self.run("launch", *settings, check=check, **env)

    def start(self, backend: str, run_id: str, *overrides: str, **env: str) -> str:
        """Launches a run under this id; gives the name or id of its job."""
        self.launch(backend, run_id, *overrides, check=True, **env)
        return self.jobs(run_id)[-1]

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

    def results(self, run_id: str) -> dict[str, bytes]:
        """What the bucket holds of a run: path in its folder -> content."""
        s3, prefix = bench.client(self.world, "s3"), f"runs/{run_id}/"
        return {
            name.removeprefix(prefix): s3.get_object(Bucket=self.bucket, Key=name)["Body"].read()
            for name in self.objects(prefix)
        }

    def entry(self, run_id: str) -> dict[str, Any]:
        """What the ledger holds for a run."""
        (found,) = self.entries(run_id)
        return found

    def entries(self, run_id: str) -> list[dict[str, Any]]:
        """All that the ledger holds for a run."""
        s3 = bench.client(self.world, "s3")
        months = [
            json.loads(s3.get_object(Bucket=self.bucket, Key=name)["Body"].read())
            for name in self.objects("runs/.ledger/")
        ]
        return [one for month in months for one in month.values() if one["run_id"] == run_id]


@contextmanager
def stage(built: Built, folder: Path) -> Iterator[Stage]:
    """Makes the account of a project by `cloud setup`, and puts its data into the bucket; everything ends with the block."""
    slug = built.project.folder.name
    with ExitStack() as opened:
        enter = opened.enter_context
        world = enter(serve(folder / "world"))
        enter(as_documented())
        repository = set_up(built.project, world, folder / "setup")
        for tier in (False, True):
            world.quotas.set(training_quota(f"ml.{CPU}", tier), 4)
        for code in (
            "L-34B43A08",
            "L-1216C47A",
        ):  # the CPUs of EC2 that a new account lacks for one of these machines
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
                id_token=identities(world, repository),
                name=repository.repository,
                mounts={
                    str(registry.certificates): "/opt/stage/certificates.pem",
                    str(PROGRAMS / "aws_program.py"): "/usr/local/bin/aws",
                    str(PROGRAMS / "docker_program.py"): "/usr/local/bin/docker",
                },
            )
        )
        laptop = shared | world.credentials(f"{slug}-launcher", "laptop", DAYS) | inside
        here = Stage(built.project, world, runs, registry, hub, laptop)
        here.run("dvc", "push")
        yield here


def set_up(project: BakedProject, world: World, folder: Path) -> Repository:
    """Runs the project's own `make cloud-setup` as an administrator; gives the repository as that has left it."""
    folder.mkdir(parents=True)
    state, program = folder / "github.json", folder / "gh"
    Repository().save(state)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {GH} {state} "$@"\n')
    program.chmod(0o755)
    env = world.environment | {"PATH": f"{folder}:{os.environ['PATH']}", "WAIT": "0"}
    project.run("make", "cloud-setup", check=True, timeout=1800, **env)
    return Repository.load(state)


def identities(world: World, repository: Repository) -> Any:
    """Gives a workflow's job its means to ask for an identity token, which GitHub's stand-in in the world signs."""
    known: dict[str, Mapping[str, Any]] = {}

    def answer(raw: Raw) -> Reply:
        claims = known.get(raw.headers.get("authorization", "").removeprefix("Bearer "))
        if claims is None:
            return Reply(401, b"{}", {"Content-Type": "application/json"})
        token = world.github.token(
            **{**claims, "aud": raw.form.get("audience", f"https://github.com/{repository.repository}")}
        )
        return Reply(200, json.dumps({"value": token}).encode(), {"Content-Type": "application/json"})

    def rights(**claims: Any) -> dict[str, str]:
        name = "ya.actions." + secrets.token_urlsafe(16)
        numbers = {
            "repository_id": str(repository.repository_id),
            "repository_owner_id": str(repository.owner_id),
        }
        known[name] = numbers | claims
        url = f"{world.url}/stage/github/token?api-version=2.0"
        return {"ACTIONS_ID_TOKEN_REQUEST_URL": url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": name}

    world.server.extra["/stage/github/"] = answer
    return rights
