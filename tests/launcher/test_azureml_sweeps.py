"""Azure ML in a workspace on the stage: sweeps, their trials and what those cost."""

from dataclasses import replace

import azureml_place
import pytest
from azureml_jobs import sweep
from azureml_place import FIRST
from fake_backend import SEARCH
from launcher.job import State
from launcher.providers.azure import auth
from launcher.worker.aml import RunChannel

pytestmark = pytest.mark.cloud("azure")
made, place = azureml_place.made, azureml_place.place  # fixtures


def test_a_sweep_is_counted_and_paid_for_by_its_trials_and_its_lines_say_whose_they_are(place):
    backend, ml = place.backend(), place.world.ml
    assert backend.submit(sweep(replace(SEARCH, trials=3, parallel=2))).name == FIRST
    assert backend.status("run-1").state is State.queued
    place.world.pass_time(10)
    for number in (0, 1):
        ml.start(f"{FIRST}_{number}")
        ml.say(f"{FIRST}_{number}", f"line {number}")
    place.world.pass_time(100)
    status = backend.status("run-1")
    assert status.state is State.running
    assert status.seconds == pytest.approx(200, abs=40)
    assert list(backend.logs("run-1")) == ["[trial 1] line 0", "[trial 2] line 1"]
    assert [each.name for each in backend.list()] == [FIRST]
    for number in (0, 1):
        ml.finish(f"{FIRST}_{number}")
    place.world.pass_time(30)
    assert backend.status("run-1").detail == "2 of 3 trials, Running"
    ml.start(f"{FIRST}_2")
    backend.stop("run-1")
    place.world.pass_time(60)
    assert backend.status("run-1").state is State.stopped


def test_a_trial_that_outlives_its_sweep_is_paid_for_and_can_be_stopped(place):
    backend, ml = place.backend(), place.world.ml
    backend.submit(sweep(replace(SEARCH, trials=2, parallel=2)))
    place.world.pass_time(10)
    for number in (0, 1):
        ml.start(f"{FIRST}_{number}")
    ml.finish(f"{FIRST}_0")
    place.world.pass_time(5)
    ml.sweep(FIRST)._end("Canceled")
    place.world.pass_time(100)
    [status] = backend.list()
    assert (status.state, status.seconds) == (State.running, pytest.approx(105, abs=40))
    assert status.detail == f"1 of 2 trials, Canceled, but {FIRST}_1 at work"
    backend.stop("run-1")
    place.world.pass_time(60)
    assert backend.status("run-1").state is State.stopped
    assert place.world.paths("arm", "^POST .*/cancel")[-1].endswith(f"{FIRST}_1/cancel")


def test_the_sweep_learns_what_its_trials_have_reached_by_mlflow(place):
    backend, ml = place.backend(), place.world.ml
    backend.submit(sweep(replace(SEARCH, trials=2, parallel=2)))
    place.world.pass_time(10)
    for number, value in ((0, 0.25), (1, 0.75)):
        name = f"{FIRST}_{number}"
        ml.start(name)
        services = auth.call("GET", f"{place.workspace}/jobs/{FIRST}", api="2025-12-01")["properties"][
            "services"
        ]
        env = {
            "AZUREML_RUN_ID": name,
            "MLFLOW_TRACKING_URI": services["Tracking"]["endpoint"],
            "MLFLOW_TRACKING_TOKEN": place.world.history.run_token(ml.job(name)),
        }
        channel = RunChannel(env)
        channel.tell(number + 1, "val/accuracy", [(10, 0.9)])
        channel.tell(number + 1, "val/accuracy", [(10, 0.9), (11, value)], last=True)
        metrics = {key: [each[:2] for each in values] for key, values in ml.job(name).metrics.items()}
        assert metrics == {"val/accuracy/each": [(0.9, 10), (value, 11)], "val/accuracy": [(value, 11)]}
        ml.finish(name)
    place.world.pass_time(60)
    status = backend.status("run-1")
    assert (status.state, status.detail) == (State.succeeded, "2 of 2 trials, Completed")
    assert f"{FIRST}_1" in ml.sweep(FIRST).best().values()
