"""The stand-in of Vertex AI takes and refuses the jobs and filters that the service does, as documented."""

import json
from typing import Any

import pytest

from stage.google.vertex_filter import LogFilter, job_filter
from stage.google.vertex_nodes import expand
from stage.google.vertex_rules import BUILT_IN, MACHINES, check, parse
from stage.one_field import REMOVED, with_field
from stage.rest import RequestError
from stage.vertex_bench import DIGEST, GOOD, IMAGE

POOL = "jobSpec.workerPoolSpecs.0"


def changed(path: str, value: Any) -> dict[str, Any]:
    """The good job with one field replaced or removed."""
    return with_field(GOOD, path, value)


def machine(kind: str, gpu: str | None = None, count: int | None = None) -> dict[str, Any]:
    given = {"machineType": kind, "acceleratorType": gpu, "acceleratorCount": count}
    return {name: value for name, value in given.items() if value is not None}


def try_job(job: dict[str, Any], *registries: str) -> None:
    check(parse(json.dumps(job).encode()), registries)


# What a custom job may be


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("displayName", REMOVED, "display_name"),
        ("displayName", "", "display_name"),
        ("displayName", "x" * 129, "display_name"),
        ("displayname", "x", 'no field named "displayname"'),
        ("name", "projects/p/locations/r/customJobs/1", "name"),
        ("state", "JOB_STATE_RUNNING", "state"),
        ("labels", {"Run": "x"}, "labels.Run"),
        ("labels", {"1run": "x"}, "labels.1run"),
        ("labels", {"": "x"}, "labels."),
        ("labels", {"run": "feature/x"}, "labels.run"),
        ("labels", {"run": "Upper"}, "labels.run"),
        ("labels", {"run": "x" * 64}, "labels.run"),
        ("labels", {"k" * 64: "x"}, "labels.k"),
        ("labels", {f"k{i}": "x" for i in range(65)}, "labels"),
        ("labels", {"run": 1}, "string"),
        ("jobSpec.workerPoolSpecs", [], "worker_pool_specs"),
        ("jobSpec.workerPoolSpecs", [GOOD["jobSpec"]["workerPoolSpecs"][0]] * 5, "worker_pool_specs"),
        ("jobSpec.workerPoolSpecs", [{}], "replica_count"),
        ("jobSpec.serviceAccounts", "x", "serviceAccounts"),
        ("jobSpec.serviceAccount", "somebody", "service_account"),
        ("jobSpec.serviceAccount", "a@example.com", "service_account"),
        ("jobSpec.baseOutputDirectory", {"outputUriPrefix": "/tmp/x"}, "output_uri_prefix"),
        ("jobSpec.baseOutputDirectory", {}, "output_uri_prefix"),
        ("jobSpec.scheduling.timeout", "2h", "timeout"),
        ("jobSpec.scheduling.timeout", 7200, "timeout"),
        ("jobSpec.scheduling.timeout", "0s", "timeout"),
        ("jobSpec.scheduling.timeout", "-5s", "timeout"),
        ("jobSpec.scheduling.strategy", "PREEMPTIBLE", "strategy"),
        ("jobSpec.scheduling.maxWaitDuration", "60s", "max_wait_duration"),
        ("jobSpec.scheduling.maxRetries", 3, "maxRetries"),
        (f"{POOL}.replicaCount", REMOVED, "replica_count"),
        (f"{POOL}.replicaCount", "2", "replica_count"),
        (f"{POOL}.replicaCount", "0", "replica_count"),
        (f"{POOL}.containerSpec", REMOVED, "container_spec"),
        (f"{POOL}.containerSpec.imageUri", REMOVED, "image_uri"),
        (f"{POOL}.containerSpec.imageUri", "ghcr.io/octo-org/train:main", "image_uri"),
        (f"{POOL}.containerSpec.imageUri", f"127.0.0.1:5000/train@{DIGEST}", "image_uri"),
        (f"{POOL}.containerSpec.imageUri", "us-central1-docker.pkg.dev/p/train", "image_uri"),
        (f"{POOL}.containerSpec.imageUri", f"{IMAGE}0", "image_uri"),
        (f"{POOL}.containerSpec.imageUri", IMAGE.replace("train@", "Train@"), "image_uri"),
        (f"{POOL}.containerSpec.args", "trainer.max_epochs=1", "args"),
        (f"{POOL}.containerSpec.args", ["x", 1], "args"),
        (f"{POOL}.containerSpec.env", {"A": "b"}, "env"),
        (f"{POOL}.containerSpec.env", [{"name": "A-B", "value": "x"}], "env"),
        (f"{POOL}.containerSpec.env", [{"name": "1A", "value": "x"}], "env"),
        (f"{POOL}.containerSpec.env", [{"name": "A", "value": "x"}] * 2, "env"),
        (f"{POOL}.containerSpec.env", [{"name": "A", "value": 1}], "env"),
        (f"{POOL}.containerSpec.env", [{"name": f"A{i}", "value": "x"} for i in range(101)], "env"),
        (f"{POOL}.diskSpec.bootDiskSizeGb", 50, "boot_disk_size_gb"),
        (f"{POOL}.diskSpec.bootDiskType", "ssd", "boot_disk_type"),
        (f"{POOL}.machineSpec", {}, "machine_type"),
        (f"{POOL}.machineSpec", machine("g2-standard-5", "NVIDIA_L4", 1), "machine_type"),
        (f"{POOL}.machineSpec", machine("g2-standard-8"), "accelerator_type"),
        (f"{POOL}.machineSpec", machine("g2-standard-8", "NVIDIA_L4", 2), "accelerator_type"),
        (f"{POOL}.machineSpec", machine("g2-standard-8", "NVIDIA_TESLA_T4", 1), "accelerator_type"),
        (f"{POOL}.machineSpec", machine("a3-highgpu-8g", "NVIDIA_TESLA_A100", 8), "accelerator_type"),
        (f"{POOL}.machineSpec", machine("e2-standard-8", "NVIDIA_TESLA_T4", 1), "accelerator_type"),
        (f"{POOL}.machineSpec", machine("n1-standard-8", "NVIDIA_L4", 1), "accelerator_type"),
        (f"{POOL}.machineSpec", machine("n1-standard-8", "NVIDIA_T4", 1), "acceleratorType"),
        (f"{POOL}.machineSpec", machine("n1-standard-8", "NVIDIA_TESLA_T4"), "accelerator_count"),
        (f"{POOL}.machineSpec", machine("n1-standard-8", "NVIDIA_TESLA_T4", 3), "accelerator_count"),
        (f"{POOL}.machineSpec", machine("n1-standard-64", "NVIDIA_TESLA_T4", 1), "accelerator_count"),
        (f"{POOL}.machineSpec", machine("n1-standard-8", None, 1), "accelerator_count"),
        (f"{POOL}.machineSpec", machine("n1-standard-8", "NVIDIA_TESLA_P100", 1), "accelerator_type"),
    ],
)
def test_a_job_with_one_bad_field_is_refused(path: str, value: Any, field: str):
    with pytest.raises(RequestError) as refusal:
        try_job(changed(path, value))
    assert refusal.value.code == 400
    assert field in refusal.value.message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("displayName", "ü" * 128),
        ("labels", {"k" * 63: "v" * 63, "empty": ""}),
        ("jobSpec.baseOutputDirectory", REMOVED),
        ("jobSpec.serviceAccount", REMOVED),
        (
            "jobSpec.scheduling",
            {"timeout": "30.5s", "restartJobOnWorkerRestart": True, "disableRetries": False},
        ),
        ("jobSpec.scheduling", {"strategy": "FLEX_START", "timeout": "604800s", "maxWaitDuration": "0s"}),
        (f"{POOL}.containerSpec.imageUri", "octo-org/train:main"),
        (f"{POOL}.containerSpec.imageUri", f"127.0.0.1:5000/cloud-training/train@{DIGEST}"),
        (f"{POOL}.machineSpec", machine("n1-standard-8", "NVIDIA_TESLA_T4", 1)),
        (f"{POOL}.machineSpec", machine("e2-standard-8")),
        (f"{POOL}.machineSpec", machine("a2-highgpu-1g", "NVIDIA_TESLA_A100", 1)),
        (f"{POOL}.machineSpec", machine("a3-highgpu-8g", "NVIDIA_H100_80GB", 8)),
        (f"{POOL}.machineSpec", machine("g4-standard-48", "NVIDIA_RTX_PRO_6000", 1)),
        (f"{POOL}.machineSpec", machine("n4-standard-2")),
    ],
)
def test_a_job_at_the_bounds_is_taken(path: str, value: Any):
    try_job(GOOD)
    try_job(changed(path, value), "127.0.0.1:5000")


def test_a_second_pool_may_have_several_replicas_but_not_none():
    worker = {**GOOD["jobSpec"]["workerPoolSpecs"][0], "replicaCount": "3"}
    try_job(changed("jobSpec.workerPoolSpecs", [GOOD["jobSpec"]["workerPoolSpecs"][0], worker]))
    worker["replicaCount"] = "0"
    with pytest.raises(RequestError, match="replica_count"):
        try_job(changed("jobSpec.workerPoolSpecs", [GOOD["jobSpec"]["workerPoolSpecs"][0], worker]))


def test_every_machine_with_built_in_gpus_is_known():
    assert set(BUILT_IN) < MACHINES
    for kind, (gpu, count) in BUILT_IN.items():
        try_job(changed(f"{POOL}.machineSpec", machine(kind, gpu, count)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("labels.run=a", True),
        ("labels.run=b", False),
        ("labels.run:* labels.project=x", True),
        ("labels.project=leaf", False),
        ("NOT labels.run=b", True),
        ("labels.none:*", False),
        ('displayName="run a" AND state="JOB_STATE_RUNNING"', True),
        ('display_name:"run *"', True),
        ('state!="JOB_STATE_RUNNING"', False),
        ('NOT state="JOB_STATE_FAILED"', True),
        ('state="JOB_STATE_FAILED" OR state="JOB_STATE_RUNNING" AND labels.run=b', False),
        ('createTime>"2026-01-01T00:00:00Z"', True),
        ('createTime<="2026-01-01T00:00:00Z"', False),
        ("(labels.run=b OR labels.run=a)", True),
    ],
)
def test_filters_of_jobs(text: str, expected: bool):
    job = {"displayName": "run a", "state": "JOB_STATE_RUNNING", "createTime": "2026-11-22T12:00:00.000000Z"}
    assert job_filter(text)({**job, "labels": {"run": "a", "project": "x"}}) is expected


@pytest.mark.parametrize(
    "text",
    [
        "run=a",
        "labels.run:a",
        "labels.run!=b",
        "labels.run>a",
        "state=RUNNING",
        "state>x",
        'labels.run="a',
        "AND",
        "labels.run=a AND",
        "(labels.run=a",
        "createTime>now",
        "labels.run=a)",
        "state",
        "endTime>2026-01-01T00:00:00Z",
    ],
)
def test_bad_filters_of_jobs_are_refused(text: str):
    with pytest.raises(RequestError, match="filter"):
        job_filter(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        'resource.labels.job_id="1"',
        'resource.type="ml_job" labels.job="1"',
        'resource.type="ml_job" severity>=BAD',
        'resource.type="ml_job" timestamp>yesterday',
        'resource.type="ml_job" OR',
    ],
)
def test_bad_filters_of_logs_are_refused(text: str):
    with pytest.raises(RequestError):
        LogFilter(text)


def test_labels_are_compared_whole():
    match = job_filter('labels.project="leaf" AND labels.run:*')
    assert match({"labels": {"project": "leaf", "run": "a"}})
    for project in ("leaf-two", "a-leaf", "Leaf", ""):
        assert not match({"labels": {"project": project, "run": "a"}})


def test_variables_of_a_job_may_name_others():
    assert expand("$(A)/$$(A)/$(B)/$A", {"A": "x"}) == "x/$(A)/$(B)/$A"
