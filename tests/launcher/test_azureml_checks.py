"""Azure ML in a workspace on the stage: what is looked at before a launch, and that its rights are enough."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import azureml_place
import pytest
from azure_logins import logged_in
from azureml_jobs import CPU, T4, job, notebook, sweep
from azureml_place import FIRST, run
from azureml_world import Place
from launcher.job import Job, State
from launcher.providers.azure import auth, registry, setup
from launcher.providers.errors import MissingError
from stage.azure.role_definitions import Definition

pytestmark = pytest.mark.cloud("azure")
made, place = azureml_place.made, azureml_place.place  # fixtures


def test_the_role_of_github_s_login_is_enough_for_all_that_is_done_with_it(place):
    """Jobs and sweeps from their submission to their end, and the janitor's removal of notebooks."""
    roles = json.loads((Path(setup.__file__).parent / "roles.json").read_text())["custom"]["launcher"]
    definition = Definition(
        "11111111-0000-0000-0000-000000000000", "Launcher of demo", tuple(roles["actions"])
    )
    place.world.roles.definitions[definition.name] = definition
    launcher = place.world.make.principal("launcher")
    trainer = place.world.people.named("demo-trainer").resource
    for scope in (place.workspace, trainer):
        place.world.make.role(launcher, definition.title, scope)
    notebook_name = place.backend().submit(notebook(run_id="by-hand")).name
    place.world.pass_time(600)
    with logged_in(place.world, "launcher"):
        backend = place.backend()
        backend.submit(job())
        place.world.pass_time(10)
        place.world.ml.start(FIRST)
        place.world.ml.say(FIRST, "line")
        assert list(backend.logs("run-1")) == ["line"]
        backend.submit(sweep(run_id="lr"))
        assert {each.run_id for each in backend.list()} == {"run-1", "lr", "by-hand"}
        for run_id in ("run-1", "lr", "by-hand"):
            backend.stop(run_id)
        place.world.pass_time(600)
        assert {each.state for each in backend.list()} == {State.stopped}
        [left] = backend.leftovers()
        assert left.name == notebook_name
        backend.remove(left)
        assert backend.leftovers() == []


def problems(place: Place, asked: Job, **changes: Any) -> list[str]:
    backend = place.backend(**changes)
    return [
        str(each)
        for each in [
            *backend._check_settings(asked),
            *backend._check_active(asked),
            *backend._check_machine(asked),
        ]
    ]


def test_what_is_at_work_is_not_started_again(place):
    backend = place.backend()
    assert problems(place, job(machine=T4)) == []
    run(place)
    [found] = problems(place, job(machine=T4))
    assert "A job of run run-1 is running" in found
    backend.stop("run-1")
    place.world.pass_time(60)
    assert problems(place, job(machine=T4)) == []
    backend.submit(sweep(run_id="lr"))
    [found] = problems(place, sweep(run_id="lr", machine=T4))
    assert "There was a sweep lr" in found


def test_a_job_without_labels_could_not_be_found(place):
    [found] = problems(place, job(machine=T4), labels={})
    assert "cloud.labels" in found


def test_a_cluster_is_looked_at_instead_of_the_quota(place):
    trainer = place.world.people.named("demo-trainer").resource
    body = {
        "location": place.world.region,
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {trainer: {}}},
        "properties": {
            "computeType": "AmlCompute",
            "properties": {
                "vmSize": "Standard_NC4as_T4_v3",
                "vmPriority": "LowPriority",
                "osType": "Linux",
                "scaleSettings": {
                    "minNodeCount": 0,
                    "maxNodeCount": 1,
                    "nodeIdleTimeBeforeScaleDown": "PT2M",
                },
            },
        },
    }
    auth.call("PUT", f"{place.workspace}/computes/small", api="2025-12-01", body=body)
    place.world.pass_time(600)
    assert problems(place, job(machine=T4), compute="small") == []
    assert place.backend(compute="small").allowance(T4, True) == 1
    assert place.backend(compute="small").allowance(CPU, True) == 0
    [found] = problems(place, job(machine=CPU), compute="small")
    assert "The cluster small has machines" in found
    with pytest.raises(MissingError):
        problems(place, job(machine=T4), compute="other")
    assert place.backend(compute="small").submit(job(machine=T4)).name == FIRST


def test_a_notebook_in_a_workspace_without_keys_is_refused_before(place):
    assert problems(place, notebook(machine=T4)) == []
    account = place.world.arm.resources[
        place.world.arm.get(place.workspace).properties["storageAccount"].lower()
    ]
    account.properties["allowSharedKeyAccess"] = False
    try:
        [found] = problems(place, notebook(machine=T4))
        assert "storage account mldemobucket takes no keys" in found
        place.backend().submit(notebook())
        place.world.pass_time(600)
        assert place.backend().status("run-1").state is State.failed
        assert len(place.backend().leftovers()) == 1
    finally:
        account.properties["allowSharedKeyAccess"] = True


def test_the_whole_examination_can_be_made(place, monkeypatch):
    """What is found of the image is other tests' matter; here that all is asked, and that no check fails by itself."""
    monkeypatch.setattr(registry, "resolve", lambda reference: reference)
    monkeypatch.setattr(registry, "revision", lambda image: None)
    found = [str(each) for each in place.backend(bucket=None).check(replace(job(machine=T4), output=None))]
    assert [each for each in found if "demo/train" not in each] == [], found
