"""Settings and jobs for the tests of the backend of SageMaker, and that backend on a stage."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import s3fs
from fake_backend import SEARCH
from launcher import storage
from launcher.job import Job, Kind, Machine, Search
from launcher.providers.aws import auth, quotas, sagemaker
from launcher.providers.aws.sagemaker import SageMaker
from omegaconf import DictConfig, OmegaConf
from stage import aws
from stage.aws.bench import client, role
from stage.aws.people import ACCOUNT

REGION = "us-east-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/demo-trainer"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/demo/train@sha256:{'a' * 64}"
CPU, L4 = Machine("cpu", "m7i.2xlarge"), Machine("l4", "g6.xlarge", "L4", 1)


def cloud(**changes: Any) -> DictConfig:
    settings = {
        "backend": "sagemaker",
        "project": ACCOUNT,
        "region": REGION,
        "bucket": "s3://demo-bucket",
        "image": None,
        "repository": "demo/train",
        "service_account": "demo-trainer",
        "labels": {"project": "demo"},
        "max_attempts": 5,
        "max_wait_hours": 24.0,
    }
    return OmegaConf.create({**settings, **changes})


def backend(**changes: Any) -> SageMaker:
    return sagemaker.connect(cloud(**changes))


def job(**changes: Any) -> Job:
    run_id = changes.get("run_id", "run-1")
    settings = {
        "run_id": run_id,
        "image": IMAGE,
        "args": ("trainer.max_epochs=2", f"run.id={run_id}"),
        "machine": CPU,
        "max_hours": 1.5,
        "env": {"RUN_ID": run_id, "RUN_MAX_SECONDS": "5400", "RUN_MAX_ATTEMPTS": "5"},
        "labels": {"run": run_id, "max-seconds": "5400"},
        "output": f"s3://demo-bucket/runs/{run_id}",
    }
    return Job(**{**settings, **changes})


def sweep(search: Search = SEARCH, **changes: Any) -> Job:
    return job(kind=Kind.sweep, search=search, **changes)


@contextmanager
def on_stage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[aws.World, str]]:
    """An account with the project's role, bucket and image, and quota for all that is asked; gives the image too."""
    forget()
    monkeypatch.setattr(sagemaker, "SUBMIT_DELAYS", (0.0, 0.0, 0.0))
    monkeypatch.setattr(storage, "PATIENCE", 0.0)
    monkeypatch.setattr(auth, "ATTEMPTS", 1)
    with aws.serve(folder) as world:
        monkeypatch.setattr(auth, "now", lambda: datetime.fromtimestamp(world.clock.now(), UTC))
        for name, value in world.environment.items():
            monkeypatch.setenv(name, value)
        role(world, "demo-trainer", "sagemaker.amazonaws.com")
        client(world, "s3").create_bucket(Bucket="demo-bucket")
        for tier in ("", "spot "):
            world.quotas.set(f"ml.m7i.2xlarge for {tier}training job usage", 100)
        yield world, world.push("demo/train")
    forget()


def forget() -> None:
    """Takes away what clients remember of a stage that has gone."""
    for each in (auth._session, auth._client, auth._identity, quotas._coded, quotas._listed):
        each.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()


def emptied(world: aws.World, image: str) -> Any:
    """The account without any job or log, and the backend in it."""
    world.sagemaker.jobs.clear()
    world.sagemaker.tunings.clear()
    world.clock._now = float(round(time.time()))  # which moto's logs go by
    world.server.heal()
    world.server.asked.clear()
    logs = client(world, "logs")
    for group in logs.describe_log_groups()["logGroups"]:
        logs.delete_log_group(logGroupName=group["logGroupName"])
    return SimpleNamespace(world=world, image=image, sagemaker=world.sagemaker, backend=backend())


def submit(stage: Any, **changes: Any) -> str:
    return stage.backend.submit(job(image=stage.image, **changes)).name


def state(stage: Any, run_id: str = "run-1") -> Any:
    status = stage.backend.status(run_id)
    assert status
    return status.state
