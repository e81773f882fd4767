"""What `cloud setup` on Azure asks before it makes anything: each refusal one sentence, and nothing half done."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from azure_setup_world import KEY, Place, place

pytestmark = pytest.mark.cloud("azure")


@pytest.fixture
def there(tmp_path: Path, projects: Callable[[str], Path]) -> Iterator[Place]:
    with place(tmp_path, projects("azure")) as there:
        yield there


def without_login(there: Place) -> None:
    there.env["AZURE_CLIENT_SECRET"] = "wrong"


def without_a_subscription(there: Place) -> None:
    there.env["AZURE_SUBSCRIPTION_ID"] = ""


def with_a_repository_of_somebody_else(there: Place) -> None:
    github = there.github
    github.admin = False
    there.github = github


def without_a_repository(there: Place) -> None:
    there.env["GITHUB_REPO"] = "octo-org/roots"


def without_github(there: Place) -> None:
    github = there.github
    github.logged_in = False
    there.github = github


def without_a_reviewer(there: Place) -> None:
    there.env["REVIEWER"] = "nobody"


def as_a_contributor(there: Place) -> None:
    there.world.make.principal("dev", ("Contributor", f"/subscriptions/{there.world.subscription}"))
    there.env |= there.world.at("dev")


def as_one_who_gives_roles_but_makes_none(there: Place) -> None:
    scope = f"/subscriptions/{there.world.subscription}"
    roles = ("Contributor", "Role Based Access Control Administrator")
    there.world.make.principal("dev", *((role, scope) for role in roles))
    there.env |= there.world.at("dev")


def as_a_guest_of_the_group(there: Place) -> None:
    group = there.world.make.group("demo")
    there.world.arm.registered.clear()
    there.world.make.principal("dev", ("Owner", group))
    there.env |= there.world.at("dev")


def where_azure_ml_is_not(there: Place) -> None:
    there.world.arm.locations = ("westeurope",)


def with_a_storage_account_of_somebody_else(there: Place) -> None:
    there.world.storage.taken.add("demobucket")


def with_an_account_of_somebody_else_for_the_workspace(there: Place) -> None:
    there.world.storage.taken.add("mldemobucket")


def with_a_vault_of_somebody_else(there: Place) -> None:
    there.world.vaults.taken.add("kv-demobucket")


def with_a_deleted_vault_of_another_group(there: Place) -> None:
    there.world.make.group("other")
    path = there.world.make.vault("kv-demobucket")
    arm = there.world.arm
    arm.remove(arm.get(path), {})


def with_an_account_of_ours_elsewhere(there: Place) -> None:
    there.world.make.group("demo")
    path = there.world.make.storage("demobucket")
    there.world.arm.get(path).content["location"] = "westeurope"


BEFORE = {
    without_login: "AZURE_CLIENT_SECRET",
    without_a_subscription: "AZURE_SUBSCRIPTION_ID",
    with_a_repository_of_somebody_else: "ask one of its administrators",
    without_a_repository: "There is no repository",
    without_github: "gh auth login",
    without_a_reviewer: "There is nobody 'nobody'",
    as_a_contributor: "may not do Microsoft.Authorization/roleDefinitions/write",
    as_one_who_gives_roles_but_makes_none: "may not do Microsoft.Authorization/roleDefinitions/write",
    as_a_guest_of_the_group: "Permission denied",
    where_azure_ml_is_not: "in eastus: choose another region",
    with_a_storage_account_of_somebody_else: "'demobucket' cannot be the name of this project's storage",
    with_an_account_of_somebody_else_for_the_workspace: (
        "'mldemobucket' cannot be the name of this project's workspace storage"
    ),
    with_a_vault_of_somebody_else: "'kv-demobucket' cannot be the name of this project's vault",
    with_a_deleted_vault_of_another_group: "az keyvault purge --name kv-demobucket",
    with_an_account_of_ours_elsewhere: "is in westeurope and not in eastus",
}


@pytest.mark.parametrize(("arrange", "said"), BEFORE.items(), ids=[each.__name__ for each in BEFORE])
def test_what_can_be_known_is_asked_before_anything_is_made(there, arrange, said):
    arrange(there)
    resources = set(there.world.arm.resources)
    step = there.run("setup", WANDB_API_KEY=KEY)
    assert said in step.error
    assert step.error
    assert "\n" not in step.error
    assert [change for change in step.changes if not re.search(r"POST .*/register$", change)] == []
    assert set(there.world.arm.resources) == resources
    assert there.github.variables == {}
