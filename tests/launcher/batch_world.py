"""Settings, jobs and answers of Google Cloud Batch, for the tests of its backend."""

from typing import Any

from launcher.job import Job, Machine
from omegaconf import DictConfig, OmegaConf

PARENT = "projects/my-project/locations/us-central1"
JOBS = f"/v1/{PARENT}/jobs"
NAME = f"{PARENT}/jobs/slug-run-1-77"
ENTRIES = "/v2/entries:list"
L4 = Machine("l4", "g2-standard-8", "NVIDIA_L4", 1)
T4X2 = Machine("t4x2", "n1-standard-16", "NVIDIA_TESLA_T4", 2)
CPU = Machine("cpu", "n1-standard-8")
DIGEST = "sha256:" + "a" * 64


def cloud(**changes: Any) -> DictConfig:
    settings = {
        "backend": "batch",
        "project": "my-project",
        "region": "us-central1",
        "zones": None,
        "bucket": "gs://my-bucket",
        "image": None,
        "repository": "slug/train",
        "service_account": "slug-trainer",
        "labels": {"project": "slug"},
        "max_attempts": 3,
        "driver": None,
        "max_hours": 1.5,
        "max_wait_hours": 24.0,
    }
    return OmegaConf.create({**settings, **changes})


def job(**changes: Any) -> Job:
    settings = {
        "run_id": "run-1",
        "image": f"host.pkg.dev/p/slug/train@{DIGEST}",
        "args": ("trainer.max_epochs=2", "run.id=run-1"),
        "machine": L4,
        "max_hours": 1.5,
        "env": {"RUN_ID": "run-1", "RUN_MAX_ATTEMPTS": "3"},
        "labels": {"run": "run-1"},
        "output": "gs://my-bucket/runs/run-1",
    }
    return Job(**{**settings, **changes})


def event(description: str, time: str = "2026-01-01T10:00:01Z", **more: Any) -> dict[str, Any]:
    return {"type": "STATUS_CHANGED", "description": description, "eventTime": time, **more}


def found(number: int = 77, state: str = "RUNNING", **more: Any) -> dict[str, Any]:
    """A job as the service describes it; what is given beside its state and `status` replaces what it has."""
    status = {"state": state, **more.pop("status", {})}
    run_id = more.pop("run_id", "run-1")
    return {
        "name": f"{PARENT}/jobs/slug-run-1-{number}",
        "uid": f"slug-run-1-{number}-uid",
        "labels": {"project": "slug", "run": "run-1"},
        "createTime": "2026-01-01T10:00:00.123456789Z",
        "taskGroups": [{"taskSpec": {"environment": {"variables": {"RUN_ID": run_id}}}}],
        "status": status,
        **more,
    }


def task_failed(code: int, why: str = "") -> dict[str, Any]:
    """The event of a job that failed, in the service's words (its troubleshooting page, reserved exit codes)."""
    task = f"Task state is updated from RUNNING to FAILED on zones/z/instances/1{why} with exit code {code}."
    return event(
        f"Job state is set from RUNNING to FAILED for job {NAME}.Job failed due to task failure. {task}"
    )


def spec(request: dict[str, Any]) -> dict[str, Any]:
    [group] = request["taskGroups"]
    return group["taskSpec"]


def policy(request: dict[str, Any]) -> dict[str, Any]:
    [instance] = request["allocationPolicy"]["instances"]
    return instance["policy"]
