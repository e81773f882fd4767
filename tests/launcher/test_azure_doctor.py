"""What would make a job on Azure fail minutes after it was submitted, found before."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
from azure_logins import logged_in
from launcher.job import RUN_DATA, Job, Machine, Problem
from launcher.providers import inputs
from launcher.providers.azure import auth, doctor, doctor_rights, doctor_secrets
from launcher.providers.azure.doctor import check_bucket, check_workspace
from stage.azure.world import World, serve
from test_azure_registry import cloud

pytestmark = pytest.mark.cloud("azure")
REGION = "westeurope"
STORE, VAULT = "demobucket", "kv-demobucket"
BUCKET = f"abfss://training@{STORE}.dfs.core.windows.net"
IMAGE = f"{STORE}images.azurecr.io/demo/train@sha256:0"
WANDB = f"https://{VAULT}.vault.azure.net/secrets/wandb"
MD5 = "0123456789abcdef0123456789abcdef"
As = Callable[[str | None], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A project's things; `launcher` has the rights of GitHub's login, `reader` may look at everything, `nobody` at nothing."""
    with serve(tmp_path_factory.mktemp("azure"), REGION) as world:
        make = world.make
        group, account, vault = make.group("demo"), make.storage(STORE), make.vault(VAULT)
        workspace = make.workspace("demo-ml", STORE)
        data = ("Storage Blob Data Contributor", f"{account}/blobServices/default/containers/training")
        own = (
            ("Key Vault Secrets User", f"{vault}/secrets/wandb"),
            ("AcrPull", make.registry(f"{STORE}images")),
            data,
        )
        for title, scope in own:
            make.role("demo-trainer", title, scope)
        make.principal("launcher", ("AzureML Data Scientist", workspace), data, ("Key Vault Reader", vault))
        make.principal(
            "reader", ("Reader", group), ("Storage Blob Data Reader", account), ("Key Vault Reader", vault)
        )
        make.principal("nobody")
        make.secret("wandb", "key", VAULT)
        world.pass_time(3600)  # a role that was just given does not count yet
        yield world


@pytest.fixture
def world(made: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(auth.time, "sleep", lambda seconds: None)
    yield made
    made.heal()


@pytest.fixture
def be(world: World) -> As:
    return partial(logged_in, world)


@pytest.fixture
def group(world: World) -> str:
    return f"/subscriptions/{world.subscription}/resourceGroups/demo"


@pytest.fixture
def workspace(group: str) -> str:
    return f"{group}/providers/Microsoft.MachineLearningServices/workspaces/demo-ml"


def change(world: World, path: str, **properties: Any) -> None:
    """Sets properties of a resource, as its owner would have done."""
    world.arm.resources[path.lower()].properties.update(properties)


def said(problems: list[Problem]) -> str:
    return " ".join(map(str, problems))


# The workspace and the job's identity


@pytest.mark.parametrize("who", ["owner", "reader", "launcher", "nobody"])
def test_nothing_is_wrong_with_what_is_as_setup_makes_it_or_may_not_be_looked_at(be: As, workspace, who):
    with be(who):
        assert check_workspace(workspace, REGION, "demo-trainer") == []


def test_a_workspace_that_is_not_there_is_said(be: As, workspace):
    with be("owner"):
        (problem,) = check_workspace(f"{workspace}-2", REGION, "demo-trainer")
        assert problem.what == "There is no workspace demo-ml-2 in the resource group demo"
        assert "make cloud-setup" in problem.remedy
        assert "no workspace" in said(check_workspace(workspace.replace("/demo/", "/other/"), REGION, "x"))


def test_a_subscription_that_does_not_know_the_service_is_told_how_to_register(
    world: World, be: As, workspace, monkeypatch
):
    monkeypatch.setitem(world.arm.registered, doctor.ML.lower(), "NotRegistered")
    with be("owner"):
        problems = check_workspace(f"{workspace}-2", REGION, "demo-trainer")
    assert f"az provider register --namespace {doctor.ML}" in said(problems)


def test_a_job_elsewhere_than_its_workspace_is_found(be: As, workspace):
    with be("owner"):
        (problem,) = check_workspace(workspace, "eastus", "demo-trainer")
        assert problem.fatal
        assert (
            problem.what
            == f"The workspace demo-ml is in {REGION}, where its jobs run, and cloud.region=eastus"
        )
        assert check_workspace(workspace, "West Europe", "demo-trainer") == []


def test_an_identity_that_is_not_there_or_not_the_workspaces_is_named(world: World, be: As, workspace):
    with be("owner"):
        found = said(check_workspace(workspace, REGION, "demo-other"))
        assert "There is no identity demo-other in the resource group demo: run `make cloud-setup`" in found
        made = world.make.identity("demo-other")
        (problem,) = check_workspace(workspace, REGION, "demo-other")
        assert problem.fatal
        assert problem.what == "The workspace demo-ml does not have the identity demo-other"
        assert "does not have" in said(check_workspace(workspace, REGION, made.client_id))
        own = world.people.named("demo-trainer").client_id
        assert check_workspace(workspace, REGION, own) == []


def test_closed_networks_are_hints(world: World, be: As, workspace):
    before = {**world.arm.resources[workspace.lower()].properties}
    mode = {"isolationMode": "AllowOnlyApprovedOutbound"}
    change(world, workspace, publicNetworkAccess="Disabled", managedNetwork=mode)
    with be("owner"):
        closed, approved = check_workspace(workspace, REGION, "demo-trainer")
    world.arm.resources[workspace.lower()].content["properties"] = before
    assert "is closed to the public network" in closed.what
    assert "reach approved addresses only" in approved.what
    assert not closed.fatal
    assert not approved.fatal


# The bucket


def test_a_bucket_is_looked_at_with_the_rights_that_github_has(be: As, group):
    for who in ("launcher", "reader"):
        with be(who):
            assert check_bucket(group, REGION, STORE, "training") == []


@pytest.mark.parametrize("address", [BUCKET, f"{BUCKET}/runs", "az://training", "az://training/runs"])
def test_an_address_names_container_and_account_or_means_the_projects(address):
    assert doctor._place(address) == (STORE, "training")


def test_a_container_or_an_account_that_is_not_there_is_said(be: As, group):
    with be("reader"):
        (problem,) = check_bucket(group, REGION, STORE, "other")
        assert problem.what == f"There is no container other in the storage account {STORE}"
        assert "make cloud-setup" in problem.remedy
        found = said(check_bucket(group, REGION, "nowhere", "training"))
        assert found.startswith("There is no storage account nowhere, or it cannot be reached")


def test_an_account_elsewhere_is_said(be: As, group):
    with be("reader"):
        (problem,) = check_bucket(group, "eastus", STORE, "training")
    assert problem.what == f"The storage account {STORE} is in {REGION}, the job in eastus"
    assert not problem.fatal


def test_who_may_not_read_learns_the_role_and_who_is_kept_out_the_network(world: World, be: As, group):
    with be("owner"):  # owns everything, and has no role for data
        (problem,) = check_bucket(group, REGION, STORE, "training")
        assert problem.fatal
        assert "the role Storage Blob Data Contributor" in problem.remedy
    with be("launcher"):
        world.fail("blob", "GET /training", 403, doctor.KEPT_OUT, message="This request is not authorized")
        (problem,) = check_bucket(group, REGION, STORE, "training")
        assert "pass the storage account's network rules" in problem.remedy


def test_an_account_with_network_rules_is_a_hint(world: World, be: As, group):
    account = f"{group}/providers/Microsoft.Storage/storageAccounts/{STORE}"
    before = {**world.arm.resources[account.lower()].properties}
    change(world, account, networkAcls={"defaultAction": "Deny"})
    with be("reader"):
        found = check_bucket(group, REGION, STORE, "training")
    world.arm.resources[account.lower()].content["properties"] = before
    assert f"The storage account {STORE} is closed to the public network" in found[0].what
    assert not found[0].fatal


# Data


def test_data_that_is_not_pushed_is_counted(be: As, tmp_path: Path):
    (tmp_path / ".dvc").mkdir()
    remote = "[core]\n    remote = storage\n['remote \"storage\"']\n    url = azure://training/dvc\n"
    (tmp_path / ".dvc/config").write_text(remote)
    lock = {"stages": {"data": {"outs": [{"path": "data/a", "md5": f"{MD5}.dir", "hash": "md5"}]}}}
    (tmp_path / "dvc.lock").write_text(json.dumps(lock))

    def missing() -> str:
        return said(inputs.check_data("data/a", "azure", doctor.Blobs(STORE), tmp_path))

    def push(name: str, content: bytes) -> None:
        url = f"https://{STORE}.blob.core.windows.net/training/dvc/files/md5/{MD5[:2]}/{MD5[2:]}{name}"
        headers = {"Authorization": f"Bearer {auth.token(auth.STORAGE_SCOPE)}", "x-ms-blob-type": "BlockBlob"}
        assert requests.put(url, data=content, headers=headers | doctor.BLOB, timeout=60).ok

    with be("launcher"):
        assert "1 of 1 objects of data/a are not in azure://training/dvc: run `uv run dvc push`" in missing()
        push(".dir", json.dumps([{"md5": MD5, "relpath": "x"}]).encode())
        assert "1 of 1 objects" in missing()
        push("", b"x")
        assert missing() == ""


# Secrets


def test_a_secret_that_is_there_is_fine_and_its_value_stays_unread(world: World, be: As):
    for who in ("launcher", "reader"):
        with be(who):
            assert doctor_secrets.check("WANDB_API_KEY", WANDB) == []
    assert not world.paths("vault", r"GET /secrets/wandb/?$")


def test_a_secret_that_is_not_there_is_said_with_what_makes_it(be: As):
    with be("launcher"):
        found = said(doctor_secrets.check("WANDB_API_KEY", f"{WANDB}-2"))
        assert f"The secret wandb-2 of the Key Vault {VAULT}, for WANDB_API_KEY, does not exist" in found
        assert "give it by `WANDB_API_KEY=... make cloud-setup`" in found
        found = said(doctor_secrets.check("TOKEN", f"{WANDB}-2"))
        assert f"make it by `az keyvault secret set --vault-name {VAULT} --name wandb-2`" in found
        assert "~cloud.secrets.TOKEN" in found
        assert "does not exist" in said(doctor_secrets.check("TOKEN", f"{WANDB}/{MD5}"))
        assert "There is no Key Vault kv-none" in said(
            doctor_secrets.check("T", WANDB.replace(VAULT, "kv-none"))
        )
        assert "is no secret of a Key Vault" in said(doctor_secrets.check("T", "https://example.com/x"))


def test_a_secret_that_nobody_may_read_now_is_said(world: World, be: As):
    now, vault = int(world.clock.now()), world.vaults.named(VAULT)
    assert vault
    for name, attributes in (
        ("off", {"enabled": False}),
        ("old", {"exp": now - 1}),
        ("early", {"nbf": now + 3600}),
    ):
        address = world.make.secret(name, "x", VAULT)
        vault.private["secrets"][name][-1]["attributes"] = attributes
        with be("launcher"):
            assert "is disabled or out of date" in said(doctor_secrets.check("TOKEN", address)), name


def test_a_secret_that_may_not_be_looked_at_is_said(be: As):
    with be("nobody"):
        (problem,) = doctor_secrets.check("WANDB_API_KEY", WANDB)
    assert "cannot be seen by this login" in problem.what
    assert not problem.fatal


# What the job's identity may do


def rights(group: str, identity: str = "demo-trainer", **secrets: str) -> list[Problem]:
    job = Job("r1", IMAGE, (), Machine("t4", "Standard_NC4as_T4_v3", "T4", 1))
    return doctor_rights.check(group, identity, job, (STORE, "training"), {"WANDB_API_KEY": WANDB, **secrets})


@pytest.mark.parametrize("who", ["owner", "reader", "launcher", "nobody"])
def test_an_identity_with_the_roles_that_setup_gives_may_do_all_as_far_as_can_be_seen(be: As, group, who):
    with be(who):
        assert rights(group) == []


def test_each_right_that_an_identity_lacks_is_said_with_the_least_role_that_gives_it(
    world: World, be: As, group
):
    who = world.make.identity("demo-poor").object_id
    with be("owner"):
        pull, data, secret = rights(group, "demo-poor")
    start = "The job's identity demo-poor has no role by which it may"
    assert [one.what for one in (pull, data, secret)] == [
        f"{start} pull its image",
        f"{start} read and write training",
        f"{start} read the secret wandb",
    ]
    assert f'--role "AcrPull" --assignee-object-id {who} ' in pull.remedy
    assert "/containers/training`" in data.remedy
    assert not any(one.fatal for one in (pull, data, secret))


def test_a_role_counts_for_what_is_below_it_and_not_beside_it(world: World, be: As, group):
    vault = f"{group}/providers/Microsoft.KeyVault/vaults/{VAULT}"
    world.make.identity("demo-wide", ("Key Vault Administrator", group), ("AcrPush", group))
    world.make.identity("demo-narrow", ("Key Vault Secrets User", f"{vault}/secrets/wandb-2"))
    with be("owner"):
        assert [one.what.partition("may ")[2] for one in rights(group, "demo-wide")] == [
            "read and write training"
        ]
        assert len(rights(group, "demo-narrow")) == 3


def test_what_is_not_the_projects_own_is_not_looked_up(world: World, be: As, group):
    with be("owner"):
        elsewhere = "https://kv-other.vault.azure.net/secrets/token"
        assert rights(group, TOKEN=elsewhere) == []
        assert rights(group, world.people.named("demo-trainer").client_id) == []
        assert rights(group, "demo-none") == []


# All of them


def test_all_is_examined_at_once_and_what_the_backend_finds_comes_first(be: As, workspace, monkeypatch):
    monkeypatch.setattr(doctor, "_check_image", lambda *_: [Problem("image", "build it")])
    monkeypatch.setattr(inputs, "check_data", lambda *_: [Problem("data", "push it")])
    machine = Machine("t4", "Standard_NC4as_T4_v3", "T4", 1)
    job = Job("r1", "train@sha256:0", (), machine, env={RUN_DATA: "data/digits"})
    settings = cloud(region="eastus", bucket=f"{BUCKET}/runs")
    secrets = {"WANDB_API_KEY": f"{WANDB}-2"}
    with be("reader"):
        found = doctor.examine(settings, workspace, job, secrets, (lambda: [Problem("quota", "ask")],))
    heads = [problem.what.partition(",")[0] for problem in found]
    assert heads == [
        "quota",
        "image",
        f"The workspace demo-ml is in {REGION}",
        f"The storage account {STORE} is in {REGION}",
        "data",
        f"The secret wandb-2 of the Key Vault {VAULT}",
        "The job's identity demo-trainer has no role by which it may read the secret wandb-2",
    ]
