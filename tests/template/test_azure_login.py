"""Data in Azure by a login alone, as a person and as a job have it: no key, and the configuration as it is baked."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from baking import BakedProject
from conftest import Bake
from servers import Environment
from stage.azure.world import World, serve

ACCOUNT = "anaccount"
HOME = f"abfss://training@{ACCOUNT}.dfs.core.windows.net"
ROLE = "Storage Blob Data Contributor"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The project's storage account, which takes no key; a person and a job's identity who may use it."""
    with serve(tmp_path_factory.mktemp("azure"), "eastus") as world:
        world.make.group("demo")
        account = world.make.storage(ACCOUNT)
        world.make.principal("person", (ROLE, account))
        world.make.identity("trainer", (ROLE, f"{account}/blobServices/default/containers/training"))
        world.make.principal("stranger")
        world.pass_time(3600)  # a role that was just given does not count yet
        yield world


@pytest.fixture(scope="module")
def project(bake: Bake, tmp_path_factory: pytest.TempPathFactory) -> BakedProject:
    project = bake(cloud="azure", bucket=ACCOUNT).copy(tmp_path_factory.mktemp("bake") / "project")
    project.sync()
    return project


def test_what_a_person_pushes_a_job_pulls(world: World, project: BakedProject, tmp_path: Path) -> None:
    def dvc(who: str, *words: str, folder: Path = project.folder, check: bool = True) -> str:
        env: Environment = {**world.at(who), "DVC_SITE_CACHE_DIR": str(tmp_path / who)}
        done = BakedProject(folder).run(str(project.folder / ".venv/bin/dvc"), *words, check=check, **env)
        return done.stdout + done.stderr

    dvc("person", "repro")
    dvc("person", "push")
    assert world.blob.names(ACCOUNT, "training", "dvc/files/md5/")
    project.run("git", "add", "dvc.lock")
    project.run("git", *("-c", "user.name=A", "-c", "user.email=a@b"), "commit", "-qm", "Data")
    project.run("git", "clone", "-q", ".", str(tmp_path / "clone"))
    said = dvc("stranger", "pull", folder=tmp_path / "clone", check=False)
    assert "AuthorizationPermissionMismatch" in said
    assert not (tmp_path / "clone/data/digits").exists()
    dvc("trainer", "pull", folder=tmp_path / "clone")
    pulled = {path.name: path.read_bytes() for path in (tmp_path / "clone/data/digits").iterdir()}
    assert pulled == {path.name: path.read_bytes() for path in (project.folder / "data/digits").iterdir()}


def test_the_projects_own_environment_has_all_that_the_login_needs(
    world: World, project: BakedProject
) -> None:
    code = (
        "from launcher import storage\nfrom launcher.atomic import update_text\n"
        f"storage.write_text('{HOME}/runs/a/x', 'one', new=True)\n"
        f"update_text('{HOME}/runs/a/x', lambda text: text + ' more')\n"
        f"print(storage.list_files('az://training/runs'), storage.read_text('{HOME}/runs/a/x'))"
    )
    env: Environment = dict(world.at("trainer"))
    done = project.run(str(project.folder / ".venv/bin/python"), "-c", code, **env)
    assert done.stdout == "['a/x'] one more\n"
    assert done.stderr == ""
