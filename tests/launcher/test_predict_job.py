"""Predictions as a job: what is refused before it costs anything, and what each service is asked for."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import predict_world
import pytest
from fake_backend import record
from launcher import records
from launcher.commands import launch as command
from launcher.commands.predict import run as predict_here
from launcher.errors import UserError
from launcher.job import Kind, State
from launcher.planning import predicting
from omegaconf import OmegaConf
from predict_world import done, image
from test_backends import (  # noqa: F401 - fixtures
    AT_WORK,
    World,
    account,
    azure_place,
    local_world,
    world,
)

registry = predict_world.registry  # fixture


@pytest.fixture
def launch(run_launch: Callable[..., Any], registry: str, bucket: Path) -> Callable[..., Any]:
    """Launches predictions of these images; what is given takes the place of what it says itself."""

    def run(*settings: str) -> Any:
        usual = {"model": "digits", "input": f"{bucket}/in", "output": f"{bucket}/out"}
        given = {word.partition("=")[0] for word in settings}
        words = [f"{name}={value}" for name, value in usual.items() if name not in given]
        return run_launch("job=predict", *words, *(word for word in settings if not word.endswith("=")))

    return run


def test_the_job_gets_the_version_that_the_alias_leads_to_now_and_no_secret(launch, backend, bucket):
    said = launch("run.id=p1", "++cloud.secrets.WANDB_API_KEY=wandb", "arrays=true")
    assert said.status == 0, said
    (job,) = backend.submitted
    words = ("model=digits@v1", f"input={bucket}/in", f"output={bucket}/out", "arrays=true", "run.id=p1")
    assert (job.kind, job.args, job.secrets) == (Kind.predict, words, {})
    assert (job.env["RUN_KIND"], job.env["RUN_MODELS"]) == ("predict", f"{bucket}/models")
    assert "RUN_DATA" not in job.env
    assert f"3 of 3 files at {bucket}/in, with digits@v1" in said.out
    assert f"results   {bucket}/out" in said.out
    kept = records.read(f"{bucket}/runs", "p1")
    assert kept
    assert (kept.kind, kept.args) == ("predict", list(words))
    assert records.job(kept).kind is Kind.predict


def test_price_caps_labels_and_the_ledger_are_those_of_a_training(launch, backend, bucket):
    assert "cloud.max_cost_usd=0.1" in str(launch("cloud.max_cost_usd=0.1").status)
    assert launch("run.id=p1").status == 0
    (job,) = backend.submitted
    assert (job.labels["run"], job.labels["max-seconds"], job.max_hours) == ("p1", "7200", 2.0)
    (entries,) = (bucket / "runs").rglob("2026-01*.json")
    assert "p1 " in entries.read_text()
    assert "max_month_usd" in str(launch("cloud.max_month_usd=1").status)


def test_a_dry_run_asks_nobody_and_says_what_it_leaves_open(launch, backend):
    said = launch("dry_run=true")
    assert json.loads(said.out)["args"][0] == "model=digits"
    assert "The version of digits@champion is looked up" in said.err
    assert "looked up when the job" in said.err
    assert "The version of" not in launch("dry_run=true", "model=digits@v2").err
    assert backend.calls == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["model="], "Say what and where: uv run launch cloud=vertex job=predict"),
        (["model=Digits"], "can name no model"),
        (["model=digits@v9"], "There is no model digits@v9 in "),
        (["model=letters"], "register a run"),
        (["input=folder"], "input=folder is in no bucket"),
        (["output=/tmp/out"], "output=/tmp/out is in no bucket"),
        (["output=gs://a b/c"], "holds a blank"),
        (["trainer.max_epochs=2"], "trainer.max_epochs=2 is a training's setting"),
        (["sweep=lr"], "sweep=lr is a training's setting"),
        (["cloud.nodes=2"], "leave cloud.nodes=2 out"),
        (["arrays=yes please"], "arrays"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(words, sentence, launch, backend):
    said = launch(*words)
    assert sentence in str(said.status)
    assert backend.submitted == []


def test_an_output_inside_of_the_input_is_refused(launch, bucket, backend):
    said = launch(f"input={bucket}/in", f"output={bucket}/in/out")
    assert "predictions would be taken for inputs" in str(said.status)
    said = launch(f"input={bucket}/none")
    assert "There is nothing to predict from" in str(said.status)
    assert backend.submitted == []


def test_predictions_of_another_version_are_not_mixed_with(launch, bucket, backend):
    predict_here([f"folder={bucket}/models/digits/v1", f"input={bucket}/in", f"output={bucket}/out"])
    said = launch("model=digits@v2")
    assert "holds predictions of digits@v1, and this is digits@v2" in str(said.status)
    assert backend.submitted == []


def test_nothing_is_started_where_all_is_predicted(launch, bucket, backend):
    predict_here([f"folder={bucket}/models/digits/v1", f"input={bucket}/in", f"output={bucket}/out"])
    said = launch()
    assert (said.status, backend.submitted) == (0, [])
    assert "nothing: all is predicted\n" in said.out
    image(bucket / "in/3.png", 0)
    assert "1 of 4 files" in launch().out
    assert len(backend.submitted) == 1


def test_each_input_once_holds_over_versions(launch, bucket, backend):
    words = [f"input={bucket}/in", f"output={bucket}/out", "once=true"]
    predict_here([f"folder={bucket}/models/digits/v1", *words])
    assert "nothing" in launch("once=true", "model=digits@v2").out
    image(bucket / "in/3.png", 250)
    assert "1 of 4 files" in launch("once=true", "model=digits@v2").out
    assert backend.submitted[0].args[-2] == "once=true"
    predict_here([f"folder={bucket}/models/digits/v2", *words])
    assert done(bucket / "out/digits-v1").keys() == {"0.png", "1.png", "2.png"}
    assert done(bucket / "out/digits-v2") == {"3.png": "bright"}


def test_a_file_without_an_instance_is_done_when_it_was_looked_at(launch, bucket):
    (bucket / "in/empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match="1 inputs could not be read"):
        predict_here([f"folder={bucket}/models/digits/v1", f"input={bucket}/in", f"output={bucket}/out"])
    assert "nothing: all is predicted, but for 1 that could not be read\n" in launch().out


def test_without_a_machine_named_it_is_one_without_a_gpu():
    config = OmegaConf.create({"cloud": {"backend": "vertex", "machine": ["l4", "t4"]}})
    predicting.choose_machine(config, ["cloud=vertex", "job=predict"])
    assert config.cloud.machine == "cpu"
    config.cloud.machine = "t4"
    predicting.choose_machine(config, ["cloud.machine=t4"])
    assert config.cloud.machine == "t4"
    here = OmegaConf.create({"cloud": {"backend": "local", "machine": "here"}})
    predicting.choose_machine(here, [])
    assert here.cloud.machine == "here"


def test_trainings_and_predictions_of_a_branch_do_not_wait_for_each_other(launch, bucket, backend):
    backend.jobs = {"old": (State.running, 60.0)}
    records.write(f"{bucket}/runs", record("old", branch="main"))
    assert launch("cloud.one_per_branch=true").status == 0
    records.write(f"{bucket}/runs", record("old", branch="main", kind="predict"))
    assert "Run old of branch main is running" in str(launch("cloud.one_per_branch=true").status)


def test_a_launch_needs_nothing_of_what_predicts():
    without = "import sys\nfor name in ('onnxruntime', 'numpy', 'PIL'): sys.modules[name] = None\n"
    needed = "from launcher.commands import launch\nfrom launcher.models import aliases, places, versions\n"
    script = f"{without}{needed}from launcher.serving import waiting\n"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_words_of_a_training_are_left_as_they_are():
    words = ["cloud=local", "model=cnn", "job=train"]
    assert predicting.for_launch(words) == words


def test_each_service_is_asked_for_it_as_for_a_training(world: World):  # noqa: F811
    where = "s3://demo-bucket"
    job = replace(
        world.job(),
        kind=Kind.predict,
        args=("model=digits@v3", f"input={where}/in", f"output={where}/out", "run.id=run-1"),
        env={"RUN_ID": "run-1", "RUN_KIND": "predict", "RUN_MODELS": f"{where}/models"},
    )
    request = json.dumps(world.backend.request(job))
    assert all(word in request for word in [*job.env, *job.env.values()])
    if world.name != "local":  # where this world starts something else
        assert all(word in request for word in job.args)
    assert world.backend.check(job) == world.backend.check(replace(job, kind=Kind.train))
    handle = world.backend.submit(job)
    status = world.backend.status("run-1")
    assert status
    assert (status.state in AT_WORK, status.name) == (True, handle.name)


def test_a_summary_says_where_the_predictions_are():
    made = record("p1", kind="predict", args=["model=digits@v1", "output=gs://b/out=1"])
    assert "results: gs://b/out=1" in command.summary(made, "{0}: {1}")


def test_on_this_machine_it_is_launched_predicts_and_is_a_run_like_any_other(registry, bucket, project):
    words = [
        *("cloud=local", "cloud.machine=process", f"cloud.bucket={bucket}", "job=predict", "run.id=p1"),
        *("model=digits", f"input={bucket}/in", f"output={bucket}/out"),
    ]
    done_there = subprocess.run(
        [sys.executable, "-m", "launcher.commands.launch", *words],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done_there.returncode == 0, done_there.stdout + done_there.stderr
    assert f"{bucket}/out: 3 predictions" in done_there.stdout
    assert len(done(bucket / "out")) == 3
    assert records.outcome(f"{bucket}/runs", "p1")["state"] == "succeeded"  # type: ignore[index]
    config = project / "configs/cloud/local.yaml"
    config.write_text(config.read_text().replace("bucket: null", f"bucket: {bucket}"), encoding="utf-8")
    listed = subprocess.run(
        [sys.executable, "-m", "launcher.commands.runs", "logs", "p1"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "model digits@v1" in listed.stdout, listed.stderr
