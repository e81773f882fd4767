"""From `git push` to results in a bucket: the unmodified workflow of a bake, on stand-ins for GitHub and Google Cloud.

`make loop` runs this file and test_faults.py. The tests of this file follow one push, in order.
"""

import json
import re
from pathlib import Path

import pytest
from baking import BakedProject
from stage import containers
from stage.github.hub import WorkflowRun
from stage.google.vertex import SUCCEEDED, TrainingJob
from stage.registry import layers, manifest
from stage.scene import Stage


@pytest.fixture(scope="module")
def job(stage: Stage, pushed: WorkflowRun) -> TrainingJob:
    """The job that the push has started, when it is over."""
    return stage.vertex.wait(pushed.table["run"], timeout=400)


def run_id(job: TrainingJob) -> str:
    """The run that a job is for."""
    return job.resource["displayName"]


def test_a_push_tests_builds_and_launches(stage: Stage, pushed: WorkflowRun) -> None:
    ran = {name: result for name, result in pushed.jobs.items() if result != "skipped"}
    assert set(ran.values()) == {"success"}
    assert {"build", "launch"} <= set(ran)
    assert any("test" in name or "ci" in name for name in ran)
    assert "unprepared" not in ran


def test_the_summary_page_holds_link_run_and_cost(stage: Stage, pushed: WorkflowRun) -> None:
    shown = pushed.table
    submitted = stage.vertex.job(shown["run"])
    assert submitted.id in shown["job"]
    assert shown["job"].startswith("https://console.cloud.google.com/")
    price, most = re.findall(r"(\d+\.\d\d) USD", shown["cost"])
    assert 0 < float(price) < float(most) <= 10


def test_the_job_is_the_pushed_image_by_digest_under_the_time_limit(stage: Stage, job: TrainingJob) -> None:
    spec = job.resource["jobSpec"]
    image = spec["workerPoolSpecs"][0]["containerSpec"]["imageUri"]
    digest, _ = manifest(stage.registry, stage.image.partition("/")[2], "main")
    assert image == f"{stage.image}@{digest}"
    assert spec["scheduling"]["timeout"] == "7200s"
    assert spec["scheduling"]["strategy"] == "SPOT"
    assert spec["serviceAccount"] == stage.trainer.email


def test_the_machine_is_the_first_that_a_new_account_may_have(pushed: WorkflowRun, job: TrainingJob) -> None:
    machine = job.resource["jobSpec"]["workerPoolSpecs"][0]["machineSpec"]
    assert "acceleratorType" not in machine  # the configuration says [l4, cpu]
    assert re.search(r"\bl4\b.*quota", pushed.log)


def test_it_trains_on_the_data_of_the_bucket(stage: Stage, job: TrainingJob) -> None:
    assert job.state == SUCCEEDED, "\n".join(job.lines())
    results = stage.results(run_id(job))
    expected = {
        "metrics.json",
        "report.md",
        "model.safetensors",
        "config.yaml",
        "worker.log",
        "plots/learning_curves.png",
    }
    assert expected <= set(results), "\n".join(job.lines())
    assert json.loads(results["metrics.json"])["test/accuracy"] > 0.97
    assert any(path.startswith("checkpoints/step-") for path in results)
    assert stage.outcome(run_id(job))["state"] == "succeeded"
    # The image holds no data: what it trained on came from where `dvc push` had put it.
    assert stage.bucket.count("GET", r"dvc(%2F|/)files") > 0


def test_the_run_records_commit_and_image(stage: Stage, job: TrainingJob) -> None:
    run = json.loads(stage.results(run_id(job))["run.json"])
    assert run["commit"] == stage.project.run("git", "rev-parse", "HEAD").stdout.strip()
    assert job.resource["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]["imageUri"] in json.dumps(run)


def test_runs_lists_fetches_and_prices_it(stage: Stage, job: TrainingJob) -> None:
    listed = stage.run("runs", "list").stdout
    assert re.search(rf"{run_id(job)[:15]}.*succeeded", listed), listed
    cost = stage.run("runs", "cost", run_id(job)).stdout
    assert re.search(rf"{run_id(job)} .* h  0\.\d\d USD/h x 1 .* succeeded", cost), cost
    stage.run("runs", "fetch", run_id(job))
    folder = stage.project.folder / "runs" / run_id(job)
    assert (folder / "model.safetensors").read_bytes() == stage.results(run_id(job))["model.safetensors"]
    assert stage.run("evaluate", f"run={run_id(job)}", "device=cpu").returncode == 0


def test_runs_logs_gives_what_the_container_printed(stage: Stage, job: TrainingJob) -> None:
    shown = stage.run("runs", "logs", run_id(job)).stdout
    assert "loss" in shown
    assert "test/accuracy" in shown


def test_a_readme_starts_nothing(stage: Stage, job: TrainingJob) -> None:
    before = stage.submitted()
    stage.commit("Say more", README_dot_md=stage.project.read("README.md") + "\nMore.\n")
    assert "train.yml" not in [run.workflow for run in stage.github.push(only=("train.yml",))]
    assert stage.submitted() == before


def test_skip_train_is_honoured(stage: Stage, job: TrainingJob) -> None:
    before = stage.submitted()
    path = f"src__{stage.project.package}__models__cnn_dot_py"
    text = stage.project.read(f"src/{stage.project.package}/models/cnn.py") + "\n# a comment\n"
    stage.commit("Comment [skip train]", **{path: text})
    try:
        runs = stage.github.push(only=("train.yml",))
    finally:
        # What follows is launched with the image of the first push, or with one built from what was pushed last:
        # here and on GitHub the code has to be as it was then.
        stage.project.run("git", "revert", "--no-edit", "HEAD")
        stage.github.push(only=())
    assert all(set(run.jobs.values()) <= {"skipped"} for run in runs)
    assert stage.submitted() == before


def test_a_pull_request_from_a_fork_gets_no_credentials(stage: Stage, job: TrainingJob) -> None:
    before, asked = stage.submitted(), len(stage.identity.requests)
    stage.project.run("git", "switch", "-q", "-c", "fork")
    try:
        # A fork can change what its pull request runs: nothing of what it can start may log in.
        stage.commit("Steal", Makefile="check test:\n\tenv | grep -c ID_TOKEN || true\n")
        runs = stage.github.pull_request("fork", fork=True)
    finally:
        stage.project.run("git", "switch", "-q", "main")
    assert [run.workflow for run in runs] == ["ci.yml"]
    assert len(stage.identity.requests) == asked
    assert stage.submitted() == before
    assert "ACTIONS_ID_TOKEN_REQUEST_TOKEN" not in runs[0].log


def test_what_is_not_pushed_travels_without_a_new_image(stage: Stage, job: TrainingJob) -> None:
    path = stage.project.folder / f"src/{stage.project.package}/models/cnn.py"
    text = path.read_text(encoding="utf-8")
    images = layers(stage.registry, stage.image.partition("/")[2], "main")
    try:
        path.write_text(text + "\nprint('this is not in the image')\n", encoding="utf-8")
        refused = stage.launch("run.id=refused", check=False)
        assert refused.returncode == 1
        assert "code=worktree" in refused.stdout + refused.stderr
        overlaid = stage.start("overlaid", "code=worktree", "trainer.max_epochs=2")
    finally:
        path.write_text(text, encoding="utf-8")
    stage.vertex.wait(overlaid, {SUCCEEDED}, timeout=200)
    assert "this is not in the image" in "\n".join(overlaid.lines())
    assert layers(stage.registry, stage.image.partition("/")[2], "main") == images
    ((archive, size),) = stage.bucket.objects("code/").items()
    assert archive in stage.results("overlaid")["run.json"].decode()
    assert size < 450_000  # 315 kB in November 2026


def test_the_rehearsal_runs_the_same_image_here(stage: Stage, job: TrainingJob) -> None:
    image = job.resource["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]["imageUri"]
    settings = ("cloud=local", f"cloud.image={image}", "run.id=rehearsal", "trainer.max_epochs=2")
    stage.run("launch", *settings, PATH=containers.path())
    run = BakedProject(stage.project.folder / "runs/rehearsal")
    assert json.loads(run.read("outcome.json"))["state"] == "succeeded"
    assert (run.folder / "model.safetensors").stat().st_uid == Path(run.folder).stat().st_uid


def test_nothing_runs_when_all_is_over(stage: Stage, job: TrainingJob) -> None:
    assert stage.vertex.containers() == []
