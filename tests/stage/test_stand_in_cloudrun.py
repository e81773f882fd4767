"""The stand-in of Cloud Run takes and refuses what its reference documents, one field at a time."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from stage.google.cloudrun import CloudRun, cloudrun
from stage.google.identity import Identity, identity
from stage.one_field import REMOVED, with_field

PROJECT = "stage-project"
SERVICES = f"/v2/projects/{PROJECT}/locations/us-central1/services"
IMAGE = f"us-central1-docker.pkg.dev/{PROJECT}/demo/serve@sha256:{'a' * 64}"
ACCOUNT = f"server@{PROJECT}.iam.gserviceaccount.com"
BY_REVISION = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"
CONTAINER = "template.containers.0"
# A service in which nothing is wrong.
GOOD: dict[str, Any] = {
    "labels": {"project": "demo"},
    "ingress": "INGRESS_TRAFFIC_ALL",
    "template": {
        "revision": "demo-1",
        "serviceAccount": ACCOUNT,
        "scaling": {"minInstanceCount": 0, "maxInstanceCount": 2},
        "maxInstanceRequestConcurrency": 80,
        "timeout": "60s",
        "containers": [
            {
                "image": IMAGE,
                "ports": [{"containerPort": 8080}],
                "resources": {"limits": {"cpu": "1", "memory": "512Mi"}, "cpuIdle": True},
                "startupProbe": {"httpGet": {"path": "/health"}, "periodSeconds": 2, "timeoutSeconds": 2},
            }
        ],
    },
    "traffic": [{"type": BY_REVISION, "revision": "demo-1", "percent": 100, "tag": "v1"}],
}


@pytest.fixture
def who() -> Iterator[Identity]:
    with identity(PROJECT) as here:
        here.account("server")
        here.account("maker", "roles/run.admin", "roles/iam.serviceAccountUser")
        here.account("reader", "roles/viewer")
        yield here


@pytest.fixture
def stage(who: Identity) -> Iterator[CloudRun]:
    with cloudrun(who, lambda image, path, body: (200, {"image": image})) as here:
        yield here


def ask(method: str, url: str, body: Any = None, token: str = "") -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = requests.request(method, url, json=body, headers=headers, timeout=20)
    return answer.status_code, answer.json()


def call(stage: CloudRun, method: str, path: str, body: Any = None, who: str = "maker") -> tuple[int, Any]:
    token = stage.identity.token(f"{who}@{PROJECT}.iam.gserviceaccount.com")
    return ask(method, stage.url + path, body, token)


def create(stage: CloudRun, body: Any = None, name: str = "demo", who: str = "maker") -> tuple[int, Any]:
    return call(stage, "POST", f"{SERVICES}?serviceId={name}", GOOD if body is None else body, who)


def test_a_service_is_there_when_its_operation_is_done(stage: CloudRun):
    code, operation = create(stage)
    assert (code, operation.get("done")) == (200, None)
    while not operation.get("done"):
        operation = call(stage, "GET", f"/v2/{operation['name']}")[1]
    made = operation["response"]
    assert made["latestReadyRevision"].endswith("/revisions/demo-1")
    assert made["trafficStatuses"][0]["uri"] == f"{stage.url}/at/demo/v1"
    assert call(stage, "GET", f"{SERVICES}/demo")[1] == made
    assert create(stage)[0] == 409


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("unknown", 1),
        ("ingress", "INGRESS_TRAFFIC_SOME"),
        ("labels.project", "Not A Label"),
        ("template.revision", "another-1"),
        ("template.serviceAccounts", ACCOUNT),
        ("template.scaling.minInstanceCount", 3),
        ("template.maxInstanceRequestConcurrency", 1001),
        ("template.timeout", "3601s"),
        (f"{CONTAINER}.image", "registry.example/demo/serve"),
        (f"{CONTAINER}.resources.limits.cpu", "3"),
        (f"{CONTAINER}.resources.limits.memory", "33Gi"),
        (f"{CONTAINER}.resources.limits.cpu", "4"),
        (f"{CONTAINER}.startupProbe.timeoutSeconds", 3),
        (f"{CONTAINER}.startupProbe.periodSeconds", 241),
        (f"{CONTAINER}.startupProbe.httpGet", REMOVED),
        (f"{CONTAINER}.readiness", {}),
        ("traffic.0.percent", 99),
        ("traffic.0.revision", "demo-2"),
        ("traffic.0.tag", "V1"),
        ("traffic.0.type", "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"),
    ],
)
def test_what_the_reference_does_not_allow_is_refused(path: str, value: Any, stage: CloudRun):
    code, said = create(stage, with_field(GOOD, path, value))
    assert code == 400, said
    assert stage.services == {}


@pytest.mark.parametrize("name", ["", "Demo", "a" * 50, "demo-"])
def test_what_can_be_no_name_of_a_service_is_refused(name: str, stage: CloudRun):
    assert create(stage, name=name)[0] == 400


def test_who_has_no_role_or_may_not_act_as_the_account_is_refused(stage: CloudRun, who: Identity):
    assert create(stage, who="reader")[0] == 403
    who.account("maker", "roles/run.admin")
    assert create(stage)[0] == 403
    who.disabled_services.add("run.googleapis.com")
    assert call(stage, "GET", SERVICES)[0] == 403


def test_a_change_that_knows_another_version_is_refused(stage: CloudRun):
    create(stage)
    body = {**GOOD, "etag": '"generation-9"', "template": {**GOOD["template"], "revision": "demo-2"}}
    assert call(stage, "PATCH", f"{SERVICES}/demo", body)[0] == 409
    assert call(stage, "PATCH", f"{SERVICES}/demo", {**body, "etag": '"generation-1"'})[0] == 200
    assert (
        call(stage, "PATCH", f"{SERVICES}/demo", {**body, "etag": '"generation-2"'})[0] == 409
    )  # the revision


def test_a_deletion_that_knows_another_version_is_refused(stage: CloudRun):
    create(stage)
    assert call(stage, "DELETE", f"{SERVICES}/demo?etag=other")[0] == 409
    assert call(stage, "DELETE", f'{SERVICES}/demo?etag="generation-1"')[0] == 200


def test_a_part_of_the_traffic_may_go_to_the_latest_revision_without_its_name(stage: CloudRun):
    latest = [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}]
    assert create(stage, {**GOOD, "traffic": latest})[0] == 200
    assert call(stage, "GET", f"{SERVICES}/demo")[1]["traffic"] == latest


def test_a_change_of_policy_that_knows_another_one_is_refused(stage: CloudRun):
    create(stage)
    policy = {"bindings": [{"role": "roles/run.invoker", "members": ["user:a@b.example"]}]}
    set_policy = f"{SERVICES}/demo:setIamPolicy"
    assert call(stage, "POST", set_policy, {"policy": {**policy, "etag": "other"}})[0] == 409
    assert call(stage, "POST", set_policy, {"policy": policy})[0] == 200
    assert stage.invokers("demo") == ["user:a@b.example"]


def test_a_service_answers_those_who_may_ask_with_a_token_for_it(stage: CloudRun, who: Identity):
    create(stage)
    who.account("caller")
    who.account("minter", "roles/iam.serviceAccountTokenCreator")
    email = f"caller@{PROJECT}.iam.gserviceaccount.com"

    def asked(audience: str) -> int:
        path = f"/v1/projects/-/serviceAccounts/{email}:generateIdToken"
        token = call(stage, "POST", path, {"audience": audience}, "minter")[1]["token"]
        return ask("GET", f"{stage.url}/at/demo/v1/health", None, token)[0]

    path = f"/v1/projects/-/serviceAccounts/{email}:generateIdToken"
    assert call(stage, "POST", path, {"audience": "x"}, "caller")[0] == 403  # nobody may for itself
    assert asked(f"{stage.url}/at/demo/main") == 403
    members = [f"serviceAccount:{email}"]
    policy = {"bindings": [{"role": "roles/run.invoker", "members": members}]}
    call(stage, "POST", f"{SERVICES}/demo:setIamPolicy", {"policy": policy})
    assert asked(f"{stage.url}/at/demo/main") == 200
    assert asked(f"{stage.url}/at/demo/v1") == 401  # the audience is the service's own address
    assert ask("GET", f"{stage.url}/at/demo/v1/health")[0] == 401


def test_a_revision_that_does_not_start_is_the_error_of_its_operation(stage: CloudRun):
    stage.broken, stage.waits = {IMAGE}, 0
    _, operation = create(stage)
    assert "failed to start" in json.dumps(operation["error"])
