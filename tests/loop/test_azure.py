"""Training by Azure ML, from the image in ACR to results in Blob, on stand-ins for Azure; whatever happens on the way."""

import json
import math
import re

import pytest
import yaml
from stage.azure.ml_jobs import Job
from stage.azure.ml_tuning import Sweep
from stage.azure.scene import SECRET, Stage
from stage.results import ENDLESS, LONG, UNSAVED


def finished(azure: Stage, run_id: str) -> Job:
    """The job of a run when it is over."""
    (name,) = azure.jobs(run_id)
    return azure.runs.wait(name)


@pytest.fixture(scope="module")
def calm(azure: Stage) -> Job:
    """A training that nothing disturbs, when it is over."""
    azure.start("azureml", "calm", *LONG, "+cloud.secrets.SOME_KEY=wandb")
    return finished(azure, "calm")


def test_it_trains_on_the_data_of_the_container_by_the_pushed_image(azure: Stage, calm: Job) -> None:
    assert (calm.status, calm.attempts) == ("Completed", 1), "\n".join(calm.lines)
    azure.ended("calm", "succeeded")
    results = azure.results("calm")
    expected = {"metrics.json", "report.md", "model.safetensors", "config.yaml", "worker.log"}
    assert expected <= set(results), "\n".join(calm.lines)
    assert json.loads(results["metrics.json"])["test/accuracy"] > 0.97
    assert azure.image_of(calm).startswith(f"{azure.image}@sha256:")
    assert azure.image_of(calm) in results["run.json"].decode()
    # The image holds no data: what it trained on came from where `dvc push` had put it, by the trainer's own identity.
    readers = {
        call.principal.name
        for call in azure.world.asked
        if call.service == "blob" and call.method == "GET" and "/dvc/" in call.path and call.principal
    }
    assert "azure-training-trainer" in readers


def test_its_log_its_cost_and_its_entry_in_the_ledger(azure: Stage, calm: Job) -> None:
    shown = azure.run("runs", "logs", "calm").stdout
    assert "epoch 30/30" in shown
    assert "test/accuracy" in shown
    assert "DefaultAzureCredential" not in shown  # nor anything else that Azure's client says to itself
    cost = azure.run("runs", "cost", "calm").stdout
    assert re.search(r"calm .* h  0\.\d\d USD/h x 1 .* succeeded", cost), cost
    azure.run("janitor")
    assert azure.entry("calm")["spent_usd"] is not None


def test_a_secret_goes_to_the_job_and_nowhere_else(azure: Stage, calm: Job) -> None:
    readers = {
        call.principal.name
        for call in azure.world.asked
        if call.service == "vault" and call.method == "GET" and call.principal
    }
    assert "azure-training-trainer" in readers
    assert SECRET not in json.dumps(calm.given)
    assert SECRET not in "\n".join(calm.lines)
    assert all(SECRET.encode() not in data for data in azure.results("calm").values())


def test_interrupted_twice_it_ends_with_the_same_bits(azure: Stage, calm: Job) -> None:
    name = azure.start("azureml", "disturbed", *LONG)
    azure.runs.until_line(name, "epoch 2/30")
    azure.runs.lose(name, notice=10)  # that scheduled events announce; Azure gives up to 30 seconds
    azure.runs.until_line(name, "/30", after=len(azure.runs.job(name).lines))
    azure.runs.lose(name)  # without
    job = finished(azure, "disturbed")
    assert (job.status, job.attempts) == ("Completed", 3), "\n".join(job.lines)
    azure.ended("disturbed", "succeeded")
    assert len(json.loads(azure.results("disturbed")["attempts.json"])) == 3
    assert azure.checkpoints("disturbed")
    assert azure.weights_and_log("disturbed") == azure.weights_and_log("calm")
    assert azure.jobs("disturbed") == [name]


def test_a_job_that_the_service_does_not_start_again_the_janitor_does(azure: Stage, calm: Job) -> None:
    name = azure.start("azureml", "given-up", *LONG)
    azure.runs.until_line(name, "epoch 2/30")
    azure.runs.lose(name, restarts=False)
    azure.listed("given-up", "preempted")
    assert "given-up" in azure.run("janitor").stdout
    first, second = azure.jobs("given-up")
    assert first == name
    assert azure.runs.wait(second).status == "Completed"
    azure.ended("given-up", "succeeded")
    assert azure.weights_and_log("given-up") == azure.weights_and_log("calm")


def test_a_machine_that_is_announced_to_go_leaves_a_checkpoint_and_stop_ends_the_job(azure: Stage) -> None:
    seldom = (*UNSAVED, "checkpoint.minutes=1000")
    name = azure.start("azureml", "noticed", *seldom)
    azure.runs.until_line(name, "epoch 2/")
    assert azure.checkpoints("noticed") == []
    azure.runs.announce(name)
    azure.runs.until(lambda: len(azure.checkpoints("noticed")) == 1, name)
    azure.runs.lose(name)
    azure.runs.until(lambda: azure.world.ml.job(name).attempts == 2, name)
    azure.runs.until_line(name, "goes on at epoch")
    azure.run("runs", "stop", "noticed")
    assert finished(azure, "noticed").status == "Canceled"
    azure.listed("noticed", "stopped")
    assert azure.checkpoints("noticed")
    assert "submitted again" not in azure.run("janitor").stdout
    assert azure.jobs("noticed") == [name]
    assert azure.entry("noticed")["spent_usd"] is not None


def test_two_nodes_train_one_model(azure: Stage) -> None:
    azure.start("azureml", "two-nodes", "cloud.nodes=2", "trainer.max_epochs=3", "tracking=none")
    job = finished(azure, "two-nodes")
    assert (job.status, job.machines) == ("Completed", 2), "\n".join(job.lines)
    results = azure.results("two-nodes")
    assert json.loads(results["run.json"])["starts"][-1]["processes"] == 2
    assert json.loads(results["metrics.json"])["test/accuracy"] > 0.5


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (("cloud.image=IMAGE@sha256:" + "0" * 64,), r"There is no image .*@sha256:0000"),
        (("cloud.nodes=2", "cloud.max_cost_usd=0.5"), r"max_cost_usd"),
        (("cloud.machine=a100-80", "cloud.max_cost_usd=30"), r"quota"),
        (("+cloud.secrets.WANDB_API_KEY=no-such-secret",), r"no-such-secret"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(
    azure: Stage, settings: tuple[str, ...], says: str
) -> None:
    before, runs = azure.submitted(), set(azure.objects("runs/"))
    given = [setting.replace("IMAGE", azure.image) for setting in settings]
    result = azure.launch("azureml", "refused", *given, check=False)
    assert result.returncode == 1
    said = result.stdout + result.stderr
    assert re.search(says, said), said
    assert "Traceback" not in said
    assert azure.submitted() == before
    assert set(azure.objects("runs/")) == runs


def test_who_has_no_rights_is_refused_in_one_sentence(azure: Stage) -> None:
    azure.world.make.principal("stranger")
    before, runs = azure.submitted(), set(azure.objects("runs/"))
    result = azure.launch("azureml", "forbidden", check=False, **azure.world.at("stranger"))
    said = result.stdout + result.stderr
    assert result.returncode == 1
    assert re.search(r"may not|role", said), said
    assert "Traceback" not in said
    assert azure.submitted() == before
    assert set(azure.objects("runs/")) == runs


def test_blob_that_fails_for_a_while_loses_nothing(azure: Stage, calm: Job) -> None:
    name = azure.start("azureml", "stormy", *LONG)
    azure.runs.until_line(name, "epoch 2/30")
    # More than Blob's client itself tries again, with the code that Blob has for too much at a time.
    azure.world.fail("blob", r"^PUT .*/runs/stormy/", 503, "ServerBusy", times=12)
    azure.world.fail("blob", r"^GET .*/training$", 500, "InternalError", times=3)
    azure.world.lose("blob", r"^PUT .*/runs/stormy/.*\.pt")
    try:
        job = finished(azure, "stormy")
    finally:
        azure.world.heal()
    assert (job.status, job.attempts) == ("Completed", 1), "\n".join(job.lines)
    azure.ended("stormy", "succeeded")
    assert azure.checkpoints("stormy")
    assert azure.weights_and_log("stormy") == azure.weights_and_log("calm")


def test_an_error_that_cannot_heal_is_trained_once_and_says_why(azure: Stage) -> None:
    azure.start("azureml", "hopeless", "trainer.device=cuda", "tracking=none")
    job = finished(azure, "hopeless")
    assert (job.status, job.attempts) == ("Failed", 1), "\n".join(job.lines)
    azure.ended("hopeless", "failed")
    assert "this machine has none" in azure.outcome("hopeless")["reason"]


def test_past_its_time_limit_it_is_stopped_with_its_results_saved(azure: Stage) -> None:
    # The service's own limit is another test's, and began before there was a container.
    with azure.runs.slowly():
        name = azure.start("azureml", "too-long", *ENDLESS, "cloud.max_hours=0.03")  # 108 seconds
        job = finished(azure, "too-long")
    assert (job.status, job.attempts) == ("Failed", 1), "\n".join(job.lines)
    azure.ended("too-long", "stopped")
    assert azure.checkpoints("too-long")
    assert "submitted again" not in azure.run("janitor").stdout
    assert azure.jobs("too-long") == [name]


def test_the_service_ends_a_job_that_does_not(azure: Stage) -> None:
    name = azure.start("azureml", "clock", *ENDLESS, "cloud.max_hours=1")
    azure.runs.until_line(name, "epoch 2/")
    azure.runs.until(lambda: bool(azure.checkpoints("clock")), name)  # which is uploaded beside the training
    azure.world.pass_time(3600 + 600)
    assert finished(azure, "clock").status == "Canceled"
    azure.listed("clock", "stopped")
    assert "submitted again" not in azure.run("janitor").stdout


@pytest.fixture(scope="module")
def sweep(azure: Stage) -> Sweep:
    """A sweep of two short trials, one after the other, that has ended."""
    few = ("sweep=lr", "hydra.sweeper.n_trials=2", "cloud.parallel=1", "tracking=none")
    said = azure.launch("azureml", "lr", *few, "trainer.max_epochs=2").stdout
    assert "2 trials of 1 node" in said, said
    (name,) = azure.jobs("lr")
    return azure.runs.wait(name)


def test_every_trial_is_a_run_whose_metric_mlflow_was_told(azure: Stage, sweep: Sweep) -> None:
    assert (sweep.status, len(sweep.trials)) == ("Completed", 2), [trial.lines for trial in sweep.trials]
    for number, trial in enumerate(sweep.trials, 1):
        results = azure.results(f"lr-{number}")
        lines = [json.loads(line) for line in results["metrics.jsonl"].decode().splitlines()]
        reached = [line["val/accuracy"] for line in lines if "val/accuracy" in line]
        assert [value for value, _, _ in trial.metrics["val/accuracy"]] == reached[-1:]
        # As its logarithm: Azure ML has no logarithmic scale that all of its algorithms take.
        drawn = sweep.values[trial.name]["ln_optimizer_lr"]
        lr = yaml.safe_load(results["config.yaml"])["optimizer"]["lr"]
        assert lr == pytest.approx(math.exp(drawn), rel=1e-4)
    assert "2 of 2 trials" in azure.run("runs", "sweep", "lr").stdout
    assert re.search(r"\blr\b.* succeeded", azure.run("runs", "list").stdout)


def test_nothing_runs_when_all_is_over(azure: Stage) -> None:
    assert all(job.over for job in azure.world.ml.jobs.values())
    assert azure.runs.running == {}
