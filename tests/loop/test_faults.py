"""What goes wrong in the cloud, on the stage of test_loop.py: the model still arrives, or one sentence says why not."""

import json
import re
from dataclasses import replace

import pytest
from stage.google.vertex import CANCELLED, FAILED, OVER, SUCCEEDED
from stage.results import UNSAVED
from stage.scene import Stage

# Slow enough to be disturbed: a checkpoint every third step, and a thousand steps.
LONG = ("trainer.max_epochs=60", "checkpoint.steps=3", "trainer.log_every=3", "tracking=none")

pytestmark = pytest.mark.usefixtures("pushed")


def test_preempted_twice_it_ends_with_the_same_bits(stage: Stage) -> None:
    calm = stage.start("calm", *LONG)
    stage.vertex.wait(calm, {SUCCEEDED}, timeout=300)
    disturbed = stage.start("disturbed", *LONG)
    stage.vertex.wait_for_line(disturbed, r"epoch [2-9]/60", timeout=120)
    stage.vertex.preempt(disturbed, grace_seconds=30)  # with notice, as Google gives it
    stage.vertex.wait_for_line(disturbed, r"attempt 2\b", timeout=120)
    before = sum("/60 " in line for line in disturbed.lines())
    stage.vertex.wait_for_line(disturbed, "/60 ", timeout=120, count=before + 20)
    stage.vertex.kill(disturbed)  # and without
    stage.vertex.wait(disturbed, {SUCCEEDED}, timeout=300)
    assert len(json.loads(stage.results("disturbed")["attempts.json"])) == 3
    assert stage.weights_and_log("disturbed") == stage.weights_and_log("calm")
    assert stage.checkpoints("disturbed")


def test_a_gpu_that_torch_cannot_use_ends_the_run_at_once_and_for_good(stage: Stage) -> None:
    job = stage.start("old-driver", "cloud.machine=[l4,t4]")  # as in the configuration of every bake
    stage.vertex.wait(job, {FAILED}, timeout=200)
    said = "\n".join(job.lines())
    assert "worker: Tesla T4, driver 535.247.01" in said
    assert "built for CUDA 13" in said
    assert "docs/cloud.md" in said
    assert len(json.loads(stage.results("old-driver")["attempts.json"])) == 1
    assert stage.outcome("old-driver")["state"] == "failed"


def test_two_nodes_train_one_model(stage: Stage) -> None:
    job = stage.start("two-nodes", "cloud.nodes=2", "trainer.max_epochs=3", "tracking=none")
    assert len(job.resource["jobSpec"]["workerPoolSpecs"]) == 2
    stage.vertex.wait(job, {SUCCEEDED}, timeout=300)
    run = json.loads(stage.results("two-nodes")["run.json"])
    assert run["starts"][-1]["processes"] == 2
    assert json.loads(stage.results("two-nodes")["metrics.json"])["test/accuracy"] > 0.5


def test_a_bucket_that_fails_during_uploads_loses_nothing(stage: Stage) -> None:
    job = stage.start("stormy", *LONG[1:], "trainer.max_epochs=30")
    stage.vertex.wait_for_line(job, r"epoch 2/", timeout=120)
    # An upload's name is in its body; nobody else uploads now. The logs are small, so what is cut are checkpoints.
    refused = stage.bucket.fail("POST|PUT", r"^/upload/storage", times=6, status=503)
    cut = stage.bucket.fail("POST|PUT", r"^/upload/storage", times=4, cut_request=50_000, skip=2)
    try:
        stage.vertex.wait(job, {SUCCEEDED}, timeout=300)
    finally:
        stage.bucket.heal()
    assert refused.hits > 0
    assert cut.hits > 0
    assert stage.checkpoints("stormy")
    assert stage.outcome("stormy")["state"] == "succeeded"
    assert stage.results("stormy")["report.md"]


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("cloud.image=IMAGE@sha256:" + "0" * 64, r"image|digest"),
        ("+cloud.secrets.WANDB_API_KEY=no-such-secret", r"no-such-secret"),
        ("cloud.max_cost_usd=0.01", r"max_cost_usd|USD"),
        ("model.wdith=3", r"did you mean model\.width\?"),
        ("cloud.machine=l5", r"l4"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(
    stage: Stage, setting: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the login of a person, who may see which secrets there are."""
    before, objects = stage.submitted(), set(stage.bucket.objects())
    monkeypatch.setattr(stage.launcher, "roles", {*stage.launcher.roles, "roles/secretmanager.viewer"})
    result = stage.launch(setting.replace("IMAGE", stage.image), "run.id=refused", check=False)
    assert result.returncode == 1
    assert re.search(says, result.stdout + result.stderr), result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert stage.submitted() == before
    assert set(stage.bucket.objects()) == objects


def test_a_secret_that_vanishes_ends_the_job_without_training(stage: Stage) -> None:
    stage.identity.secret("soon-gone", "value", readers=(stage.trainer,))
    stage.launcher.granted["soon-gone"] = {"roles/secretmanager.viewer"}
    stage.vertex.capacity.clear()
    try:
        job = stage.start("no-secret", "+cloud.secrets.WANDB_API_KEY=soon-gone", "trainer.max_epochs=2")
        del stage.identity.secrets["soon-gone"]
    finally:
        stage.vertex.capacity.set()
    stage.vertex.wait_for_line(job, "another attempt would not help", timeout=120)
    outcome = stage.outcome("no-secret")
    assert outcome["state"] == "failed"
    assert "soon-gone" in outcome["reason"]
    assert "model.safetensors" not in stage.results("no-secret")
    stage.run("runs", "stop", "no-secret")
    stage.vertex.wait(job, OVER, timeout=60)


def test_an_error_that_cannot_heal_is_trained_once(stage: Stage) -> None:
    """Vertex AI starts a container again that ended with 134 or 139, and no other; this ends with 1."""
    job = stage.start("hopeless", "trainer.device=cuda", "tracking=none")
    stage.vertex.wait(job, {FAILED}, timeout=120)
    assert len(json.loads(stage.results("hopeless")["attempts.json"])) == 1
    assert "this machine has none" in stage.outcome("hopeless")["reason"]


def test_a_secret_is_in_no_request_log_or_result(stage: Stage) -> None:
    value = "a-very-secret-value-0123456789"
    stage.identity.secret("quiet", value, readers=(stage.trainer,))
    stage.launcher.granted["quiet"] = {"roles/secretmanager.viewer"}
    job = stage.start("quiet", "+cloud.secrets.SOME_KEY=quiet", "trainer.max_epochs=2", "tracking=none")
    stage.vertex.wait(job, {SUCCEEDED}, timeout=200)
    assert value not in json.dumps(job.resource)
    assert value not in "\n".join(job.lines())
    assert all(value.encode() not in data for data in stage.results("quiet").values())


def test_past_the_time_limit_it_is_stopped_with_its_results_saved(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The service's own limit is another test's, and began before there was a container.
    monkeypatch.setattr(stage.vertex, "settings", replace(stage.vertex.settings, seconds_per_hour=7200))
    job = stage.start("too-long", *UNSAVED, "cloud.max_hours=0.03", "checkpoint.steps=20")  # 108 seconds
    stage.vertex.wait(job, OVER, timeout=200)
    assert job.state == FAILED
    assert stage.outcome("too-long")["state"] == "stopped"
    assert re.search(r"too-long\b.*\bstopped", stage.run("runs", "list").stdout)
    assert stage.checkpoints("too-long")
    assert stage.vertex.containers() == []


def test_the_provider_ends_a_worker_that_does_not(stage: Stage) -> None:
    job = stage.start("clock", *UNSAVED, "cloud.max_hours=1")
    stage.vertex.wait(job, {"RUNNING"}, timeout=60)
    stage.vertex.wait_for_line(job, r"epoch 2/", timeout=120)
    job.settings = replace(job.settings, seconds_per_hour=1)  # and so an hour has passed
    stage.vertex.wait(job, OVER, timeout=60)
    assert job.state == CANCELLED
    assert stage.vertex.containers() == []


def test_runs_stop_ends_a_job_and_keeps_its_checkpoint(stage: Stage) -> None:
    job = stage.start("unwanted", *UNSAVED)
    stage.vertex.wait_for_line(job, r"epoch 2/", timeout=120)
    stage.run("runs", "stop", "unwanted")
    stage.vertex.wait(job, {CANCELLED}, timeout=60)
    assert stage.checkpoints("unwanted")
    assert re.search(r"unwanted.*stopped", stage.run("runs", "list").stdout)
    assert stage.vertex.containers() == []


def test_by_hand_with_settings_of_ones_own(stage: Stage) -> None:
    inputs = {"overrides": "trainer.max_epochs=2 tracking=none run.id=by-hand", "machine": "cpu"}
    run = stage.github.dispatch("train.yml", "main", inputs=inputs | {"spot": "false", "hours": "1"})
    assert run.succeeded, run.log[-5000:]
    job = stage.vertex.wait("by-hand", {SUCCEEDED}, timeout=200)
    assert job.resource["jobSpec"]["scheduling"]["strategy"] == "STANDARD"
    assert job.resource["jobSpec"]["scheduling"]["timeout"] == "3600s"
