"""The stand-in of Google Cloud Batch takes, runs, tries again and ends jobs as the service does, as documented."""

import copy
import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from baking import ROOT

from stage import containers, registry
from stage.google.batch import CANCELLED, FAILED, SUCCEEDED, BatchJob, batch
from stage.google.batch_compute import EVERYWHERE, REGION
from stage.google.batch_jobs import CUDA, OVER_TIME, PREEMPTED, USUAL_DRIVER
from stage.google.batch_rules import check, check_names, parse
from stage.google.identity import identity
from stage.one_field import REMOVED, with_field
from stage.rest import RequestError, ask
from stage.vertex_bench import DIGEST, FOREVER, IMAGE

HERE = "us-central1"
TASK = "taskGroups.0.taskSpec"
CONTAINER = f"{TASK}.runnables.0.container"
MACHINE = "allocationPolicy.instances.0.policy"
NETWORK = "allocationPolicy.network.networkInterfaces.0"
# A job in which nothing is wrong.
GOOD: dict[str, Any] = {
    "taskGroups": [
        {
            "taskCount": "1",
            "taskSpec": {
                "runnables": [{"container": {"imageUri": IMAGE, "options": "--shm-size=8g"}}],
                "environment": {"variables": {"RUN_ID": "a"}},
                "maxRunDuration": "3600s",
                "maxRetryCount": 2,
                "lifecyclePolicies": [
                    {"action": "RETRY_TASK", "actionCondition": {"exitCodes": [75, PREEMPTED]}}
                ],
            },
        }
    ],
    "allocationPolicy": {
        "location": {"allowedLocations": [f"regions/{HERE}"]},
        "instances": [
            {
                "installGpuDrivers": True,
                "policy": {
                    "machineType": "g2-standard-8",
                    "provisioningModel": "SPOT",
                    "bootDisk": {"image": "batch-cos", "type": "pd-balanced", "sizeGb": "100"},
                },
            }
        ],
        "network": {
            "networkInterfaces": [
                {"network": "global/networks/n", "subnetwork": f"regions/{HERE}/subnetworks/n"}
            ]
        },
        "labels": {"project": "demo", "run": "a"},
    },
    "labels": {"project": "demo", "run": "a"},
    "logsPolicy": {"destination": "CLOUD_LOGGING"},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The good job with one field replaced or removed."""
    return with_field(GOOD, path, value)


def try_job(job: dict[str, Any], *registries: str) -> None:
    check(parse(json.dumps(job).encode()), HERE, registries)


# What a job may be


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("name", "projects/p/locations/r/jobs/a", "name"),
        ("uid", "a", "uid"),
        ("status", {"state": "RUNNING"}, "status"),
        ("displayName", "a", 'no field named "displayName"'),
        ("labels", {"Run": "a"}, "labels"),
        ("labels", {"run": "a/b"}, "labels"),
        ("labels", {"run": "a" * 64}, "labels"),
        ("labels", {"goog-run": "a"}, "labels"),
        ("labels", {f"k{i}": "a" for i in range(65)}, "labels"),
        ("allocationPolicy.labels", {"run": "A"}, "allocation_policy.labels"),
        ("taskGroups", [], "task_groups"),
        ("taskGroups", GOOD["taskGroups"] * 2, "task_groups"),
        ("taskGroups.0.taskCount", "2", "task_count"),
        (f"{TASK}.runnables", [], "runnables"),
        (f"{TASK}.runnables.0", {"script": {"text": "true"}}, "runnables"),
        (f"{TASK}.maxRetryCount", 11, "max_retry_count"),
        (f"{TASK}.maxRetryCount", -1, "max_retry_count"),
        (f"{TASK}.maxRunDuration", "0s", "max_run_duration"),
        (f"{TASK}.maxRunDuration", f"{15 * 24 * 3600}s", "max_run_duration"),
        (f"{TASK}.maxRunDuration", 3600, "maxRunDuration"),
        (f"{TASK}.lifecyclePolicies", [{"action": "RETRY_TASK"}] * 2, "lifecycle_policies"),
        (f"{TASK}.environment", {"RUN_ID": "a"}, "RUN_ID"),
        (f"{CONTAINER}.imageUri", "ghcr.io/octo-org/train:main", "image_uri"),
        (f"{CONTAINER}.imageUri", "", "image_uri"),
        (f"{CONTAINER}.options", "--gpus=all", "options"),
        (f"{CONTAINER}.options", "--shm-size 8g", "options"),
        ("allocationPolicy.location.allowedLocations", ["regions/us-east1"], "allowed_locations"),
        ("allocationPolicy.location.allowedLocations", ["zones/us-east1-b"], "allowed_locations"),
        ("allocationPolicy.location.allowedLocations", ["us-central1"], "allowed_locations"),
        ("allocationPolicy.instances", GOOD["allocationPolicy"]["instances"] * 2, "instances"),
        ("allocationPolicy.instances", [], "instances"),
        (f"{NETWORK}.subnetwork", REMOVED, "network_interfaces"),
        (f"{NETWORK}.subnetwork", "regions/us-east1/subnetworks/n", "subnetwork"),
        (f"{MACHINE}.machineType", REMOVED, "machine_type"),
        (f"{MACHINE}.machineType", "l4", "machine_type"),
        (f"{MACHINE}.bootDisk.sizeGb", "10", "boot_disk.size_gb"),
        (f"{MACHINE}.machineType", "a4-highgpu-8g", "boot_disk.type"),
        (f"{MACHINE}.accelerators", [{"type": "nvidia-l4", "count": "2"}], "accelerators"),
        (f"{MACHINE}.accelerators", [{"type": "nvidia-tesla-t4", "count": "1"}], "accelerators"),
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
        (f"{TASK}.maxRetryCount", 10),
        (f"{TASK}.maxRunDuration", f"{14 * 24 * 3600}s"),
        (f"{TASK}.maxRunDuration", REMOVED),
        (f"{TASK}.lifecyclePolicies", []),
        (f"{CONTAINER}.imageUri", "octo-org/train:main"),
        (f"{CONTAINER}.imageUri", f"127.0.0.1:5000/p/demo/train@{DIGEST}"),
        (f"{CONTAINER}.options", "--network=host --stop-timeout=25 --shm-size=8g --ipc=host"),
        ("allocationPolicy.location.allowedLocations", [f"zones/{HERE}-a", f"zones/{HERE}-f"]),
        ("allocationPolicy.network", REMOVED),
        (f"{MACHINE}.accelerators", [{"type": "nvidia-l4", "count": "1", "driverVersion": "580.1"}]),
        ("labels", {"k" * 63: "v" * 63, "empty": ""}),
    ],
)
def test_a_job_within_the_rules_is_taken(path: str, value: Any):
    try_job(changed(path, value), "127.0.0.1:5000")


@pytest.mark.parametrize(
    ("machine", "gpu", "count", "taken"),
    [
        ("n1-standard-8", "nvidia-tesla-t4", 1, True),
        ("n1-standard-8", "nvidia-tesla-t4", 4, True),
        ("n1-standard-8", "nvidia-tesla-t4", 3, False),
        ("n1-standard-8", "nvidia-l4", 1, False),
        ("e2-standard-8", "nvidia-tesla-t4", 1, False),
    ],
)
def test_only_some_gpus_can_be_attached(machine: str, gpu: str, count: int, taken: bool):
    job = changed(f"{MACHINE}.machineType", machine)
    job["allocationPolicy"]["instances"][0]["policy"]["accelerators"] = [{"type": gpu, "count": str(count)}]
    with nullcontext() if taken else pytest.raises(RequestError, match="cannot be attached"):
        try_job(job)


@pytest.mark.parametrize("name", ["A", "1a", "a-", "a_b", "a" * 64, ""])
def test_names_of_jobs_have_a_form(name: str):
    with pytest.raises(RequestError, match="Job ID"):
        check_names(name, "")


@pytest.mark.parametrize("request_id", ["1", "00000000-0000-0000-0000-000000000000"])
def test_a_request_is_named_by_a_uuid(request_id: str):
    check_names("a" * 63, str(uuid.uuid4()))
    with pytest.raises(RequestError, match="Request ID"):
        check_names("a", request_id)


def test_the_driver_that_is_usual_there_is_new_enough_for_the_cuda_of_the_locked_torch():
    """What decides in the loop whether a GPU is found: CUDA 13 wants 580 (NVIDIA's release notes of CUDA)."""
    assert CUDA[USUAL_DRIVER[:3]] == "13.0"


# What becomes of one


@contextmanager
def a_service(folder: Any, **settings: Any) -> Iterator[SimpleNamespace]:
    containers.require()
    with registry.registry(folder) as host, identity() as people:
        trainer = people.account(
            "demo-trainer",
            *("roles/batch.agentReporter", "roles/logging.logWriter", "roles/artifactregistry.reader"),
        )
        launcher = people.account(
            "demo-launch", "roles/batch.jobsEditor", "roles/logging.viewer", "roles/compute.viewer"
        )
        launcher.granted[trainer.email] = {"roles/iam.serviceAccountUser"}
        image = registry.push_bash(host)
        with batch(people, registries=[host], **settings) as service:
            service.compute.quotas["PREEMPTIBLE_CPUS"] = 24
            yield SimpleNamespace(
                service=service,
                people=people,
                trainer=trainer,
                launcher=launcher,
                image=image,
                token=people.token(launcher),
                base=f"{service.url}/v1/projects/{people.project}/locations/{HERE}/jobs",
            )
        assert containers.ids(service.stage) == []
    containers.docker("rmi", image, check=False)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    with a_service(tmp_path_factory.mktemp("stage")) as running:
        yield running


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """One whose hours are seconds, and that gives up waiting soon."""
    with a_service(tmp_path_factory.mktemp("fast"), seconds_per_hour=2, queue_limit=1) as running:
        yield running


def script(stage: SimpleNamespace, text: str, **policy: Any) -> dict[str, Any]:
    job = copy.deepcopy(GOOD)
    group, where = job["taskGroups"][0]["taskSpec"], job["allocationPolicy"]
    group["runnables"][0]["container"] |= {"imageUri": stage.image, "commands": [text]}
    where["serviceAccount"] = {"email": stage.trainer.email}
    where["instances"][0] = {
        "policy": {"machineType": "e2-standard-4", "provisioningModel": "SPOT", **policy}
    }
    return job


def send(stage: SimpleNamespace, name: str, job: dict[str, Any]) -> BatchJob:
    status, answer = ask(f"{stage.base}?jobId={name}", stage.token, job)
    assert status == 200, answer
    assert answer["status"]["state"] == "QUEUED"
    return stage.service.job(answer["name"])


def run(stage: SimpleNamespace, name: str, text: str) -> BatchJob:
    return send(stage, name, script(stage, text))


@pytest.mark.engine
@pytest.mark.parametrize(
    ("status", "starts"), [(0, 1), (1, 1), (143, 1), (75, 3)], ids=["good", "bad", "unlisted", "listed"]
)
def test_only_what_the_policy_lists_is_tried_again_and_so_often(
    stage: SimpleNamespace, status: int, starts: int
):
    job = stage.service.wait(run(stage, f"ends-{status}", f"echo here; exit {status}"))
    assert job.state == (FAILED if status else SUCCEEDED)
    assert job.codes == [status] * starts
    assert job.lines() == ["here"] * starts
    found = job.json()["status"]
    assert bool(re.search(f"exit code {status}", json.dumps(found["statusEvents"]))) == bool(status)
    assert found["runDuration"].endswith("s")


@pytest.mark.engine
def test_a_policy_that_lists_failures_tries_all_others_again(stage: SimpleNamespace):
    job = script(stage, "exit 9")
    policy = job["taskGroups"][0]["taskSpec"]["lifecyclePolicies"][0]
    policy |= {"action": "FAIL_TASK", "actionCondition": {"exitCodes": [7]}}
    assert stage.service.wait(send(stage, "others", job)).codes == [9, 9, 9]
    policy["actionCondition"]["exitCodes"] = [9]
    assert stage.service.wait(send(stage, "listed", job)).codes == [9]


@pytest.mark.engine
@pytest.mark.parametrize("grace", [60, None])
def test_a_machine_that_is_taken_away_is_another_one_afterwards(stage: SimpleNamespace, grace: float | None):
    job = run(stage, f"spot-{grace or 'no'}".lower(), f"[ -e /mark ] && echo kept; touch /mark; {FOREVER}")
    stage.service.wait_for_line(job, "ready")
    assert not stage.service.preempt(job, grace)
    stage.service.wait_for_line(job, "ready", count=2)
    assert job.codes == [PREEMPTED]
    assert job.lines() == ["ready", *(["saved"] if grace else []), "ready"]
    assert len({machine["id"] for machine in job.machines}) == 2
    assert ask(f"{stage.service.url}/v1/{job.name}:cancel", stage.token, {})[0] == 200
    assert stage.service.wait(job).state == CANCELLED
    # No signal is documented for it.
    assert job.lines().count("saved") == (1 if grace else 0)
    assert ask(f"{stage.service.url}/v1/{job.name}:cancel", stage.token, {})[0] == 400


@pytest.mark.engine
def test_each_attempt_has_the_whole_limit_and_its_end_is_not_tried_again(fast: SimpleNamespace):
    job = fast.service.wait(run(fast, "limit", FOREVER))
    assert (job.state, job.codes) == (FAILED, [OVER_TIME])
    again = script(fast, FOREVER)
    policy = again["taskGroups"][0]["taskSpec"]["lifecyclePolicies"][0]
    policy["actionCondition"]["exitCodes"].append(OVER_TIME)
    assert fast.service.wait(send(fast, "listed", again)).codes == [OVER_TIME] * 3


@pytest.mark.engine
def test_without_quota_or_a_machine_it_waits_says_why_and_fails_in_the_end(fast: SimpleNamespace):
    many = fast.service.wait(send(fast, "many", script(fast, "true", machineType="e2-standard-32")))
    assert (many.state, many.machines) == (FAILED, [])
    assert "PREEMPTIBLE_CPUS, limit: 24" in json.dumps(many.json()["status"]["statusEvents"])
    fast.service.capacity.clear()
    none = run(fast, "none", "true")
    assert fast.service.wait(none).state == FAILED
    assert "ZONE_RESOURCE_POOL_EXHAUSTED" in json.dumps(none.json()["status"]["statusEvents"])
    fast.service.capacity.set()
    there = script(fast, "true")
    there["taskGroups"][0]["taskSpec"]["maxRunDuration"] = f"{300 * 3600}s"  # of the stand-in's short hours
    assert fast.service.wait(send(fast, "there", there)).state == SUCCEEDED


@pytest.mark.engine
@pytest.mark.parametrize(
    ("role", "said"),
    [
        ("roles/batch.agentReporter", "agent reporting correctly"),
        ("roles/artifactregistry.reader", "downloadArtifacts"),
    ],
)
def test_an_account_that_may_not_report_or_pull_runs_nothing(stage: SimpleNamespace, role: str, said: str):
    stage.trainer.roles.remove(role)
    try:
        job = stage.service.wait(run(stage, f"no-{said[:5].lower()}", "echo here"))
    finally:
        stage.trainer.roles.add(role)
    assert (job.state, job.lines()) == (FAILED, [])
    assert said in job.json()["status"]["statusEvents"][-1]["description"]


@pytest.mark.engine
def test_on_a_gpu_machine_the_images_entry_point_is_lost_and_ours_is_not(
    stage: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
):
    for quota in ("PREEMPTIBLE_NVIDIA_L4_GPUS", "GPUS_ALL_REGIONS"):
        monkeypatch.setitem(stage.service.compute.quotas, quota, 1)
    job = script(stage, "echo here", machineType="g2-standard-8")
    lost = stage.service.wait(send(stage, "lost", job))
    assert (lost.state, lost.lines()[-1:]) != (SUCCEEDED, ["here"])
    container = job["taskGroups"][0]["taskSpec"]["runnables"][0]["container"]
    container |= {"entrypoint": "/bin/bash", "commands": ["-c", "echo here"]}
    named = stage.service.wait(send(stage, "named", job))
    assert (named.state, named.lines()) == (SUCCEEDED, ["here"])


@pytest.mark.engine
def test_what_is_printed_is_kept_where_it_was_asked_for_and_may_be(stage: SimpleNamespace):
    def logged(job: BatchJob) -> list[str]:
        body = {
            "resourceNames": [f"projects/{stage.people.project}"],
            "filter": f'log_id("batch_task_logs") AND labels.job_uid="{job.uid}"',
        }
        status, answer = ask(f"{stage.service.url}/v2/entries:list", stage.token, body)
        assert status == 200, answer
        return [entry["textPayload"] for entry in answer.get("entries", [])]

    assert logged(stage.service.wait(run(stage, "kept", "echo one; echo two"))) == ["one", "two"]
    job = script(stage, "echo one")
    del job["logsPolicy"]
    assert logged(stage.service.wait(send(stage, "unasked", job))) == []
    stage.trainer.roles.remove("roles/logging.logWriter")
    silent = stage.service.wait(run(stage, "silent", "echo one"))
    kept = logged(silent)
    stage.trainer.roles.add("roles/logging.logWriter")
    assert (silent.state, kept) == (SUCCEEDED, [])


@pytest.mark.engine
def test_a_request_that_came_before_is_not_carried_out_again(stage: SimpleNamespace):
    job, asked = script(stage, "true"), uuid.uuid4()
    assert ask(f"{stage.base}?jobId=once&requestId={asked}", stage.token, job)[0] == 200
    assert ask(f"{stage.base}?jobId=twice&requestId={asked}", stage.token, job)[0] == 409
    assert ask(f"{stage.base}?jobId=once", stage.token, job)[0] == 409
    stage.service.wait(stage.service.job("once"))


@pytest.mark.engine
def test_who_may_not_is_refused_and_what_is_deleted_is_gone(stage: SimpleNamespace):
    nobody = stage.people.token(stage.people.account("nobody"))
    job = script(stage, "true")
    assert ask(f"{stage.base}?jobId=mine", nobody, job)[0] == 403
    acting = stage.launcher.granted.pop(stage.trainer.email)
    assert ask(f"{stage.base}?jobId=mine", stage.token, job)[0] == 403
    stage.launcher.granted[stage.trainer.email] = acting
    mine = stage.service.wait(send(stage, "mine", job))
    path = f"{stage.service.url}/v1/{mine.name}"
    assert ask(path, nobody)[0] == 403
    status, listed = ask(f"{stage.base}?filter=labels.run%3D%22a%22", stage.token)
    assert status == 200
    assert mine.name in {each["name"] for each in listed["jobs"]}
    stage.service._delete(SimpleNamespace(only=lambda *_: {}), "mine")
    assert ask(path, stage.token)[0] == 404


@pytest.mark.engine
def test_quotas_and_machines_are_those_of_its_jobs(stage: SimpleNamespace):
    base = f"{stage.service.url}/compute/v1/projects/{stage.people.project}"

    def usage() -> dict[str, float]:
        status, answer = ask(f"{base}/regions/{HERE}", stage.token)
        assert status == 200, answer
        return {quota["metric"]: quota["usage"] for quota in answer["quotas"]}

    def found() -> dict[str, Any]:
        status, answer = ask(f'{base}/aggregated/instances?filter=labels.run="a"', stage.token)
        assert status == 200, answer
        return answer["items"]

    before = usage()
    job = run(stage, "counted", FOREVER)
    stage.service.wait_for_line(job, "ready")
    assert usage()["PREEMPTIBLE_CPUS"] == before["PREEMPTIBLE_CPUS"] + 4
    assert [list(found()), len(found()[f"zones/{HERE}-a"]["instances"])] == [[f"zones/{HERE}-a"], 1]
    job.cancel()
    stage.service.wait(job)
    assert usage() == before
    assert found() == {}
    assert ask(f"{base}/regions/us-east1", stage.token)[0] == 404


def test_a_new_account_has_no_gpu_at_all_until_it_asks():
    """https://docs.cloud.google.com/compute/resource-usage#gpu_quota."""
    assert EVERYWHERE["GPUS_ALL_REGIONS"] == 0
    assert REGION["PREEMPTIBLE_CPUS"] == 0


# What ours is started as


def test_a_job_names_the_entry_point_that_the_image_has():
    """Batch is told it in so many words; where they part, what runs there is not what runs elsewhere."""
    import launcher.providers.google.batch_request as ours

    dockerfile = (ROOT / "{{cookiecutter.__folder}}/Dockerfile").read_text(encoding="utf-8")
    [entry] = re.findall(r"^ENTRYPOINT (\[.*\])$", dockerfile, re.MULTILINE)
    assert json.loads(entry) == list(ours.ENTRY_POINT)
