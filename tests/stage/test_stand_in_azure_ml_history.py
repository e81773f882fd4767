"""The stand-ins for run history, for what it says of a job, and for MLflow, by which a job tells its metrics."""

import datetime
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from stage import azure
from stage.azure.errors import AzureError
from stage.azure.ml_bench import Bench, bench, said

HOST = "https://westeurope.api.azureml.ms"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with azure.serve(tmp_path_factory.mktemp("azure")) as world:
        yield bench(world)


@pytest.fixture
def here(shared: Bench) -> Bench:
    """The same, as if nobody had done anything in it."""
    shared.world.ml.reset()
    return shared


def fetch(here: Bench, url: str, **headers: str) -> requests.Response:
    """Fetches an address without a token."""
    where = {"proxies": {"https": here.world.url}, "verify": str(here.world.certificates)}
    return requests.get(url, headers=headers, timeout=60, **where)


def batch(here: Bench, name: str, **given: Any) -> requests.Response:
    url = f"{HOST}/mlflow/v1.0{here.workspace}/api/2.0/mlflow/runs/log-batch"
    return here.ask("POST", url, {"run_id": name, **given})


# Where it is


def test_a_workspace_names_where_its_services_are(here: Bench) -> None:
    url = here.get(here.workspace, who=here.world.owner)["properties"]["discoveryUrl"]
    assert fetch(here, url).json()["api"] == HOST


@pytest.mark.parametrize("audience", ["https://ml.azure.com", "https://management.azure.com"])
def test_history_takes_a_token_for_either_service(here: Bench, audience: str) -> None:
    here.submit("a")
    assert here.history("a", audience=audience)["status"] == "NotStarted"


def test_history_takes_no_other_token(here: Bench) -> None:
    here.submit("a")
    url = f"{HOST}/history/v1.0{here.workspace}/runs/a/details"
    assert (fetch(here, url).status_code, fetch(here, url).json()["error"]["message"]) == (
        401,
        "Bearer token not provided.",
    )
    assert here.ask("GET", url, audience="https://storage.azure.com").status_code == 401
    nobody = here.world.make.principal("nobody")
    assert here.ask("GET", url, who=nobody).status_code == 403


def test_a_run_is_found_by_its_experiment_too(here: Bench) -> None:
    here.submit("a")
    base = f"{HOST}/history/v1.0{here.workspace}/experiments"
    assert here.get(f"{base}/demo/runs/a/details")["runId"] == "a"
    with pytest.raises(AzureError, match="Run a was not found"):
        here.get(f"{base}/other/runs/a/details")


def test_another_region_does_not_know_the_workspace(here: Bench) -> None:
    here.submit("a")
    url = f"https://eastus.api.azureml.ms/history/v1.0{here.workspace}/runs/a/details"
    assert here.ask("GET", url).status_code == 404


# What it says


def test_times_are_in_history_and_not_in_the_job(here: Bench) -> None:
    here.submit("a")
    begun = here.world.clock.now()
    here.world.pass_time(100)
    here.world.ml.start("a")
    here.world.pass_time(50)
    here.world.ml.lose("a")
    here.world.pass_time(50)
    here.world.ml.start("a")
    here.world.pass_time(50)
    here.world.ml.finish("a")
    here.world.pass_time(1)
    said = here.history("a")
    times = [
        datetime.datetime.fromisoformat(said[name]).timestamp() - begun
        for name in ("createdTimeUtc", "startTimeUtc", "lastStartTimeUtc", "endTimeUtc")
    ]
    assert times == [0, 100, 200, 251]
    assert "Time" not in str([*here.get("jobs/a")["properties"]])


def test_before_it_has_run_there_is_neither_a_start_nor_a_log(here: Bench) -> None:
    here.submit("a")
    said = here.history("a")
    assert (said["startTimeUtc"], said["endTimeUtc"], said["logFiles"], said["error"]) == (
        None,
        None,
        {},
        None,
    )


# Logs


def test_the_log_is_at_an_address_that_needs_no_token(here: Bench) -> None:
    here.started("a")
    here.world.ml.say("a", "one", "zwei ä")
    files = here.history("a")["logFiles"]
    url = files["user_logs/std_log.txt"]
    assert fetch(here, url).text.encode("latin-1").decode() == "one\nzwei ä\n"
    assert any(name.startswith("system_logs/") for name in files)
    part = fetch(here, url, Range="bytes=4-")
    assert (part.status_code, part.content.decode()) == (206, "zwei ä\n")
    assert fetch(here, url, Range="bytes=100-").status_code == 416


def test_the_address_of_a_log_is_good_for_its_file_and_a_time_only(here: Bench) -> None:
    here.started("a")
    here.world.ml.say("a", "one")
    url = here.history("a")["logFiles"]["user_logs/std_log.txt"]
    assert fetch(here, url.replace("std_log", "other")).status_code == 403
    assert fetch(here, url.partition("?")[0]).status_code == 401
    assert fetch(here, url, Authorization="Bearer x").status_code == 401
    here.world.pass_time(9 * 3600)
    assert fetch(here, url).status_code == 403


def test_a_log_is_in_the_workspaces_own_account_and_signed_with_its_key(here: Bench) -> None:
    here.started("a")
    here.world.ml.say("a", "one")
    url = here.history("a")["logFiles"]["user_logs/std_log.txt"]
    assert url.startswith("https://mldemostore.blob.core.windows.net/azureml/ExperimentRun/dcid.a/")
    workspace = here.world.arm.get(here.workspace)
    account = here.world.arm.get(workspace.properties["storageAccount"])
    account.properties["allowSharedKeyAccess"] = False
    try:
        refused = fetch(here, url)
        workspace.properties["systemDatastoresAuthMode"] = "Identity"
        delegated = fetch(here, here.history("a")["logFiles"]["user_logs/std_log.txt"])
    finally:
        workspace.properties["systemDatastoresAuthMode"] = "AccessKey"
        account.properties["allowSharedKeyAccess"] = True
    assert refused.headers["x-ms-error-code"] == "KeyBasedAuthenticationNotPermitted"
    assert delegated.status_code == 200


def test_the_next_attempt_overwrites_the_log(here: Bench) -> None:
    here.started("a")
    here.world.ml.say("a", "one")
    url = here.history("a")["logFiles"]["user_logs/std_log.txt"]
    here.world.ml.lose("a")
    assert fetch(here, url).text == "one\n"
    here.world.ml.start("a")
    here.world.ml.say("a", "two")
    assert fetch(here, url).text == "two\n"


# MLflow


def test_metrics_grow_and_the_last_is_the_runs(here: Bench) -> None:
    here.started("a")
    for step, value in enumerate((0.5, 0.25)):
        assert here.log("a", "val/loss", value, who=here.trainer).status_code == 200, step
    base = f"{HOST}/mlflow/v1.0{here.workspace}/api/2.0/mlflow"
    data = here.get(f"{base}/runs/get", query={"run_id": "a"})["run"]["data"]
    assert [(one["key"], one["value"]) for one in data["metrics"]] == [("val/loss", 0.25)]
    history = here.get(f"{base}/metrics/get-history", query={"run_id": "a", "metric_key": "val/loss"})
    assert [one["value"] for one in history["metrics"]] == [0.5, 0.25]


def test_a_jobs_own_token_is_for_its_run_only(here: Bench) -> None:
    for name in ("a", "b"):
        here.started(name)
    token = here.world.history.run_token(here.world.ml.job("a"))
    url = f"{HOST}/mlflow/v1.0{here.workspace}/api/2.0/mlflow/runs/log-metric"
    where = {"proxies": {"https": here.world.url}, "verify": str(here.world.certificates), "timeout": 60}
    codes = []
    for name in ("a", "b"):
        body = {"run_id": name, "key": "x", "value": 1, "timestamp": 1}
        answer = requests.post(url, json=body, headers={"Authorization": f"Bearer {token}"}, **where)
        codes.append(answer.status_code)
    assert codes == [200, 403]
    assert (
        fetch(
            here,
            f"https://management.azure.com{here.workspace}/jobs?api-version=2025-12-01",
            Authorization=f"Bearer {token}",
        ).status_code
        == 401
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"key": "a:b"}, "Invalid metric name"),
        ({"key": "a" * 251}, "Invalid metric name"),
        ({"value": "high"}, "Invalid value"),
        ({"timestamp": None}, "Missing value for required parameter 'timestamp'"),
        ({"timestamp": 1.5}, "Invalid value"),
        ({"key": None}, "Missing value for required parameter 'key'"),
    ],
)
def test_what_is_no_metric_is_refused(here: Bench, given: dict[str, Any], words: str) -> None:
    here.started("a")
    good = {"key": "a b/c-d.e_f", "value": "NaN", "timestamp": 1}
    assert batch(here, "a", metrics=[good]).status_code == 200
    answer = batch(here, "a", metrics=[good | given])
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert words in answer.json()["error"]["message"]


def test_a_batch_takes_fewer_metrics_than_mlflow_itself(here: Bench) -> None:
    here.started("a")
    one = {"key": "a", "value": 1, "timestamp": 1}
    assert batch(here, "a", metrics=[one] * 200).status_code == 200
    assert batch(here, "a", metrics=[one] * 201).status_code == 400


def test_a_run_that_is_not_there_has_no_metrics(here: Bench) -> None:
    answer = here.log("gone", "a", 1)
    assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


# Faults


def test_faults_are_made_by_service(here: Bench) -> None:
    here.started("a")
    here.world.fail("history", "details", times=1)
    here.world.fail("mlflow", "log-metric", 429, "TooManyRequests", headers={"Retry-After": "1"})
    with pytest.raises(AzureError, match="ServiceUnavailable"):
        here.history("a")
    answer = here.log("a", "x", 1)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    assert said(here.log("a", "x", 1)) == {}
    assert here.world.paths("mlflow", "log-metric")[-1].startswith("POST /mlflow/v1.0/")
