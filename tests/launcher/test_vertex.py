"""The backend of Vertex AI against a small server: what is sent, and what is made of the answers."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from google_server import CUT
from launcher.errors import UserError
from launcher.job import Job, Machine, State
from launcher.providers import inputs
from launcher.providers.errors import (
    QuotaError,
    RefusedError,
    UnreachableError,
)
from launcher.providers.google import vertex

JOBS = "/v1/projects/my-project/locations/us-central1/customJobs"
NAME = "projects/my-project/locations/us-central1/customJobs/77"
L4 = Machine("l4", "g2-standard-8", "NVIDIA_L4", 1)
DIGEST = "sha256:" + "a" * 64


@pytest.fixture(autouse=True)
def no_sweeps(server, monkeypatch):
    monkeypatch.setattr(vertex, "SUBMIT_DELAYS", (0, 0))
    server.say("GET", JOBS.replace("customJobs", "hyperparameterTuningJobs"), {})


def cloud(**changes: Any) -> SimpleNamespace:
    settings = {
        "project": "my-project",
        "region": "us-central1",
        "bucket": "gs://my-bucket",
        "image": None,
        "repository": "slug/train",
        "service_account": "slug-trainer",
        "labels": {"project": "slug"},
    }
    return SimpleNamespace(**{**settings, **changes})


def job(**changes: Any) -> Job:
    settings = {
        "run_id": "run-1",
        "image": f"host.pkg.dev/p/slug/train@{DIGEST}",
        "args": ("trainer.max_epochs=2", "run.id=run-1"),
        "machine": L4,
        "max_hours": 1.5,
        "env": {"RUN_ID": "run-1", "RUN_MAX_ATTEMPTS": "5"},
        "labels": {"run": "run-1"},
        "output": "gs://my-bucket/runs/run-1",
    }
    return Job(**{**settings, **changes})


def found(number: int = 77, state: str = "RUNNING", **more: Any) -> dict[str, Any]:
    """A job as the service describes it."""
    return {
        "name": f"{NAME.rpartition('/')[0]}/{number}",
        "displayName": "run-1",
        "state": f"JOB_STATE_{state}",
        "createTime": "2026-01-01T10:00:00.123456789Z",
        **more,
    }


def test_a_request_is_exactly_what_the_service_documents():
    assert vertex.connect(cloud()).request(job()) == {
        "displayName": "run-1",
        "labels": {"project": "slug", "run": "run-1"},
        "jobSpec": {
            "workerPoolSpecs": [
                {
                    "machineSpec": {
                        "machineType": "g2-standard-8",
                        "acceleratorType": "NVIDIA_L4",
                        "acceleratorCount": 1,
                    },
                    "replicaCount": "1",
                    "diskSpec": {"bootDiskType": "pd-ssd", "bootDiskSizeGb": 100},
                    "containerSpec": {
                        "imageUri": f"host.pkg.dev/p/slug/train@{DIGEST}",
                        "args": ["trainer.max_epochs=2", "run.id=run-1"],
                        "env": [
                            {"name": "RUN_ID", "value": "run-1"},
                            {"name": "RUN_MAX_ATTEMPTS", "value": "5"},
                        ],
                    },
                }
            ],
            "scheduling": {"timeout": "5400s", "strategy": "SPOT", "disableRetries": False},
            "serviceAccount": "slug-trainer@my-project.iam.gserviceaccount.com",
            "baseOutputDirectory": {"outputUriPrefix": "gs://my-bucket/runs/run-1"},
        },
    }


def test_several_nodes_are_one_primary_and_a_pool_of_all_others():
    spec = vertex.connect(cloud()).request(job(nodes=4))["jobSpec"]
    assert [pool["replicaCount"] for pool in spec["workerPoolSpecs"]] == ["1", "3"]
    assert spec["workerPoolSpecs"][0]["machineSpec"] == spec["workerPoolSpecs"][1]["machineSpec"]
    assert spec["scheduling"]["restartJobOnWorkerRestart"] is True


def test_a_machine_without_a_gpu_names_no_accelerator():
    request = vertex.connect(cloud()).request(job(machine=Machine("cpu", "n1-standard-4")))
    machine = request["jobSpec"]["workerPoolSpecs"][0]["machineSpec"]
    assert machine == {"machineType": "n1-standard-4"}


@pytest.mark.parametrize(
    ("spot", "attempts", "strategy", "disabled"),
    [(True, "1", "SPOT", False), (False, "1", "STANDARD", True), (False, "3", "STANDARD", False)],
)
def test_retries_are_off_only_for_one_attempt_on_demand(spot, attempts, strategy, disabled):
    request = vertex.connect(cloud()).request(job(spot=spot, env={"RUN_MAX_ATTEMPTS": attempts}))
    scheduling = request["jobSpec"]["scheduling"]
    assert (scheduling["strategy"], scheduling["disableRetries"]) == (strategy, disabled)


def test_secrets_are_named_in_the_request_and_never_given():
    request = vertex.connect(cloud()).request(job(secrets={"WANDB_API_KEY": "slug-wandb"}))
    variables = request["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]["env"]
    resource = "projects/my-project/secrets/slug-wandb/versions/latest"
    assert {"name": "RUN_SECRETS", "value": f"WANDB_API_KEY={resource}"} in variables


def test_a_request_needs_neither_network_nor_login(server, monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT")
    backend = vertex.connect(cloud(project=None))
    spec = backend.request(job())["jobSpec"]
    assert spec["serviceAccount"] == "slug-trainer@PROJECT.iam.gserviceaccount.com"
    assert backend.reference() == "us-central1-docker.pkg.dev/PROJECT/slug/train:main"
    assert not server.asked


def test_a_job_is_submitted_as_shown_and_its_page_is_given(server):
    server.say("GET", JOBS, {})
    server.say("POST", JOBS, found())
    backend = vertex.connect(cloud())
    handle = backend.submit(job())
    assert handle.name == NAME
    assert handle.url == (
        "https://console.cloud.google.com/vertex-ai/locations/us-central1/training/77?project=my-project"
    )
    [sent] = server.sent("POST", JOBS)
    assert sent["body"] == backend.request(job())
    assert sent["login"] == "Bearer valid"


def test_a_job_whose_answer_was_lost_is_not_submitted_twice(server):
    server.say("GET", JOBS, {"customJobs": [found(5, "FAILED")]})
    server.say("GET", JOBS, {"customJobs": [found(5, "FAILED"), found(77, "PENDING")]})
    server.say("POST", JOBS, status=CUT)
    assert vertex.connect(cloud()).submit(job()).name == NAME
    assert len(server.sent("POST", JOBS)) == 1


def test_a_job_that_did_not_arrive_is_submitted_again(server):
    server.say("GET", JOBS, {"customJobs": [found(5, "FAILED")]})
    server.refuse("POST", JOBS, 503, "busy")
    server.say("POST", JOBS, found())
    assert vertex.connect(cloud()).submit(job()).name == NAME
    assert len(server.sent("POST", JOBS)) == 2


def test_a_service_that_stays_away_ends_the_submission(server):
    server.say("GET", JOBS, {})
    server.refuse("POST", JOBS, 503, "busy")
    with pytest.raises(UnreachableError, match="503"):
        vertex.connect(cloud()).submit(job())
    assert len(server.sent("POST", JOBS)) == 3


def test_a_refused_submission_says_which_role_is_missing_and_is_not_repeated(server):
    server.say("GET", JOBS, {})
    message = "You do not have permission to act as service_account: slug-trainer@x.iam"
    server.refuse("POST", JOBS, 403, message)
    with pytest.raises(RefusedError, match=r"roles/iam\.serviceAccountUser"):
        vertex.connect(cloud()).submit(job())
    assert len(server.sent("POST", JOBS)) == 1


def test_a_quota_refused_at_submission_is_not_asked_again(server):
    server.say("GET", JOBS, {})
    server.refuse("POST", JOBS, 429, "quota metrics exceed: custom_model_training_nvidia_l4_gpus")
    with pytest.raises(QuotaError, match=r"nvidia_l4_gpus.*iam-admin/quotas"):
        vertex.connect(cloud()).submit(job())
    assert len(server.sent("POST", JOBS)) == 1


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("QUEUED", State.queued),
        ("PENDING", State.queued),
        ("PAUSED", State.queued),
        ("RUNNING", State.running),
        ("UPDATING", State.running),
        ("CANCELLING", State.running),
        ("SUCCEEDED", State.succeeded),
        ("PARTIALLY_SUCCEEDED", State.failed),
        ("FAILED", State.failed),
        ("CANCELLED", State.stopped),
        ("EXPIRED", State.stopped),
    ],
)
def test_every_state_of_the_service_has_one_of_ours(server, theirs, ours):
    server.say("GET", JOBS, {"customJobs": [found(state=theirs)]})
    status = vertex.connect(cloud()).status("run-1")
    assert status is not None
    assert status.state is ours


def test_a_failed_job_says_why_and_how_long_it_was_paid_for(server):
    ran: dict[str, Any] = {
        "startTime": "2026-01-01T10:05:00Z",
        "endTime": "2026-01-01T11:05:30Z",
    }
    error = {"code": 3, "message": "The replica workerpool0-0 exited with a non-zero status of 1."}
    server.say("GET", JOBS, {"customJobs": [found(state="FAILED", error=error, **ran)]})
    status = vertex.connect(cloud()).status("run-1")
    assert status is not None
    assert (status.seconds, status.detail) == (3630, error["message"])
    assert status.created == datetime(2026, 1, 1, 10, 0, 0, 123456, UTC)
    assert status.url.endswith("/training/77?project=my-project")


@pytest.mark.parametrize(
    ("error", "state"),
    [
        ({"code": 4, "message": "Job exceeded its timeout."}, State.stopped),
        (
            {"code": 3, "message": "The replica workerpool0-0 exited with a non-zero status of 124."},
            State.stopped,
        ),
        (
            {"code": 3, "message": "The replica workerpool0-0 exited with a non-zero status of 1."},
            State.failed,
        ),
        ({"code": 8, "message": "Resources are insufficient in region: us-central1."}, State.preempted),
    ],
)
def test_how_a_job_ended_is_in_its_error(server, error, state):
    server.say("GET", JOBS, {"customJobs": [found(state="FAILED", error=error)]})
    status = vertex.connect(cloud()).status("run-1")
    assert status is not None
    assert (status.state, status.detail) == (state, error["message"])


def test_a_job_that_waits_costs_nothing_and_one_that_runs_costs_until_now(server):
    started = datetime.now(UTC).replace(microsecond=0).isoformat()
    stamp: dict[str, Any] = {"startTime": started, "updateTime": "2020-01-01T00:00:00Z"}
    jobs = [found(1, "PENDING"), found(2, "RUNNING", **stamp)]
    server.say("GET", JOBS, {"customJobs": jobs})
    waiting, running = sorted(vertex.connect(cloud()).list(), key=lambda one: one.url)
    assert waiting.seconds == 0
    assert 0 < running.seconds < 600


def test_the_newest_job_of_a_run_counts_on_whichever_page_it_is(server):
    newer = found(9, "RUNNING", createTime="2026-01-02T00:00:00Z")
    server.say("GET", JOBS, {"customJobs": [found(8, "FAILED")], "nextPageToken": "more"})
    server.say("GET", JOBS, {"customJobs": [newer]})
    status = vertex.connect(cloud()).status("run-1")
    assert status is not None
    assert status.url.endswith("/training/9?project=my-project")
    first, second = server.sent("GET", JOBS)
    assert first["query"]["filter"] == ['display_name="run-1" AND labels.project="slug"']
    assert second["query"]["pageToken"] == ["more"]


def test_a_run_without_a_job_has_no_status_and_no_lines(server):
    server.say("GET", JOBS, {})
    backend = vertex.connect(cloud())
    assert backend.status("run-1") is None
    assert list(backend.logs("run-1")) == []


def test_all_jobs_of_the_project_are_listed_newest_first(server):
    newer = found(9, "RUNNING", createTime="2026-01-02T00:00:00Z")
    server.say("GET", JOBS, {"customJobs": [found(8, "FAILED"), newer]})
    states = [status.state for status in vertex.connect(cloud()).list()]
    assert states == [State.running, State.failed]
    assert server.sent("GET", JOBS)[0]["query"]["filter"] == ['labels.project="slug"']


def test_the_lines_of_all_pages_are_given_with_the_node_they_come_from(server):
    def entry(task: str, **payload: Any) -> dict[str, Any]:
        return {"resource": {"type": "ml_job", "labels": {"task_name": task}}, **payload}

    first = [entry("workerpool0-0", textPayload="epoch 1\n")]
    second = [entry("workerpool1-0", jsonPayload={"message": "epoch 2"})]
    server.say("GET", JOBS, {"customJobs": [found()]})
    server.say("POST", "/v2/entries:list", {"entries": first, "nextPageToken": "more"})
    server.say("POST", "/v2/entries:list", {"entries": second})
    lines = list(vertex.connect(cloud()).logs("run-1"))
    assert lines == ["epoch 1", "[workerpool1-0] epoch 2"]
    one, two = (sent["body"] for sent in server.sent("POST", "/v2/entries:list"))
    assert 'resource.type="ml_job"' in one["filter"]
    assert 'resource.labels.job_id="77"' in one["filter"]
    assert one["orderBy"] == "timestamp asc"
    assert two == {**one, "pageToken": "more"}


def test_stopping_cancels_the_job(server):
    server.say("GET", JOBS, {"customJobs": [found()]})
    server.say("POST", f"/v1/{NAME}:cancel", {})
    vertex.connect(cloud()).stop("run-1")
    assert len(server.sent("POST", f"/v1/{NAME}:cancel")) == 1


def test_stopping_a_run_ends_every_job_of_it(server):
    older = NAME.replace("/77", "/76")
    server.say("GET", JOBS, {"customJobs": [found(), found(76)]})
    for name in (NAME, older):
        server.say("POST", f"/v1/{name}:cancel", {})
    vertex.connect(cloud()).stop("run-1")
    for name in (NAME, older):
        assert len(server.sent("POST", f"/v1/{name}:cancel")) == 1


def test_stopping_an_ended_job_asks_for_nothing(server):
    server.say("GET", JOBS, {"customJobs": [found(state="SUCCEEDED")]})
    vertex.connect(cloud()).stop("run-1")
    assert not server.sent("POST", f"/v1/{NAME}:cancel")


def test_a_job_that_ends_while_it_is_stopped_is_no_error(server):
    server.say("GET", JOBS, {"customJobs": [found()]})
    server.say("GET", JOBS, {"customJobs": [found(state="SUCCEEDED")]})
    server.refuse("POST", f"/v1/{NAME}:cancel", 400, "not cancellable")
    vertex.connect(cloud()).stop("run-1")


def test_a_job_that_cannot_be_stopped_is_an_error(server):
    server.say("GET", JOBS, {"customJobs": [found()]})
    server.refuse("POST", f"/v1/{NAME}:cancel", 400, "not cancellable")
    with pytest.raises(UserError, match="not cancellable"):
        vertex.connect(cloud()).stop("run-1")


def test_stopping_an_unknown_run_says_where_to_look(server):
    server.say("GET", JOBS, {})
    with pytest.raises(UserError, match="runs list"):
        vertex.connect(cloud()).stop("run-1")


@pytest.mark.parametrize(
    ("gpu", "torch", "noted"),
    [
        ("NVIDIA_TESLA_T4", "2.13.0", True),
        ("NVIDIA_TESLA_A100", "2.11.0", True),
        ("NVIDIA_TESLA_T4", "2.10.0", False),
        ("NVIDIA_TESLA_T4", "2.13.0+cu126", False),
        ("NVIDIA_L4", "2.13.0", False),
        ("NVIDIA_TESLA_T4", None, False),
    ],
)
def test_a_gpu_that_the_locked_torch_may_not_find_is_a_note(gpu, torch, noted, tmp_path, monkeypatch):
    if torch:
        (tmp_path / "uv.lock").write_text(f'[[package]]\nname = "torch"\nversion = "{torch}"\n')
    monkeypatch.setattr(inputs, "project", lambda: SimpleNamespace(root=tmp_path))
    found = vertex._check_driver(job(machine=Machine("some", "type", gpu, 1)))
    assert [problem.fatal for problem in found] == [False] * noted
    assert all(torch in problem.what and "torch>=2.10,<2.11" in problem.remedy for problem in found)
