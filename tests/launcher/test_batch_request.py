"""What Google Cloud Batch is sent: of the published type, and with nothing that it would refuse."""

import re

import pytest
from batch_world import (
    CPU,
    DIGEST,
    L4,
    T4X2,
    cloud,
    job,
    policy,
    spec,
)
from google.cloud import batch_v1
from google.protobuf import json_format
from launcher import providers
from launcher.errors import UserError
from launcher.job import Machine
from launcher.providers.google import batch, batch_request

# -- the request ------------------------------------------------------------------------------


def test_a_request_is_exactly_what_the_service_documents():
    labels = {"project": "slug", "run": "run-1"}
    assert batch.connect(cloud()).request(job()) == {
        "taskGroups": [
            {
                "taskCount": "1",
                "taskCountPerNode": "1",
                "taskSpec": {
                    "runnables": [
                        {
                            "container": {
                                "imageUri": f"host.pkg.dev/p/slug/train@{DIGEST}",
                                "entrypoint": "python",
                                "commands": [
                                    *("-m", "launcher.worker"),
                                    *("trainer.max_epochs=2", "run.id=run-1"),
                                ],
                                "options": "--network=host --stop-timeout=25 --shm-size=8g",
                            }
                        }
                    ],
                    "environment": {"variables": {"RUN_ID": "run-1", "RUN_MAX_ATTEMPTS": "3"}},
                    "maxRunDuration": "5400s",
                    "maxRetryCount": 2,
                    "lifecyclePolicies": [
                        {
                            "action": "RETRY_TASK",
                            "actionCondition": {"exitCodes": [75, 143, 50001, 50002, 50003, 50006]},
                        }
                    ],
                },
            }
        ],
        "allocationPolicy": {
            "location": {"allowedLocations": ["regions/us-central1"]},
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
            "serviceAccount": {"email": "slug-trainer@my-project.iam.gserviceaccount.com"},
            "labels": labels,
            "network": {
                "networkInterfaces": [
                    {
                        "network": "global/networks/default",
                        "subnetwork": "regions/us-central1/subnetworks/default",
                        "noExternalIpAddress": False,
                    }
                ]
            },
            "tags": ["slug"],
        },
        "labels": labels,
        "logsPolicy": {"destination": "CLOUD_LOGGING"},
    }


MACHINES = [
    L4,
    T4X2,
    CPU,
    Machine("h100x8", "a3-highgpu-8g", "NVIDIA_H100_80GB", 8),
    Machine("rtx6000", "g4-standard-48", "NVIDIA_RTX_PRO_6000", 1),
]


@pytest.mark.parametrize("driver", [None, "580.173.02"])
@pytest.mark.parametrize("spot", [True, False])
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_every_request_is_of_the_type_that_google_publishes(machine, spot, driver):
    settings = cloud(driver=driver, zones=["us-central1-a", "us-central1-b"])
    request = batch.connect(settings).request(job(machine=machine, spot=spot))
    read = json_format.ParseDict(request, batch_v1.Job.pb(batch_v1.Job()), ignore_unknown_fields=False)
    assert json_format.MessageToDict(read)["taskGroups"] == request["taskGroups"]


def test_the_end_of_the_time_limit_is_never_tried_again():
    [rule] = spec(batch.connect(cloud()).request(job()))["lifecyclePolicies"]
    assert 50005 not in rule["actionCondition"]["exitCodes"]
    assert batch.RETRY_STATUS in rule["actionCondition"]["exitCodes"]


@pytest.mark.parametrize(("attempts", "retries"), [(1, 0), (5, 4), (50, 10)])
def test_a_job_is_tried_again_as_often_as_was_allowed_and_the_service_can(attempts, retries):
    request = batch.connect(cloud(max_attempts=attempts)).request(job())
    assert spec(request)["maxRetryCount"] == retries


def test_gpus_are_named_where_the_machine_does_not_bring_its_own():
    request = batch.connect(cloud()).request(job(machine=T4X2))
    assert policy(request)["accelerators"] == [{"type": "nvidia-tesla-t4", "count": "2"}]
    assert request["allocationPolicy"]["instances"][0]["installGpuDrivers"] is True
    assert "--shm-size=16g" in spec(request)["runnables"][0]["container"]["options"]


def test_a_driver_is_named_with_the_gpu_that_it_is_for():
    [accelerator] = policy(batch.connect(cloud(driver="580.173.02")).request(job()))["accelerators"]
    assert accelerator == {"type": "nvidia-l4", "count": "1", "driverVersion": "580.173.02"}


def test_a_machine_without_a_gpu_gets_no_driver():
    request = batch.connect(cloud(driver="580.173.02")).request(job(machine=CPU, spot=False))
    [instance] = request["allocationPolicy"]["instances"]
    assert "installGpuDrivers" not in instance
    assert "accelerators" not in instance["policy"]
    assert instance["policy"]["provisioningModel"] == "STANDARD"


@pytest.mark.parametrize(
    ("machine", "disk", "card"),
    [
        (MACHINES[3], "pd-balanced", "GVNIC"),
        (MACHINES[4], "hyperdisk-balanced", "GVNIC"),
        (CPU, "pd-balanced", None),
    ],
    ids=["a3", "g4", "n1"],
)
def test_disk_and_network_card_are_such_as_the_machine_takes(machine, disk, card):
    request = batch.connect(cloud()).request(job(machine=machine))
    assert policy(request)["bootDisk"]["type"] == disk
    [interface] = request["allocationPolicy"]["network"]["networkInterfaces"]
    assert interface.get("nicType") == card


def test_zones_that_were_chosen_take_the_place_of_the_region():
    request = batch.connect(cloud(zones=["us-central1-a"])).request(job())
    assert request["allocationPolicy"]["location"] == {"allowedLocations": ["zones/us-central1-a"]}


def test_secrets_are_named_in_the_request_and_never_given():
    request = batch.connect(cloud()).request(job(secrets={"WANDB_API_KEY": "slug-wandb"}))
    variables = spec(request)["environment"]["variables"]
    assert variables["RUN_SECRETS"] == "WANDB_API_KEY=projects/my-project/secrets/slug-wandb/versions/latest"


def test_a_variable_of_several_lines_is_refused_before_docker_would():
    with pytest.raises(UserError, match="NOTE has more than one line"):
        batch.connect(cloud()).request(job(env={"NOTE": "one\ntwo"}))


def test_a_request_needs_neither_network_nor_login(server, monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT")
    request = batch.connect(cloud(project=None)).request(job())
    account = request["allocationPolicy"]["serviceAccount"]
    assert account == {"email": "slug-trainer@PROJECT.iam.gserviceaccount.com"}
    assert not server.asked


def test_the_launcher_finds_the_backend_and_what_it_can_do():
    assert providers.find("batch") is batch
    assert providers.abilities("batch") == {"NOTEBOOKS"}


# -- its name ---------------------------------------------------------------------------------


RUN_IDS = ["run-1", "20260101-101500-ab12", "Run_1", "run.1", "x" * 90, "-", "9", "run-"]


@pytest.mark.parametrize("run_id", RUN_IDS)
@pytest.mark.parametrize(
    "owner", ["slug", "a-project-with-a-name-that-is-rather-long", "under_score", "9lives"]
)
def test_every_name_is_one_that_the_service_takes(owner, run_id):
    name = batch_request.job_id({"project": owner}, run_id, "0a1b2c")
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= 63
    assert name.endswith("-0a1b2c")


def test_no_two_runs_have_a_name_in_common():
    names = {
        batch_request.job_id({"project": "slug"}, run_id, "0") for run_id in [*RUN_IDS, "run-1-", "run_1"]
    }
    assert len(names) == len(RUN_IDS) + 2
