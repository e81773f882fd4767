"""The stages of AWS and Azure: what takes minutes is made once a session, the account for each file, and it ends with the file."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from baking import BakedProject
from conftest import Bake
from stage import containers

if TYPE_CHECKING:
    from stage.account import Built
    from stage.aws.scene import Stage as Aws
    from stage.azure.scene import Stage as Azure


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host of a registry of this machine that stands for every account's: torch's layer is pushed to it once."""
    from stage import scene as google
    from stage.registry import registry, seed

    containers.require()
    # While working on the loop, a folder that stays saves the minutes in which torch's layer is pushed.
    kept = os.environ.get("STAGE_REGISTRY")
    folder = Path(f"{kept}-accounts") if kept else tmp_path_factory.mktemp("images")
    for project in ("cloud-training", "azure-training"):
        seed(folder, f"{project}/train")
    with registry(folder.absolute()) as host:
        yield host
        google.remove_images(host)


@pytest.fixture(scope="session")
def sif(bake: Bake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BakedProject]:
    """A project with what `make image-sif` makes of it, its data in a folder beside it, and Apptainer on its PATH."""
    from stage import apptainer, images

    containers.require()
    folder = tmp_path_factory.mktemp("sif")
    path = apptainer.install(folder / "bin")
    project = bake().copy(folder / "cloud-training")
    project.sync()
    project.run(
        "uv", "run", "--no-sync", "dvc", "remote", "modify", "storage", "url", str(folder / "bucket/dvc")
    )
    project.run("uv", "run", "--no-sync", "dvc", "repro", "-q")
    project.run("uv", "run", "--no-sync", "dvc", "push", "-q")
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message=The data")
    commit = project.run("git", "rev-parse", "HEAD").stdout.strip()
    images.build(project.folder, "cloud-training:latest", "--build-arg", f"REVISION={commit}")
    try:
        quick = "ARGS=--mksquashfs-args '-comp zstd -Xcompression-level 1'"
        cache = f"APPTAINER_CACHEDIR={folder / 'cache'}"  # gigabytes, else in the caller's home
        made = ("env", cache, "make", "image-sif", "--assume-old=image", quick)
        project.run(*made, PATH=path, timeout=2400)
    finally:
        images.remove("cloud-training:latest")
        shutil.rmtree(folder / "cache", ignore_errors=True)
    yield BakedProject(project.folder, {**project.answers, "PATH": path})
    (project.folder / "cloud-training.sif").unlink()


@pytest.fixture(scope="session")
def aws_built(bake: Bake, images: str, tmp_path_factory: pytest.TempPathFactory) -> "Built":
    """A bake for AWS whose image is in a registry of this machine."""
    from stage.aws import scene

    return scene.project_of(bake(cloud="aws"), tmp_path_factory.mktemp("aws"), images)


@pytest.fixture(scope="module")
def aws(aws_built: "Built", tmp_path_factory: pytest.TempPathFactory) -> Iterator["Aws"]:
    """The account of that project as `cloud setup` makes it, with the data in its bucket."""
    from stage.aws import scene

    with scene.stage(aws_built, tmp_path_factory.mktemp("account")) as here:
        yield here
        assert here.runs.running == {}, "a job is still at work"
    assert containers.ids(here.runs.stage) == [], "a container of the stage is still there"


@pytest.fixture(scope="session")
def azure_built(bake: Bake, images: str, tmp_path_factory: pytest.TempPathFactory) -> "Built":
    """A bake for Azure whose image is in a registry of this machine."""
    from stage.azure import scene

    # By another name than that for AWS: their images are in one registry here.
    baked = bake(cloud="azure", project_name="Azure Training")
    return scene.project_of(baked, tmp_path_factory.mktemp("azure"), images)


@pytest.fixture(scope="module")
def azure(azure_built: "Built", tmp_path_factory: pytest.TempPathFactory) -> Iterator["Azure"]:
    """The subscription of that project as `cloud setup` makes it, with the data in its container."""
    from stage.azure import scene

    with scene.stage(azure_built, tmp_path_factory.mktemp("subscription")) as here:
        yield here
        assert here.runs.running == {}, "a job is still at work"
    assert containers.ids(here.runs.stage) == [], "a container of the stage is still there"
