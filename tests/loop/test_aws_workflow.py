"""From `git push` to results in a bucket of S3: the unmodified workflows of a bake for AWS, on the stage of test_aws.py."""

import re

import pytest
from stage.aws.scene import Stage
from stage.aws.training import TrainingJob
from stage.github.hub import WorkflowRun
from stage.registry import manifest


@pytest.fixture(scope="module")
def pushed(aws: Stage) -> WorkflowRun:
    """The first push of the project, and what its training workflow did."""
    (run,) = aws.github.push(only=("train.yml",))  # it runs ci.yml too
    assert run.succeeded, run.log[-8000:]
    return run


@pytest.fixture(scope="module")
def job(aws: Stage, pushed: WorkflowRun) -> TrainingJob:
    """The job that the push has started, when it is over."""
    (name,) = aws.jobs(pushed.table["run"])
    found = aws.runs.wait(name)
    assert isinstance(found, TrainingJob)
    return found


def test_a_push_tests_builds_and_launches(pushed: WorkflowRun) -> None:
    assert set(pushed.ran.values()) == {"success"}
    assert {"build", "launch"} <= set(pushed.ran)
    assert "unprepared" not in pushed.ran


def test_the_summary_page_holds_link_run_and_cost(pushed: WorkflowRun, job: TrainingJob) -> None:
    shown = pushed.table
    assert job.name in shown["job"]
    assert ".console.aws.amazon.com/" in shown["job"]
    price, most = re.findall(r"(\d+\.\d\d) USD", shown["cost"])
    assert 0 < float(price) < float(most) <= 10


def test_the_job_is_the_pushed_image_by_digest_under_the_time_limit(aws: Stage, job: TrainingJob) -> None:
    digest, _ = manifest(aws.registry.host, f"{aws.slug}/train", "main")
    assert job.given["AlgorithmSpecification"]["TrainingImage"] == f"{aws.image}@{digest}"
    assert job.given["StoppingCondition"]["MaxRuntimeInSeconds"] == 7200
    assert job.spot
    assert job.given["RoleArn"].endswith(":role/cloud-training-trainer")
    # The configuration says [l4, cpu], and a new account has no quota for the first.
    assert job.given["ResourceConfig"]["InstanceType"] == "ml.m7i.2xlarge"


def test_it_trains_and_its_results_are_in_the_bucket(
    aws: Stage, pushed: WorkflowRun, job: TrainingJob
) -> None:
    assert job.state == "Completed", "\n".join(job.lines)
    results = aws.results(pushed.table["run"])
    assert {"metrics.json", "report.md", "model.safetensors", "worker.log"} <= set(results)
    assert aws.project.run("git", "rev-parse", "HEAD").stdout.strip() in results["run.json"].decode()


def test_the_workflow_had_the_launchers_role_and_no_other(aws: Stage, pushed: WorkflowRun) -> None:
    asked = [call.session for call in aws.world.asked if call.operation == "CreateTrainingJob"]
    assert [session.arn.rpartition("assumed-role/")[2] for session in asked if session] == [
        f"{aws.slug}-launcher/GitHubActions"
    ]
    assert not re.search(r"\bASIA[A-Z0-9]{16}\b", pushed.log)


def test_a_promotion_pushes_the_image_that_serves_by_the_workflows_own_login(
    aws: Stage, pushed: WorkflowRun, job: TrainingJob
) -> None:
    said = aws.run("models", "register", f"run={pushed.table['run']}", "name=digits", "to=bucket").stdout
    assert "digits@v1 is registered in " in said
    run = aws.github.dispatch("serve.yml", inputs={"model": "digits@v1"})
    assert run.succeeded, run.log[-8000:]
    digest, _ = manifest(aws.registry.host, f"{aws.slug}/serve", "digits-v1")
    assert f"/serve@{digest}" in run.summary
    assert "digits@champion is digits@v1 now" in run.summary


def test_the_janitor_settles_what_is_over_and_tells_github(
    aws: Stage, pushed: WorkflowRun, job: TrainingJob
) -> None:
    run_id = pushed.table["run"]
    (run,) = aws.github.schedule(only=("janitor.yml",))
    assert run.succeeded, run.log[-8000:]
    assert aws.entry(run_id)["spent_usd"] is not None
    head = aws.project.run("git", "rev-parse", "HEAD").stdout.strip()
    assert [
        (commit, said["state"]) for commit, said in aws.github.api.statuses if said["state"] == "success"
    ] == [(head, "success")]


def test_a_launch_that_the_role_does_not_allow_is_red_and_leaves_nothing(
    aws: Stage, job: TrainingJob
) -> None:
    before = aws.submitted()
    overrides = {"overrides": "cloud.max_cost_usd=100", "hours": "25"}  # `cloud setup` has allowed 24
    run = aws.github.dispatch(inputs=overrides)
    assert run.jobs["launch"] == "failure"
    assert any("not authorized to perform: sagemaker:CreateTrainingJob" in text for text in run.errors), (
        run.errors
    )
    assert any("MAX_HOURS" in text for text in run.errors), run.errors
    assert run.jobs["tidy"] == "success", run.log[-4000:]
    assert aws.submitted() == before


def test_another_repository_gets_no_credentials(aws: Stage, job: TrainingJob) -> None:
    before = aws.submitted()
    with aws.github.claiming(repository_id="9"):  # of the same name, and another one
        run = aws.github.dispatch()
    assert (run.jobs["build"], run.jobs["launch"]) == ("failure", "skipped")
    assert "Not authorized to perform sts:AssumeRoleWithWebIdentity" in run.log
    assert aws.submitted() == before


def test_a_pull_request_from_a_fork_gets_no_credentials(aws: Stage, job: TrainingJob) -> None:
    before, asked = aws.submitted(), len(aws.world.asked)
    runs = aws.stealing()
    assert [run.workflow for run in runs] == ["ci.yml"]
    assert "ACTIONS_ID_TOKEN_REQUEST_TOKEN" not in runs[0].log
    assert len(aws.world.asked) == asked
    assert aws.submitted() == before
