"""What the stand-in of Vertex AI has for a new account: quotas, regions, hosts with their drivers, its own accounts."""

import json
import time
import urllib.parse
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from stage.google.identity import identity
from stage.google.vertex import CANCELLED, SUCCEEDED
from stage.google.vertex_checks import LACKING
from stage.google.vertex_quotas import (
    NEW_ACCOUNT,
    TRAINING,
    UNPROVEN_ACCOUNT,
    check_quotas,
    cpu_metric,
    cpus,
    give,
    gpu_metric,
)
from stage.google.vertex_rules import BUILT_IN, MACHINES, parse
from stage.rest import RequestError, ask
from stage.vertex_bench import FOREVER, another, bash_stage, refuse, script, send, submit, with_gpu


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    with bash_stage(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


def refusal(
    account: dict, machine: str, gpu: str = "", count: int = 0, spot: bool = True, times: int = 1
) -> str:
    """What is said of a job in us-central1; "" when the quotas allow it."""
    spec = {"machineType": machine} | ({"acceleratorType": gpu, "acceleratorCount": count} if gpu else {})
    pool = {"machineSpec": spec, "replicaCount": 1, "containerSpec": {"imageUri": "a/b"}}
    scheduling = {"strategy": "SPOT" if spot else "STANDARD"}
    job = parse(json.dumps({"jobSpec": {"workerPoolSpecs": [pool], "scheduling": scheduling}}).encode())
    with identity() as people:
        give(people, account)
        try:
            check_quotas(people, "us-central1", job.job_spec, times)
        except RequestError as error:
            return error.message
    return ""


@pytest.mark.parametrize("spot", [True, False])
def test_a_new_account_has_cpus_and_few_gpus(spot: bool):
    tier = "preemptible_" if spot else ""
    assert refusal(NEW_ACCOUNT, "n1-standard-8", spot=spot) == ""
    assert refusal(NEW_ACCOUNT, "e2-standard-16", spot=spot) == ""
    assert f"{TRAINING}{tier}cpus" in refusal(NEW_ACCOUNT, "n1-standard-8", spot=spot, times=3)
    for machine, gpu, name in (
        ("g2-standard-8", "NVIDIA_L4", "l4"),
        ("a3-highgpu-1g", "NVIDIA_H100_80GB", "h100"),
        ("a2-ultragpu-1g", "NVIDIA_A100_80GB", "a100_80gb"),
        ("g4-standard-48", "NVIDIA_RTX_PRO_6000", "rtx_pro_6000"),
        ("a4-highgpu-8g", "NVIDIA_B200", "b200"),
    ):
        said = refusal(NEW_ACCOUNT, machine, gpu, BUILT_IN[machine][1], spot)
        assert f"{TRAINING}{tier}nvidia_{name}_gpus" in said
    for machine, gpu in (("n1-standard-8", "NVIDIA_TESLA_T4"), ("a2-highgpu-1g", "NVIDIA_TESLA_A100")):
        assert bool(refusal(NEW_ACCOUNT, machine, gpu, 1, spot)) is not spot
    assert "t4" in refusal(NEW_ACCOUNT, "n1-standard-8", "NVIDIA_TESLA_T4", 2)


def test_an_account_without_history_has_not_the_cpus_for_a_machine_on_spot():
    for machine, gpu in (("n1-standard-4", "NVIDIA_TESLA_T4"), ("a2-highgpu-1g", "NVIDIA_TESLA_A100")):
        said = refusal(UNPROVEN_ACCOUNT, machine, gpu, 1)
        assert said == f"The following quota metrics exceed quota limits: {TRAINING}preemptible_cpus"
    assert refusal(UNPROVEN_ACCOUNT, "n1-standard-8", spot=False) == ""


def test_every_machine_counts_against_quotas_with_names():
    assert all(cpus(machine) >= 2 for machine in MACHINES)
    assert (cpus("a2-highgpu-8g"), cpus("a2-megagpu-16g"), cpus("a3-highgpu-8g")) == (96, 96, 208)
    assert cpu_metric("e2-standard-4", False) == f"{TRAINING}cpus"
    assert cpu_metric("g2-standard-4", False) == f"{TRAINING}g2_cpus"
    names = {gpu_metric(gpu, False).removeprefix(f"{TRAINING}nvidia_") for gpu, _ in BUILT_IN.values()}
    assert {"l4_gpus", "a100_gpus", "a100_80gb_gpus", "h100_gpus", "h100_mega_gpus", "h200_gpus"} < names


@pytest.mark.engine
def test_the_list_of_quotas_has_the_numbers_that_decide(stage: SimpleNamespace):
    reader = stage.people.account("reader", "roles/serviceusage.serviceUsageViewer")
    token = stage.people.token(reader)
    metric = f"{TRAINING}preemptible_nvidia_t4_gpus"
    base = f"{stage.people.url}/v1beta1/projects/{stage.people.project}/services/aiplatform.googleapis.com"
    status, answer = ask(
        f"{base}/consumerQuotaMetrics/{urllib.parse.quote(metric, safe='')}?view=FULL", token
    )
    assert status == 200, answer
    buckets = answer["consumerQuotaLimits"][0]["quotaBuckets"]
    limits = {one["dimensions"]["region"]: one["effectiveLimit"] for one in buckets if "dimensions" in one}
    assert limits == dict.fromkeys(NEW_ACCOUNT[metric], "1")
    job = with_gpu(script(stage, "t4x2", "true", strategy="SPOT"), "n1-standard-8", "NVIDIA_TESLA_T4", 2)
    assert metric in refuse(stage, 429, job)["message"]


@pytest.mark.engine
def test_what_the_region_lacks_is_refused(stage: SimpleNamespace):
    job = with_gpu(script(stage, "gpu", "true", strategy="SPOT"), "g2-standard-24", "NVIDIA_L4", 2)
    gpus, many = f"{TRAINING}preemptible_nvidia_l4_gpus", f"{TRAINING}preemptible_cpus"
    said = refuse(stage, 429, job)
    assert said["status"] == "RESOURCE_EXHAUSTED"
    assert gpus in said["message"]
    assert many in said["message"]
    stage.people.quotas[gpus] = {"us-central1": 1, "europe-west4": 8}
    stage.people.quotas[many] = {"us-central1": 24}
    assert gpus in refuse(stage, 429, job)["message"]
    stage.people.quotas[gpus]["us-central1"] = 2
    stage.service.unsupported.add("NVIDIA_L4")
    assert "us-central1" in refuse(stage, 400, job)["message"]
    stage.service.unsupported.clear()
    # A machine with GPUs is run here without them.
    assert stage.service.wait(send(stage, job)).state == SUCCEEDED


@pytest.mark.engine
@pytest.mark.parametrize(
    ("machine", "gpu"), [("n1-standard-8", "NVIDIA_TESLA_T4"), ("g2-standard-8", "NVIDIA_L4")]
)
def test_gpus_that_a_region_never_has_are_refused(stage: SimpleNamespace, machine: str, gpu: str):
    region = LACKING[gpu][-1]
    with another(stage, region=region) as elsewhere:
        job = with_gpu(script(elsewhere, "elsewhere", "true"), machine, gpu)
        assert refuse(elsewhere, 400, job)["message"] == f"{gpu} is not supported in region {region}."
        assert elsewhere.service.wait(submit(elsewhere, "cpu", "true")).state == SUCCEEDED


@pytest.mark.engine
def test_what_others_use_of_a_quota_is_waited_for(stage: SimpleNamespace):
    stage.people.quotas[f"{TRAINING}cpus"] = {"us-central1": 4}
    first = submit(stage, "first", FOREVER)
    stage.service.wait_for_line(first, "ready")
    second = submit(stage, "second", "true")
    while second.id not in stage.service.here.waiting:
        assert second.state == "JOB_STATE_QUEUED"
        time.sleep(0.01)
    first.cancel()
    stage.service.wait(second, [SUCCEEDED])
    stage.service.wait(first, [CANCELLED])
    assert second.json()["startTime"] >= first.json()["endTime"]
    refuse(stage, 429, script(stage, "pair", "true", "true"))
    stage.people.quotas[f"{TRAINING}cpus"] = dict(NEW_ACCOUNT[f"{TRAINING}cpus"])


@pytest.mark.engine
def test_a_container_sees_the_driver_of_its_host(stage: SimpleNamespace):
    program = "/usr/local/nvidia/bin/nvidia-smi"
    show = f"{program} -L; {program} --query-gpu=name,driver_version --format=csv,noheader; {program} --wrong; echo $?"
    job = with_gpu(script(stage, "t4", show, strategy="SPOT"), "n1-standard-8", "NVIDIA_TESLA_T4")
    done = stage.service.wait(send(stage, job))
    lines = done.lines()
    # Not in their order: what goes to stderr may come first.
    assert any(line.startswith("GPU 0: Tesla T4 (UUID: GPU-") for line in lines)
    assert "Tesla T4, 535.247.01" in lines
    assert "6" in lines
    stage.service.drivers["NVIDIA_TESLA_T4"] = ("580.95.05", "13.0")
    job = with_gpu(script(stage, "t4-new", program, strategy="SPOT"), "n1-standard-8", "NVIDIA_TESLA_T4")
    assert "CUDA Version: 13.0" in stage.service.wait(send(stage, job)).lines()[0]
    done = stage.service.wait(submit(stage, "no-gpu", f"[ -e {program} ] || echo none"))
    assert done.lines() == ["none"]


@pytest.mark.engine
def test_the_services_own_account_has_to_be_there_with_its_role(stage: SimpleNamespace):
    email = f"service-{stage.people.number}@gcp-sa-aiplatform-cc.iam.gserviceaccount.com"
    agents: dict[str, set[str]] = {}
    with another(stage, agents=agents) as new:
        said = refuse(new, 400)
        assert said["status"] == "FAILED_PRECONDITION"
        assert f"{email} does not have permission to access Artifact Registry repository" in said["message"]
        # The service has made it, with its role.
        assert new.service.wait(submit(new, "second", "true")).state == SUCCEEDED
        agents[email] = set()  # as one that was asked for, and given none
        refuse(new, 400)
        refuse(new, 400)
        agents[email] = {"roles/artifactregistry.reader"}
        assert new.service.wait(submit(new, "third", "true")).state == SUCCEEDED
