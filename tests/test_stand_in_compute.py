"""The stand-in of Compute Engine really runs its VMs: scripts, preemption, time limits, logs; and nothing is left."""

import json
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from copy import deepcopy
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from stage import containers, registry
from stage.compute import GONE, Compute, Machine, compute
from stage.compute_examples import FAMILY, ZONE, instance
from stage.google_identity import identity
from stage.rest import ask


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The service, with a registry that has a tiny image, whose entry point is bash."""
    containers.require()
    with registry.registry(tmp_path_factory.mktemp("stage")) as host, identity() as people:
        trainer = people.account("cloud-training-trainer", "roles/logging.logWriter")
        launcher = people.account("launch", "roles/compute.instanceAdmin.v1", "roles/logging.viewer")
        launcher.granted[trainer.email] = {"roles/iam.serviceAccountUser"}
        trainer.roles.add("roles/compute.instanceAdmin.v1")
        image = registry.push_bash(host)
        with compute(people, platform={"STAGE": "on"}, notice_seconds=3) as service:
            yield SimpleNamespace(
                service=service,
                people=people,
                image=image,
                token=people.token(launcher),
                launcher=launcher,
                trainer=trainer,
                base=f"{service.url}/compute/v1/projects/{people.project}",
            )
            assert service.disks == {}
        assert containers.ids(service.stage) == []
    containers.docker("rmi", image, check=False)


def send(url: str, token: str, method: str) -> tuple[int, Any]:
    request = urllib.request.Request(url, method=method, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def submit(stage: SimpleNamespace, name: str, script: str, zone: str = ZONE, **more: Any) -> Machine:
    """Orders a VM as the trainer's and waits until it runs."""
    account = {
        "email": stage.trainer.email,
        "scopes": ["https://www.googleapis.com/auth/cloud-platform"],
    }
    given = instance(name, script, zone, **{"serviceAccounts": [account], **more})
    status, operation = ask(f"{stage.base}/zones/{zone}/instances", stage.token, given)
    assert (status, operation["status"], operation["operationType"]) == (200, "RUNNING", "insert"), operation
    status, operation = ask(
        f"{stage.base}/zones/{zone}/operations/{operation['name']}/wait", stage.token, b""
    )
    assert operation["status"] == "DONE", operation
    assert "error" not in operation
    return stage.service.machine(name)


FOREVER = "trap 'echo bye' TERM; echo ready; while :; do sleep 0.1; done"


def test_a_vm_runs_its_script_and_deletes_itself(stage: SimpleNamespace) -> None:
    script = f"""#!/bin/bash
    ask() {{ curl -sf -H 'Metadata-Flavor: Google' "http://metadata.google.internal/computeMetadata/v1/$1"; }}
    [ "$(ask instance/name)" = vm-a ] && [ "$(ask instance/preempted)" = FALSE ] || exit 3
    curl -s http://metadata.google.internal/computeMetadata/v1/instance/name; echo  # without the header
    ask instance/attributes/ ; ask 'instance/attributes/?recursive=true' ; ask instance/attributes/none; echo
    id -u; command -v nvidia-smi
    mkdir -p /var/lib/job && echo inside > /var/lib/job/file
    printf 'GIVEN=1\\n' > /tmp/env
    docker run --name job --rm --gpus all --network host --label run=r1 --log-driver gcplogs --log-opt labels=run \
        --env-file /tmp/env -v /var/lib/job:/job {stage.image} 'echo $STAGE $GIVEN $GCE_METADATA_HOST; echo $(</job/file)'
    echo "docker said $?"
    docker run --rm --log-driver gcplogs --log-opt colour=red {stage.image} true; echo "docker said $?"
    docker run --rm {stage.image} 'exit 7'; echo "docker said $?"
    zone=$(ask instance/zone); token=$(ask instance/service-accounts/default/token | jq -r .access_token)
    curl -sf -X DELETE -H "Authorization: Bearer $token" \
        "https://compute.googleapis.com/compute/v1/projects/$(ask project/project-id)/zones/${{zone##*/}}/instances/vm-a"
    sleep 100
    """
    vm = submit(stage, "vm-a", script)
    stage.service.wait(vm, timeout=60)
    console = vm.console()
    assert "startup-script: Missing Metadata-Flavor:Google header." in console
    assert re.search(r"startup-script: 0\n", console)
    assert "startup-script: startup-script\n" in console  # the only attribute
    assert re.findall(r"docker said (\d+)", console) == ["0", "125", "7"]
    assert "unknown log opt 'colour'" in console
    first, second = vm.lines()
    assert re.fullmatch(r"on 1 127\.0\.0\.1:\d+", first)
    assert second == "inside"
    entry = vm.entries()[0]
    assert entry["jsonPayload"]["container"] | {"id": ""} == {
        "name": "/job",
        "id": "",
        "imageName": stage.image,
        "metadata": {"run": "r1"},
    }
    assert entry["jsonPayload"]["instance"] == {"name": "vm-a", "zone": ZONE, "id": vm.id}
    assert vm.why == "delete"
    assert 0 < vm.machine_seconds < 60
    assert send(f"{stage.base}/zones/{ZONE}/instances/vm-a", stage.token, "GET")[0] == 404
    assert stage.service.disks == {}
    assert stage.service.containers(running_only=False) == []


def test_a_preempted_vm_has_its_notice(stage: SimpleNamespace) -> None:
    shutdown = {"key": "shutdown-script", "value": "echo going down"}
    script = (
        f'docker run --rm --name job --log-driver gcplogs {stage.image} "{FOREVER}"; echo "docker said $?"'
    )
    items = [{"key": "startup-script", "value": script}, shutdown]
    vm = submit(stage, "vm-notice", "", metadata={"items": items})
    stage.service.wait_for_line(vm, "ready")
    begun = time.monotonic()
    stage.service.preempt(vm)
    assert time.monotonic() - begun > 2.5  # it does not end at SIGTERM, and has its three seconds
    assert "bye" in vm.lines()
    assert "shutdown-script: going down" in vm.console()
    query = urllib.parse.urlencode({"filter": 'targetLink eq ".*/instances/vm-notice"'})
    operations = ask(f"{stage.base}/aggregated/operations?{query}", stage.token)[1]["items"][f"zones/{ZONE}"][
        "operations"
    ]
    assert {one["operationType"] for one in operations} == {"insert", "compute.instances.preempted"}
    assert {one["targetId"] for one in operations} == {vm.id}
    assert (vm.status, vm.why) == (GONE, "preempted")


def test_without_notice_nothing_is_heard(stage: SimpleNamespace) -> None:
    vm = submit(stage, "vm-sudden", f'docker run --log-driver gcplogs {stage.image} "{FOREVER}"')
    stage.service.wait_for_line(vm, "ready")
    stage.service.preempt(vm, notice=False)
    assert vm.lines() == ["ready"]
    assert "exit status" not in vm.console()
    assert stage.service.containers(running_only=False) == []


def test_past_its_time_a_vm_is_deleted_and_without_that_action_stopped(stage: SimpleNamespace) -> None:
    with compute(stage.people, seconds_per_hour=2, notice_seconds=1) as fast:
        other = SimpleNamespace(
            **{**vars(stage), "service": fast, "base": stage.base.replace(stage.service.url, fast.url)}
        )
        scheduling = {"maxRunDuration": {"seconds": "3600"}, "instanceTerminationAction": "STOP"}
        deleted = submit(other, "vm-delete", f"{FOREVER}")
        stopped = submit(other, "vm-stop", f"{FOREVER}", scheduling=scheduling)
        limit = datetime.fromisoformat(
            deleted.resource["resourceStatus"]["scheduling"]["terminationTimestamp"]
        )
        assert (limit - datetime.fromisoformat(deleted.resource["lastStartTimestamp"])).total_seconds() <= 2.1
        fast.wait(deleted, [GONE], 30)
        fast.wait(stopped, ["TERMINATED"], 30)
        assert 2 < deleted.machine_seconds < 6
        assert deleted.why == stopped.why == "limit"
        assert [disk["name"] for disk in fast.disks.values()] == ["vm-stop"]
        url = f"{other.base}/zones/{ZONE}"
        status, refusal = send(f"{url}/disks/vm-stop", stage.token, "DELETE")
        assert (status, refusal["error"]["errors"][0]["reason"]) == (400, "resourceInUseByAnotherResource")
        assert send(f"{url}/instances/vm-stop", stage.token, "DELETE")[0] == 200
        fast.wait(stopped, [GONE], 10)
        assert fast.disks == {}


def test_a_vm_that_powers_itself_off_keeps_its_disk(stage: SimpleNamespace) -> None:
    disks = deepcopy(instance()["disks"])
    disks[0]["autoDelete"] = False
    vm = submit(stage, "vm-off", "poweroff; sleep 50", disks=disks)
    stage.service.wait(vm, ["TERMINATED"], 20)
    seconds = vm.machine_seconds
    assert send(f"{stage.base}/zones/{ZONE}/instances/vm-off", stage.token, "DELETE")[0] == 200
    stage.service.wait(vm, [GONE], 10)
    assert vm.machine_seconds == seconds  # what is off costs no machine
    (disk,) = ask(f"{stage.base}/aggregated/disks?filter=labels.project%3Ddemo", stage.token)[1]["items"][
        f"zones/{ZONE}"
    ]["disks"]
    assert disk["name"] == "vm-off"
    assert "users" not in disk
    assert send(f"{stage.base}/zones/{ZONE}/disks/vm-off", stage.token, "DELETE")[0] == 200
    assert send(f"{stage.base}/zones/{ZONE}/disks/vm-off", stage.token, "DELETE")[0] == 404


def test_zones_without_capacity_and_quotas_fail_the_operation(stage: SimpleNamespace) -> None:
    url = f"{stage.base}/zones/{ZONE}"

    def outcome(content: dict[str, Any]) -> str:
        operation = ask(f"{url}/instances", stage.token, content)[1]
        done = ask(f"{url}/operations/{operation['name']}/wait", stage.token, b"")[1]
        assert send(f"{url}/instances/{content['name']}", stage.token, "GET")[0] == 404
        return done["error"]["errors"][0]["code"]

    stage.service.exhausted.add(ZONE)
    assert outcome(instance("full")) == "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
    stage.service.exhausted.clear()
    stage.service.quotas["PREEMPTIBLE_NVIDIA_L4_GPUS"] = {"us-central1": 1}
    stage.service.quotas["GPUS_ALL_REGIONS"] = {"global": 0}
    machine = f"zones/{ZONE}/machineTypes/g2-standard-24"
    assert outcome(instance("many", machineType=machine)) == "QUOTA_EXCEEDED"
    quotas = ask(f"{stage.base}/regions/us-central1", stage.token)[1]["quotas"]
    assert quotas == [{"metric": "PREEMPTIBLE_NVIDIA_L4_GPUS", "limit": 1.0, "usage": 0.0}]
    assert ask(stage.base, stage.token)[1]["quotas"][0]["metric"] == "GPUS_ALL_REGIONS"
    stage.service.quotas.clear()
    assert stage.service.disks == {}


def test_an_order_sent_twice_makes_one_vm(stage: SimpleNamespace) -> None:
    url, once = f"{stage.base}/zones/{ZONE}/instances", str(uuid.uuid4())
    fault = stage.service.fail("POST", "/instances$", lost=True)
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        ask(f"{url}?requestId={once}", stage.token, instance("once"))
    assert fault.hits == 1
    status, again = ask(f"{url}?requestId={once}", stage.token, instance("once"))
    assert (status, again["operationType"]) == (200, "insert")
    assert len([one for one in stage.service.machines() if one.name == "once"]) == 1
    status, refusal = ask(url, stage.token, instance("once"))
    assert (status, refusal["error"]["errors"][0]["reason"]) == (409, "alreadyExists")
    for wrong in ("1", "00000000-0000-0000-0000-000000000000"):
        assert ask(f"{url}?requestId={wrong}", stage.token, instance("other"))[0] == 400
    stage.service.fail("GET", times=2)
    assert [ask(url, stage.token)[0] for _ in range(3)] == [503, 503, 200]
    assert send(f"{url}/once", stage.token, "DELETE")[0] == 200
    stage.service.wait(stage.service.machine("once"), [GONE], 30)


def test_lists_have_pages_filters_and_warnings(stage: SimpleNamespace) -> None:
    stage.service.capacity.clear()
    try:
        for number in range(3):
            assert (
                ask(f"{stage.base}/zones/{ZONE}/instances", stage.token, instance(f"list-{number}"))[0] == 200
            )
        one = f"{stage.base}/zones/{ZONE}/instances?maxResults=2"
        page = ask(f"{one}&fields=items(name,status),nextPageToken", stage.token)[1]
        assert page["items"] == [{"name": f"list-{number}", "status": "PROVISIONING"} for number in (0, 1)]
        page = ask(f"{one}&pageToken={page['nextPageToken']}", stage.token)[1]
        assert [item["name"] for item in page["items"]] == ["list-2"]
        assert "nextPageToken" not in page
        query = urllib.parse.urlencode({"filter": "labels.run=list-1"})
        found = ask(f"{stage.base}/aggregated/instances?{query}", stage.token)[1]["items"]
        assert [item["name"] for item in found[f"zones/{ZONE}"]["instances"]] == ["list-1"]
        assert found["zones/europe-west4-a"]["warning"]["code"] == "NO_RESULTS_ON_PAGE"
        stage.service.unreachable.add(ZONE)
        assert ask(f"{stage.base}/aggregated/instances", stage.token)[0] == 503
        found = ask(f"{stage.base}/aggregated/instances?returnPartialSuccess=true", stage.token)[1]["items"]
        assert found[f"zones/{ZONE}"]["warning"]["code"] == "UNREACHABLE"
    finally:
        stage.service.unreachable.clear()
        for vm in stage.service.machines(there_only=True):
            assert send(f"{stage.base}/zones/{ZONE}/instances/{vm.name}", stage.token, "DELETE")[0] == 200
        stage.service.capacity.set()
    for vm in stage.service.machines():
        stage.service.wait(vm, [GONE], 10)
    for query in (
        "pageSize=1",
        "maxResults=501",
        "maxResults=x",
        "pageToken=x",
        "orderBy=status",
        "filter=x",
    ):
        assert ask(f"{stage.base}/zones/{ZONE}/instances?{query}", stage.token)[0] == 400, query


def test_what_there_is_where(stage: SimpleNamespace) -> None:
    zones = [zone["name"] for zone in ask(f"{stage.base}/zones", stage.token)[1]["items"]]
    assert {"us-central1-a", "us-central1-f", "europe-west4-b"} <= set(zones)
    for path, status in (
        (f"zones/{ZONE}", 200),
        ("zones/us-central1-d", 404),
        ("zones/us-central1-d/instances", 400),
        (f"zones/{ZONE}/machineTypes/g2-standard-8", 200),
        ("zones/us-central1-f/machineTypes/g2-standard-8", 404),
        (f"zones/{ZONE}/acceleratorTypes/nvidia-tesla-t4", 200),
        (f"zones/{ZONE}/acceleratorTypes/nvidia-tesla-t5", 404),
        (f"zones/{ZONE}/snapshots", 501),
        ("regions/mars", 404),
    ):
        assert ask(f"{stage.base}/{path}", stage.token)[0] == status, path
    url = stage.base.replace(stage.people.project, "deeplearning-platform-release")
    family = FAMILY.rpartition("/")[2]
    assert ask(f"{url}/global/images/family/{family}", stage.token)[1]["status"] == "READY"
    assert ask(f"{url}/global/images/family/no-such", stage.token)[0] == 404
    assert ask(f"{url}/zones", stage.token)[0] == 404


def test_who_may_what(stage: SimpleNamespace) -> None:
    url = f"{stage.base}/zones/{ZONE}/instances"
    nobody = stage.people.token(stage.people.account("nobody"))
    assert ask(url)[0] == 401
    status, refusal = ask(url, nobody)
    assert (status, refusal["error"]["errors"][0]["reason"]) == (403, "forbidden")
    assert "compute.instances.list" in refusal["error"]["message"]
    assert ask(url, nobody, instance("x"))[0] == 403
    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    other = stage.people.account("other").email
    for email, says in ((other, "does not have access"), ("none@x.iam.gserviceaccount.com", "was not found")):
        given = instance("x", serviceAccounts=[{"email": email, "scopes": scopes}])
        status, refusal = ask(url, stage.token, given)
        assert (status, says in refusal["error"]["message"]) == (400, True)
    assert ask(url.replace(stage.people.project, "elsewhere"), stage.token)[0] == 404
    assert [one.name for one in stage.service.machines() if one.name == "x"] == []


def test_logs_are_found_by_labels_of_the_container(stage: SimpleNamespace) -> None:
    run = f"docker run --rm --label run=r2 --log-driver gcplogs --log-opt labels=run {stage.image}"
    vm = submit(stage, "vm-logs", f"{run} 'for i in 1 2 3; do echo line $i; done'; poweroff")
    stage.service.wait(vm, ["TERMINATED"], 30)
    project = stage.people.project
    body = {
        "resourceNames": [f"projects/{project}"],
        "filter": 'resource.type="gce_instance" AND jsonPayload.container.metadata.run="r2"'
        f' AND logName="projects/{project}/logs/gcplogs-docker-driver" AND timestamp>="2020-01-01T00:00:00Z"',
        "pageSize": 2,
    }
    url = f"{stage.service.url}/v2/entries:list"
    page = ask(url, stage.token, body)[1]
    more = ask(url, stage.token, body | {"pageToken": page["nextPageToken"]})[1]
    found = [entry["jsonPayload"]["message"] for entry in page["entries"] + more["entries"]]
    assert found == ["line 1", "line 2", "line 3"]
    for wrong in ('resource.type="ml_job"', 'resource.type="gce_instance" AND colour=red'):
        assert ask(url, stage.token, body | {"filter": wrong})[0] == 400
    assert ask(url, stage.people.token(stage.trainer), body)[0] == 403
    contents = ask(f"{stage.base}/zones/{ZONE}/instances/vm-logs/serialPort?port=1", stage.token)[1][
        "contents"
    ]
    assert "startup-script: line 2" in contents
    assert send(f"{stage.base}/zones/{ZONE}/instances/vm-logs", stage.token, "DELETE")[0] == 200
    stage.service.wait(vm, [GONE], 10)


def test_the_clock_of_the_service(stage: SimpleNamespace) -> None:
    def date() -> datetime:
        with urllib.request.urlopen(
            urllib.request.Request(f"{stage.base}/zones", headers={"Authorization": f"Bearer {stage.token}"})
        ) as answer:
            (text,) = answer.headers.get_all("Date")
            return datetime.strptime(text, "%a, %d %b %Y %H:%M:%S GMT")

    right = date()
    stage.service.date_ahead = 7200
    assert 7190 < (date() - right).total_seconds() < 7260
    stage.service.date_ahead = 0


def test_what_still_runs_is_ended_with_the_stage(stage: SimpleNamespace) -> None:
    service: Compute
    with compute(stage.people) as service:
        other = SimpleNamespace(
            **{**vars(stage), "service": service, "base": stage.base.replace(stage.service.url, service.url)}
        )
        vm = submit(other, "left", f'docker run --log-driver gcplogs {stage.image} "{FOREVER}"')
        service.wait_for_line(vm, "ready")
        assert len(service.containers()) == 2
    assert containers.ids(service.stage) == []
    assert vm.status == GONE


def test_gcloud_lists_deletes_and_reads_operations(
    stage: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The real client understands what is answered."""
    folder = tmp_path_factory.mktemp("gcloud")
    (folder / "token").write_text(stage.token)
    vm = submit(stage, "vm-gcloud", "")
    env = stage.service.env | {
        "PATH": "/usr/bin:/bin",
        "CLOUDSDK_CONFIG": str(folder),
        "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(folder / "token"),
        "CLOUDSDK_CORE_PROJECT": stage.people.project,
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
    }

    def gcloud(*words: str) -> str:
        result = subprocess.run(
            ["gcloud", "compute", *words], check=False, env=env, capture_output=True, text=True, timeout=60
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    listed = gcloud(
        "instances", "list", "--format=value(name,status,zone.basename())", "--filter=labels.run=vm-gcloud"
    )
    assert listed.split() == ["vm-gcloud", "RUNNING", ZONE]
    gcloud("instances", "delete", "vm-gcloud", f"--zone={ZONE}", "--quiet")
    assert vm.status == GONE
    assert "delete" in gcloud("operations", "list", "--format=value(operationType)", f"--zones={ZONE}")
