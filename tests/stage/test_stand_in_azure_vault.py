"""Secrets on the stage: who reads and writes them, and what becomes of deleted ones."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from stage import azure
from stage.azure import World
from stage.azure.bench import refusal, send

HOST = "https://kv-demostore.vault.azure.net"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with azure.serve(tmp_path / "world") as world:
        vault = world.make.vault(wandb="secret")
        world.make.principal("officer", ("Key Vault Secrets Officer", vault))
        world.make.principal("reader", ("Key Vault Secrets User", f"{vault}/secrets/wandb"))
        world.make.principal("looker", ("Key Vault Reader", vault))
        yield world


def ask(
    world: World, method: str, path: str, who: str | None, body: Any = None, api: str = "7.4"
) -> requests.Response:
    return send(world, method, HOST + path, who, api=api, json=body)


def test_a_secret_is_read_by_who_has_a_role_at_it(world: World) -> None:
    answer = ask(world, "GET", "/secrets/wandb", "reader").json()
    assert answer["value"] == "secret"
    assert answer["id"].startswith(f"{HOST}/secrets/wandb/")
    version = answer["id"].rpartition("/")[2]
    assert ask(world, "GET", f"/secrets/wandb/{version}", "reader").json()["value"] == "secret"


def test_a_role_at_one_secret_reaches_no_other(world: World) -> None:
    world.make.secret("wandb-2", "other")
    assert refusal(ask(world, "GET", "/secrets/wandb-2", "reader")) == (403, "Forbidden")


@pytest.mark.parametrize("who", ["looker", "owner"])
def test_who_sees_a_vault_does_not_read_its_secrets(world: World, who: str) -> None:
    answer = ask(world, "GET", "/secrets/wandb", who)
    assert refusal(answer) == (403, "Forbidden")
    assert answer.json()["error"]["innererror"]["code"] == "ForbiddenByRbac"
    assert "Microsoft.KeyVault/vaults/secrets/getSecret/action" in answer.json()["error"]["message"]


def test_who_sees_a_vault_knows_which_secrets_there_are(world: World) -> None:
    listed = ask(world, "GET", "/secrets", "looker").json()["value"]
    assert [one["id"] for one in listed] == [f"{HOST}/secrets/wandb"]


def test_a_secret_gets_a_new_version(world: World) -> None:
    assert ask(world, "PUT", "/secrets/wandb", "officer", {"value": "newer"}).ok
    assert ask(world, "GET", "/secrets/wandb", "officer").json()["value"] == "newer"
    assert len(ask(world, "GET", "/secrets/wandb/versions", "officer").json()["value"]) == 2
    assert refusal(ask(world, "PUT", "/secrets/wandb", "reader", {"value": "x"})) == (403, "Forbidden")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/secrets/under_score", {"value": "x"}),
        ("/secrets/wandb", {"values": "x"}),
        ("/secrets/wandb", {}),
        ("/secrets/wandb", {"value": 1}),
        ("/secrets/wandb", {"value": "x" * 25_601}),
    ],
)
def test_a_secret_that_is_not_as_described_is_refused(world: World, path: str, body: Any) -> None:
    assert refusal(ask(world, "PUT", path, "officer", body)) == (400, "BadParameter")


def test_a_secret_that_is_not_there_is_told(world: World) -> None:
    assert refusal(ask(world, "GET", "/secrets/other", "officer")) == (404, "SecretNotFound")


def test_a_version_of_the_api_is_needed(world: World) -> None:
    assert ask(world, "GET", "/secrets/wandb", "reader", api="").status_code == 400
    assert ask(world, "GET", "/secrets/wandb", "reader", api="1.0").status_code == 400


def test_without_a_token_the_answer_says_where_to_get_one(world: World) -> None:
    answer = ask(world, "GET", "/secrets/wandb", None)
    assert refusal(answer) == (401, "Unauthorized")
    assert 'resource="https://vault.azure.net"' in answer.headers["WWW-Authenticate"]
    token = world.token("officer", "https://management.azure.com")
    wrong = send(
        world, "GET", f"{HOST}/secrets/wandb", None, api="7.4", headers={"Authorization": f"Bearer {token}"}
    )
    assert refusal(wrong) == (401, "Unauthorized")


def test_a_deleted_secret_keeps_its_name_until_it_is_recovered_or_purged(world: World) -> None:
    world.make.principal("admin", ("Key Vault Administrator", world.vaults.named("kv-demostore").id))  # type: ignore[union-attr]
    assert ask(world, "DELETE", "/secrets/wandb", "admin").ok
    assert refusal(ask(world, "GET", "/secrets/wandb", "admin")) == (404, "SecretNotFound")
    assert refusal(ask(world, "PUT", "/secrets/wandb", "admin", {"value": "x"})) == (409, "Conflict")
    assert ask(world, "POST", "/deletedsecrets/wandb/recover", "admin").ok
    assert ask(world, "GET", "/secrets/wandb", "admin").json()["value"] == "secret"
    assert ask(world, "DELETE", "/secrets/wandb", "admin").ok
    assert ask(world, "DELETE", "/deletedsecrets/wandb", "admin").status_code == 204
    assert ask(world, "PUT", "/secrets/wandb", "admin", {"value": "x"}).ok


def test_resource_manager_knows_a_secret_without_its_value(world: World) -> None:
    vault = world.vaults.named("kv-demostore")
    assert vault
    answer = send(world, "GET", f"{vault.id}/secrets/wandb", api="2023-07-01")
    assert answer.json()["properties"]["secretUri"] == f"{HOST}/secrets/wandb"
    assert 'secret"' not in answer.text.replace("secrets", "")
    assert send(world, "GET", f"{vault.id}/secrets/other", api="2023-07-01").status_code == 404
