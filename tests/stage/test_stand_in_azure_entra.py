"""Entra on the stage: who gets a token for what, by Microsoft's own client."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import (
    ClientAssertionCredential,
    ClientSecretCredential,
    DefaultAzureCredential,
    WorkloadIdentityCredential,
)

from stage import azure
from stage.azure import World
from stage.azure.bench import refusal, send
from stage.azure.people import AZ
from stage.tokens import Issuer

SUBJECT = "repo:octo-org@65/octo-repo@74:environment:cloud"
AUDIENCE = "api://AzureADTokenExchange"
ARM = "https://management.azure.com/.default"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with azure.serve(tmp_path / "world") as world, azure.inside(world.at(None)):
        yield world


def claims(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def by_github(world: World, name: str = "demo-launcher", issuer: Issuer | None = None, **given: Any) -> str:
    """The token that a workflow's job gets; raises what the client raises."""
    assertion = (issuer or world.github).token(**{"aud": AUDIENCE, **given})
    client = world.people.named(name).client_id
    return ClientAssertionCredential(world.tenant, client, lambda: assertion).get_token(ARM).token


def ask(world: World, **form: str) -> requests.Response:
    known = {"grant_type": "client_credentials", "client_id": world.owner.client_id, "scope": ARM}
    known |= {"client_secret": min(world.owner.passwords)} | form
    url = f"https://login.microsoftonline.com/{world.tenant}/oauth2/v2.0/token"
    return send(world, "POST", url, None, data={key: one for key, one in known.items() if one})


def error(answer: requests.Response) -> tuple[int, str, int]:
    body = answer.json()
    assert body["error_description"].startswith(f"AADSTS{body['error_codes'][0]}: ")
    return answer.status_code, body["error"], body["error_codes"][0]


def test_a_secret_gives_a_token_that_says_whose_it_is(world: World) -> None:
    secret = min(world.owner.passwords)
    token = ClientSecretCredential(world.tenant, world.owner.client_id, secret).get_token(ARM)
    found = claims(token.token)
    assert found["aud"] == "https://management.azure.com"
    assert (found["appid"], found["oid"], found["tid"]) == (
        world.owner.client_id,
        world.owner.object_id,
        world.tenant,
    )
    assert found["exp"] == pytest.approx(token.expires_on, abs=60)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"client_secret": "wrong"}, (401, "invalid_client", 7000215)),
        ({"client_secret": ""}, (401, "invalid_client", 7000218)),
        ({"client_id": "11111111-1111-1111-1111-111111111111"}, (400, "unauthorized_client", 700016)),
        ({"scope": ""}, (400, "invalid_request", 900144)),
        ({"scope": "https://management.azure.com"}, (400, "invalid_scope", 1002012)),
        ({"scope": f"{ARM} https://vault.azure.net/.default"}, (400, "invalid_scope", 1002012)),
        ({"scope": "https://nobody.example.org/.default"}, (400, "invalid_resource", 500011)),
        ({"grant_type": "password"}, (400, "unsupported_grant_type", 70003)),
    ],
)
def test_a_wrong_form_is_refused(world: World, form: dict[str, str], expected: tuple[int, str, int]) -> None:
    assert error(ask(world, **form)) == expected


def test_another_tenant_is_not_found(world: World) -> None:
    url = "https://login.microsoftonline.com/22222222-2222-2222-2222-222222222222/oauth2/v2.0/token"
    assert error(send(world, "POST", url, None, data={"scope": ARM}))[2] == 90002


def test_githubs_token_stands_for_an_identity_that_trusts_it(world: World) -> None:
    identity = world.make.identity("demo-launcher")
    world.make.federate(identity, SUBJECT)
    found = claims(by_github(world))
    assert (found["oid"], found["xms_mirid"]) == (identity.object_id, identity.resource)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"environment": "production"}, "AADSTS700213"),
        ({"environment": ""}, "AADSTS700213"),
        ({"repository": "octo-org/other"}, "AADSTS700213"),
        ({"repository": "Octo-Org/octo-repo"}, "AADSTS7002138"),
        ({"aud": "sts.amazonaws.com"}, "AADSTS700212"),
        ({"iss": "https://elsewhere.example.org"}, "AADSTS700211"),
        ({"lifetime": -60}, "AADSTS700024"),
    ],
)
def test_githubs_token_must_fit_exactly(world: World, given: dict[str, Any], code: str) -> None:
    world.make.federate(world.make.identity("demo-launcher"), SUBJECT)
    with pytest.raises(ClientAuthenticationError, match=f"{code}: "):
        by_github(world, **given)


def test_a_token_that_somebody_else_signed_is_refused(world: World) -> None:
    world.make.federate(world.make.identity("demo-launcher"), SUBJECT)
    with pytest.raises(ClientAuthenticationError, match="AADSTS700027: "):
        by_github(world, issuer=Issuer(world.clock))


def test_an_identity_that_trusts_nobody_is_nobodys(world: World) -> None:
    world.make.identity("demo-launcher")
    with pytest.raises(ClientAuthenticationError, match="AADSTS70025: "):
        by_github(world)


def test_an_identity_that_is_gone_gets_no_token_and_its_old_one_is_void(world: World) -> None:
    identity = world.make.identity("demo-launcher")
    world.make.federate(identity, SUBJECT)
    old = by_github(world)
    assert send(world, "DELETE", identity.resource, api="2023-01-31").ok
    with pytest.raises(IndexError):
        world.people.named("demo-launcher")
    where = f"/subscriptions/{world.subscription}"
    answer = send(world, "GET", where, None, api="2022-12-01", headers={"Authorization": f"Bearer {old}"})
    assert answer.status_code == 401


def test_a_program_can_be_a_managed_identity(world: World) -> None:
    identity = world.make.identity("demo-trainer")
    env = world.at("demo-trainer")
    with azure.inside(env):
        credential = WorkloadIdentityCredential()
        assert claims(credential.get_token(ARM).token)["oid"] == identity.object_id
        assert claims(DefaultAzureCredential().get_token(ARM).token)["oid"] == identity.object_id


def test_a_user_gets_tokens_for_what_az_login_left(world: World) -> None:
    user = world.people.add("person@example.org", "User")
    (refresh,) = user.passwords
    form = {"grant_type": "refresh_token", "client_id": AZ, "client_secret": "", "refresh_token": refresh}
    answer = ask(world, **form, scope="https://management.core.windows.net//.default offline_access openid")
    found = claims(answer.json()["access_token"])
    assert (found["oid"], found["idtyp"]) == (user.object_id, "user")
    assert found["aud"] == "https://management.core.windows.net/"
    assert error(ask(world, **{**form, "refresh_token": "other"}))[2] == 70000


def test_a_token_for_one_service_is_none_for_another(world: World) -> None:
    token = world.token("owner", "https://vault.azure.net")
    where = f"/subscriptions/{world.subscription}"
    answer = send(world, "GET", where, None, api="2022-12-01", headers={"Authorization": f"Bearer {token}"})
    assert refusal(answer) == (401, "InvalidAuthenticationTokenAudience")


def test_an_expired_token_is_refused(world: World) -> None:
    token = world.people.token(world.owner, "https://management.azure.com", -1)
    where = f"/subscriptions/{world.subscription}"
    answer = send(world, "GET", where, None, api="2022-12-01", headers={"Authorization": f"Bearer {token}"})
    assert refusal(answer) == (401, "ExpiredAuthenticationToken")
    assert "authorization_uri" in answer.headers["WWW-Authenticate"]


def test_no_token_is_refused(world: World) -> None:
    answer = send(world, "GET", f"/subscriptions/{world.subscription}", None, api="2022-12-01")
    assert refusal(answer) == (401, "AuthenticationFailed")
