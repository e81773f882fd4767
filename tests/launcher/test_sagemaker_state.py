"""What SageMaker says of a job, in our words."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from launcher.job import State
from launcher.providers.aws import sagemaker_state as states
from launcher.providers.aws import sagemaker_tuning as tuning
from stage.aws.shapes import model

START = datetime(2026, 1, 1, 10, tzinfo=UTC)
NOW = START + timedelta(hours=1)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def found(status: str = "InProgress", secondary: str = "Training", **more: Any) -> dict[str, Any]:
    return {"TrainingJobStatus": status, "SecondaryStatus": secondary, **more}


@pytest.mark.parametrize(
    ("secondary", "ours"),
    [
        *((word, State.queued) for word in ("Starting", "Pending", "Interrupted")),
        *((word, State.queued) for word in ("LaunchingMLInstances", "PreparingTrainingStack")),
        *((word, State.running) for word in ("Downloading", "Training", "Uploading", "Updating")),
        *((word, State.running) for word in ("Restarting", "DownloadingTrainingImage", "SomethingNew")),
    ],
)
def test_what_is_paid_for_is_running(secondary, ours):
    assert states.state(found(secondary=secondary)) is ours


@pytest.mark.parametrize(
    ("status", "ours"),
    [
        ("Completed", State.succeeded),
        ("Failed", State.failed),
        ("Stopped", State.stopped),
        ("Stopping", State.running),
        ("Deleting", State.stopped),
    ],
)
def test_every_state_of_the_service_has_one_of_ours(status, ours):
    assert states.state(found(status, status)) is ours


def test_no_state_of_the_services_model_is_forgotten():
    known = {"InProgress", "Completed", "Failed", "Stopped", "Stopping", "Deleting"}
    assert set(model("sagemaker").shape_for("TrainingJobStatus").enum) == known
    assert set(model("sagemaker").shape_for("HyperParameterTuningJobStatus").enum) == set(tuning.STATES)


@pytest.mark.parametrize(
    ("reason", "ours"),
    [
        ("AlgorithmError: , exit code: 1", State.failed),
        ("AlgorithmError: Exit Code: 1", State.failed),
        ("AlgorithmError: the bucket does not answer (status 75), exit code: 75", State.preempted),
        ("AlgorithmError: it ended with exit code: 75 (status 1), exit code: 1", State.failed),
        ("AlgorithmError: Exit Code: 143", State.preempted),
        ("AlgorithmError: the time limit was reached (status 124), exit code: 124", State.stopped),
        ("AlgorithmError: the bucket does not answer (status 75)", State.preempted),
        ("CapacityError: Unable to provision requested ML compute capacity.", State.preempted),
        ("InsufficientCapacityError", State.preempted),
        ("InternalServerError: We encountered an internal error. Please try again.", State.failed),
        ("ClientError: Cannot pull the image", State.failed),
        ("", State.failed),
    ],
)
def test_a_failure_tells_whether_another_job_may_go_on(reason, ours):
    assert states.state(found("Failed", "Failed", FailureReason=reason)) is ours


def test_the_limits_of_the_service_are_said_in_our_settings():
    said = states.detail(found("Stopped", "MaxWaitTimeExceeded"))
    assert "cloud.max_wait_hours" in said
    steps = [{"Status": "Starting", "StatusMessage": "Preparing the instances"}]
    assert states.detail(found(SecondaryStatusTransitions=steps)) == "Preparing the instances"
    assert states.detail(found()) == "Training"


def test_an_ended_job_is_paid_for_as_billed():
    times = {"TrainingStartTime": START, "TrainingEndTime": at(30)}
    ended = found("Completed", "Completed", **times)
    assert states.seconds({**ended, "BillableTimeInSeconds": 540}, NOW) == 540
    assert states.seconds(ended, NOW) == 1800
    assert states.seconds(found("Failed", "Failed"), NOW) == 0


def test_waiting_for_another_machine_costs_nothing():
    steps = [
        {"Status": "Starting", "StartTime": at(-5), "EndTime": at(0)},
        {"Status": "Training", "StartTime": at(0), "EndTime": at(20)},
        {"Status": "Interrupted", "StartTime": at(20), "EndTime": at(21)},
        {"Status": "Starting", "StartTime": at(21)},
    ]
    waits = found("InProgress", "Starting", TrainingStartTime=START, SecondaryStatusTransitions=steps)
    assert states.seconds(waits, NOW) == 1200
    steps[-1]["EndTime"] = at(50)
    assert states.seconds({**waits, "SecondaryStatus": "Training"}, NOW) == 1800
    assert states.seconds(found(), NOW) == 0
    assert states.seconds(found(TrainingStartTime=START), NOW) == 3600


def test_a_sweep_waits_until_its_first_trial_has_a_machine():
    counters = {"Completed": 0, "InProgress": 1, "RetryableError": 0, "NonRetryableError": 0, "Stopped": 0}
    sweep = {"HyperParameterTuningJobStatus": "InProgress", "TrainingJobStatusCounters": counters}
    assert tuning.state(sweep, []) is State.queued
    assert tuning.state(sweep, [{"TrainingJobName": "a"}]) is State.queued
    assert tuning.state(sweep, [{"TrainingStartTime": START}]) is State.running
    assert tuning.state({**sweep, "HyperParameterTuningJobStatus": "Stopping"}, []) is State.running
    counters["NonRetryableError"] = 1
    assert tuning.state(sweep, []) is State.running
