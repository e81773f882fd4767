"""The stand-in for Azure ML's online endpoints refuses what the service would, and its answers come when they would."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from stage import azure
from stage.azure.ml_bench import DIGEST, Bench, bench
from stage.azure.ml_endpoints import Endpoints

POINT, BLUE = "onlineEndpoints/demo-digits", "onlineEndpoints/demo-digits/deployments/blue"
IMAGE = f"demostoreimages.azurecr.io/demo/serve@{DIGEST}"
ROUTES = {
    f"{each}Route": {"path": path, "port": 8080}
    for each, path in (("liveness", "/health"), ("readiness", "/health"), ("scoring", "/"))
}


class Echo:
    """A container that says what it was asked."""

    def __init__(self) -> None:
        self.well: bool | None = True
        self.closed = False

    def ready(self, path: str) -> bool | None:
        return self.well

    def ask(self, method: str, path: str, body: bytes, kind: str) -> tuple[int, bytes]:
        return (500, b'{"error": "no"}') if path == "/broken" else (200, f'"{method} {path}"'.encode())

    def lines(self) -> list[str]:
        return ["one", "two"]

    def close(self) -> None:
        self.closed = True


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with azure.serve(tmp_path_factory.mktemp("azure")) as world:
        here = bench(world)
        group = f"/subscriptions/{world.subscription}/resourceGroups/demo"
        registry = f"{group}/providers/Microsoft.ContainerRegistry/registries/demostoreimages"
        server = world.make.identity("demo-server", ("AcrPull", registry))
        own = f"{group}/providers/Microsoft.Storage/storageAccounts/mldemostore"
        world.make.role(server, "Storage Blob Data Reader", own)
        here.who = world.owner
        body = {"properties": {"image": IMAGE, "osType": "Linux", "inferenceConfig": ROUTES}}
        assert here.ask("PUT", "environments/serve/versions/1", body).ok
        yield here


@pytest.fixture
def place(made: Bench) -> Bench:
    made.world.ml.endpoints.reset()
    made.world.ml.usages.reset()
    made.world.ml.endpoints.start = lambda image, env: Echo()
    return made


def points(place: Bench) -> Endpoints:
    return place.world.ml.endpoints


def endpoint(place: Bench, **changes: Any) -> dict[str, Any]:
    identity = place.world.people.named("demo-server").resource
    body: dict[str, Any] = {
        "location": place.world.region,
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {identity: {}}},
        "tags": {},
        "properties": {"authMode": "AADToken"},
    }
    body["properties"] |= changes
    return body


def deployment(place: Bench, **changes: Any) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "endpointComputeType": "Managed",
        "environmentId": f"{place.workspace}/environments/serve/versions/1",
        "instanceType": "Standard_F2s_v2",
    }
    body = {"location": place.world.region, "sku": {"name": "Default", "capacity": 1}}
    return {**body, "properties": properties | changes}


def settle(place: Bench, path: str = POINT) -> Any:
    """Looks until nothing goes on; gives the last answer."""
    while (found := place.ask("GET", path)).ok:
        if found.json()["properties"]["provisioningState"] not in ("Creating", "Updating", "Deleting"):
            return found.json()
    return found.json()


def up(place: Bench) -> None:
    """An endpoint with one deployment that gets nothing yet."""
    assert place.ask("PUT", POINT, endpoint(place)).status_code == 201
    settle(place)
    place.ask("PUT", BLUE, deployment(place))  # which is refused
    assert place.ask("PUT", BLUE, deployment(place)).status_code == 201
    settle(place, BLUE)


def send(place: Bench, **traffic: int) -> requests.Response:
    given = place.get(POINT)
    own = given["properties"]["properties"]
    return place.ask("PUT", POINT, endpoint(place, traffic=traffic, properties=own))


def score(place: Bench, path: str = "/predict", who: Any = None, **headers: str) -> requests.Response:
    host = points(place).only.host
    token = place.world.token(who or place.world.owner, "https://ml.azure.com")
    return requests.post(
        f"https://{host}{path}",
        json={"instances": []},
        headers={"Authorization": f"Bearer {token}", **headers},
        proxies={"https": place.world.url},
        verify=str(place.world.certificates),
        timeout=30,
    )


def test_an_endpoint_is_made_in_the_background_and_says_where_to_look(place):
    made = place.ask("PUT", POINT, endpoint(place))
    assert made.json()["properties"]["provisioningState"] == "Creating"
    where = made.headers["Azure-AsyncOperation"]
    assert "/mfeOperationsStatus/oe:" in where
    states = [place.get(where)["status"] for _ in range(3)]
    assert (states[0], states[-1]) == ("InProgress", "Succeeded")
    said = place.get(POINT)
    assert said["properties"]["scoringUri"].startswith(
        "https://demo-digits.westeurope.inference.ml.azure.com/"
    )
    assert next(iter(said["identity"]["userAssignedIdentities"].values()))["clientId"]


@pytest.mark.parametrize(
    "name", ["ab", "1digits", "demo--digits", "a" * 33, "demo_digits", "demo-", "demo.digits"]
)
def test_names_are_3_to_32_letters_digits_and_single_dashes(place, name):
    assert place.ask("PUT", f"onlineEndpoints/{name}", endpoint(place)).status_code == 400
    up(place)
    answer = place.ask("PUT", f"{POINT}/deployments/{name}", deployment(place))
    assert answer.status_code == 400
    assert "Deployment name" in answer.text


def test_a_name_is_one_in_its_region(place):
    points(place).taken.add("demo-digits")
    answer = place.ask("PUT", POINT, endpoint(place))
    assert (answer.status_code, "unique within a region" in answer.text) == (409, True)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"authMode": "Open"}, 400),
        ({"authMode": "Key"}, 501),
        ({"trafic": {}}, 400),
        ({"scoringUri": "https://x"}, 400),
        ({"traffic": {"blue": 100}}, 400),
    ],
)
def test_an_endpoint_of_another_shape_is_refused(place, change, status):
    assert place.ask("PUT", POINT, endpoint(place, **change)).status_code == status
    assert points(place).known == {}


def test_the_first_deployment_may_find_the_endpoint_busy_although_it_is_ready(place):
    place.ask("PUT", POINT, endpoint(place))
    settle(place)
    answer = place.ask("PUT", BLUE, deployment(place))
    assert "because it is in Updating provisioning state" in answer.text
    assert place.ask("PUT", BLUE, deployment(place)).status_code == 201


def test_parts_of_the_requests_are_all_or_nothing_and_go_to_what_answers(place):
    up(place)
    assert send(place, blue=50).status_code == 400
    assert send(place, green=100).status_code == 400
    assert score(place).status_code == 404
    assert send(place, blue=100).ok
    assert send(place, blue=100).status_code == 409  # while it is updated
    settle(place)
    assert score(place).json() == "POST /predict"
    assert send(place, blue=0).ok


def test_what_is_told_of_the_traffic_lags_behind(place):
    up(place)
    send(place, blue=100)
    assert place.get(POINT)["properties"]["traffic"] == {"blue": 100}
    settle(place)
    send(place)
    assert points(place).only.traffic == {}
    told = [settle(place)["properties"]["traffic"] for _ in range(2)]
    assert told[-1] == {}


def test_a_deployment_with_traffic_cannot_be_deleted_and_one_that_is_made_neither(place):
    up(place)
    send(place, blue=100)
    settle(place)
    answer = place.ask("DELETE", BLUE)
    assert (answer.status_code, "set it to 0" in answer.text) == (400, True)
    green = f"{POINT}/deployments/green"
    place.ask("PUT", green, deployment(place))
    points(place).only.deployments["green"].looks = 9
    assert place.ask("DELETE", green).status_code == 409
    assert place.ask("DELETE", POINT).status_code == 409
    settle(place, green)
    assert place.ask("DELETE", green).status_code == 202
    settle(place, green)
    assert place.ask("GET", green).status_code == 404
    assert place.ask("DELETE", green).status_code == 204


def test_an_endpoint_goes_with_its_deployments_and_the_roles_stay(place):
    up(place)
    container: Any = points(place).only.deployments["blue"].container
    scope = points(place).only.id
    place.world.make.role("demo-trainer", "Reader", scope)
    answer = place.ask("DELETE", POINT)
    assert answer.status_code == 202
    while place.ask("GET", answer.headers["Location"]).status_code == 202:
        pass
    assert points(place).known == {}
    assert container.closed
    kept = [key for key in place.world.roles.assignments if "/onlineendpoints/" in key]
    assert len(kept) == 1
    del place.world.roles.assignments[kept[0]]


CHANGES: dict[str, dict[str, Any]] = {
    "an environment that is not there": {"environmentId": "/nowhere"},
    "a size that is not for endpoints": {"instanceType": "Standard_D2s_v3"},
    "no size": {"instanceType": "Standard_X1"},
    "a long request": {"requestSettings": {"requestTimeout": "PT181S"}},
    "a number for a duration": {"requestSettings": {"requestTimeout": 5}},
    "a liveness probe that wants two": {"livenessProbe": {"successThreshold": 2}},
    "no thresholds": {"readinessProbe": {"failureThreshold": 0}},
    "another type": {"endpointComputeType": "managed"},
    "an unknown field": {"instanceCount": 1},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_deployment_of_another_shape_is_refused(place, change):
    up(place)
    answer = place.ask("PUT", f"{POINT}/deployments/green", deployment(place, **change))
    assert answer.status_code in (400, 404)
    assert list(points(place).only.deployments) == ["blue"]


@pytest.mark.parametrize(
    "sku", [None, {"name": "Default"}, {"name": "Default", "capacity": 0}, {"name": "F2", "capacity": 1}]
)
def test_instances_are_said_by_the_sku(place, sku):
    up(place)
    body = deployment(place)
    if sku is None:
        del body["sku"]
    else:
        body["sku"] = sku
    assert place.ask("PUT", f"{POINT}/deployments/green", body).status_code == 400


def test_an_environment_without_routes_is_no_server(place):
    up(place)
    answer = place.ask(
        "PUT", f"{POINT}/deployments/green", deployment(place, environmentId=place.environment)
    )
    assert "inferenceConfig" in answer.text


def failed(place: Bench) -> str:
    """Why a second deployment does not come up."""
    up(place)
    green = f"{POINT}/deployments/green"
    answer = place.ask("PUT", green, deployment(place))
    assert answer.ok, answer.text
    where = answer.headers["Azure-AsyncOperation"]
    while (said := place.get(where))["status"] == "InProgress":
        pass
    assert settle(place, green)["properties"]["provisioningState"] == "Failed"
    assert send(place, green=100).status_code == 400
    return f"{said['error']['code']}: {said['error']['message']}"


def test_a_fifth_more_is_reserved_of_the_quota(place):
    place.world.ml.usages.set("Standard_F2s_v2", 7)  # two machines of two cores each for one instance
    assert failed(place).startswith("OutOfQuota: Not enough quota available for Standard_F2s_v2")
    assert [one.cores for one in points(place).held()] == [4]
    used = next(
        one
        for one in place.get(
            f"/subscriptions/{place.world.subscription}/providers/Microsoft.MachineLearningServices/locations/westeurope/usages"
        )["value"]
        if one["name"]["value"] == "Standard FSv2 Family Cluster Dedicated vCPUs"
    )
    assert used["currentValue"] == 4


def test_a_container_that_ends_fails_its_deployment_and_is_paid_for(place):
    up(place)
    broken = Echo()
    broken.well = None
    points(place).start = lambda image, env: broken
    green = f"{POINT}/deployments/green"
    place.ask("PUT", green, deployment(place))
    assert settle(place, green)["properties"]["provisioningState"] == "Failed"
    assert sum(one.cores for one in points(place).held()) == 8
    assert place.ask("POST", f"{green}/getLogs", {"tail": 1}).json() == {"content": "two"}
    assert place.ask("PUT", green, deployment(place)).status_code == 409


@pytest.mark.parametrize(
    ("role", "scope", "why"),
    [
        ("AcrPull", "Microsoft.ContainerRegistry/registries/demostoreimages", "no AcrPull"),
        (
            "Storage Blob Data Reader",
            "Microsoft.Storage/storageAccounts/mldemostore",
            "Storage Blob Data Reader",
        ),
    ],
)
def test_an_identity_without_its_two_roles_starts_nothing(place, role, scope, why):
    server = place.world.people.named("demo-server")
    where = f"/subscriptions/{place.world.subscription}/resourceGroups/demo/providers/{scope}"
    up(place)
    place.world.roles.revoke(server, role, where)
    green = f"{POINT}/deployments/green"
    answer = place.ask("PUT", green, deployment(place))
    said = place.get(answer.headers["Azure-AsyncOperation"])
    while said["status"] == "InProgress":
        said = place.get(answer.headers["Azure-AsyncOperation"])
    place.world.make.role(server, role, where)
    assert said["error"]["code"] == "BadArgument"
    assert why in said["error"]["message"]


def test_whoever_gives_an_endpoint_an_identity_may_assign_that(place):
    scientist = place.world.make.principal("scientist", ("AzureML Data Scientist", place.workspace))
    answer = place.ask("PUT", POINT, endpoint(place), who=scientist)
    assert (answer.status_code, "assign/action" in answer.text) == (403, True)


def test_what_an_endpoint_is_cannot_be_changed(place):
    up(place)
    other = copy.deepcopy(endpoint(place))
    other["identity"]["userAssignedIdentities"] = {place.trainer.resource: {}}
    assert "identity of an endpoint cannot be changed" in place.ask("PUT", POINT, other).text
    given = points(place).only.given["properties"]
    given["properties"] = {"a": "b"}
    assert "not removed or altered" in place.ask("PUT", POINT, endpoint(place)).text


def test_only_the_right_to_score_lets_in_and_only_by_a_token_for_it(place):
    up(place)
    send(place, blue=100)
    settle(place)
    nobody = place.world.people.add("nobody", "User")
    assert score(place, who=nobody).status_code == 401
    place.world.make.role(nobody, "AzureML Data Scientist", points(place).only.id)
    assert score(place, who=nobody).ok
    token = place.world.token(place.world.owner)  # for Resource Manager
    assert score(place, Authorization=f"Bearer {token}").status_code == 401


def test_a_deployment_is_asked_by_its_header_and_its_failure_is_424(place):
    up(place)
    header = {"azureml-model-deployment": "blue"}
    assert score(place, **header).headers["azureml-model-deployment"] == "blue"
    assert score(place, **{"azureml-model-deployment": "green"}).status_code == 404
    answer = score(place, "/broken", **header)
    assert (answer.status_code, answer.headers["ms-azureml-model-error-statuscode"]) == (424, "500")


def test_a_host_that_no_endpoint_has_is_not_there(place):
    with pytest.raises(requests.RequestException):
        requests.get(
            "https://nothing.westeurope.inference.ml.azure.com/",
            proxies={"https": place.world.url},
            verify=str(place.world.certificates),
            timeout=30,
        )


def test_the_endpoints_of_a_workspace_that_goes_are_not_forgotten(place):
    up(place)
    points(place).forget(place.workspace)
    assert points(place).abandoned == ["demo-digits"]
    points(place).abandoned.clear()


@pytest.mark.parametrize("namespace", ["Microsoft.PolicyInsights", "Microsoft.Cdn"])
def test_a_subscription_without_the_providers_that_endpoints_need_makes_none(namespace, place, monkeypatch):
    monkeypatch.delitem(place.world.arm.registered, namespace.lower())
    answer = place.ask("PUT", POINT, endpoint(place))
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "MissingSubscriptionRegistration")
