"""A sweep as a hyperparameter tuning job of Vertex AI: what is sent, and what is made of the answers."""

from dataclasses import replace
from typing import Any

import pytest
from fake_backend import SEARCH
from launcher.job import Kind, Parameter, State
from launcher.providers.google import auth as google
from launcher.providers.google import vertex
from vertex_jobs import JOBS, NAME, cloud, found, job, no_sweeps  # noqa: F401

TUNING = JOBS.replace("customJobs", "hyperparameterTuningJobs")
TUNED = NAME.replace("customJobs", "hyperparameterTuningJobs")


def sweep(**changes: Any):
    env = {"RUN_ID": "run-1", "RUN_MAX_ATTEMPTS": "5", "RUN_KIND": "sweep"}
    return replace(job(env=env), kind=Kind.sweep, search=replace(SEARCH, **changes))


def tuning(state: str = "RUNNING", *trials: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A tuning job as the service describes it."""
    return {
        **found(state=state),
        "name": TUNED,
        "maxTrialCount": 5,
        "parallelTrialCount": 2,
        "startTime": "2026-01-01T10:00:00Z",
        "trials": list(trials),
        **more,
    }


def known(server: Any, job: dict[str, Any]) -> None:
    """Lets the service know this tuning job and no custom job."""
    server.forget("GET", TUNING)
    server.say("GET", TUNING, {"hyperparameterTuningJobs": [job]})
    server.say("GET", JOBS, {})


def test_a_request_is_exactly_what_the_service_documents():
    request = vertex.connect(cloud()).request(sweep())
    training = vertex.connect(cloud()).request(job())["jobSpec"]
    spec = request.pop("trialJobSpec")
    variables = spec["workerPoolSpecs"][0]["containerSpec"].pop("env")
    assert {"name": "RUN_DIRECTION", "value": "maximize"} in variables
    training["workerPoolSpecs"][0]["containerSpec"].pop("env")
    assert spec == training  # each trial has the machine and the time limit of a run
    assert request == {
        "displayName": "run-1",
        "labels": {"project": "slug", "run": "run-1"},
        "maxTrialCount": 5,
        "parallelTrialCount": 2,
        "maxFailedTrialCount": 3,
        "studySpec": {
            "metrics": [{"metricId": "val/accuracy", "goal": "MAXIMIZE"}],
            "measurementSelectionType": "LAST_MEASUREMENT",
            "parameters": [
                {
                    "parameterId": "optimizer.lr",
                    "doubleValueSpec": {"minValue": 1e-4, "maxValue": 0.1},
                    "scaleType": "UNIT_LOG_SCALE",
                },
                {
                    "parameterId": "model.depth",
                    "integerValueSpec": {"minValue": "1", "maxValue": "4"},
                    "scaleType": "UNIT_LINEAR_SCALE",
                },
                {"parameterId": "model.width", "discreteValueSpec": {"values": [16, 32]}},
                {
                    "parameterId": "scheduler",
                    "categoricalValueSpec": {"values": ["cosine", "a b"]},
                },
                {"parameterId": "evaluate", "categoricalValueSpec": {"values": ["true", "false"]}},
            ],
        },
    }


@pytest.mark.parametrize(
    ("algorithm", "sent"),
    [("random", "RANDOM_SEARCH"), ("grid", "GRID_SEARCH"), ("bayesian", None)],
)
def test_algorithms_have_the_services_names(algorithm, sent):
    request = vertex.connect(cloud()).request(sweep(algorithm=algorithm, maximize=False))
    assert request["studySpec"].get("algorithm") == sent
    assert request["studySpec"]["metrics"][0]["goal"] == "MINIMIZE"


def test_words_that_hydra_would_read_as_something_else_are_quoted():
    words = Parameter("a", choices=("plain", "null", "1e5", "x,y", "[1]"))
    request = vertex.connect(cloud()).request(sweep(parameters=(words,)))
    values = request["studySpec"]["parameters"][0]["categoricalValueSpec"]["values"]
    assert values == ["plain", "'null'", "'1e5'", "'x,y'", "'[1]'"]


def test_it_is_submitted_to_the_collection_of_tuning_jobs(server):
    server.say("GET", JOBS, {})
    server.say("POST", TUNING, tuning("QUEUED"))
    assert vertex.connect(cloud()).submit(sweep()).name == TUNED
    assert server.sent("POST", JOBS) == []


def test_a_status_tells_the_trials_and_adds_up_their_time(server, monkeypatch):
    monkeypatch.setattr(google, "now", lambda: vertex._time("2026-01-01T11:00:00Z"))
    start, half = {"startTime": "2026-01-01T10:00:00Z"}, {"startTime": "2026-01-01T10:30:00Z"}
    trials = (
        {"id": "1", "state": "SUCCEEDED", **start, "endTime": "2026-01-01T10:20:00Z"},
        {"id": "2", "state": "INFEASIBLE", **start, "endTime": "2026-01-01T10:10:00Z"},
        {"id": "3", "state": "ACTIVE", **half},
        {"id": "4", "state": "REQUESTED"},
    )
    known(server, tuning("RUNNING", *trials))
    status = vertex.connect(cloud()).status("run-1")
    assert status
    assert status.state is State.running
    assert status.seconds == (20 + 10 + 30) * 60
    assert status.detail == "2 of 5 trials, running"
    assert status.name == TUNED


def test_time_that_the_service_does_not_tell_by_trial_is_never_too_little(server):
    ended = tuning("CANCELLED", endTime="2026-01-01T10:30:00Z")
    known(server, ended)
    status = vertex.connect(cloud()).status("run-1")
    assert status
    assert status.seconds == 2 * 30 * 60


def test_the_jobs_of_trials_are_no_runs(server):
    container = {"env": [{"name": "RUN_KIND", "value": "sweep"}]}
    trial = found(78) | {"jobSpec": {"workerPoolSpecs": [{"containerSpec": container}]}}
    known(server, tuning())
    server.forget("GET", JOBS)
    server.say("GET", JOBS, {"customJobs": [trial, {**found(79), "displayName": "run-2"}]})
    assert {status.run_id for status in vertex.connect(cloud()).list()} == {"run-1", "run-2"}
    assert len(vertex.connect(cloud()).list()) == 2


def test_stopping_a_sweep_ends_the_tuning_job(server):
    known(server, tuning())
    server.say("POST", f"/v1/{TUNED}:cancel", {})
    vertex.connect(cloud()).stop("run-1")
    assert len(server.sent("POST", f"/v1/{TUNED}:cancel")) == 1


def test_the_lines_of_all_trials_say_whose_they_are(server):
    trials = ({"id": "3", "state": "ACTIVE", "customJob": f"{NAME[:-2]}501"},)
    known(server, tuning("RUNNING", *trials))

    def entry(number: str, text: str) -> dict[str, Any]:
        labels = {"job_id": number, "task_name": "workerpool0-0"}
        return {"jsonPayload": {"message": text}, "resource": {"labels": labels}}

    server.say("POST", "/v2/entries:list", {"entries": [entry("501", "epoch 1"), entry("77", "begun")]})
    lines = list(vertex.connect(cloud()).logs("run-1"))
    assert lines == ["[trial 3] epoch 1", "begun"]
    asked = server.sent("POST", "/v2/entries:list")[0]["body"]["filter"]
    assert '(resource.labels.job_id="77" OR resource.labels.job_id="501")' in asked


def test_a_second_sweep_of_one_name_would_share_the_folders_of_its_trials(server):
    known(server, tuning("SUCCEEDED"))
    problems = vertex.connect(cloud())._check_active(sweep())
    assert [problem.remedy for problem in problems] == ["choose another run.id"]
    assert vertex.connect(cloud())._check_active(job()) == []
