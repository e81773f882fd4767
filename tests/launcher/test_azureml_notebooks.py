"""Azure ML in a workspace on the stage: notebooks, from their start to their end."""

import azureml_place
import pytest
from azureml_jobs import notebook
from launcher.job import Leftover, State
from launcher.providers.errors import RefusedError, UnreachableError

pytestmark = pytest.mark.cloud("azure")
made, place = azureml_place.made, azureml_place.place  # fixtures


def test_a_notebook_is_made_told_of_stopped_and_removed(place):
    backend = place.backend()
    handle = backend.submit(notebook())
    assert backend.status("run-1").state is State.queued
    assert handle.url in backend.hint("run-1")
    place.world.pass_time(600)
    status = backend.status("run-1")
    assert (status.state, status.name) == (State.running, handle.name)
    assert status.labels == {"project": "demo", "run": "run-1", "max-seconds": "5400"}
    assert "instances.azureml.ms/lab" in backend.hint("run-1")
    assert backend.leftovers() == []
    assert [each.run_id for each in backend.list()] == ["run-1"]
    backend.stop("run-1")
    place.world.pass_time(600)
    assert backend.status("run-1").state is State.stopped
    [left] = backend.leftovers()
    assert (left.name, "run run-1" in left.what) == (handle.name, True)
    backend.remove(left)
    place.world.pass_time(600)
    assert backend.leftovers() == []
    assert backend.status("run-1") is None
    backend.remove(left)  # gone already


def test_a_notebook_ends_by_its_schedule_and_when_nobody_uses_it(place):
    backend = place.backend()
    handle = backend.submit(notebook(max_hours=1.0))
    place.world.pass_time(600)
    place.world.ml.compute(handle.name).use()
    for _ in range(5):
        place.world.pass_time(600)
        place.world.ml.compute(handle.name).use()
    place.world.pass_time(400)
    assert backend.status("run-1").state is State.stopped
    second = backend.submit(notebook(run_id="idle", max_hours=20.0))
    place.world.pass_time(600)
    assert backend.status("idle").state is State.running
    place.world.pass_time(2400)
    assert backend.status("idle").state is State.stopped
    assert {each.name for each in backend.leftovers()} == {handle.name, second.name}


@pytest.mark.parametrize("fault", ["lose", "cut"])
def test_a_notebook_whose_answer_was_lost_is_found_and_is_one(place, fault):
    getattr(place.world, fault)("arm", "^PUT .*/computes/", times=1)
    handle = place.backend().submit(notebook())
    assert [each.name for each in place.world.ml.computes.values()] == [handle.name]


def test_what_keeps_a_notebook_from_being_made_is_said(place):
    place.world.fail("arm", "^PUT .*/computes/", times=None)
    with pytest.raises(UnreachableError, match="answers 503"):
        place.backend().submit(notebook())


def test_a_notebook_that_cannot_be_stopped_is_removed(place):
    backend = place.backend()
    backend.submit(notebook())
    backend.stop("run-1")  # while it is made
    assert backend.status("run-1") is None
    handle = backend.submit(notebook())
    place.world.pass_time(600)
    place.world.ml.compute(handle.name).full = True
    place.world.fail("arm", "^POST .*/stop", 403, "AuthorizationFailed", times=1)
    with pytest.raises(RefusedError):
        backend.stop("run-1")
    assert backend.status("run-1").state is State.running
    backend.stop("run-1")
    assert backend.status("run-1") is None


def test_a_notebook_that_hangs_in_its_stop_is_removed(place):
    backend = place.backend()
    handle = backend.submit(notebook())
    place.world.pass_time(600)
    backend.stop("run-1")
    hung = place.world.ml.compute(handle.name)
    hung.deadlines, hung.look = lambda: iter(()), lambda: None
    backend.stop("run-1")
    assert backend.status("run-1").detail == "Stopping"
    place.world.pass_time(5400)
    backend.stop("run-1")
    assert backend.status("run-1") is None


def test_a_notebook_of_a_run_that_had_one_gets_another_machine(place):
    backend = place.backend()
    first = backend.submit(notebook())
    place.world.pass_time(600)
    backend.stop("run-1")
    place.world.pass_time(600)
    second = backend.submit(notebook())
    assert first.name != second.name
    place.world.pass_time(600)
    assert backend.status("run-1").name == second.name
    assert [each.name for each in backend.leftovers()] == [first.name]


def test_machines_of_others_are_nobody_s_leftovers(place):
    place.backend(labels={"project": "other"}).submit(notebook())
    assert place.backend().leftovers() == []
    assert place.backend().list() == []
    place.backend().remove(Leftover("nb1-none-h000000", "nothing"))
