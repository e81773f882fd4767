"""What Azure ML says of a job, in our words."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azureml_jobs import CPU, T4, job, notebook
from launcher.job import State
from launcher.providers.azure import azureml_state as states
from launcher.providers.azure.azureml_cluster import check_cluster, machines_of
from launcher.providers.azure.azureml_found import Found
from launcher.providers.azure.azureml_history import lines
from launcher.providers.azure.azureml_instances import STATES, Instance
from launcher.providers.azure.azureml_notebook import hint

pytestmark = pytest.mark.cloud("azure")
START = datetime(2026, 1, 1, 10, tzinfo=UTC)
NOW = START + timedelta(hours=1)


def at(minutes: float) -> str:
    """A moment as the service writes it."""
    return (START + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%S.1234567+00:00")


@pytest.mark.parametrize(
    ("status", "ours"),
    [
        *((word, State.queued) for word in ("NotStarted", "Starting", "Provisioning", "Preparing")),
        *((word, State.queued) for word in ("Queued", "Paused", "Unknown")),
        *(
            (word, State.running)
            for word in ("Running", "Finalizing", "CancelRequested", "NotResponding", "New")
        ),
        ("Completed", State.succeeded),
        ("Failed", State.failed),
        ("Canceled", State.stopped),
    ],
)
def test_every_state_of_the_service_has_one_of_ours(status, ours):
    assert states.state(status, "") is ours


def test_no_state_of_the_service_is_forgotten():
    from azure.ai.ml._restclient.arm_ml_service.models import ComputeInstanceState, JobStatus

    assert {each.value for each in JobStatus} == set(states.STATES)
    paid = {"Running", "Restarting", "Resizing", "JobRunning", "Stopping", "Unknown"}
    assert {each.value for each in ComputeInstanceState} == set(STATES) | paid


TAKEN = "AzureMLCompute job failed. PreemptionError: Nodes of this job got pre-empted. Check if the run has failed"
EXITED = "Execution failed. User process '/bin/bash' exited with status code {}. Please check log file 'x' for details."


@pytest.mark.parametrize(
    ("status", "error", "ours"),
    [
        ("Failed", TAKEN, State.preempted),
        ("Canceled", TAKEN, State.preempted),
        ("Canceled", "", State.stopped),
        ("Failed", EXITED.format(1), State.failed),
        ("Failed", EXITED.format(75), State.preempted),
        ("Failed", EXITED.format(143), State.preempted),
        ("Failed", EXITED.format(124), State.stopped),
        ("Failed", "Docker container `x-execution-wrapper` failed with status code `1` due to", State.failed),
        ("Failed", "ExecutionFailed: [REDACTED]\nexit_codes: 75", State.preempted),
        ("Failed", EXITED.format(75) + " Error: it ended with exit code: 1", State.preempted),
        ("Failed", EXITED.format(1) + " Error: the cache was evicted", State.failed),
        ("Failed", "Image pull failed: not found", State.failed),
        ("Failed", "", State.failed),
    ],
)
def test_a_failure_tells_whether_another_job_may_go_on(status, error, ours):
    assert states.state(status, error) is ours


@pytest.mark.parametrize(
    ("error", "silent"),
    [
        (
            "JobFailed: Submitted script failed with a non-zero exit code; Reason: Job failed with non-zero exit Code",
            True,
        ),
        (EXITED.format(1), False),
        (TAKEN, False),
        ("Image pull failed", False),
        ("", False),
    ],
)
def test_it_is_known_where_the_service_keeps_the_status_of_the_program_to_itself(error, silent):
    assert states.is_silent(error) is silent


def test_the_error_is_found_however_deep_it_is():
    inner = {
        "code": "UserError",
        "message": "AzureMLCompute job failed.",
        "details": [{"message": "exit_codes: 75"}],
    }
    assert (
        states.error_text({"error": {"error": inner}})
        == "UserError: AzureMLCompute job failed. exit_codes: 75"
    )
    assert states.error_text({"error": None}) == ""
    assert states.error_text({}) == ""


def test_time_is_paid_for_from_the_first_start_to_the_end():
    ended = {"startTimeUtc": at(10), "lastStartTimeUtc": at(20), "endTimeUtc": at(40)}
    assert states.seconds("Completed", ended, NOW) == pytest.approx(1800)
    assert states.seconds("Running", {"startTimeUtc": at(30)}, NOW) == pytest.approx(1800, abs=1)
    assert states.seconds("CancelRequested", {"startTimeUtc": at(30)}, NOW) == pytest.approx(1800, abs=1)
    assert states.seconds("Queued", {"startTimeUtc": at(30)}, NOW) == 0
    assert states.seconds("Canceled", {"endTimeUtc": at(30)}, NOW) == 0


def test_times_have_seven_digits_or_none_and_a_zone():
    expected = datetime(2026, 1, 1, 10, 0, 1, 123456, tzinfo=UTC)
    for text in (
        "2026-01-01T10:00:01.1234567Z",
        "2026-01-01T10:00:01.1234567+00:00",
        "2026-01-01T10:00:01.1234567",
    ):
        assert states.time(text) == expected
    assert states.time("2026-01-01T10:00:01Z") == expected.replace(microsecond=0)
    assert states.time("2026-01-01T10:00:01.5+01:00").astimezone(UTC).hour == 9


# A job, of all that is known of it


def found(status: str = "Running", kind: str = "Command", tier: str = "Spot", **more: Any) -> Found:
    variables = {"RUN_ID": "Run.1", "RUN_MAX_SECONDS": "60"}
    properties = {
        "jobType": kind,
        "status": status,
        "queueSettings": {"jobTier": tier},
        "tags": {"project": "demo", "run": "run-1", "_aml_system_x": "y", "mlflow.user": "me"},
        "limits": {"maxTotalTrials": 4},
        **(
            {"trial": {"environmentVariables": variables}}
            if kind == "Sweep"
            else {"environmentVariables": variables}
        ),
    }
    said = {"name": "run-1-abcdef-1", "properties": properties, "systemData": {"createdAt": at(0)}}
    return Found(said, **more)


def test_a_job_says_its_run_in_full_and_only_our_tags():
    assert found().run_id == found(kind="Sweep").run_id == "Run.1"
    assert found().tags == {"project": "demo", "run": "run-1"}
    assert found().created == states.time(at(0))


def test_what_the_worker_has_noted_of_earlier_starts_is_paid_for_too():
    details = {"startTimeUtc": at(50)}
    noted = [
        {"started": (START - timedelta(days=1)).isoformat(), "seconds": 9999.0},  # of an earlier launch
        {"started": (START + timedelta(minutes=5)).isoformat(), "seconds": 1500.0},
        {"started": "soon", "seconds": 5.0},
        {"started": (START + timedelta(minutes=50)).isoformat(), "seconds": 300.0},
    ]
    assert found(details=details).seconds(NOW) == pytest.approx(600, abs=1)
    assert found(details=details, attempts={0: noted}).seconds(NOW) == 1800
    assert found("Queued", attempts={0: noted}).seconds(NOW) == 1800


def test_where_the_service_does_not_say_how_a_program_ended_the_bucket_does():
    assert found("Failed", noted=State.stopped).state is State.stopped
    assert found("Failed", noted=State.preempted).state is State.preempted
    assert found("Completed", noted=State.failed).state is State.succeeded


def test_a_sweep_is_queued_until_its_first_trial_has_a_machine_and_paid_for_by_its_trials():
    assert found(kind="Sweep").state is State.queued
    assert found("CancelRequested", kind="Sweep").state is State.running
    trials = {
        0: {"status": "Completed", "startTimeUtc": at(0), "endTimeUtc": at(10)},
        1: {"status": "Running", "startTimeUtc": at(50)},
        2: {"status": "Queued"},
    }
    sweep = found(kind="Sweep", trials=trials)
    assert sweep.state is State.running
    assert sweep.detail == "1 of 4 trials, Running"
    assert sweep.seconds(NOW) == pytest.approx(1200, abs=1)
    attempts = {2: [{"started": (START + timedelta(minutes=5)).isoformat(), "seconds": 100.0}]}
    assert found(kind="Sweep", trials=trials, attempts=attempts).seconds(NOW) == pytest.approx(1300, abs=1)


def test_a_sweep_that_has_ended_is_never_submitted_again():
    details = {"error": {"error": {"message": TAKEN}}}
    assert found("Failed", kind="Sweep", details=details).state is State.failed
    assert found("Canceled", kind="Sweep", details=details).state is State.stopped


def test_only_machines_that_may_be_taken_have_had_several_starts():
    assert found().may_be_taken
    assert not found(tier="Standard").may_be_taken


def test_lines_of_the_first_node_come_as_they_are_and_those_of_others_with_their_number(monkeypatch):
    texts = {"a": "one\ntwo\n", "b": "three\n", "c": "no"}
    monkeypatch.setattr("launcher.providers.azure.azureml_history._text", lambda address: texts[address])
    files = {
        "user_logs/std_log_process_1.txt": "b",
        "user_logs/std_log_process_0.txt": "a",
        "system_logs/lifecycler.log": "c",
    }
    assert list(lines({"logFiles": files})) == ["one", "two", "[node 1] three"]
    assert list(lines({"logFiles": {"user_logs/std_log.txt": "b"}})) == ["three"]
    assert list(lines({})) == []


# A notebook's machine


def instance(state: str = "Running", **more: Any) -> Instance:
    inner = {"state": state, **more}
    outer = {
        "computeType": "ComputeInstance",
        "createdOn": at(0),
        "description": "Run.1",
        "provisioningState": "Succeeded",
        "properties": inner,
    }
    return Instance(
        {"name": "nb1-demo-h1", "tags": {"project": "demo", "run": "run-1"}, "properties": outer}, "/w"
    )


@pytest.mark.parametrize(
    ("state", "ours"),
    [
        ("Creating", State.queued),
        ("Running", State.running),
        ("JobRunning", State.running),
        ("Stopping", State.running),
        ("Unknown", State.running),
        ("Stopped", State.stopped),
        ("CreateFailed", State.failed),
    ],
)
def test_a_notebook_is_paid_for_until_it_has_stopped(state, ours):
    assert instance(state).state is ours


def test_a_notebook_is_paid_for_from_its_making_to_its_stop():
    last = {"operationName": "Stop", "operationTime": at(30), "operationTrigger": "Schedule"}
    assert instance().seconds(NOW) == pytest.approx(3600, abs=1)
    assert instance("Stopped", lastOperation=last).seconds(NOW) == pytest.approx(1800)
    assert instance("Stopped", lastOperation=last).detail == "Stopped (Schedule)"
    assert instance().run_id == "Run.1"


def test_a_person_is_told_where_jupyter_is_or_will_be():
    assert "https://ml.azure.com/compute/nb1-demo-h1/details?wsid=/w" in hint(instance("Creating"))
    applications = [
        {"displayName": "Jupyter Lab", "endpointUri": "https://nb1.eastus.instances.azureml.ms/lab"}
    ]
    said = hint(instance(applications=applications))
    assert "notebook  https://nb1.eastus.instances.azureml.ms/lab\n" in said
    assert "~/cloudfiles" in said


# A cluster of one's own


TRAINER = "demo-trainer"


def cluster(
    kind: str = "AmlCompute", state: str = "Succeeded", scale: Any = None, **changes: Any
) -> dict[str, Any]:
    scale = {"minNodeCount": 0, "maxNodeCount": 2, "nodeIdleTimeBeforeScaleDown": "PT120S", **(scale or {})}
    inner = {"vmSize": "STANDARD_NC4AS_T4_V3", "vmPriority": "LowPriority", "scaleSettings": scale, **changes}
    trainer = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/Demo-trainer"
    return {
        "name": "small",
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {trainer: {}}},
        "properties": {"computeType": kind, "provisioningState": state, "properties": inner},
    }


def test_a_cluster_that_suits_is_taken():
    assert check_cluster(cluster(), job(machine=T4, nodes=2), TRAINER) == []
    assert check_cluster(cluster(vmPriority="Dedicated"), notebook(machine=T4), TRAINER) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "ComputeInstance"}, "cloud.compute=small is no cluster but of type ComputeInstance"),
        ({"state": "Failed"}, "The cluster small is Failed"),
        (
            {"vmSize": "Standard_NC6"},
            "has machines Standard_NC6, and cloud.machine=t4 is Standard_NC4as_T4_v3",
        ),
        ({"vmPriority": "Dedicated"}, "give cloud.spot=false"),
        ({"scale": {"minNodeCount": 1}}, "keeps 1 nodes without a job, .*--min-instances 0"),
        ({"scale": {"maxNodeCount": 1}}, "has 1 nodes at most, and the job needs 2"),
        ({"scale": {"nodeIdleTimeBeforeScaleDown": "PT2H"}}, "keeps nodes for PT2H after a job"),
    ],
)
def test_a_cluster_that_does_not_suit_or_costs_without_a_job_is_refused(changes, words):
    [problem] = check_cluster(cluster(**changes), job(machine=T4, nodes=2), TRAINER)
    assert problem.fatal
    assert re.search(words, str(problem)), str(problem)


@pytest.mark.parametrize(("machine", "spot", "count"), [(T4, True, 2), (T4, False, 0), (CPU, True, 0)])
def test_of_several_machines_the_one_is_taken_that_the_cluster_has(machine, spot, count):
    assert machines_of(cluster(), machine, spot) == count


def test_a_cluster_has_the_job_s_identity_by_its_name_or_client_id():
    [problem] = check_cluster(cluster(), job(machine=T4), "other")
    assert "has not the job's identity other" in str(problem)
    [problem] = check_cluster({**cluster(), "identity": None}, job(machine=T4), TRAINER)
    assert "--user-assigned-identities" in str(problem)
    found = cluster()
    found["identity"]["userAssignedIdentities"] = {"/x/other": {"clientId": "1-2"}, "/x/more": None}
    assert check_cluster(found, job(machine=T4), "1-2") == []
