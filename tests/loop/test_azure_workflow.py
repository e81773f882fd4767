"""From `git push` to results in Blob: the unmodified workflows of a bake for Azure, on the stage of test_azure.py."""

import re

import pytest
from stage.azure.ml_jobs import Job
from stage.azure.scene import Stage
from stage.github.hub import WorkflowRun
from stage.registry import manifest


@pytest.fixture(scope="module")
def pushed(azure: Stage) -> WorkflowRun:
    """The first push of the project, and what its training workflow did."""
    (run,) = azure.github.push(only=("train.yml",))  # it runs ci.yml too
    assert run.succeeded, run.log[-8000:]
    return run


@pytest.fixture(scope="module")
def job(azure: Stage, pushed: WorkflowRun) -> Job:
    """The job that the push has started, when it is over."""
    (name,) = azure.jobs(pushed.table["run"])
    return azure.runs.wait(name)


def test_a_push_tests_builds_and_launches(pushed: WorkflowRun) -> None:
    assert set(pushed.ran.values()) == {"success"}
    assert {"build", "launch"} <= set(pushed.ran)
    assert "unprepared" not in pushed.ran


def test_the_summary_page_holds_link_run_and_cost(pushed: WorkflowRun, job: Job) -> None:
    assert job.name in pushed.table["job"]
    assert "https://ml.azure.com/" in pushed.table["job"]
    price, most = re.findall(r"(\d+\.\d\d) USD", pushed.table["cost"])
    assert 0 < float(price) < float(most) <= 10


def test_the_job_is_the_pushed_image_by_digest_under_the_time_limit(azure: Stage, job: Job) -> None:
    digest, _ = manifest(azure.registry, f"{azure.slug}/train", "main")
    given = job.given
    assert azure.image_of(job) == f"{azure.image}@{digest}"
    assert given["limits"] == {"jobLimitsType": "Command", "timeout": "PT2H"}
    assert given["queueSettings"]["jobTier"] == "Spot"
    assert given["identity"]["identityType"] == "Managed"
    # The configuration says [a100-80, cpu], and the subscription has no quota for the first.
    assert given["resources"]["instanceType"] == "Standard_F8s_v2"


def test_it_trains_and_its_results_are_in_the_container(azure: Stage, pushed: WorkflowRun, job: Job) -> None:
    assert job.status == "Completed", "\n".join(job.lines)
    results = azure.results(pushed.table["run"])
    assert {"metrics.json", "report.md", "model.safetensors", "worker.log"} <= set(results)
    assert azure.project.run("git", "rev-parse", "HEAD").stdout.strip() in results["run.json"].decode()


def test_the_workflow_had_the_launchers_identity_and_no_other(azure: Stage, pushed: WorkflowRun) -> None:
    asked = [call.principal for call in azure.world.asked if call.method == "PUT" and "/jobs/" in call.path]
    assert [one.name for one in asked if one] == ["azure-training-launcher"]
    assert not re.search(r"\beyJ[\w-]+\.[\w-]+\.[\w-]+", pushed.log)  # no token


def test_a_promotion_pushes_the_image_that_serves_by_the_workflows_own_login(
    azure: Stage, pushed: WorkflowRun, job: Job
) -> None:
    said = azure.run("models", "register", f"run={pushed.table['run']}", "name=digits", "to=bucket").stdout
    assert "digits@v1 is registered in " in said
    run = azure.github.dispatch("serve.yml", inputs={"model": "digits@v1"})
    assert run.succeeded, run.log[-8000:]
    digest, _ = manifest(azure.registry, f"{azure.slug}/serve", "digits-v1")
    assert f"/serve@{digest}" in run.summary
    assert "digits@champion is digits@v1 now" in run.summary


def test_the_janitor_settles_what_is_over_and_tells_github(
    azure: Stage, pushed: WorkflowRun, job: Job
) -> None:
    (run,) = azure.github.schedule(only=("janitor.yml",))
    assert run.succeeded, run.log[-8000:]
    assert azure.entry(pushed.table["run"])["spent_usd"] is not None
    head = azure.project.run("git", "rev-parse", "HEAD").stdout.strip()
    said = [(commit, said["state"]) for commit, said in azure.github.api.statuses]
    assert (head, "success") in said


def test_a_launch_over_the_cap_is_red_and_leaves_nothing(azure: Stage, job: Job) -> None:
    before = azure.submitted()
    run = azure.github.dispatch(inputs={"overrides": "cloud.max_cost_usd=0.01"})
    assert run.jobs["launch"] == "failure"
    assert any("max_cost_usd" in text for text in run.errors), run.errors
    assert run.jobs["tidy"] == "success", run.log[-4000:]
    assert azure.submitted() == before


def test_another_repository_gets_no_credentials(azure: Stage, job: Job) -> None:
    before = azure.submitted()
    with azure.github.claiming(repository_id="9"):  # of the same name, and another one
        run = azure.github.dispatch()
    assert (run.jobs["build"], run.jobs["launch"]) == ("failure", "skipped")
    assert "No matching federated identity record found" in run.log
    assert azure.submitted() == before


def test_a_pull_request_from_a_fork_gets_no_credentials(azure: Stage, job: Job) -> None:
    before, asked = azure.submitted(), len(azure.world.asked)
    runs = azure.stealing()
    assert [run.workflow for run in runs] == ["ci.yml"]
    assert "ACTIONS_ID_TOKEN_REQUEST_TOKEN" not in runs[0].log
    assert len(azure.world.asked) == asked
    assert azure.submitted() == before


def test_what_setup_made_is_gone_when_it_is_destroyed(azure: Stage, job: Job) -> None:
    """It comes last: nothing is left to train on."""
    azure.owner.make("cloud-destroy", azure.slug, azure.store, DATA="delete")
    assert azure.world.arm.resources == {}
    assert azure.owner.repository.variables == {}
    assert azure.owner.repository.environments == {}
