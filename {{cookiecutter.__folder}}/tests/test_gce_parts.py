"""What Compute Engine is asked for, what is made of its operations, and what its machine runs."""

import json
import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from {{ cookiecutter.package_name }}.cloud import gce, gce_history, gce_machine
from {{ cookiecutter.package_name }}.cloud.gce_checks import check_settings, gpu_metric
from {{ cookiecutter.package_name }}.cloud.gce_state import ended
from {{ cookiecutter.package_name }}.cloud.job import Job, Kind, Machine, State
from {{ cookiecutter.package_name }}.cloud.records import Record
from {{ cookiecutter.package_name }}.errors import UserError

L4 = Machine("l4", "g2-standard-8", "NVIDIA_L4", 1)
T4 = Machine("t4", "n1-standard-8", "NVIDIA_TESLA_T4", 1)
CPU = Machine("cpu", "n1-standard-8")
IMAGE = f"us-central1-docker.pkg.dev/my-project/slug/train@sha256:{'a' * 64}"
SYSTEM = "projects/deeplearning-platform-release/global/images/family/common"
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LABELS = {"project": "slug"}


def cloud(**changes: Any) -> SimpleNamespace:
    settings = {
        "backend": "gce",
        "project": "my-project",
        "region": "us-central1",
        "zones": None,
        "bucket": "gs://my-bucket",
        "image": None,
        "repository": "slug/train",
        "service_account": "slug-trainer",
        "vm_image": SYSTEM,
        "labels": LABELS,
    }
    return SimpleNamespace(**{**settings, **changes})


def job(**changes: Any) -> Job:
    settings = {
        "run_id": "run-1",
        "image": IMAGE,
        "args": ("trainer.max_epochs=2", "+note='a b\n\"c\" $(d)'", "run.id=run-1"),
        "machine": L4,
        "max_hours": 1.5,
        "env": {"RUN_ID": "run-1", "RUN_MAX_ATTEMPTS": "5", "RUN_OUTPUT": "gs://b/runs/run-1"},
        "labels": {"run": "run-1", "max-seconds": "5400"},
        "output": "gs://b/runs/run-1",
    }
    return Job(**{**settings, **changes})


def items(request: dict[str, Any]) -> dict[str, str]:
    return {item["key"]: item["value"] for item in request["metadata"]["items"]}


def test_a_request_is_what_the_service_documents():
    request = gce.connect(cloud()).request(job())
    metadata = items({"metadata": request.pop("metadata")})
    labels = {"project": "slug", "run": "run-1", "max-seconds": "5400"}
    assert request == {
        "name": "slug-run-1-1",
        "machineType": "zones/ZONE/machineTypes/g2-standard-8",
        "labels": labels,
        "tags": {"items": ["slug"]},
        "disks": [
            {
                "boot": True,
                "autoDelete": True,
                "initializeParams": {
                    "sourceImage": SYSTEM,
                    "diskType": "zones/ZONE/diskTypes/pd-balanced",
                    "diskSizeGb": "100",
                    "labels": labels,
                },
            }
        ],
        "networkInterfaces": [
            {
                "network": "global/networks/default",
                "accessConfigs": [{"type": "ONE_TO_ONE_NAT", "name": "External NAT"}],
            }
        ],
        "serviceAccounts": [
            {
                "email": "slug-trainer@my-project.iam.gserviceaccount.com",
                "scopes": ["https://www.googleapis.com/auth/cloud-platform"],
            }
        ],
        "scheduling": {
            "provisioningModel": "SPOT",
            "instanceTerminationAction": "DELETE",
            "maxRunDuration": {"seconds": "5400"},
            "onHostMaintenance": "TERMINATE",
            "automaticRestart": False,
        },
        "shieldedInstanceConfig": {"enableVtpm": True, "enableIntegrityMonitoring": True},
    }
    assert metadata.pop("startup-script").startswith("#!/bin/bash\n")
    assert metadata.pop("shutdown-script").startswith("#!/bin/bash\n")
    assert json.loads(metadata.pop("run-args")) == list(job().args)
    assert metadata == {
        "run-id": "run-1",
        "run-image": IMAGE,
        "run-env": "RUN_ID=run-1\nRUN_MAX_ATTEMPTS=5\nRUN_OUTPUT=gs://b/runs/run-1\n",
        "run-gpus": "1",
        "run-seconds": "5400",
        "install-nvidia-driver": "True",
    }


def test_a_gpu_is_attached_only_where_the_machine_has_none():
    assert "guestAccelerators" not in gce.connect(cloud()).request(job())
    [gpu] = gce.connect(cloud()).request(job(machine=T4))["guestAccelerators"]
    assert gpu == {
        "acceleratorType": "zones/ZONE/acceleratorTypes/nvidia-tesla-t4",
        "acceleratorCount": 1,
    }
    plain = gce.connect(cloud()).request(job(machine=CPU))
    assert "guestAccelerators" not in plain
    assert items(plain)["run-gpus"] == "0"
    assert "install-nvidia-driver" not in items(plain)


def test_an_a3_has_the_network_card_that_it_needs():
    machine = Machine("h100", "a3-highgpu-1g", "NVIDIA_H100_80GB", 1)
    [card] = gce.connect(cloud()).request(job(machine=machine))["networkInterfaces"]
    assert card["nicType"] == "GVNIC"


def test_without_spot_the_end_is_set_all_the_same():
    scheduling = gce.connect(cloud()).request(job(spot=False, max_hours=0.001))["scheduling"]
    assert scheduling["provisioningModel"] == "STANDARD"
    assert scheduling["instanceTerminationAction"] == "DELETE"
    assert scheduling["maxRunDuration"] == {"seconds": "30"}  # the least that the service takes


def test_no_job_changes_the_scripts():
    one, other = (
        items(gce.connect(cloud()).request(job(run_id=run_id, args=("$(reboot)",))))
        for run_id in ("run-1", "run-2")
    )
    assert one["startup-script"] == other["startup-script"]
    assert "reboot" not in one["startup-script"]


def test_secrets_are_named_and_never_given():
    request = gce.connect(cloud()).request(job(secrets={"WANDB_API_KEY": "slug-wandb"}))
    resource = "projects/my-project/secrets/slug-wandb/versions/latest"
    assert f"RUN_SECRETS=WANDB_API_KEY={resource}\n" in items(request)["run-env"]


def test_a_variable_of_two_lines_is_refused():
    with pytest.raises(UserError, match="NOTE has more than one line"):
        gce.connect(cloud()).request(job(env={"NOTE": "a\nRUN_ID=other"}))


@pytest.mark.parametrize(
    "run_id",
    ["run-1", "Run_1.5", "x" * 64, "3", "20261122-041447-abc1234-wxyz", "-a-", "_"],
)
def test_a_name_is_one_that_the_service_takes(run_id):
    name = f"{gce_machine.stem(LABELS, run_id)}-12"
    assert re.fullmatch(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?", name)


def test_no_two_runs_have_one_name():
    runs = ["run-1", "Run-1", "run.1", "run_1", "x" * 63, "x" * 64]
    assert len({gce_machine.stem(LABELS, run_id) for run_id in runs}) == len(runs)


def operation(kind: str, at: int, number: str = "7", **more: Any) -> dict[str, Any]:
    """What was done to a machine, so many minutes after twelve, as the service tells it."""
    moment = (NOW + timedelta(minutes=at)).isoformat()
    link = "https://www.googleapis.com/compute/v1/projects/p/zones/z/instances/slug-run-1-1"
    base = {"operationType": kind, "targetId": number, "targetLink": link, "status": "DONE"}
    return {**base, "insertTime": moment, "endTime": moment, **more}


def spent(operations: list[dict[str, Any]], longest: float = 1e9, since: int = -999) -> float:
    stays = gce_history.of_operations(operations)
    known = gce_history.together(stays, [], NOW + timedelta(minutes=since))
    return sum(stay.seconds(NOW + timedelta(minutes=60), longest) for stay in known) / 60


def test_machines_that_are_gone_are_paid_for_from_their_making_to_their_end():
    first = [operation("insert", 0), operation("compute.instances.preempted", 10)]
    second = [operation("insert", 20, "8"), operation("delete", 25, "8")]
    assert spent([*second, *first]) == 15


def test_the_last_of_several_ends_counts_and_a_refused_one_does_not():
    done = [operation("insert", 0), operation("delete", 10), operation("delete", 12)]
    refused = operation("delete", 50, error={"errors": [{"code": "RESOURCE_NOT_READY"}]})
    assert spent([*done, refused]) == 12


def test_a_machine_that_was_never_made_costs_nothing():
    full = {"errors": [{"code": "ZONE_RESOURCE_POOL_EXHAUSTED"}]}
    assert spent([operation("insert", 0, error=full)]) == 0


def test_a_machine_whose_end_nobody_knows_costs_as_much_as_it_can_have():
    assert spent([operation("insert", 0)]) == 60
    assert spent([operation("insert", 0)], longest=1800) == 30


def test_machines_of_an_earlier_launch_are_counted_there():
    earlier = [operation("insert", -30), operation("delete", -20)]
    now = [operation("insert", 0, "8"), operation("delete", 5, "8")]
    assert spent([*earlier, *now], since=0) == 5


def test_a_machine_that_is_there_knows_best_and_is_paid_for_until_it_is_off():
    machine = {"id": "7", "name": "slug-run-1-1", "status": "RUNNING"}
    machine["creationTimestamp"] = "2026-11-22T04:00:00.000-08:00"  # twelve
    stays = gce_history.of_operations([operation("insert", 1)])
    [stay] = gce_history.together(stays, [gce_history.of_machine(machine)], None)
    assert stay.seconds(NOW + timedelta(hours=1), longest=60) == 3600
    off = {**machine, "status": "TERMINATED", "lastStopTimestamp": "2026-11-22T04:10:00.000-08:00"}
    assert gce_history.of_machine(off).seconds(NOW + timedelta(hours=1), longest=60) == 600


def record(**changes: Any) -> Record:
    env = {"RUN_MAX_SECONDS": "3600", "RUN_MAX_ATTEMPTS": "3"}
    settings = dict.fromkeys(Record.__dataclass_fields__)
    return Record(**{**settings, "max_hours": 1.0, "kind": "train", "env": env, **changes})


@pytest.mark.parametrize(
    ("changes", "attempts", "seconds", "state", "why"),
    [
        ({}, 1, 600, State.preempted, "taken away"),
        ({}, 3, 600, State.failed, "started 3 times"),
        ({}, 1, 3580, State.stopped, "time limit"),
        ({"earlier_seconds": 1800.0}, 1, 1790, State.stopped, "time limit"),
        ({"earlier_seconds": 1800.0}, 1, 1000, State.preempted, "taken away"),
        ({"kind": "notebook"}, 1, 600, State.stopped, "gone"),
        ({"env": {}}, 0, 600, State.preempted, "taken away"),
    ],
)
def test_a_run_without_machine_and_outcome_is_preempted_while_something_is_left(
    changes, attempts, seconds, state, why
):
    given = record(**{"earlier_seconds": 0.0, **changes})
    found, reason = ended(given, None, [{}] * attempts, seconds)
    assert found is state
    assert why in reason


def test_what_the_worker_noted_counts_most():
    outcome = {"state": "succeeded", "reason": ""}
    assert ended(record(earlier_seconds=0.0), outcome, [{}] * 9, 1e9)[0] is State.succeeded
    assert ended(None, None, [], 0.0)[0] is State.stopped


@pytest.mark.parametrize(
    ("settings", "changes", "part"),
    [
        ({}, {"nodes": 2}, "cloud.nodes is 2: use cloud=vertex"),
        ({}, {"kind": Kind.sweep}, "no tuning service: use cloud=vertex"),
        (
            {},
            {"spot": False, "machine": Machine("h100", "a3-highgpu-1g", "NVIDIA_H100_80GB", 1)},
            "on spot only",
        ),
        ({"zones": ["us-central1-a", "us-east1-b"]}, {}, "us-east1-b in cloud.zones is not in"),
        ({"labels": {}}, {}, "cloud.labels"),
    ],
)
def test_a_job_that_no_machine_can_do_is_found(settings, changes, part):
    [problem] = check_settings(cloud(**settings), job(**changes))
    assert problem.fatal
    assert part in str(problem)


def test_a_job_for_one_machine_has_no_problem():
    assert check_settings(cloud(zones=["us-central1-a"]), job()) == []


@pytest.mark.parametrize(
    ("gpu", "spot", "metric"),
    [
        ("NVIDIA_L4", True, "PREEMPTIBLE_NVIDIA_L4_GPUS"),
        ("NVIDIA_TESLA_T4", False, "NVIDIA_T4_GPUS"),
        ("NVIDIA_TESLA_A100", False, "NVIDIA_A100_GPUS"),
        ("NVIDIA_A100_80GB", True, "PREEMPTIBLE_NVIDIA_A100_80GB_GPUS"),
        ("NVIDIA_H100_80GB", True, "PREEMPTIBLE_NVIDIA_H100_GPUS"),
        (None, True, ""),
    ],
)
def test_each_gpu_has_a_quota_of_its_own(gpu, spot, metric):
    assert gpu_metric(job(machine=Machine("m", "type", gpu, 1), spot=spot)) == metric
