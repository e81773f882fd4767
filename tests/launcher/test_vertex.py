"""The backend of Vertex AI against a small server: what is sent, that it is sent once, and what is noted before."""

from types import SimpleNamespace

import pytest
from google_server import CUT
from launcher.job import Machine
from launcher.providers import inputs
from launcher.providers.errors import (
    QuotaError,
    RefusedError,
    UnreachableError,
)
from launcher.providers.google import vertex
from vertex_jobs import DIGEST, JOBS, L4, NAME, cloud, found, job, no_sweeps  # noqa: F401 - its fixture


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
