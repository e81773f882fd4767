"""The template of `cloud setup` on Azure, and what is refused before anybody is asked.

Its resources are checked by their published shapes where it is deployed, on the stage: test_azure_setup.py.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import requests
from azure_setup_world import place
from launcher.commands import setup
from launcher.project import project
from launcher.providers import repository
from launcher.providers.azure.setup import template
from launcher.providers.azure.setup.names import Names

pytestmark = pytest.mark.cloud("azure")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can be asked: no Azure, and no gh."""

    def asked(*words: Any, **more: Any) -> None:
        pytest.fail(f"asked {words[1:]}")

    monkeypatch.setattr(requests.Session, "request", asked)
    monkeypatch.setattr(repository, "_gh", asked)
    monkeypatch.setenv("DRY_RUN", "1")
    monkeypatch.setenv("GITHUB_REPO", "octo-org/leaves")
    for name in ("AZURE_SUBSCRIPTION_ID", "BUDGET", "MAIL", "DATA", "YES", "REVIEWER", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def shown(said: str) -> dict[str, Any]:
    """The template of a dry run, which is all that stands in no comment."""
    return json.loads("\n".join(line for line in said.splitlines() if not line.startswith("#")))


def test_a_dry_run_is_a_template_and_commands_and_asks_nobody(alone, monkeypatch, capsys):
    settings = {"WANDB_API_KEY": "hidden", "BUDGET": "50", "MAIL": "a@b.c", "REVIEWER": "octo-cat"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    setup.run("setup")
    said = capsys.readouterr().out
    assert shown(said) == template.template()
    assert "hidden" not in said
    comments = [line for line in said.splitlines() if line.startswith("#")]
    for call in (
        "deployment group create",
        "Microsoft.Consumption/budgets",
        "/secrets/wandb",
        "roleAssignments",
    ):
        assert any(call in line for line in comments), call
    assert "# gh variable set CLOUD_IMAGE --body demobucketimages.azurecr.io/demo/train" in said
    assert "numbered=octo-org@OWNER_ID/leaves@REPOSITORY_ID" in said


@pytest.mark.parametrize("data", ["", "delete"])
def test_a_dry_run_of_destroy_shows_what_would_go_and_asks_nobody(alone, monkeypatch, capsys, data):
    monkeypatch.setenv("DATA", data)
    setup.run("destroy")
    said = capsys.readouterr().out
    assert all(line.startswith("#") for line in said.splitlines())
    assert "workspaces/demo-ml?forceToPurge=true" in said
    assert "/cancel?api-version=" in said
    assert "/deletedVaults/kv-demobucket/purge" in said
    for path in ("storageAccounts/demobucket?", "resourceGroups/demo?"):
        assert (path in said) == bool(data)
    assert "storageAccounts/mldemobucket?" in said


WRONG = {
    "BUDGET": [("5O", "is no budget"), ("50", "somebody who is told")],
    "MAIL": [("you@example.org", "needs an amount")],
    "GITHUB_REPO": [("leaves", "is no repository")],
}


@pytest.mark.parametrize(
    ("name", "value", "said"), [(name, *each) for name, some in WRONG.items() for each in some]
)
def test_a_setting_that_means_nothing_is_refused_before_anybody_is_asked(
    alone, monkeypatch, name, value, said
):
    monkeypatch.setenv(name, value)
    with pytest.raises(setup.UserError, match=said) as refused:
        setup.run("setup")
    assert "\n" not in str(refused.value)


def test_destroy_refuses_another_word_than_delete(alone, monkeypatch):
    monkeypatch.setenv("DATA", "yes")
    with pytest.raises(setup.UserError, match="to keep the storage account"):
        setup.run("destroy")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bucket": "demo-bucket"}, "can be no storage account's name"),
        ({"bucket": "ab"}, "can be no storage account's name"),
        ({"slug": "demo."}, "can be no resource group's name"),
        ({"bucket": "ml" * 12}, "would be the name of the workspace's own storage account too"),
    ],
)
def test_a_name_that_azure_takes_for_no_such_thing_is_refused_before_anybody_is_asked(
    alone, monkeypatch, change, said
):
    from dataclasses import replace

    from launcher.providers.azure.setup import make

    other = replace(project(), **change)
    monkeypatch.setattr(make, "project", lambda: other)
    with pytest.raises(setup.UserError, match=re.escape(said)):
        setup.run("setup")


def resources() -> list[dict[str, Any]]:
    return template.template()["resources"]


def test_credentials_of_github_are_written_one_after_the_other():
    made = [each for each in resources() if each["type"].endswith("/federatedIdentityCredentials")]
    assert len(made) == 4
    before = [each["dependsOn"] for each in made]
    assert before[0] == ["[variables('launcher')]"]
    for each, (one,) in zip(made[:-1], before[1:], strict=True):
        name = each["name"].partition("/")[2].split("'")[0]
        assert one.endswith(f"'{name}')]"), "each waits for the one before"


def test_no_role_that_is_given_may_give_roles_or_read_keys():
    for role in template.roles()["custom"].values():
        for action in (*role["actions"], *role["dataActions"]):
            assert "*" not in action
            assert not re.search(r"Microsoft\.Authorization|list(Storage)?(Account)?Keys|listsecrets", action)


def test_nothing_is_named_that_is_not_in_the_template():
    whole = template.template()
    text = json.dumps(whole)
    for kind in ("parameters", "variables"):
        used = set(re.findall(rf"{kind}\('(\w+)'\)", text))
        assert used == set(whole[kind]), f"each of the {kind} is used, and each that is used is there"


def test_names_are_within_azures_rules_for_the_longest_slug(alone):
    from dataclasses import replace

    long = replace(project(), slug="a" * 60, bucket="b" * 24)
    Names(long, "S").check()


def one(whole: dict[str, Any], kind: str, name: str = "") -> dict[str, Any]:
    """A resource of the template, by the end of its type and a part of its name."""
    found = [each for each in whole["resources"] if each["type"].endswith(kind) and name in each["name"]]
    return found[0]


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "credentials at the same time": (
        lambda whole: one(whole, "/federatedIdentityCredentials", "cloud-numbered").update(
            dependsOn=["[variables('launcher')]"]
        ),
        "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity",
    ),
    "a workspace without insights": (
        lambda whole: one(whole, "Services/workspaces")["properties"].pop("applicationInsights"),
        "Missing dependent resources",
    ),
    "a field that is misspelled": (
        lambda whole: one(whole, "/storageAccounts")["properties"].update(allowSharedKeyAcces=False),
        "allowSharedKeyAcces",
    ),
    "a field of a workspace that is misspelled": (
        lambda whole: one(whole, "Services/workspaces")["properties"].update(
            systemDatastoreAuthMode="Identity"
        ),
        "systemDatastoreAuthMode",
    ),
    "a role for an identity that is not there yet": (
        lambda whole: one(whole, "/roleAssignments").update(dependsOn=["[variables('workspace')]"]),
        "demo-launcher",
    ),
    "a version that is not": (
        lambda whole: one(whole, "/vaults").update(apiVersion="2027-01-01"),
        "2027-01-01",
    ),
}


@pytest.mark.parametrize(("spoil", "said"), BROKEN.values(), ids=BROKEN)
def test_a_template_with_a_mistake_is_refused_by_the_stage(tmp_path, project_root, monkeypatch, spoil, said):
    whole = template.template()
    spoil(whole)
    monkeypatch.setattr("launcher.providers.azure.setup.make.template", lambda: whole)
    with place(tmp_path, project_root) as there:
        step = there.run("setup")
    assert said in step.error
    assert "\n" not in step.error
