"""Azure ML in a workspace on the stage: what a launch makes there, and whatever keeps it from that."""

import json
import threading

import azureml_place
import pytest
from azureml_jobs import T4, job
from azureml_place import FIRST
from launcher.job import State
from launcher.providers.errors import MissingError, RefusedError, UnreachableError
from launcher.storage import read_text

pytestmark = pytest.mark.cloud("azure")
made, place = azureml_place.made, azureml_place.place  # fixtures


def test_a_job_goes_from_the_queue_to_its_end(place):
    backend = place.backend()
    handle = backend.submit(job())
    assert handle.name == FIRST
    assert handle.url.startswith(f"https://ml.azure.com/runs/{FIRST}?wsid=")
    assert backend.status("run-1").state is State.queued
    place.world.pass_time(600)
    assert backend.status("run-1").seconds == 0
    place.world.ml.start(FIRST)
    place.world.pass_time(90)
    status = backend.status("run-1")
    assert (status.state, status.run_id, status.name) == (State.running, "run-1", FIRST)
    assert status.seconds == pytest.approx(90, abs=30)
    assert status.labels == {"project": "demo", "run": "run-1", "max-seconds": "5400"}
    place.world.ml.finish(FIRST)
    place.world.pass_time(60)
    status = backend.status("run-1")
    assert status.state is State.succeeded
    assert status.seconds == pytest.approx(91, abs=30)


def test_what_is_sent_is_what_is_shown_but_for_the_identity_that_is_looked_up(place):
    backend, asked = place.backend(), job(machine=T4, secrets={"WANDB_API_KEY": "wandb"})
    backend.submit(asked)
    puts = {call.path: call.body for call in place.world.asked if call.method == "PUT"}
    shown = {f"{backend.path}/{path}": body for path, body in backend.request(asked).items()}
    client = place.world.people.named("demo-trainer").client_id
    given = shown[f"{backend.path}/jobs/{FIRST}"]["properties"]
    given["identity"]["clientId"] = given["environmentVariables"]["AZURE_CLIENT_ID"] = client
    assert puts == shown


def test_an_image_is_registered_once(place):
    backend = place.backend()
    place.world.ml.environments.known.clear()
    for run_id in ("run-1", "run-2"):
        backend.submit(job(run_id=run_id))
    assert len(place.world.paths("arm", "^PUT .*/environments/")) == 1


@pytest.mark.parametrize("fault", ["lose", "cut"])
def test_an_image_that_another_launch_registered_at_the_same_moment_is_no_trouble(place, fault):
    getattr(place.world, fault)("arm", "^PUT .*/environments/", times=3)  # it is there, and nobody says so
    assert place.backend().submit(job()).name == FIRST


def test_an_image_that_cannot_be_registered_says_why(place):
    place.world.fail("arm", "^PUT .*/environments/", 403, "AuthorizationFailed", times=None)
    with pytest.raises(RefusedError, match="Permission denied"):
        place.backend().submit(job())
    assert place.jobs == []


@pytest.mark.parametrize("fault", ["lose", "fail", "cut"])
def test_an_answer_that_was_lost_makes_no_second_job(place, fault):
    getattr(place.world, fault)("arm", "^PUT .*/jobs/", times=1)
    assert place.backend().submit(job()).name == FIRST
    assert place.jobs == [FIRST]


def test_a_job_whose_answers_were_all_lost_is_found_and_is_one(place):
    place.world.lose("arm", "^PUT .*/jobs/", times=3)
    assert place.backend().submit(job()).name == FIRST
    assert place.jobs == [FIRST]


def test_what_keeps_a_job_from_being_submitted_is_said(place):
    place.world.fail("arm", "^PUT .*/jobs/", times=None)
    with pytest.raises(UnreachableError, match="answers 503"):
        place.backend().submit(job())
    assert place.jobs == []
    place.world.heal()
    place.world.fail("arm", "^PUT .*/jobs/", 403, "AuthorizationFailed", times=None)
    with pytest.raises(RefusedError):
        place.backend().submit(job())


def test_two_launches_of_a_run_at_the_same_moment_make_one_job(place):
    """The second finds the id taken when it has asked which is free, but not yet submitted."""
    backend, named = place.backend(), []
    free, barrier = backend._finder.free, threading.Barrier(2)

    def both(run_id: str) -> str:
        found = free(run_id)
        barrier.wait(600)
        return found

    backend._finder.free = both
    threads = [threading.Thread(target=lambda: named.append(backend.submit(job()).name)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert named == [FIRST, FIRST]
    assert place.jobs == [FIRST]


def test_a_missing_workspace_is_not_taken_for_a_missing_job(place):
    with pytest.raises(MissingError):
        place.backend(workspace="demo/other-ml").status("run-1")
    with pytest.raises(MissingError):
        place.backend(workspace="other/demo-ml").status("run-1")
    assert place.backend().status("run-1") is None


def test_a_missing_identity_is_said_before_anything_is_made(place):
    with pytest.raises(MissingError, match="There is no identity other"):
        place.backend(service_account="other").submit(job())
    assert place.world.paths("arm", "^PUT") == []


def test_arguments_that_the_service_would_change_are_in_the_bucket_before_the_job_is(place):
    asked = job(args=("a=${{x}}",), output=f"{place.bucket}/runs/run-1")
    place.backend().submit(asked)
    more = json.loads(read_text(f"{place.bucket}/runs/run-1/arguments.json") or "")
    assert more == {"args": ["a=${{x}}"], "env": {}}
    given = place.world.ml.job(FIRST).given
    assert given["environmentVariables"]["RUN_MORE"].endswith("/runs/run-1/arguments.json")
