"""What tests of the stand-in for Vertex AI share: the smallest image there is, and jobs that run scripts in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from stage import containers, registry
from stage.google.identity import identity
from stage.google.vertex import TrainingJob, vertex
from stage.rest import ask

# A custom job in which nothing is wrong.
DIGEST = "sha256:" + "a" * 64
IMAGE = f"us-central1-docker.pkg.dev/stage-project/cloud-training/train@{DIGEST}"
GOOD: dict[str, Any] = {
    "displayName": "20261122-120000-abcd",
    "labels": {"project": "cloud-training", "run": "20261122-120000-abcd"},
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
                    "imageUri": IMAGE,
                    "args": ["trainer.max_epochs=1"],
                    "env": [{"name": "RUN_ID", "value": "20261122-120000-abcd"}],
                },
            }
        ],
        "scheduling": {"timeout": "7200s", "strategy": "SPOT"},
        "serviceAccount": "cloud-training-trainer@stage-project.iam.gserviceaccount.com",
        "baseOutputDirectory": {"outputUriPrefix": "gs://cloud-training-bucket/runs/20261122-120000-abcd"},
    },
}
FOREVER = "trap 'echo saved; exit 143' TERM; echo ready; while :; do sleep 0.1; done"


@contextmanager
def bash_stage(folder: Path) -> Iterator[SimpleNamespace]:
    """A registry with a tiny image (bash is its entry point), and the service of one region that runs it."""
    containers.require()
    with registry.registry(folder) as host, identity() as people:
        trainer = people.account("cloud-training-trainer")
        launcher = people.account("cloud-training-launch", "roles/aiplatform.user", "roles/logging.viewer")
        launcher.granted[trainer.email] = {"roles/iam.serviceAccountUser"}
        image = registry.push_bash(host)
        with vertex(people, registries=[host], platform={"STAGE": "on"}, grace_seconds=20) as service:
            base = f"{service.url}/v1/projects/{people.project}/locations/us-central1/customJobs"
            yield SimpleNamespace(
                service=service,
                people=people,
                image=image,
                host=host,
                folder=folder,
                base=base,
                token=people.token(launcher),
                trainer=trainer,
                launcher=launcher,
            )
        assert containers.ids(service.stage) == []
    containers.docker("rmi", image, check=False)


@contextmanager
def another(stage: SimpleNamespace, **settings: Any) -> Iterator[SimpleNamespace]:
    """The same people and images before a service of its own, with other settings of `vertex`."""
    with vertex(stage.people, registries=[stage.host], grace_seconds=20, **settings) as service:
        region = settings.get("region", "us-central1")
        base = stage.base.replace(stage.service.url, service.url).replace("us-central1", region)
        yield SimpleNamespace(**{**vars(stage), "service": service, "base": base})


def script(stage: SimpleNamespace, name: str, *scripts: str, **scheduling: Any) -> dict[str, Any]:
    """A job that runs a script of bash, one for each node."""
    pools = [
        {
            "machineSpec": {"machineType": "n1-standard-4"},
            "replicaCount": 1,
            "containerSpec": {
                "imageUri": stage.image,
                "args": [one],
                "env": [{"name": "RUN_ID", "value": name}],
            },
        }
        for one in scripts
    ]
    spec = {"workerPoolSpecs": pools, "serviceAccount": stage.trainer.email, "scheduling": scheduling}
    return {"displayName": name, "labels": {"run": name}, "jobSpec": spec}


def with_gpu(job: dict[str, Any], machine: str, gpu: str, count: int = 1) -> dict[str, Any]:
    """The job on a machine with GPUs."""
    spec = {"machineType": machine, "acceleratorType": gpu, "acceleratorCount": count}
    job["jobSpec"]["workerPoolSpecs"][0]["machineSpec"] = spec
    return job


def send(stage: SimpleNamespace, job: dict[str, Any]) -> TrainingJob:
    """Submits a job that is taken."""
    status, answer = ask(stage.base, stage.token, job)
    assert status == 200, answer
    assert answer["state"] == "JOB_STATE_QUEUED"
    return stage.service.job(answer["name"])


def submit(stage: SimpleNamespace, name: str, *scripts: str, **scheduling: Any) -> TrainingJob:
    """Submits a job that runs scripts."""
    return send(stage, script(stage, name, *scripts, **scheduling))


def refuse(
    stage: SimpleNamespace, status: int, job: Any = None, token: str | None = "", path: str = ""
) -> dict[str, Any]:
    """Submits a job that is not taken; gives the error."""
    job = script(stage, "refused", "true") if job is None else job
    before = len(stage.service.jobs())
    got, answer = ask(path or stage.base, stage.token if token == "" else token, job)
    assert (got, answer["error"]["code"]) == (status, status), answer
    assert len(stage.service.jobs()) == before
    return answer["error"]
