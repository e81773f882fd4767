"""Sweeps of Azure ML: the same search as elsewhere, in the service's words and within its rules."""

import math
from dataclasses import replace
from typing import Any

import pytest
from azureml_jobs import BUCKET, T4, WORKSPACE, backend, sweep
from fake_backend import SEARCH
from launcher.errors import UserError
from launcher.job import Parameter, Search
from launcher.providers.azure import azureml_tuning as tuning
from launcher.worker.trial import read_trial
from stage.azure import ml_shapes
from stage.azure.ml_rules import Surroundings
from stage.azure.ml_tuning_rules import check_sweep, proposed

pytestmark = pytest.mark.cloud("azure")


def request(search: Search = SEARCH, cloud: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """What is sent; the service's description and its rules allow it."""
    found = backend(**(cloud or {})).request(sweep(search, **changes))
    body = next(body for path, body in found.items() if path.startswith("jobs/"))
    ml_shapes.check("JobBase", body)
    given = body["properties"]
    version = given["trial"]["environmentId"].lower()
    here = f"{WORKSPACE}/x".rpartition("/")[0]
    identity = {"/identity": (given["identity"]["clientId"], "principal")}
    check_sweep(given, Surroundings(here, {version: {}}, {}, identity))
    return given


def test_a_sweep_is_exactly_what_the_service_documents():
    found = request(machine=T4)
    assert found["trial"]["environmentId"].startswith(f"{WORKSPACE}/environments/demo/versions/0123456789ab-")
    assert {key: found[key] for key in found if key not in ("trial", "searchSpace", "tags")} == {
        "jobType": "Sweep",
        "displayName": "run-1",
        "experimentName": "demo",
        "identity": {"identityType": "Managed", "clientId": "00000000-0000-0000-0000-000000000000"},
        "queueSettings": {"jobTier": "Spot"},
        "resources": {"instanceType": "Standard_NC4as_T4_v3", "instanceCount": 1, "shmSize": "8g"},
        "objective": {"goal": "Maximize", "primaryMetric": "val/accuracy"},
        "samplingAlgorithm": {"samplingAlgorithmType": "Bayesian"},
        "limits": {
            "jobLimitsType": "Sweep",
            "maxTotalTrials": 5,
            "maxConcurrentTrials": 2,
            "trialTimeout": "PT1H30M",
            "timeout": "PT77H15M",
        },
    }
    assert found["searchSpace"] == {
        "ln_optimizer_lr": ["uniform", [math.log(1e-4), math.log(0.1)]],
        "model_depth": ["quniform", [1, 4, 1]],
        "model_width": ["choice", [[16, 32]]],
        "scheduler": ["choice", [["cosine", "a b"]]],
        "evaluate": ["choice", [["true", "false"]]],
    }
    assert found["trial"]["command"] == (
        "cd /app && exec python -m launcher.worker trainer.max_epochs=2 run.id=run-1 "
        '"--exp:optimizer.lr=${{search_space.ln_optimizer_lr}}" "--model.depth=${{search_space.model_depth}}" '
        '"--model.width=${{search_space.model_width}}" "--scheduler=${{search_space.scheduler}}" '
        '"--evaluate=${{search_space.evaluate}}"'
    )
    assert found["trial"]["resources"] == found["resources"]  # one of them counts
    assert found["trial"]["environmentVariables"]["RUN_DIRECTION"] == "maximize"


@pytest.mark.parametrize("algorithm", ["bayesian", "random", "grid"])
def test_each_way_of_choosing_is_within_the_service_s_rules(algorithm):
    plain = [each for each in SEARCH.parameters if algorithm != "grid" or not each.log]
    search = replace(SEARCH, algorithm=algorithm, parameters=tuple(plain), maximize=False)
    found = request(search)
    assert found["samplingAlgorithm"] == {"samplingAlgorithmType": algorithm.capitalize()}
    assert found["objective"]["goal"] == "Minimize"


def test_a_grid_is_told_every_value_of_a_range():
    search = replace(SEARCH, algorithm="grid", parameters=(Parameter("a", low=2, high=4, integer=True),))
    assert request(search)["searchSpace"] == {"a": ["choice", [[2, 3, 4]]]}


def test_settings_that_look_alike_have_names_of_their_own():
    pair = (Parameter("a.b_c", choices=(1, 2)), Parameter("a_b.c", choices=(3, 4)))
    found = request(replace(SEARCH, parameters=pair))
    assert found["searchSpace"] == {"a_b_c": ["choice", [[1, 2]]], "a_b_c_": ["choice", [[3, 4]]]}
    assert '"--a.b_c=${{search_space.a_b_c}}" "--a_b.c=${{search_space.a_b_c_}}"' in found["trial"]["command"]


@pytest.mark.parametrize("text", ["$HOME", "a'b", 'a"b', "a\\b", "`id`"])
def test_a_choice_that_bash_would_change_is_refused_by_its_key(text):
    with pytest.raises(UserError, match="cannot be handed to a trial"):
        request(replace(SEARCH, parameters=(Parameter("name", choices=(text, "b")),)))


def test_arguments_that_do_not_fit_go_by_the_bucket_and_the_search_stays_in_the_command():
    found = request(args=("a=${{x}}",))
    assert found["trial"]["command"].startswith(
        'cd /app && exec python -m launcher.worker "--exp:optimizer.lr='
    )
    assert found["trial"]["environmentVariables"]["RUN_MORE"] == f"{BUCKET}/runs/run-1/arguments.json"


def test_a_cluster_runs_the_trials_of_a_sweep():
    found = request(cloud={"compute": None}, nodes=2)
    assert found["trial"]["distribution"] == {"distributionType": "PyTorch", "processCountPerInstance": 1}
    sent = backend(compute="small").request(sweep())
    given = next(body for path, body in sent.items() if path.startswith("jobs/"))["properties"]
    assert given["computeId"] == f"{WORKSPACE}/computes/small"
    assert "queueSettings" not in given


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trials": 1001}, "n_trials=1000 or less"),
        ({"parallel": 1001}, "cloud.parallel=1000 or less"),
    ],
)
def test_limits_of_the_service_are_known_before(changes, words):
    [problem] = tuning.check(replace(SEARCH, **changes))
    assert words in str(problem)
    assert tuning.check(SEARCH) == []


def test_the_whole_sweep_may_wait_for_each_round_but_not_for_ever():
    assert request(replace(SEARCH, trials=1000, parallel=1))["limits"]["timeout"] == "PT504H"


def test_what_the_service_draws_is_what_the_trial_trains_with():
    """Values as they come out of bash, back through the worker: within the range, and of the kind that was meant."""
    found = request(replace(SEARCH, algorithm="random", trials=40))
    marks = {}
    for word in found["trial"]["command"].split('"--')[1:]:
        setting, _, rest = word.partition("=${{search_space.")
        marks[rest.partition("}}")[0]] = setting
    env = {
        "AZUREML_RUN_ID": "run-1-abcdef-1_0",
        "RUN_ID": "run-1",
        "RUN_KIND": "sweep",
        "RUN_OBJECTIVE": "val/accuracy",
    }
    for number, values in enumerate(proposed(found, "run-1-abcdef-1")):
        words = [f"--{marks[name]}={value}" for name, value in values.items()]
        trial, overrides = read_trial({**env, "AZUREML_RUN_ID": f"run-1-abcdef-1_{number}"}, ["a=1", *words])
        assert trial is not None
        assert (trial.run_id, overrides[0]) == (f"run-1-{number + 1}", "a=1")
        assert 1e-4 <= float(trial.settings["optimizer.lr"]) <= 0.1
        assert trial.settings["model.depth"] in ("1", "2", "3", "4")
        assert trial.settings["model.width"] in ("16", "32")
        assert trial.settings["scheduler"] in ("cosine", "a b")
        assert trial.settings["evaluate"] in ("true", "false")
