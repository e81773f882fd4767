"""The stand-in for Azure ML's jobs and environments refuses and does what the service does."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from stage import azure
from stage.azure import ml_shapes
from stage.azure.errors import AzureError
from stage.azure.ml_bench import DIGEST, GPU, SIZE, Bench, bench, said
from stage.azure.ml_jobs import ATTEMPTS, SUBMITTED
from stage.azure.ml_usages import ALL_DEDICATED, ALL_LOW_PRIORITY
from stage.one_field import REMOVED, with_field


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with azure.serve(tmp_path_factory.mktemp("azure")) as world:
        yield bench(world)


@pytest.fixture
def here(shared: Bench) -> Bench:
    """The same, as if nobody had done anything in it."""
    shared.world.ml.reset()
    shared.world.heal()
    return shared


# What a job may be


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("properties.enviromentVariables", {}, "enviromentVariables is not a field of CommandJob"),
        ("properties.command", REMOVED, "command is required"),
        ("properties.command", " ", "Command must not be empty"),
        ("properties.jobType", "command", "jobType='command' is not one of"),
        ("properties.jobType", REMOVED, "jobType is required"),
        ("properties.environmentId", REMOVED, "environmentId is required"),
        ("properties.environmentVariables.A", 1, "is no str"),
        ("properties.limits.timeout", "7200", "no ISO 8601 duration"),
        ("properties.limits.timeout", "PT0S", "at least one second"),
        ("properties.limits.jobLimitsType", REMOVED, "jobLimitsType is required"),
        ("properties.limits.jobLimitsType", "Sweep", "is not one of ['Command']"),
        ("properties.queueSettings.jobTier", "spot", "is not one of"),
        ("properties.resources.instanceCount", "2", "is no int"),
        ("properties.resources.instanceCount", True, "is no int"),
        ("properties.resources.instanceCount", 0, "at least 1"),
        ("properties.resources.instanceType", "Standard_X1", "Standard_X1 is not supported"),
        ("properties.resources.shmSize", "8 GB", "shm size"),
        ("properties.resources.shmSize", "0g", "shm size"),
        ("properties.status", "Running", "status is read-only"),
        ("properties.experimentName", "a b", "Experiment name must be 1-256 characters"),
        ("properties.experimentName", "a" * 257, "Experiment name must be 1-256 characters"),
        ("properties.tags.n", 1, "is no str"),
        (
            "properties.distribution",
            {"distributionType": "PyTorch", "processCountPerNode": 1},
            "not a field of PyTorch",
        ),
        ("properties.distribution", {"distributionType": "Torch"}, "is not one of"),
        ("properties.identity.identityType", "managed", "is not one of"),
        (
            "properties.identity.clientId",
            "00000000-0000-0000-0000-000000000000",
            "not one of the user-assigned",
        ),
        ("properties.computeId", "gone", "Unknown compute target 'gone'"),
        ("properties.command", "a ${{inputs.b}}", "there is no 'inputs.b'"),
        ("properties.command", "a ${{ whatever }}", "there is no 'whatever'"),
        ("properties.command", "a ${{search_space.lr}}", "there is no 'search_space.lr'"),
        ("properties", REMOVED, "properties is required"),
    ],
)
def test_a_job_that_cannot_be_is_refused(shared: Bench, path: str, value: Any, words: str) -> None:
    assert shared.refused("never", shared.body()) == ""
    shared.world.ml.jobs.clear()
    assert words in shared.refused("never", with_field(shared.body(), path, value))
    assert shared.world.ml.jobs == {}


@pytest.mark.parametrize("name", ["a.b", "-a", "_a", "a" * 256, "ä", "a b"])
def test_a_name_that_no_job_may_have_is_refused(shared: Bench, name: str) -> None:
    assert "invalid" in shared.refused(name, shared.body())


@pytest.mark.parametrize("name", ["a", "A-b_1", "1", "a" * 255])
def test_a_name_that_a_job_may_have_is_taken(shared: Bench, name: str) -> None:
    assert shared.submit(name)["name"] == name


def test_an_environment_that_is_not_there_is_refused(shared: Bench) -> None:
    other = f"{shared.workspace}/environments/demo/versions/2"
    assert "versions/2 not found" in shared.refused("e1", shared.body(environmentId=other))


def test_a_literal_input_is_put_into_the_command(shared: Bench) -> None:
    inputs = {"b": {"jobInputType": "literal", "value": "1"}}
    assert (
        shared.submit("i1", inputs=inputs, command="a ${{inputs.b}}")["properties"]["status"] == "NotStarted"
    )


def test_without_a_type_of_machine_the_service_takes_a_cpu_of_its_choice(shared: Bench) -> None:
    shared.submit("m1", resources=None)
    assert (shared.world.ml.job("m1").size.name, shared.world.ml.job("m1").size.gpus) == (
        "Standard_DS3_v2",
        0,
    )


def test_a_version_of_the_api_that_is_not_there_is_refused(shared: Bench) -> None:
    answer = shared.ask("GET", "jobs", query={"api-version": "2020-01-01"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "NoRegisteredProviderFound")


def test_who_has_no_role_may_not_submit(shared: Bench) -> None:
    nobody = shared.world.make.principal("nobody")
    answer = shared.ask("PUT", "jobs/n1", shared.body(), who=nobody)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "AuthorizationFailed")
    assert "Microsoft.MachineLearningServices/workspaces/jobs/write" in answer.text


def test_a_workspace_that_is_not_there_has_no_jobs(shared: Bench) -> None:
    path = shared.workspace.replace("demo-ml", "other-ml")
    answer = shared.ask("GET", f"{path}/jobs", who=shared.world.owner)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "ResourceNotFound")


# Environments


def test_a_version_of_an_environment_keeps_its_image(shared: Bench) -> None:
    path = "environments/other/versions/5"
    given = {"properties": {"image": f"demostoreimages.azurecr.io/a@{DIGEST}", "osType": "Linux"}}
    assert shared.ask("PUT", path, given).status_code == 201
    assert shared.ask("PUT", path, given).status_code == 200
    tagged = {"properties": given["properties"] | {"tags": {"a": "b"}}}
    assert said(shared.ask("PUT", path, tagged))["properties"]["tags"] == {"a": "b"}
    answer = shared.ask("PUT", path, {"properties": {"image": "other", "osType": "Linux"}})
    assert answer.status_code == 409
    assert "Environment other with version 5 is already registered and cannot be changed." in answer.text
    assert shared.get(path)["properties"]["image"] == given["properties"]["image"]


@pytest.mark.parametrize(
    ("properties", "words"),
    [({}, "needs an image"), ({"image": "a", "osType": "linux"}, "osType"), ({"images": "a"}, "not a field")],
)
def test_an_environment_that_cannot_be_is_refused(
    shared: Bench, properties: dict[str, str], words: str
) -> None:
    assert words in shared.ask("PUT", "environments/bad/versions/1", {"properties": properties}).text


def test_environments_are_listed_and_taken_away(shared: Bench) -> None:
    for version in ("1", "2"):
        shared.ask("PUT", f"environments/listed/versions/{version}", {"properties": {"image": version}})
    assert "listed" in [one["name"] for one in shared.get("environments")["value"]]
    assert [one["name"] for one in shared.get("environments/listed/versions")["value"]] == ["2", "1"]
    assert shared.ask("DELETE", "environments/listed/versions/1").status_code == 200
    with pytest.raises(AzureError, match="not found"):
        shared.get("environments/listed/versions/1")


# The same name again


def test_the_same_request_again_is_the_same_job(here: Bench) -> None:
    assert here.ask("PUT", "jobs/a", here.body()).status_code == 201
    here.world.ml.start("a")
    answer = here.ask("PUT", "jobs/a", here.body())
    assert (answer.status_code, answer.json()["properties"]["status"]) == (200, "Running")
    assert len(here.world.ml.jobs) == 1


def test_another_job_under_a_taken_name_is_refused(here: Bench) -> None:
    here.submit("a")
    text = here.refused("a", here.body(command="other"))
    assert "A job with this name already exists" in text
    assert "the existing job's Command cannot be changed" in text


def test_tags_of_a_job_are_added_and_none_goes(here: Bench) -> None:
    here.submit("a", tags={"a": "1", "b": "1"})
    here.submit("a", tags={"b": "2"})
    assert here.get("jobs/a")["properties"]["tags"] == {"a": "1", "b": "2"}


# Its life


def test_a_job_goes_through_its_states(here: Bench) -> None:
    here.submit("a")
    seen = [here.status("a")]
    for _ in range(3):
        here.world.pass_time(1)
        seen.append(here.status("a"))
    here.world.ml.start("a")
    seen.append(here.status("a"))
    here.world.ml.finish("a")
    seen.append(here.status("a"))
    here.world.pass_time(1)
    assert [*seen, here.status("a")] == [
        *("NotStarted", "Provisioning", "Preparing", "Queued", "Running", "Finalizing", "Completed")
    ]


def test_an_exit_status_fails_the_job_and_is_in_its_error(here: Bench) -> None:
    here.started("a")
    here.world.ml.say("a", "no GPU here")
    here.world.ml.finish("a", 75)
    here.world.pass_time(1)
    assert here.status("a") == "Failed"
    message = here.history("a")["error"]["error"]["message"]
    assert re.match(
        r"Execution failed. User process '\S+' exited with status code 75\. Please check log file", message
    )
    assert "no GPU here" in message


def test_a_lost_machine_queues_the_job_again_and_its_log_is_overwritten(here: Bench) -> None:
    here.started("a")
    here.world.ml.say("a", "first")
    here.world.ml.lose("a")
    assert (here.status("a"), here.world.ml.job("a").attempts) == ("Queued", 1)
    here.world.ml.start("a")
    here.world.ml.say("a", "second")
    job = here.world.ml.job("a")
    assert (job.attempts, job.lines, job.logs) == (
        2,
        ["first", "second"],
        {"user_logs/std_log.txt": ["second"]},
    )


def test_a_lost_machine_may_fail_the_job_as_well(here: Bench) -> None:
    here.started("a")
    here.world.ml.lose("a", restarts=False)
    assert here.status("a") == "Failed"
    assert "PreemptionError" in here.history("a")["error"]["error"]["message"]


def test_a_dedicated_machine_is_not_taken_away(here: Bench) -> None:
    here.started("a", queueSettings={"jobTier": "Standard"})
    with pytest.raises(AssertionError, match="cannot lose"):
        here.world.ml.lose("a")


def test_a_missed_heartbeat_is_no_end(here: Bench) -> None:
    here.started("a")
    here.world.ml.job("a").not_responding()
    assert here.status("a") == "NotResponding"
    here.world.ml.job("a").respond()
    here.world.ml.finish("a")
    here.world.pass_time(1)
    assert here.status("a") == "Completed"


# Its end by others


@pytest.mark.parametrize("start", [False, True])
def test_a_cancelled_job_ends_some_seconds_later(here: Bench, start: bool) -> None:
    here.submit("a")
    if start:
        here.world.ml.start("a")
    answer = here.ask("POST", "jobs/a/cancel")
    assert (answer.status_code, here.status("a")) == (202, "CancelRequested")
    assert here.ask("POST", "jobs/a/cancel").status_code == 202
    assert here.ask("GET", answer.headers["Location"]).status_code == 202
    here.world.pass_time(5)
    assert (here.status("a"), here.ask("GET", answer.headers["Location"]).status_code) == ("Canceled", 200)


def test_a_job_that_ends_while_it_is_cancelled_is_cancelled(here: Bench) -> None:
    here.started("a")
    here.ask("POST", "jobs/a/cancel")
    here.world.ml.finish("a")
    assert here.status("a") == "Canceled"


@pytest.mark.parametrize("seconds", [0, 1])
def test_what_is_over_or_about_to_be_cannot_be_cancelled(here: Bench, seconds: float) -> None:
    here.started("a")
    here.world.ml.finish("a")
    here.world.pass_time(seconds)
    answer = here.ask("POST", "jobs/a/cancel")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "UserError")


def test_the_limit_counts_each_attempt_anew(here: Bench) -> None:
    here.submit("a")
    here.world.pass_time(86400)
    here.world.ml.start("a")
    here.world.pass_time(7000)
    here.world.ml.lose("a")
    here.world.ml.start("a")
    here.world.pass_time(7199)
    assert here.status("a") == "Running"
    here.world.pass_time(1)
    assert here.status("a") == "CancelRequested"
    here.world.pass_time(5)
    assert (here.status("a"), here.world.ml.job("a").seconds) == ("Canceled", 7000 + 7205)


@pytest.mark.parametrize(("measure", "left"), [(ATTEMPTS, 200), (SUBMITTED, 100)])
def test_the_limit_may_count_other_time_as_well(here: Bench, measure: str, left: float) -> None:
    here.world.ml.measure = measure
    here.submit("a")
    here.world.pass_time(100)
    here.world.ml.start("a")
    here.world.pass_time(7000)
    here.world.ml.lose("a")
    here.world.ml.start("a")
    here.world.pass_time(left - 1)
    assert here.status("a") == "Running"
    here.world.pass_time(1)
    assert here.status("a") == "CancelRequested"


def test_no_job_on_low_priority_lives_longer_than_a_week(here: Bench) -> None:
    here.started("a", limits=None)
    here.world.pass_time(7 * 86400 + 5)
    assert here.status("a") == "Canceled"


def test_only_a_job_that_is_over_can_be_deleted(here: Bench) -> None:
    here.started("a")
    assert here.ask("DELETE", "jobs/a").status_code == 400
    here.world.ml.finish("a")
    here.world.pass_time(1)
    assert here.ask("DELETE", "jobs/a").status_code == 200
    with pytest.raises(AzureError, match="Run a was not found"):
        here.get("jobs/a")


# Quota


def test_a_new_subscription_has_no_gpus(here: Bench) -> None:
    here.submit("a", resources={"instanceType": GPU}, queueSettings={"jobTier": "Standard"})
    here.world.pass_time(3)
    assert here.status("a") == "Failed"
    message = here.history("a")["error"]["error"]["message"]
    assert "JobNodeCountExceedsCoreQuota" in message
    assert "Standard NCASv3_T4 family vCPU quota of 0" in message


def test_low_priority_is_one_quota_of_all_families(here: Bench) -> None:
    here.world.ml.usages.set(ALL_LOW_PRIORITY, 4)
    here.started("a", resources={"instanceType": GPU})
    here.submit("b", resources={"instanceType": SIZE})
    here.world.pass_time(3)
    assert "total low priority vCPU quota of 4" in here.history("b")["error"]["error"]["message"]


def test_a_job_waits_for_what_others_use(here: Bench) -> None:
    here.world.ml.usages.set(ALL_LOW_PRIORITY, 8)
    here.started("a")
    here.submit("b")
    here.world.pass_time(100)
    assert (here.status("b"), here.world.ml.has_room(here.world.ml.job("b"))) == ("Queued", False)
    here.world.ml.finish("a")
    assert here.world.ml.has_room(here.world.ml.job("b"))


def test_usages_tell_limits_and_what_is_used(here: Bench) -> None:
    here.world.ml.usages.set(GPU, 16, here.world.region)
    here.started("a", resources={"instanceType": GPU, "instanceCount": 2}, queueSettings=None)
    here.started("b")
    path = f"/subscriptions/{here.world.subscription}/providers/Microsoft.MachineLearningServices/locations"
    found = here.get(f"{path}/{here.world.region}/usages")["value"]
    known = {
        one["name"]["value"]: (one["currentValue"], one["limit"])
        for one in found
        if "/workspaces/" not in one["id"]
    }
    assert known["Standard NCASv3_T4 Family Cluster Dedicated vCPUs"] == (8, 16)
    assert known["Standard NCASv3_T4 Family Cluster LowPriority vCPUs"] == (0, -1)
    assert (known[ALL_DEDICATED], known[ALL_LOW_PRIORITY]) == ((8, 24), (8, 100))
    sizes = {one["name"]: one for one in here.get(f"{path}/{here.world.region}/vmSizes")["value"]}
    assert (sizes[GPU]["vCPUs"], sizes[GPU]["gpus"], sizes[GPU]["family"]) == (
        4,
        1,
        "standardNCASv3_T4Family",
    )


def test_quotas_are_those_that_workspaces_share(here: Bench) -> None:
    here.world.ml.usages.set(GPU, 16, here.world.region)
    path = f"/subscriptions/{here.world.subscription}/providers/Microsoft.MachineLearningServices/locations"
    found = here.get(f"{path}/{here.world.region}/quotas")["value"]
    known = {one["name"]["value"]: one["limit"] for one in found}
    assert known["Standard NCASv3_T4 Family Cluster Dedicated vCPUs"] == 16
    assert known["Standard NCADSA100v4 Family Cluster Dedicated vCPUs"] == 0


def test_usages_take_a_role_at_the_subscription(here: Bench) -> None:
    low = here.world.make.principal("low", ("AzureML Data Scientist", here.workspace))
    path = f"/subscriptions/{here.world.subscription}/providers/Microsoft.MachineLearningServices/locations"
    assert here.ask("GET", f"{path}/{here.world.region}/usages", who=low).status_code == 403


# Lists


def test_lists_come_in_pages_newest_first(here: Bench) -> None:
    for number in range(23):
        here.submit(f"j{number}")
        here.world.pass_time(1)
    found, page = [], here.get("jobs", query={"tag": "run"})
    while True:
        found += [one["name"] for one in page["value"]]
        if not page.get("nextLink"):
            break
        page = here.get(page["nextLink"])
    assert found == [f"j{number}" for number in range(22, -1, -1)]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({}, ["c", "b", "a"]),
        ({"tag": "odd"}, ["a"]),
        ({"tag": "odd=1"}, []),
        ({"jobType": "Command"}, ["c", "b", "a"]),
        ({"jobType": "Sweep"}, []),
        ({"listViewType": "All"}, ["d", "c", "b", "a"]),
        ({"listViewType": "ArchivedOnly"}, ["d"]),
        ({"properties": "p=1"}, ["b"]),
    ],
)
def test_lists_are_filtered(here: Bench, query: dict[str, str], names: list[str]) -> None:
    for name, changes in {
        "a": {"tags": {"odd": "1"}},
        "b": {"properties": {"p": "1"}},
        "c": {"properties": {"p": "2"}},
        "d": {"isArchived": True},
    }.items():
        here.submit(name, **changes)
        here.world.pass_time(1)
    assert [one["name"] for one in here.get("jobs", query=query)["value"]] == names


@pytest.mark.parametrize("query", [{"$skip": "10"}, {"$top": "5"}, {"listViewType": "Active"}])
def test_what_a_list_does_not_take_is_refused(shared: Bench, query: dict[str, str]) -> None:
    assert shared.ask("GET", "jobs", query=query).status_code == 400


def test_durations_are_read_as_iso_8601_has_them() -> None:
    assert [ml_shapes.seconds(one) for one in ("PT2H", "P1DT2H3M4S", "PT90S")] == [7200, 93784, 90]


def test_jobs_go_with_their_workspace(here: Bench) -> None:
    here.submit("a")
    answer = here.ask("DELETE", here.workspace, who=here.world.owner)
    while answer.status_code == 202:
        answer = here.ask("GET", answer.headers.get("Location", answer.url), who=here.world.owner)
    assert answer.ok
    assert here.world.ml.jobs == {}
