"""Settings and jobs for the tests of the backend of Azure ML."""

from typing import Any

from fake_backend import SEARCH
from launcher.job import Job, Kind, Machine, Search
from launcher.providers.azure import azureml
from launcher.providers.azure.azureml import AzureML
from omegaconf import DictConfig, OmegaConf

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
BUCKET = "abfss://training@demobucket.dfs.core.windows.net"
DIGEST = "0123456789abcdef" * 4
IMAGE = f"demobucketimages.azurecr.io/demo/train@sha256:{DIGEST}"
WORKSPACE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/demo/providers/Microsoft.MachineLearningServices/workspaces/demo-ml"
CPU, T4 = Machine("cpu", "Standard_F8s_v2"), Machine("t4", "Standard_NC4as_T4_v3", "T4", 1)


def cloud(**changes: Any) -> DictConfig:
    settings = {
        "backend": "azureml",
        "project": SUBSCRIPTION,
        "region": "eastus",
        "workspace": "demo/demo-ml",
        "compute": None,
        "bucket": BUCKET,
        "image": None,
        "repository": "demobucketimages.azurecr.io/demo/train",
        "service_account": "demo-trainer",
        "labels": {"project": "demo"},
        "max_attempts": 3,
        "max_wait_hours": 24.0,
        "idle_minutes": 30.0,
    }
    return OmegaConf.create({**settings, **changes})


def backend(**changes: Any) -> AzureML:
    return azureml.connect(cloud(**changes))


def job(**changes: Any) -> Job:
    run_id = changes.get("run_id", "run-1")
    settings = {
        "run_id": run_id,
        "image": IMAGE,
        "args": ("trainer.max_epochs=2", f"run.id={run_id}"),
        "machine": CPU,
        "max_hours": 1.5,
        "env": {"RUN_ID": run_id, "RUN_MAX_SECONDS": "5400", "RUN_MAX_ATTEMPTS": "3"},
        "labels": {"run": run_id, "max-seconds": "5400"},
        "output": f"{BUCKET}/runs/{run_id}",
    }
    return Job(**{**settings, **changes})


def sweep(search: Search = SEARCH, **changes: Any) -> Job:
    return job(kind=Kind.sweep, search=search, **changes)


def notebook(**changes: Any) -> Job:
    return job(kind=Kind.notebook, spot=False, **changes)
