"""What the stand-in of Compute Engine refuses before anything runs, as the real one would."""

import json
from copy import deepcopy
from typing import Any

import pytest
from stage.compute_examples import GPU_ZONE, ZONE, instance
from stage.compute_filter import list_filter, partial
from stage.compute_rules import check, parse
from stage.rest import RequestError

DISK = "disks.0.initializeParams"
WRONG = [
    ("name", None, "Required field 'resource.name'"),
    ("name", "Upper", "regex"),
    ("name", "x" * 64, "regex"),
    ("name", "ends-", "regex"),
    ("machineType", None, "Required field"),
    ("machineType", "n1-standard-4", "malformed"),
    ("machineType", f"zones/{GPU_ZONE}/machineTypes/n1-standard-4", "another zone"),
    ("machineType", f"projects/other/zones/{ZONE}/machineTypes/n1-standard-4", "another zone or project"),
    ("machineType", f"zones/{ZONE}/machineTypes/n1-standard-5", "does not exist in zone"),
    ("machineType", f"zones/{ZONE}/machineTypes/a2-ultragpu-3g", "does not exist in zone"),
    ("labels", {"Project": "x"}, "Label key"),
    ("labels", {"project": "feature/x"}, "Label value"),
    ("labels", {"x" * 64: ""}, "Label key"),
    ("labels", {f"a{number}": "" for number in range(65)}, "At most 64"),
    ("scheduling.provisioningModel", "CHEAP", "SPOT"),
    ("scheduling.automaticRestart", True, "automaticRestart"),
    ("scheduling.onHostMaintenance", "MIGRATE", "onHostMaintenance"),
    ("scheduling.instanceTerminationAction", None, "instanceTerminationAction"),
    ("scheduling.instanceTerminationAction", "BURN", "DELETE"),
    ("scheduling.maxRunDuration", {"seconds": "29"}, "30 seconds"),
    ("scheduling.maxRunDuration", {"seconds": str(120 * 86400 + 1)}, "120 days"),
    ("scheduling", {"provisioningModel": "STANDARD", "instanceTerminationAction": "DELETE"}, "termination"),
    ("scheduling", {"preemptible": True}, "SPOT"),
    ("disks", [], "Required field 'resource.disks'"),
    ("disks.0.boot", None, "boot disk"),
    (DISK, None, "Required field"),
    (
        f"{DISK}.sourceImage",
        "projects/deeplearning-platform-release/global/images/family/no",
        "cannot be found",
    ),
    (f"{DISK}.sourceImage", "common-cpu", "cannot be found"),
    (f"{DISK}.diskSizeGb", "40", "smaller than the image"),
    (f"{DISK}.diskType", "pd-ssd", "malformed"),
    (f"{DISK}.diskType", f"zones/{ZONE}/diskTypes/pd-fast", "does not exist"),
    (f"{DISK}.labels", {"a": "B"}, "Label value"),
    ("networkInterfaces", [], "Required field"),
    ("networkInterfaces.0.network", "default", "malformed"),
    ("networkInterfaces.0.subnetwork", "regions/europe-west4/subnetworks/default", "another region"),
    ("networkInterfaces.0.accessConfigs.0.type", "NAT", "ONE_TO_ONE_NAT"),
    ("metadata.items", [{"key": "a b", "value": ""}], "regex"),
    ("metadata.items", [{"key": "a"}, {"key": "a"}], "duplicate"),
    ("metadata.items", [{"key": "a", "value": "x" * 262145}], "262144"),
    ("metadata.items", [{"key": f"a{number}", "value": "x" * 262000} for number in range(3)], "524288"),
    ("serviceAccounts", [{"email": "a@b"}], "Required field"),
    ("serviceAccounts", [{"email": "a@b", "scopes": ["cloud-platform"]}], "Invalid scope"),
    ("tags", {"items": ["a_b"]}, "regex"),
    ("minCpuPlatform", "x", "not part of the stand-in"),
    ("machine_type", "x", "Unknown name"),
    ("maxRunDuration", {"seconds": 60}, "maxRunDuration"),
    ("labels", ["project"], "Invalid JSON payload"),
]


@pytest.mark.parametrize(("path", "value", "says"), WRONG)
def test_a_wrong_instance_is_refused(path: str, value: Any, says: str) -> None:
    content: Any = deepcopy(instance())
    *parents, last = path.split(".")
    here = content
    for name in parents:
        here = here[int(name)] if name.isdigit() else here.setdefault(name, {})
    here.pop(last, None)
    if value is not None:
        here[last] = value
    with pytest.raises(RequestError, match=says) as refusal:
        check(parse(json.dumps(content).encode()), "p", ZONE)
    assert refusal.value.code in (400, 501)


def gpu(machine: str, kind: str = "", count: int = 1, zone: str = ZONE, **scheduling: Any) -> dict[str, Any]:
    found = instance(zone=zone, machineType=f"zones/{zone}/machineTypes/{machine}")
    if kind:
        url = f"zones/{zone}/acceleratorTypes/{kind}"
        found["guestAccelerators"] = [{"acceleratorType": url, "acceleratorCount": count}]
    return found | {"scheduling": found["scheduling"] | scheduling}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (gpu("n1-standard-4", "nvidia-l4"), "not compatible"),
        (gpu("n1-standard-4", "nvidia-tesla-t4", 3), "not compatible"),
        (gpu("n2-standard-4", "nvidia-tesla-t4"), "not compatible"),
        (gpu("n1-standard-96", "nvidia-tesla-t4"), "not compatible"),
        (gpu("g2-standard-8", "nvidia-tesla-t4"), "comes with 1 nvidia-l4"),
        (gpu("g2-standard-24", "nvidia-l4", 1), "comes with 2 nvidia-l4"),
        (gpu("n1-standard-4", "nvidia-tesla-v100", zone="us-east1-b"), "was not found"),
        (gpu("g2-standard-8", zone="us-central1-f"), "does not exist in zone"),
        (gpu("g2-standard-8", provisioningModel="STANDARD"), "live migration"),
        (gpu("a3-highgpu-1g", provisioningModel="STANDARD", onHostMaintenance="TERMINATE"), "Spot"),
    ],
)
def test_a_gpu_has_to_fit(content: dict[str, Any], says: str) -> None:
    zone = content["machineType"].split("/")[1]
    with pytest.raises(RequestError, match=says):
        check(content, "p", zone)


@pytest.mark.parametrize(
    "content",
    [
        instance(),
        instance(scheduling={}),
        gpu("n1-standard-4", "nvidia-tesla-t4"),
        gpu("g2-standard-8", onHostMaintenance="TERMINATE", provisioningModel="STANDARD"),
        gpu("g2-standard-24", "nvidia-l4", 2, onHostMaintenance="TERMINATE"),
        gpu("a3-highgpu-1g"),
        gpu("a2-highgpu-1g"),
    ],
)
def test_a_right_instance_is_taken(content: dict[str, Any]) -> None:
    check(parse(json.dumps(content).encode()), "p", ZONE)


def test_filters_are_read_as_documented() -> None:
    item = {"name": "demo-a-1", "status": "RUNNING", "labels": {"project": "demo", "run": "a"}}
    for text in (
        'labels.project="demo" AND labels.run=a',
        '(labels.project="demo") AND (labels.run="a")',
        "(labels.project=demo) (status=RUNNING)",
        "labels.run:*",
        'name eq "demo-.*"',
        "name ne other",
        "status!=STOPPING",
    ):
        assert list_filter(text)(item), text
    for text in ("labels.project=other", "labels.branch:*", 'name eq "demo"'):
        assert not list_filter(text)(item), text
    for text in ("labels.project=", "colour=red", "name>a", "(name=a"):
        with pytest.raises(RequestError, match="filter"):
            list_filter(text)


def test_the_part_of_an_answer_that_is_asked_for() -> None:
    content = {"items": [{"name": "a", "labels": {"run": "b"}, "id": "1"}], "kind": "k", "nextPageToken": "2"}
    assert partial(content, "items(name,labels/run),nextPageToken") == {
        "items": [{"name": "a", "labels": {"run": "b"}}],
        "nextPageToken": "2",
    }
    assert partial(content, "items/id") == {"items": [{"id": "1"}]}
    with pytest.raises(RequestError, match="selection"):
        partial(content, "items(name")
