"""The stand-in of Vertex AI's tuning jobs: it refuses what the reference does not allow, and runs trials for real."""

import copy
import json
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from stage import containers, registry
from stage.google.identity import identity
from stage.google.vertex import CANCELLED, FAILED, SUCCEEDED, TuningJob, vertex
from stage.google.vertex_rules import parse
from stage.google.vertex_tuning_rules import check_tuning
from stage.patience import deadline
from stage.rest import RequestError, ask
from stage.vertex_bench import GOOD as TRAINING

pytestmark = pytest.mark.engine

LR = {
    "parameterId": "optimizer.lr",
    "doubleValueSpec": {"minValue": 1e-4, "maxValue": 0.1},
    "scaleType": "UNIT_LOG_SCALE",
}
WIDTH = {"parameterId": "model.width", "discreteValueSpec": {"values": [16, 32]}}
DEPTH = {"parameterId": "model.depth", "integerValueSpec": {"minValue": "1", "maxValue": "4"}}
MODEL = {"parameterId": "model", "categoricalValueSpec": {"values": ["cnn", "unet"]}}
GOOD: dict[str, Any] = {
    "displayName": "lr",
    "labels": {"run": "lr"},
    "studySpec": {
        "metrics": [{"metricId": "val/accuracy", "goal": "MAXIMIZE"}],
        "parameters": [LR, WIDTH, DEPTH, MODEL],
    },
    "maxTrialCount": 4,
    "parallelTrialCount": 2,
    "trialJobSpec": TRAINING["jobSpec"],
}


def examine(job: dict[str, Any]) -> str:
    """What is said of a tuning job; "" when it is taken."""
    try:
        check_tuning(parse(json.dumps(job).encode(), tuning=True))
    except RequestError as error:
        return error.message
    return ""


def parameter(**changes: Any) -> dict[str, Any]:
    """The good job with one parameter only, in place of the four."""
    job = copy.deepcopy(GOOD)
    job["studySpec"]["parameters"] = [{"parameterId": "a", **changes}]
    return job


def test_a_good_job_is_taken():
    assert examine(GOOD) == ""


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"displayName": ""}, "display_name"),
        ({"maxTrialCount": 0}, "max_trial_count"),
        ({"parallelTrialCount": 0}, "parallel_trial_count"),
        ({"parallelTrialCount": 5}, "parallel_trial_count"),
        ({"maxFailedTrialCount": 5}, "max_failed_trial_count"),
        ({"labels": {"Run": "lr"}}, "labels.Run"),
        ({"trials": [{"id": "1"}]}, "trials"),
        ({"state": "JOB_STATE_RUNNING"}, "state"),
        ({"unknownField": 1}, "unknownField"),
        ({"trialJobSpec": {}}, "trial_job_spec.worker_pool_specs"),
        ({"trialJobSpec": {**TRAINING["jobSpec"], "serviceAccount": "me"}}, "trial_job_spec.service_account"),
    ],
)
def test_what_the_job_lacks_is_named(changes: dict[str, Any], field: str):
    assert field in examine({**GOOD, **changes})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"metrics": []}, "metrics"),
        ({"metrics": [{"metricId": "val accuracy"}]}, "metrics[0].metric_id"),
        ({"parameters": []}, "parameters"),
        ({"parameters": [LR, LR]}, "parameters[0].parameter_id"),
        ({"algorithm": "GRID_SEARCH"}, "optimizer.lr"),
        ({"algorithm": "TPE"}, "algorithm"),
        ({"observationNoise": "LOW"}, "observation_noise"),
    ],
)
def test_what_is_wrong_with_the_study_is_named(changes: dict[str, Any], field: str):
    assert field in examine({**GOOD, "studySpec": {**GOOD["studySpec"], **changes}})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"parameterId": "a b", "integerValueSpec": {"minValue": 1, "maxValue": 2}},
        {"doubleValueSpec": {"minValue": 1, "maxValue": 1}},
        {"doubleValueSpec": {"minValue": 0, "maxValue": "Infinity"}},
        {"doubleValueSpec": {"minValue": 0, "maxValue": 1, "defaultValue": 0.5}},
        {"doubleValueSpec": {"minValue": 0, "maxValue": 1}, "scaleType": "UNIT_LOG_SCALE"},
        {"integerValueSpec": {"minValue": 4, "maxValue": 2}},
        {"discreteValueSpec": {"values": []}},
        {"discreteValueSpec": {"values": [2, 1]}},
        {"discreteValueSpec": {"values": [1, 1]}},
        {"discreteValueSpec": {"values": list(range(1001))}},
        {"discreteValueSpec": {"values": [0, 1]}, "scaleType": "UNIT_LOG_SCALE"},
        {"categoricalValueSpec": {"values": []}},
        {"categoricalValueSpec": {"values": ["a", "a"]}},
        {"categoricalValueSpec": {"values": ["a"]}, "scaleType": "UNIT_LINEAR_SCALE"},
        {"categoricalValueSpec": {"values": [1]}},
    ],
)
def test_a_parameter_that_is_not_as_documented_is_refused(changes: dict[str, Any]):
    assert examine(parameter(**changes)) != ""


def test_a_grid_of_single_values_is_taken():
    study = {**GOOD["studySpec"], "parameters": [WIDTH, DEPTH, MODEL], "algorithm": "GRID_SEARCH"}
    assert examine({**GOOD, "studySpec": study}) == ""


# Trials that run


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A registry with a tiny image (bash is its entry point), and the service that runs it."""
    containers.require()
    with registry.registry(tmp_path_factory.mktemp("stage")) as host, identity() as people:
        trainer = people.account("cloud-training-trainer")
        launcher = people.account("cloud-training-launch", "roles/aiplatform.user", "roles/logging.viewer")
        launcher.granted[trainer.email] = {"roles/iam.serviceAccountUser"}
        image = registry.push_bash(host)
        with vertex(people, registries=[host], grace_seconds=2) as service:
            base = f"{service.url}/v1/projects/{people.project}/locations/us-central1"
            token = people.token(launcher)
            yield SimpleNamespace(service=service, image=image, base=base, token=token, trainer=trainer)
        assert containers.ids(service.stage) == []
    containers.docker("rmi", image, check=False)


def submit(stage: SimpleNamespace, name: str, script: str, **changes: Any) -> TuningJob:
    """Starts a tuning job whose trials run a script of bash, with the service's arguments after it."""
    container = {"imageUri": stage.image, "args": [script, "trial"]}
    pool = {
        "machineSpec": {"machineType": "n1-standard-4"},
        "replicaCount": 1,
        "containerSpec": container,
    }
    spec = {
        "workerPoolSpecs": [pool],
        "serviceAccount": stage.trainer.email,
        "scheduling": {"disableRetries": True},
    }
    job = {**GOOD, "displayName": name, "trialJobSpec": spec, **changes}
    status, answer = ask(f"{stage.base}/hyperparameterTuningJobs", stage.token, job)
    assert status == 200, answer
    return stage.service.sweep(name)


REPORT = """
for word; do echo "$word"; done
echo "trial $CLOUD_ML_TRIAL_ID"
printf '{"global_step": "%s", "timestamp": 1.5, "trial": "%s", "val/accuracy": "0.%s"}\\n' \
    1 $CLOUD_ML_TRIAL_ID 1 2 $CLOUD_ML_TRIAL_ID 5$CLOUD_ML_TRIAL_ID > /tmp/hypertune/output.metrics
"""


def listed(stage: SimpleNamespace, kind: str) -> list[dict[str, Any]]:
    return ask(f"{stage.base}/{kind}", stage.token)[1].get(kind, [])


def test_trials_run_with_their_settings_and_their_metric_is_read(stage: SimpleNamespace):
    job = submit(stage, "reports", REPORT)
    stage.service.wait_for_sweep("reports", timeout=120)
    shown = job.json()
    assert job.state == SUCCEEDED, shown
    assert job.most_at_once == 2
    assert [trial["id"] for trial in shown["trials"]] == ["1", "2", "3", "4"]
    for trial, shown_trial in zip(job.trials, shown["trials"], strict=True):
        assert shown_trial["state"] == "SUCCEEDED"
        measurement = {
            "stepCount": "2",
            "metrics": [{"metricId": "val/accuracy", "value": float(f"0.5{trial.number}")}],
        }
        assert shown_trial["finalMeasurement"] == measurement
        lines = trial.job.lines() if trial.job else []
        assert f"trial {trial.number}" in lines
        values = {each["parameterId"]: each["value"] for each in shown_trial["parameters"]}
        assert 1e-4 <= values["optimizer.lr"] <= 0.1
        assert values["model.width"] in (16.0, 32.0)
        assert values["model.depth"] in (1, 2, 3, 4)
        assert f"--optimizer.lr={values['optimizer.lr']!r}" in lines
        assert f"--model.width={values['model.width']!r}" in lines
        assert f"--model={values['model']}" in lines
    assert len({trial.parameters["optimizer.lr"] for trial in job.trials}) == 4
    # Its trials are custom jobs, which the service lists with all others.
    assert {each["name"] for each in listed(stage, "customJobs")} >= {
        trial["customJob"] for trial in shown["trials"]
    }
    assert [each["name"] for each in listed(stage, "hyperparameterTuningJobs")] == [job.name]
    assert stage.service.jobs() == []


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("true", "no metric"),
        (REPORT + "exit 3", "status of 3"),
        (REPORT.replace("0.%s", "nan%s"), "cannot be read"),
        (REPORT.replace("val/accuracy", "val/loss"), "cannot be read"),
        # Whole, but in place of the file that the service has open.
        (f"cd /tmp/hypertune; {REPORT.replace('output.metrics', 'new')} mv new output.metrics", "no metric"),
    ],
)
def test_a_trial_without_a_metric_is_infeasible_and_too_many_fail_the_job(
    stage: SimpleNamespace, script: str, reason: str
):
    job = submit(stage, "fails", script, maxFailedTrialCount=2)
    stage.service.wait_for_sweep("fails", timeout=60)
    assert job.state == FAILED
    ended = [trial for trial in job.json()["trials"] if trial["state"] == "INFEASIBLE"]
    assert len(ended) == len(job.trials) <= 3
    assert any(reason in one["infeasibleReason"] for one in ended)  # the third one may have been ended


def test_cancelling_ends_all_trials(stage: SimpleNamespace):
    job = submit(stage, "endless", "trap 'exit 143' TERM; echo ready; while :; do sleep 0.1; done")
    until = deadline(60)
    while job.lines().count("ready") < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert ask(f"{stage.base}/hyperparameterTuningJobs/{job.id}:cancel", stage.token, {})[0] == 200
    stage.service.wait_for_sweep("endless", timeout=60)
    assert job.state == CANCELLED
    assert [trial.job.state for trial in job.trials if trial.job] == [CANCELLED, CANCELLED]
    assert stage.service.containers() == []
