"""The stand-in of Vertex AI's models and endpoints takes and refuses what its reference documents, one field at a time."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from stage.google.identity import Identity, identity
from stage.google.vertex_serving import Serving, serving
from stage.google.vertex_serving_containers import Functions
from stage.google.vertex_serving_rules import METRIC
from stage.one_field import REMOVED, with_field

PROJECT = "stage-project"
AT = f"/v1/projects/{PROJECT}/locations/us-central1"
IMAGE = f"us-central1-docker.pkg.dev/{PROJECT}/demo/serve@sha256:{'a' * 64}"
ACCOUNT = f"server@{PROJECT}.iam.gserviceaccount.com"
ENDPOINT: dict[str, Any] = {
    "displayName": "demo",
    "labels": {"project": "demo"},
    "dedicatedEndpointEnabled": True,
    "clientConnectionConfig": {"inferenceTimeout": "60s"},
}
UPLOAD: dict[str, Any] = {
    "modelId": "demo",
    "model": {
        "displayName": "demo",
        "labels": {"project": "demo"},
        "versionAliases": ["v1"],
        "containerSpec": {
            "imageUri": IMAGE,
            "ports": [{"containerPort": 8080}],
            "healthRoute": "/health",
            "predictRoute": "/predict",
            "deploymentTimeout": "1800s",
        },
    },
}
DEPLOY: dict[str, Any] = {
    "deployedModel": {
        "id": "1",
        "model": f"projects/{PROJECT}/locations/us-central1/models/demo@1",
        "serviceAccount": ACCOUNT,
        "dedicatedResources": {
            "machineSpec": {"machineType": "e2-standard-2"},
            "minReplicaCount": 1,
            "maxReplicaCount": 2,
        },
    },
    "trafficSplit": {"0": 100},
}


def answering(image: str, path: str, body: bytes) -> tuple[int, Any]:
    return 200, {"predictions": [path], "more": image}


@pytest.fixture
def who() -> Iterator[Identity]:
    with identity(PROJECT) as here:
        here.account("server")
        here.account("maker", "roles/aiplatform.user", "roles/iam.serviceAccountUser")
        here.account("owner", "roles/aiplatform.admin", "roles/iam.serviceAccountUser")
        here.account("reader", "roles/aiplatform.viewer")
        here.account("nobody")
        yield here


@pytest.fixture
def stage(who: Identity) -> Iterator[Serving]:
    with serving(who, Functions(answering)) as here:
        here.waits = 0
        here.endpoints.late_split = 0
        yield here


def call(stage: Serving, method: str, url: str, body: Any = None, who: str = "maker") -> tuple[int, Any]:
    token = stage.identity.token(f"{who}@{PROJECT}.iam.gserviceaccount.com")
    headers = {"Authorization": f"Bearer {token}"}
    full = url if url.startswith("http") else stage.url + url
    answer = requests.request(method, full, json=body, headers=headers, timeout=20)
    return answer.status_code, answer.json()


def served(stage: Serving) -> str:
    """Makes a model, and an endpoint at which it answers; gives the endpoint's path."""
    for path, body in (
        ("models:upload", UPLOAD),
        ("endpoints?endpointId=demo", ENDPOINT),
        ("endpoints/demo:deployModel", DEPLOY),
    ):
        code, made = call(stage, "POST", f"{AT}/{path}", body)
        assert (code, made.get("error")) == (200, None), made
    return f"{AT}/endpoints/demo"


def deploy(stage: Serving, number: str, **split: int) -> tuple[int, Any]:
    body = with_field(DEPLOY, "deployedModel.id", number)
    body["trafficSplit"] = {key.removeprefix("_"): one for key, one in split.items()}
    return call(stage, "POST", f"{AT}/endpoints/demo:deployModel", body)


def test_what_takes_time_is_there_when_its_operation_is_done(stage: Serving):
    stage.waits = 2
    code, operation = call(stage, "POST", f"{AT}/models:upload", UPLOAD)
    assert (code, operation.get("done")) == (200, None)
    assert call(stage, "GET", f"{AT}/models/demo")[0] == 404
    found = call(stage, "GET", f"/v1/{operation['name']}")[1]
    name = f"projects/{stage.identity.number}/locations/us-central1/models/demo"
    assert found["response"] == {"model": name, "modelVersionId": "1"}
    made = call(stage, "GET", f"{AT}/models/demo@v1")[1]
    assert (made["name"], made["versionId"]) == (name, "1")
    assert set(made["versionAliases"]) == {"v1", "default"}
    listed = call(stage, "GET", f"{AT}/models/demo/operations")[1]["operations"]
    assert [one["done"] for one in listed] == [True]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("unknown", 1),
        ("modelId", "1demo"),
        ("modelId", "d" * 64),
        ("modelId", REMOVED),
        ("parentModel", f"projects/{PROJECT}/locations/us-central1/models/demo"),
        ("model.displayName", ""),
        ("model.displayName", "d" * 129),
        ("model.name", "demo"),
        ("model.labels.project", "Not A Label"),
        ("model.labels.Key", "a"),
        ("model.versionAliases.0", "1"),
        ("model.versionAliases.0", "v_1"),
        ("model.containerSpec.imageUri", "registry.example/demo/serve"),
        ("model.containerSpec.imageUri", "demo/serve"),
        ("model.containerSpec.healthRoute", "health"),
        ("model.containerSpec.invokeRoutePrefix", "/*"),
        ("model.containerSpec.deploymentTimeout", "7201s"),
    ],
)
def test_a_model_with_one_thing_wrong_is_refused(path: str, value: Any, stage: Serving):
    assert call(stage, "POST", f"{AT}/models:upload", with_field(UPLOAD, path, value))[0] in (400, 404)
    assert stage.models.models == {}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("unknown", 1),
        ("displayName", REMOVED),
        ("labels.project", "A"),
        ("trafficSplit", {"1": 100}),
        ("deployedModels", [{"id": "1"}]),
        ("clientConnectionConfig.inferenceTimeout", "3601s"),
    ],
)
def test_an_endpoint_with_one_thing_wrong_is_refused(path: str, value: Any, stage: Serving):
    code, _ = call(stage, "POST", f"{AT}/endpoints?endpointId=demo", with_field(ENDPOINT, path, value))
    assert (code, stage.endpoints.kept) == (400, {})


@pytest.mark.parametrize("name", ["Demo", "demo-", "0123", "1234567890", "d" * 64, "de_mo"])
def test_an_endpoint_is_named_as_documented(name: str, stage: Serving):
    assert call(stage, "POST", f"{AT}/endpoints?endpointId={name}", ENDPOINT)[0] == 400


def test_an_id_is_taken_for_ever(stage: Serving):
    assert call(stage, "POST", f"{AT}/endpoints?endpointId=demo", ENDPOINT)[0] == 200
    assert call(stage, "DELETE", f"{AT}/endpoints/demo")[0] == 200
    assert call(stage, "GET", f"{AT}/endpoints/demo")[0] == 404
    assert call(stage, "POST", f"{AT}/endpoints?endpointId=demo", ENDPOINT)[0] == 409


RESOURCES = "deployedModel.dedicatedResources"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("unknown", 1),
        ("deployedModel.id", "12345678901"),
        ("deployedModel.id", "a"),
        ("deployedModel.id", "1"),
        ("deployedModel.model", f"projects/{PROJECT}/locations/us-central1/models/demo@7"),
        ("deployedModel.serviceAccount", f"another@{PROJECT}.iam.gserviceaccount.com"),
        (RESOURCES, REMOVED),
        (f"{RESOURCES}.machineSpec.machineType", "n1-standard-1"),
        (f"{RESOURCES}.minReplicaCount", 0),
        (f"{RESOURCES}.minReplicaCount", 3),
        ("trafficSplit", {"0": 90}),
        ("trafficSplit", {"0": 90, "7": 10}),
        ("trafficSplit", {"0": 110, "1": -10}),
    ],
)
def test_what_is_deployed_with_one_thing_wrong_is_refused(path: str, value: Any, stage: Serving):
    served(stage)
    good = with_field(DEPLOY, "deployedModel.id", "2")
    code, _ = call(stage, "POST", f"{AT}/endpoints/demo:deployModel", with_field(good, path, value))
    assert code in (400, 403, 404)
    assert [*stage.endpoints.kept["demo"].deployed] == ["1"]


def test_without_a_split_a_deployed_model_gets_no_requests(stage: Serving):
    path = served(stage)
    deploy(stage, "2")
    found = call(stage, "GET", path)[1]
    assert found["trafficSplit"] == {"1": 100}
    assert [(one["id"], one["modelVersionId"]) for one in found["deployedModels"]] == [("1", "1"), ("2", "1")]


def test_requests_go_where_the_split_says_at_the_endpoints_own_address_only(stage: Serving):
    path = served(stage)
    dns = call(stage, "GET", path)[1]["dedicatedEndpointDns"]
    code, found = call(stage, "POST", f"{dns}{path}:predict", {"instances": []})
    assert (code, found["predictions"], found["deployedModelId"]) == (200, ["/predict"], "1")
    assert "more" not in found  # of the server's own words only predictions come through
    assert call(stage, "POST", f"{dns}{path}:rawPredict", {})[1] == {
        "predictions": ["/predict"],
        "more": IMAGE,
    }
    assert call(stage, "POST", f"{path}:predict", {})[0] == 400
    assert call(stage, "POST", f"{dns}{path.replace('demo', 'other')}:predict", {})[0] == 404
    assert call(stage, "GET", f"{dns}/health")[0] == 404
    body = {"trafficSplit": {}}
    assert call(stage, "PATCH", f"{path}?updateMask=trafficSplit", body)[0] == 200
    code, said = call(stage, "POST", f"{dns}{path}:predict", {})
    assert (code, said["error"]["status"]) == (400, "FAILED_PRECONDITION")


def test_a_change_of_the_split_may_be_known_later(stage: Serving):
    path = served(stage)
    deploy(stage, "2")
    stage.endpoints.late_split = 1
    call(stage, "PATCH", f"{path}?updateMask=trafficSplit", {"trafficSplit": {"2": 100}})
    dns = call(stage, "GET", path)[1]["dedicatedEndpointDns"]
    told = [call(stage, "POST", f"{dns}{path}:predict", {})[1]["deployedModelId"] for _ in range(2)]
    assert told == ["1", "2"]


@pytest.mark.parametrize(
    ("mask", "body", "code"),
    [
        ("trafficSplit", {"trafficSplit": {"1": 99}}, 400),
        ("trafficSplit", {"trafficSplit": {"9": 100}}, 400),
        ("deployedModels", {"deployedModels": []}, 400),
        ("labels", {"labels": {"a": "B"}}, 400),
        ("labels", {"labels": {"a": "b"}, "etag": "old"}, 409),
        ("labels", {"labels": {"a": "b"}}, 200),
    ],
)
def test_an_endpoint_is_changed_as_far_as_documented(mask: str, body: Any, code: int, stage: Serving):
    path = served(stage)
    assert call(stage, "PATCH", f"{path}?updateMask={mask}", body)[0] == code


def test_what_has_requests_is_undeployed_last_or_with_another_split(stage: Serving):
    path = served(stage)
    deploy(stage, "2", _0=50, _1=50)
    undeploy = f"{path}:undeployModel"
    assert call(stage, "POST", undeploy, {"deployedModelId": "1"})[0] == 400
    both = {"deployedModelId": "1", "trafficSplit": {"1": 100}}
    assert call(stage, "POST", undeploy, both)[0] == 400
    assert call(stage, "POST", undeploy, {"deployedModelId": "9"})[0] == 404
    assert call(stage, "POST", undeploy, {"deployedModelId": "1", "trafficSplit": {"2": 100}})[0] == 200
    assert call(stage, "DELETE", path)[0] == 400
    assert call(stage, "POST", undeploy, {"deployedModelId": "2"})[0] == 200
    assert "trafficSplit" not in call(stage, "GET", path)[1]
    assert call(stage, "DELETE", path)[0] == 200


def test_one_thing_is_done_with_an_endpoint_at_a_time(stage: Serving):
    path = served(stage)
    stage.waits = 9
    assert deploy(stage, "2")[0] == 200
    code, said = deploy(stage, "3")
    assert (code, "other operations running" in said["error"]["message"]) == (400, True)
    assert call(stage, "DELETE", path)[0] == 400


def test_a_deployed_model_is_not_deleted_nor_for_a_while_afterwards(stage: Serving):
    path = served(stage)
    assert call(stage, "DELETE", f"{AT}/models/demo")[0] == 400
    call(stage, "POST", f"{path}:undeployModel", {"deployedModelId": "1"})
    stage.models.late_release = 1
    assert call(stage, "DELETE", f"{AT}/models/demo")[0] == 400
    stage.models.late_release = 0
    assert call(stage, "DELETE", f"{AT}/models/demo")[0] == 200
    assert stage.models.models == {}


def test_aliases_lead_to_one_version_each(stage: Serving):
    call(stage, "POST", f"{AT}/models:upload", UPLOAD)
    later = {key: one for key, one in UPLOAD.items() if key != "modelId"}
    later["parentModel"] = f"projects/{PROJECT}/locations/us-central1/models/demo"
    assert call(stage, "POST", f"{AT}/models:upload", later)[0] == 400  # v1 is taken
    later = with_field(later, "model.versionAliases", ["v2"])
    assert call(stage, "POST", f"{AT}/models:upload", later)[0] == 200
    assert call(stage, "POST", f"{AT}/models:upload", UPLOAD)[0] == 409

    def merge(which: str, *names: str) -> int:
        return call(stage, "POST", f"{AT}/models/{which}:mergeVersionAliases", {"versionAliases": names})[0]

    assert merge("demo@2", "v1") == 400
    assert merge("demo", "new") == 400
    assert merge("demo@2", "Not") == 400
    assert merge("demo@1", "-default") == 400
    assert merge("demo@2", "default", "champion") == 200
    listed = call(stage, "GET", f"{AT}/models/demo:listVersions")[1]["models"]
    assert [set(one["versionAliases"]) for one in listed] == [{"v1"}, {"v2", "default", "champion"}]


def test_the_service_pulls_an_image_by_an_account_of_its_own(stage: Serving):
    email = f"service-{stage.identity.number}@gcp-sa-aiplatform.iam.gserviceaccount.com"
    stage.agents = {email: set()}
    assert call(stage, "POST", f"{AT}/models:upload", UPLOAD)[0] == 400
    stage.agents = {email: {"roles/aiplatform.serviceAgent"}}
    assert call(stage, "POST", f"{AT}/models:upload", UPLOAD)[0] == 200


def test_all_machines_that_there_may_ever_be_count_for_the_quota(stage: Serving):
    served(stage)
    stage.identity.quotas[METRIC] = {"us-central1": 7}
    code, said = deploy(stage, "2")
    assert (code, METRIC in said["error"]["message"]) == (429, True)


def test_a_container_that_does_not_become_healthy_is_the_error_of_its_operation(stage: Serving):
    served(stage)
    backend = stage.endpoints.backend
    assert isinstance(backend, Functions)
    backend.broken = {IMAGE}
    code, operation = deploy(stage, "2")
    assert (code, operation["error"]["code"]) == (200, 9)
    assert "never became ready" in operation["error"]["message"]
    assert [*stage.endpoints.kept["demo"].deployed] == ["1"]


def test_who_may_do_what(stage: Serving):
    path = served(stage)
    assert call(stage, "GET", path, who="reader")[0] == 200
    assert call(stage, "DELETE", path, who="reader")[0] == 403
    assert call(stage, "POST", f"{AT}/models:upload", UPLOAD, "reader")[0] == 403
    assert call(stage, "GET", path, who="nobody")[0] == 403
    assert call(stage, "GET", path.replace("us-central1", "europe-west4"))[0] == 400
    assert call(stage, "GET", path.replace(PROJECT, "another"))[0] == 403
    stage.identity.disabled_services.add("aiplatform.googleapis.com")
    assert call(stage, "GET", path)[0] == 403


def test_a_policy_lets_somebody_ask_one_endpoint_and_do_nothing_else(stage: Serving):
    path = served(stage)
    dns = call(stage, "GET", path)[1]["dedicatedEndpointDns"]
    beta = path.replace("/v1/", "/v1beta1/")
    member = f"serviceAccount:nobody@{PROJECT}.iam.gserviceaccount.com"

    def grant(role: str, who: str = "owner", etag: str = "ACAB") -> int:
        policy = {"bindings": [{"role": role, "members": [member]}], "etag": etag}
        return call(stage, "POST", f"{beta}:setIamPolicy", {"policy": policy}, who)[0]

    asking = f"projects/{PROJECT}/roles/demo_predict"
    assert call(stage, "POST", f"{dns}{path}:predict", {}, "nobody")[0] == 403
    assert call(stage, "POST", f"{path}:getIamPolicy", {}, "owner")[0] == 501  # it is of v1beta1
    assert call(stage, "POST", f"{beta}:getIamPolicy", {}, "owner")[1] == {"etag": "ACAB"}
    assert grant(asking, "maker") == 403
    assert grant("projects/x/roles/unknown") == 400
    assert grant(asking, etag="old") == 409
    assert grant(asking) == 200
    assert call(stage, "POST", f"{dns}{path}:predict", {}, "nobody")[0] == 200
    assert call(stage, "DELETE", path, who="nobody")[0] == 403


def test_a_condition_is_shown_to_who_asks_for_the_third_version_of_policies(stage: Serving):
    beta = served(stage).replace("/v1/", "/v1beta1/")
    binding = {
        "role": "roles/aiplatform.viewer",
        "members": ["user:a@b.example"],
        "condition": {"title": "t"},
    }
    policy: dict[str, Any] = {"bindings": [binding]}
    assert call(stage, "POST", f"{beta}:setIamPolicy", {"policy": policy}, "owner")[0] == 400
    assert call(stage, "POST", f"{beta}:setIamPolicy", {"policy": policy | {"version": 3}}, "owner")[0] == 200
    (shown,) = call(stage, "POST", f"{beta}:getIamPolicy", {}, "owner")[1]["bindings"]
    assert shown == {"role": "roles/aiplatform.viewer_withcond_0", "members": ["user:a@b.example"]}
    query = "options.requestedPolicyVersion=3"
    assert call(stage, "POST", f"{beta}:getIamPolicy?{query}", {}, "owner")[1]["bindings"] == [binding]


def test_what_is_known_late_is_told_late(stage: Serving):
    stage.endpoints.late_dns, stage.endpoints.age = 1, 60
    path = served(stage)
    assert "dedicatedEndpointDns" not in call(stage, "GET", path)[1]
    found = call(stage, "GET", path)[1]
    made = datetime.fromisoformat(found["createTime"])
    assert 59 < (datetime.now(UTC) - made).total_seconds() < 90
    stage.endpoints.told_by = False
    headers = {"Authorization": f"Bearer {stage.identity.token(f'maker@{PROJECT}.iam.gserviceaccount.com')}"}
    url = f"{found['dedicatedEndpointDns']}{path}:rawPredict"
    answer = requests.post(url, json={}, headers=headers, timeout=20)
    assert (answer.status_code, "X-Vertex-AI-Deployed-Model-id" in answer.headers) == (200, False)
    stage.models.lists_containers = False
    (listed,) = call(stage, "GET", f"{AT}/models/demo:listVersions")[1]["models"]
    assert "containerSpec" not in listed


def test_lists_find_by_labels_and_come_in_pages(stage: Serving):
    for name in ("a", "b", "c"):
        body = ENDPOINT | {"labels": {"project": "demo", "model": name}}
        call(stage, "POST", f"{AT}/endpoints?endpointId={name}", body)
    found = call(stage, "GET", f'{AT}/endpoints?filter=labels.project="demo" AND labels.model="b"')[1]
    assert [one["labels"]["model"] for one in found["endpoints"]] == ["b"]
    page = call(stage, "GET", f"{AT}/endpoints")[1]
    assert (len(page["endpoints"]), page["nextPageToken"]) == (1, "1")
    assert call(stage, "GET", f"{AT}/endpoints?filter=nothing~1")[0] == 400
