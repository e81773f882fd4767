"""Settings for the tests of the backend of Vertex AI, and jobs as the service describes them."""

from types import SimpleNamespace
from typing import Any

import pytest
from launcher.job import Job, Machine
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
