"""The proxy before Azure's stand-ins: whose hosts it speaks as, what it leads through, and what goes wrong on the way."""

import http.client
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from stage import azure
from stage.azure import World
from stage.azure.bench import refusal, send
from stage.rest import Answer, Request
from stage.rest import serve as serve_plainly

GROUPS = "/subscriptions/{}/resourcegroups"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with azure.serve(tmp_path / "world") as world:
        yield world


def groups(world: World, **more: Any) -> requests.Response:
    return send(world, "GET", GROUPS.format(world.subscription), api="2021-04-01", **more)


def test_a_program_with_the_worlds_variables_finds_it_at_azures_own_host(world: World) -> None:
    code = (
        "import os, requests; from azure.identity import DefaultAzureCredential as C;"
        "t = C().get_token('https://management.azure.com/.default').token;"
        "u = 'https://management.azure.com/subscriptions/' + os.environ['AZURE_SUBSCRIPTION_ID'];"
        "print(requests.get(u + '?api-version=2022-12-01', headers={'Authorization': 'Bearer ' + t}).json()['displayName'])"
    )
    env = os.environ | world.environment
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "Stage\n"


def test_a_client_that_does_not_trust_the_stage_gets_nothing(world: World) -> None:
    with pytest.raises(requests.exceptions.SSLError):
        requests.get("https://management.azure.com/", proxies={"https": world.url}, timeout=30)
    assert world.asked == []


def test_calls_are_recorded_with_who_asked(world: World) -> None:
    assert groups(world).ok
    (call,) = world.asked
    assert (call.service, call.method, call.query["api-version"]) == ("arm", "GET", "2021-04-01")
    assert call.path == GROUPS.format(world.subscription)
    assert call.principal is world.owner


def test_the_date_of_an_answer_is_the_worlds(world: World) -> None:
    before = groups(world).headers["Date"]
    world.pass_time(86400)
    assert groups(world).headers["Date"][:16] != before[:16]


def test_a_fault_refuses_as_often_as_it_says(world: World) -> None:
    world.fail("arm", "GET .*/resourcegroups", times=2, headers={"Retry-After": "7"})
    first, second, third = groups(world), groups(world), groups(world)
    assert refusal(first) == refusal(second) == (503, "ServiceUnavailable")
    assert first.headers["Retry-After"] == "7"
    assert third.ok


def test_faults_end_when_they_are_healed(world: World) -> None:
    world.fail("arm", "GET", times=None)
    assert not groups(world).ok
    world.heal()
    assert groups(world).ok


def test_a_call_whose_answer_is_lost_was_carried_out(world: World) -> None:
    world.lose("arm", "PUT")
    where = f"{GROUPS.format(world.subscription)}/lost"
    with pytest.raises(requests.ConnectionError):
        send(world, "PUT", where, api="2021-04-01", json={"location": "westeurope"})
    assert list(world.arm.groups) == ["lost"]


def test_an_answer_breaks_off_in_the_middle(world: World) -> None:
    world.cut("arm", "GET")
    with pytest.raises(requests.RequestException):
        groups(world)
    assert groups(world).ok


def test_another_host_of_microsofts_is_refused_and_told(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match=r"graph\.microsoft\.com"),
        azure.serve(tmp_path / "other") as world,
        pytest.raises(requests.exceptions.ProxyError),
    ):
        send(world, "GET", "https://graph.microsoft.com/v1.0/me")


@pytest.mark.parametrize(
    "host", ["nobodys.blob.core.windows.net", "nobodys.azurecr.io", "nobodys.vault.azure.net"]
)
def test_what_does_not_exist_has_no_address(world: World, host: str) -> None:
    with pytest.raises(requests.exceptions.ProxyError):
        send(world, "GET", f"https://{host}/")


def test_other_hosts_are_led_through(world: World) -> None:
    """By a host of this machine, whose plain http goes through the tunnel just as well."""

    def answer(request: Request) -> Answer:
        return Answer({"path": request.path})

    with serve_plainly(answer) as url:
        host, port = url.removeprefix("http://").split(":")
        tunnel = http.client.HTTPConnection(world.url.removeprefix("http://"), timeout=30)
        tunnel.set_tunnel(host, int(port))
        tunnel.request("GET", "/through")
        assert tunnel.getresponse().read() == b'{"path": "/through"}'
        tunnel.close()


def test_plain_http_is_not_for_this_proxy(world: World) -> None:
    answer = requests.get("http://management.azure.com/", proxies={"http": world.url}, timeout=30)
    assert answer.status_code == 502


def test_a_fault_of_the_stage_fails_the_test(tmp_path: Path) -> None:
    def broken(_: object) -> None:
        raise KeyError("of the stage")

    def use() -> None:
        with azure.serve(tmp_path / "broken") as world:
            world.server.before = broken
            assert refusal(groups(world)) == (501, "StageFailure")

    with pytest.raises(AssertionError, match="of the stage"):
        use()


def test_two_worlds_know_nothing_of_each_other(world: World, tmp_path: Path) -> None:
    with azure.serve(tmp_path / "second") as second:
        token = second.token("owner")
        answer = send(
            world,
            "GET",
            GROUPS.format(world.subscription),
            None,
            api="2021-04-01",
            headers={"Authorization": f"Bearer {token}"},
        )
        assert refusal(answer)[0] == 401


def test_this_process_can_be_a_program_of_the_worlds(world: World) -> None:
    import fsspec

    world.make.storage()
    place = world.storage.container("demostore", "training")
    user = world.make.principal("user", ("Storage Blob Data Contributor", place))
    with azure.inside(world.at(user)):
        files = fsspec.filesystem("abfs", account_name="demostore", anon=False)
        files.pipe("training/a", b"content")
        assert files.cat("training/a") == b"content"
    assert "HTTPS_PROXY" not in os.environ or os.environ["HTTPS_PROXY"] != world.url
    assert world.blob.read("demostore", "training", "a") == b"content"


def test_prices_are_listed_by_filter_and_page(world: World) -> None:
    items = [
        {"armSkuName": f"Standard_{number}", "armRegionName": "eastus", "retailPrice": 1.0}
        for number in range(1500)
    ]
    world.retail.items = [
        *items,
        {"armSkuName": "Standard_1", "armRegionName": "westeurope", "retailPrice": 2.0},
    ]
    url = "https://prices.azure.com/api/retail/prices"
    asked = "armSkuName eq 'Standard_1' and armRegionName eq 'westeurope'"
    (found,) = send(world, "GET", url, None, params={"$filter": asked}).json()["Items"]
    assert found["retailPrice"] == 2.0
    first = send(world, "GET", url, None, params={"$filter": "armRegionName eq 'eastus'"}).json()
    second = send(world, "GET", first["NextPageLink"], None).json()
    assert (len(first["Items"]), len(second["Items"]), second["NextPageLink"]) == (1000, 500, None)
    assert send(world, "GET", url, None, params={"$filter": "price lt 1"}).status_code == 400
