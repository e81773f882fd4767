"""Logins, calls, blobs, secrets and images against the stage's Azure, whose roles and faults are as Azure's are."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from unittest import mock

import azure_images
import pytest
from azure_logins import logged_in
from launcher import storage
from launcher.atomic import update_text
from launcher.errors import UserError
from launcher.providers import secret_reader
from launcher.providers.azure import auth as azure
from launcher.providers.azure.backend import AzureBackend
from launcher.providers.errors import LoginError, MissingError, RefusedError, UnreachableError
from stage.azure.world import World, serve
from test_azure_registry import cloud

pytestmark = pytest.mark.cloud("azure")
HOME = "abfss://training@demobucket.dfs.core.windows.net"
SECRET = "https://kv-demobucket.vault.azure.net/secrets/wandb"
As = Callable[[str | None], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The project's things, and people: `trainer` and `puller` may what their names say, `owner` has no role for data."""
    with serve(tmp_path_factory.mktemp("azure"), "eastus") as world:
        make = world.make
        group, account = make.group("demo"), make.storage("demobucket")
        images, vault = make.registry("demobucketimages"), make.vault("kv-demobucket", wandb="key\n")
        data = ("Storage Blob Data Contributor", f"{account}/blobServices/default/containers/training")
        make.identity("demo-trainer", data, ("Key Vault Secrets User", vault))
        make.principal("puller", ("AcrPull", images), ("Reader", group))
        make.principal("stranger")
        world.pass_time(3600)  # a role that was just given does not count yet
        yield world


@pytest.fixture
def world(made: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The world without the faults of a test before; nothing waits."""
    monkeypatch.setattr(azure.time, "sleep", lambda seconds: None)
    yield made
    made.heal()


@pytest.fixture
def be(world: World) -> As:
    return partial(logged_in, world)


# Logins


def test_a_service_principal_is_who_its_token_says(world: World, be: As) -> None:
    with be("owner"):
        assert azure.who() == f"the application {world.people.named('owner').client_id}"
        assert (azure.tenant(), azure.subscription()) == (world.tenant, world.subscription)


def test_a_managed_identity_is_called_by_its_name(be: As) -> None:
    with be("demo-trainer"):
        assert azure.who() == "the managed identity demo-trainer"


def test_a_wrong_secret_is_one_sentence(be: As) -> None:
    with (
        be("owner"),
        mock.patch.dict(os.environ, AZURE_CLIENT_SECRET="wrong"),
        pytest.raises(
            LoginError, match=r"credentials of the environment \(AADSTS7000215: .*\); correct AZURE_"
        ),
    ):
        azure.who()


def test_a_sign_in_that_does_not_answer_is_no_wrong_login(be: As) -> None:
    dead = mock.patch.dict(os.environ, HTTPS_PROXY="http://127.0.0.1:9")
    with be("owner"), dead, pytest.raises(UnreachableError, match="sign-in cannot be reached"):
        azure.who()


# Azure Resource Manager


def test_what_somebody_may_not_read_is_said_with_the_role(world: World, be: As) -> None:
    with (
        be("stranger"),
        pytest.raises(RefusedError, match=r"Permission denied: .* allow this login \S+resourceGroups/read;"),
    ):
        azure.call("GET", f"/subscriptions/{world.subscription}/resourceGroups/demo", api="2021-04-01")


def test_the_identity_of_jobs_is_found(world: World, be: As) -> None:
    with be("owner"):
        backend = AzureBackend(cloud(project=None))
        assert backend._identity() == world.people.named("demo-trainer").client_id
        with pytest.raises(MissingError, match=r"no identity nobody .*make cloud-setup"):
            AzureBackend(cloud(project=None, service_account="nobody"))._identity()


def test_a_group_is_made_and_removed_which_takes_long(world: World, be: As) -> None:
    path = f"/subscriptions/{world.subscription}/resourceGroups/other"
    with be("owner"):
        azure.wait("PUT", path, api="2021-04-01", body={"location": "eastus"})
        assert azure.call("GET", path, api="2021-04-01")["properties"]["provisioningState"] == "Succeeded"


# Blobs


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """adlfs tries again at once."""
    for name in storage.ABFS_BACKOFF:
        monkeypatch.setitem(storage.ABFS_BACKOFF, name, 0)


def test_a_job_keeps_its_files(be: As, tmp_path: Path) -> None:
    with be("demo-trainer"):
        storage.write_text(f"{HOME}/runs/r/a", "one", new=True)
        with pytest.raises(UserError, match="exists already"):
            storage.write_text(f"{HOME}/runs/r/a", "two", new=True)
        update_text(f"{HOME}/runs/r/a", lambda text: f"{text} and more")
        (tmp_path / "b").write_bytes(b"\0" * 1000)
        storage.store(tmp_path / "b", f"{HOME}/runs/r/b")
        assert storage.list_files(f"{HOME}/runs/r") == ["a", "b"]
        assert storage.read_text(f"{HOME}/runs/r/a") == "one and more"
        storage.remove(f"{HOME}/runs/r/b")
        assert storage.list_files(f"{HOME}/runs/r") == ["a"]


def test_who_owns_the_subscription_may_not_therefore_read_its_blobs(be: As) -> None:
    with be("owner"), pytest.raises(UserError, match="lacks the role Storage Blob Data Contributor"):
        storage.read_text(f"{HOME}/a")


@pytest.mark.usefixtures("hasty")
def test_nobody_is_told_that_there_is_no_login(be: As, monkeypatch: pytest.MonkeyPatch) -> None:
    with be(None):
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
        with pytest.raises(UserError, match="there is no login, or it has expired"):
            storage.read_text(f"{HOME}/a")


@pytest.mark.usefixtures("hasty")
def test_blobs_that_do_not_answer_for_a_while_are_waited_for(world: World, be: As) -> None:
    with be("demo-trainer"):
        world.fail("blob", "PUT .*/patient", times=2)
        storage.write_text(f"{HOME}/patient", "text")
        world.cut("blob", "GET .*/patient")
        assert storage.read_text(f"{HOME}/patient") == "text"


@pytest.mark.usefixtures("hasty")
def test_blobs_that_never_answer_are_unavailable_which_is_no_refusal(
    world: World, be: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "FIRST_DELAY", 0.001)
    with be("demo-trainer"):
        world.fail("blob", "GET .*/gone", times=None)
        with pytest.raises(storage.StorageUnavailable, match=f"{HOME}/gone cannot be read"):
            storage.read_text(f"{HOME}/gone", patience=0.01)


@pytest.mark.usefixtures("hasty")
def test_a_new_file_whose_answer_was_lost_is_ones_own(world: World, be: As) -> None:
    with be("demo-trainer"):
        world.lose("blob", "PUT .*/mine")
        storage.write_text(f"{HOME}/mine", "mine", new=True)
        with pytest.raises(UserError, match="exists already"):
            storage.write_text(f"{HOME}/mine", "another's", new=True)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("before", ["", "x"])
def test_a_change_whose_answer_was_lost_is_made_once(world: World, be: As, before: str) -> None:
    def add(text: str | None) -> str:
        return text if text and "mine" in text else f"{text or ''}mine"

    uri = f"{HOME}/changed-{before}"
    with be("demo-trainer"):
        if before:
            storage.write_text(uri, before)
        world.lose("blob", f"PUT .*/changed-{before}")
        update_text(uri, add)
        assert storage.read_text(uri) == f"{before}mine"


# Secrets


def test_a_job_reads_its_secret(be: As) -> None:
    with be("demo-trainer"):
        assert secret_reader()(SECRET) == "key"
        with pytest.raises(MissingError, match="Not found"):
            secret_reader()(f"{SECRET}-2")


def test_somebody_without_the_role_does_not(be: As) -> None:
    with be("puller"), pytest.raises(RefusedError, match="Key Vault Secrets User"):
        secret_reader()(SECRET)


# Images

IMAGE = "demobucketimages.azurecr.io/demo/train"


@pytest.fixture
def pushed(world: World, tmp_path: Path) -> Iterator[str]:
    """An image of a commit in the project's registry; gives its digest."""
    with azure_images.pushed(world, tmp_path) as digest:
        yield digest


def test_an_image_is_found_with_its_commit(be: As, pushed: str) -> None:
    with be("puller"):
        backend = AzureBackend(cloud())
        assert backend.image() == f"{IMAGE}@{pushed}"
        assert backend.revision(f"{IMAGE}@{pushed}") == azure_images.COMMIT
        with pytest.raises(MissingError, match=r"no image .*train:other; push to main"):
            AzureBackend(cloud(image=f"{IMAGE}:other")).image()


@pytest.mark.usefixtures("pushed")
def test_somebody_without_the_role_does_not_see_it(be: As) -> None:
    with be("stranger"), pytest.raises(RefusedError, match="AcrPull"):
        AzureBackend(cloud()).image()
