"""A notebook in what the project's own `cloud setup` has made of an empty subscription, as a person starts it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from azure_images import pushed
from azure_setup_world import Place, place

pytestmark = pytest.mark.cloud("azure")
MD5 = "d751713988987e9331980363e24189ce"  # of what is pushed below


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, projects: Callable[[str], Path]) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("azure"), projects("azure")) as there:
        assert not there.run("setup").error
        there.world.pass_time(3600)  # a role that was just given does not count yet
        there.world.blob.write("demobucket", "training", f"dvc/files/md5/{MD5[:2]}/{MD5[2:]}.dir", b"[]")
        yield there


@pytest.fixture
def there(prepared: Place, project: Path, tmp_path: Path) -> Iterator[Place]:
    """The subscription without a machine; the project's data and the image of its commit are pushed."""
    prepared.world.ml.reset()
    prepared.world.ml.usages.set("Standard_F8s_v2", 8)
    out = {"path": "data/digits", "md5": f"{MD5}.dir", "hash": "md5"}
    (project / "dvc.lock").write_text(json.dumps({"stages": {"prepare@digits": {"outs": [out]}}}))
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "first")):
        git(project, *words)
    with pushed(prepared.world, tmp_path / "registry", git(project, "rev-parse", "HEAD")):
        yield prepared


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    done = subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def launch(there: Place, project: Path) -> subprocess.CompletedProcess[str]:
    """Launches a notebook, as whoever has run `cloud setup`."""
    words = ("cloud=azureml", "job=notebook", "cloud.machine=cpu", "cloud.max_cost_usd=20")
    program = [sys.executable, "-m", "launcher.commands.launch", *words]
    env = {**os.environ, **there.env, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(program, check=False, capture_output=True, text=True, cwd=project, env=env)


def test_a_notebook_passes_its_checks_and_comes_up_after_setup(there, project):
    done = launch(there, project)
    assert done.stderr == ""
    assert "notebook  https://ml.azure.com/compute/nb1-demo-" in done.stdout
    there.world.pass_time(600)
    [instance] = there.world.ml.computes.values()
    assert (instance.state, instance.failure) == ("Running", "")
    there.world.pass_time(45 * 60)
    assert instance.state == "Stopped", "nobody has used it"


def test_a_notebook_is_refused_where_the_workspaces_own_account_has_lost_its_keys(there, project):
    account = there.world.arm.get(there.path("Microsoft.Storage/storageAccounts", "mldemobucket"))
    account.properties["allowSharedKeyAccess"] = False
    try:
        done = launch(there, project)
    finally:
        account.properties["allowSharedKeyAccess"] = True
    assert done.returncode == 1
    assert "The workspace's storage account mldemobucket takes no keys" in done.stderr
    assert "--name mldemobucket --allow-shared-key-access true" in done.stderr
    assert there.world.ml.computes == {}
