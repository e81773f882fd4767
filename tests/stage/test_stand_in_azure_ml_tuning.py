"""The stand-in for Azure ML's sweeps refuses and does what the service does."""

import math
from collections.abc import Iterator
from typing import Any

import pytest

from stage import azure
from stage.azure.ml_bench import GPU, SIZE, Bench, bench
from stage.azure.ml_usages import ALL_LOW_PRIORITY
from stage.one_field import REMOVED, with_field


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with azure.serve(tmp_path_factory.mktemp("azure")) as world:
        yield bench(world)


@pytest.fixture
def here(shared: Bench) -> Bench:
    """The same, as if nobody had done anything in it."""
    shared.world.ml.reset()
    return shared


def swept(here: Bench, **changes: Any) -> str:
    here.submit("s", here.sweep_body(**changes))
    return "s"


def ended(here: Bench, name: str, exit_code: int = 0, value: float | None = None) -> None:
    """Has a trial run and end, with a value of the objective if there is one."""
    here.world.ml.start(name)
    if value is not None:
        assert here.log(name, "val/accuracy", value, who=here.trainer).ok
    here.world.ml.finish(name, exit_code)
    here.world.pass_time(1)


# What a sweep may be


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("objective", REMOVED, "objective is required"),
        ("objective.primaryMetric", "", "primary metric"),
        ("objective.goal", "maximize", "is not one of"),
        ("samplingAlgorithm", {"samplingAlgorithmType": "Hyperband"}, "is not one of"),
        (
            "samplingAlgorithm",
            {"samplingAlgorithmType": "Grid"},
            "Grid sampling can only be used with choice",
        ),
        (
            "samplingAlgorithm",
            {"samplingAlgorithmType": "Bayesian"},
            "supports choice, uniform and quniform only",
        ),
        ("searchSpace", {}, "at least one parameter"),
        ("searchSpace.lr", ["loguniform", [-1, -6]], "less than its maximum"),
        ("searchSpace.lr", ["loguniform", [-6]], "takes 2 numbers"),
        ("searchSpace.lr", ["uniform", ["0", 1]], "takes 2 numbers"),
        ("searchSpace.lr", ["between", [0, 1]], "Unknown parameter expression"),
        ("searchSpace.lr", {"type": "uniform"}, "Unknown parameter expression"),
        ("searchSpace.name", ["choice", ["adam", "sgd"]], '["choice", [[value, ...]]]'),
        ("searchSpace.name", ["choice", [[]]], '["choice", [[value, ...]]]'),
        ("searchSpace.n", ["randint", [0]], "positive integer"),
        ("trial.command", "train ${{search_space.other}}", "there is no 'search_space.other'"),
        ("trial.command", REMOVED, "command is required"),
        ("trial.environmentId", "gone", "gone not found"),
        ("resources.instanceType", "Standard_X1", "not supported"),
        ("limits.maxTotalTrials", 1001, "between 1 and 1000"),
        ("limits.maxTotalTrials", 0, "between 1 and 1000"),
        ("limits.maxConcurrentTrials", 5, "must not be more than maxTotalTrials"),
        ("limits.trialTimeout", "3600", "no ISO 8601 duration"),
        ("limits.maxTrials", 4, "not a field"),
        ("identity.clientId", "00000000-0000-0000-0000-000000000000", "not one of the user-assigned"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(here: Bench, path: str, value: Any, words: str) -> None:
    assert here.refused("never", here.sweep_body()) == ""
    here.world.ml.reset()
    answer = here.ask("PUT", "jobs/never", with_field(here.sweep_body(), f"properties.{path}", value))
    assert answer.status_code >= 400
    assert words in answer.json()["error"]["message"]


# Its trials


def test_trials_are_jobs_of_their_own_as_many_as_may_be_at_a_time(here: Bench) -> None:
    here.submit("s", here.sweep_body())
    trials = here.world.ml.sweep("s").trials
    assert [trial.name for trial in trials] == ["s_0", "s_1"]
    assert here.get("jobs/s_0")["properties"]["tags"] == {"run": "s1"}
    assert here.status("s") == "Running"
    ended(here, "s_1")
    assert [trial.name for trial in here.world.ml.sweep("s").trials] == ["s_0", "s_1", "s_2"]
    assert [one["name"] for one in here.get("jobs")["value"]] == ["s"]
    assert [one["runId"] for one in here.history("s", "/children")["value"]] == ["s_0", "s_1", "s_2"]


def test_values_are_drawn_within_their_ranges_and_put_into_the_command(here: Bench) -> None:
    space = {
        "lr": ["loguniform", [-6, -1]],
        "drop": ["quniform", [0, 1, 0.25]],
        "n": ["randint", [3]],
        "name": ["choice", [["adam", "sgd"]]],
    }
    command = "train ${{search_space.lr}} ${{search_space.drop}} ${{search_space.n}} ${{search_space.name}}"
    limits = {"jobLimitsType": "Sweep", "maxTotalTrials": 50}
    here.submit("s", here.sweep_body(searchSpace=space, trial={"command": command}, limits=limits))
    sweep = here.world.ml.sweep("s")
    assert len(sweep.trials) == 50
    for trial in sweep.trials:
        _, rate, drop, number, name = trial.given["command"].split()
        assert math.exp(-6) <= float(rate) <= math.exp(-1)
        assert float(drop) in (0, 0.25, 0.5, 0.75, 1)
        assert int(number) in range(3)
        assert name in ("adam", "sgd")
        assert trial.given["environmentVariables"]["AZUREML_SWEEP_lr"] == rate
    assert len({trial.given["command"] for trial in sweep.trials}) > 40
    assert here.history("s_0")["parameters"]["name"] in ("adam", "sgd")


def test_a_grid_is_gone_through_once(here: Bench) -> None:
    space = {"a": ["choice", [[1, 2]]], "b": ["choice", [["x", "y"]]]}
    trial = {"command": "${{search_space.a}}${{search_space.b}}"}
    grid = {"samplingAlgorithmType": "Grid"}
    limits = {"jobLimitsType": "Sweep"}
    here.submit("s", here.sweep_body(searchSpace=space, samplingAlgorithm=grid, trial=trial, limits=limits))
    sweep = here.world.ml.sweep("s")
    assert [one.given["command"] for one in sweep.trials] == ["1x", "1y", "2x", "2y"]


def test_trials_come_by_themselves(here: Bench) -> None:
    here.submit("s", here.sweep_body())
    assert here.world.ml.jobs.keys() == {(here.workspace.lower(), "s")}
    here.world.pass_time(1)
    assert [job.name for job in here.world.ml.jobs.values()] == ["s", "s_0", "s_1"]


def test_the_sweep_s_own_machine_counts_and_a_machine_of_its_trial_is_not_looked_at(here: Bench) -> None:
    """As azure-ai-ml sends both; without one it is a CPU machine: how-to-use-serverless-compute."""
    swept(here, resources={"instanceType": GPU}, trial={"resources": {"instanceType": SIZE}})
    assert here.world.ml.sweep("s").trials[0].size.name == GPU
    here.world.ml.reset()
    swept(here, resources=None, trial={"resources": {"instanceType": GPU}})
    assert here.world.ml.sweep("s").trials[0].size.gpus == 0


def test_trials_wait_for_quota(here: Bench) -> None:
    here.world.ml.usages.set(ALL_LOW_PRIORITY, 8)
    name = swept(here, resources={"instanceType": SIZE})
    here.world.ml.start("s_0")
    assert not here.world.ml.has_room(here.world.ml.job("s_1"))
    assert here.world.ml.sweep(name).status == "Running"


# What becomes of it


def test_the_best_trial_is_in_its_properties(here: Bench) -> None:
    swept(here)
    for number, value in enumerate((0.5, 0.9, 0.7, 0.1)):
        ended(here, f"s_{number}", value=value)
    here.world.pass_time(1)
    said = here.get("jobs/s")["properties"]
    assert said["status"] == "Completed"
    assert (said["properties"]["best_child_run_id"], said["properties"]["score"]) == ("s_1", "0.9")


def test_the_best_of_a_minimized_metric_is_the_least(here: Bench) -> None:
    swept(here, objective={"goal": "Minimize", "primaryMetric": "val/accuracy"})
    for number, value in enumerate((0.5, 0.9, 0.7, 0.1)):
        ended(here, f"s_{number}", value=value)
    here.world.pass_time(1)
    assert here.get("jobs/s")["properties"]["properties"]["best_child_run_id"] == "s_3"


def test_a_metric_that_was_never_logged_fails_nothing_and_nothing_is_best(here: Bench) -> None:
    swept(here)
    for number in range(4):
        ended(here, f"s_{number}")
    here.world.pass_time(1)
    said = here.get("jobs/s")["properties"]
    assert (said["status"], "best_child_run_id" in said["properties"]) == ("Completed", False)


def test_a_failed_trial_is_not_the_best_and_fails_not_the_sweep(here: Bench) -> None:
    swept(here)
    for number, value in enumerate((0.5, 0.9, 0.7, 0.1)):
        ended(here, f"s_{number}", exit_code=int(number == 1), value=value)
    here.world.pass_time(1)
    said = here.get("jobs/s")["properties"]
    assert (said["status"], said["properties"]["best_child_run_id"]) == ("Completed", "s_2")


def test_a_sweep_of_which_all_trials_fail_has_failed(here: Bench) -> None:
    swept(here)
    for number in range(4):
        ended(here, f"s_{number}", exit_code=1)
    here.world.pass_time(1)
    assert here.status("s") == "Failed"
    assert (
        "User errors were found in at least one of the child runs"
        in here.history("s")["error"]["error"]["message"]
    )


def test_a_lost_trial_is_queued_again(here: Bench) -> None:
    swept(here)
    here.world.ml.start("s_0")
    here.world.ml.lose("s_0")
    assert here.status("s_0") == "Queued"
    ended(here, "s_0", value=1)
    assert here.world.ml.job("s_0").attempts == 2


def test_a_trial_has_its_own_limit(here: Bench) -> None:
    swept(here)
    here.world.ml.start("s_0")
    here.world.pass_time(3606)
    assert (here.status("s_0"), here.status("s")) == ("Canceled", "Running")


def test_at_its_limit_a_sweep_is_cancelled_with_its_trials(here: Bench) -> None:
    swept(here, limits={"jobLimitsType": "Sweep", "maxTotalTrials": 2, "timeout": "PT1H"})
    here.world.ml.start("s_0")
    here.world.pass_time(3600)
    assert [here.status(name) for name in ("s", "s_0", "s_1")] == ["CancelRequested"] * 3
    here.world.pass_time(10)
    assert [here.status(name) for name in ("s", "s_0", "s_1")] == ["Canceled"] * 3


def test_a_cancelled_sweep_takes_its_trials_along(here: Bench) -> None:
    swept(here)
    here.world.ml.start("s_0")
    assert here.ask("POST", "jobs/s/cancel").status_code == 202
    here.world.pass_time(10)
    assert [here.status(name) for name in ("s", "s_0", "s_1")] == ["Canceled"] * 3
    assert len(here.world.ml.sweep("s").trials) == 2
