"""What would keep a job of Google Cloud Batch from running, found before it is launched."""

import re
from typing import Any

import pytest
from batch_world import (
    CPU,
    JOBS,
    L4,
    cloud,
    found,
    job,
)
from launcher.job import Machine
from launcher.providers.google import batch, inputs

REGION = "/compute/v1/projects/my-project/regions/us-central1"
PROJECT = "/compute/v1/projects/my-project"
ROOM = {
    "NVIDIA_L4_GPUS": 4,
    "PREEMPTIBLE_NVIDIA_L4_GPUS": 4,
    "CPUS": 72,
    "SSD_TOTAL_GB": 500,
    "IN_USE_ADDRESSES": 8,
}
OVERALL = {"GPUS_ALL_REGIONS": 4, "CPUS_ALL_REGIONS": 32}


def quotas(
    server: Any, regional: dict[str, Any] | None = None, overall: dict[str, Any] | None = None
) -> None:
    """Lay out quotas: limits, or limits with their use; what is given replaces a new account's with a few GPUs."""

    def body(given: dict[str, Any]) -> dict[str, Any]:
        pairs = {name: one if isinstance(one, tuple) else (one, 0) for name, one in given.items()}
        return {"quotas": [{"metric": name, "limit": one[0], "usage": one[1]} for name, one in pairs.items()]}

    server.say("GET", REGION, body(ROOM | (regional or {})))
    server.say("GET", PROJECT, body(OVERALL | (overall or {})))


def problems(server: Any, changed: Any = None, **changes: Any) -> list[str]:
    """What the backend itself finds wrong: there is neither a bucket nor an image, which others look at."""
    server.say("GET", JOBS, {})
    with pytest.MonkeyPatch.context() as patch:
        for check in ("check_image", "check_code"):
            patch.setattr(inputs, check, lambda *_: [])
        found = batch.connect(changed or cloud(bucket=None)).check(job(**changes))
    return [str(problem) for problem in found]


def test_a_job_for_which_there_is_room_has_no_problem(server):
    quotas(server)
    assert problems(server) == []


@pytest.mark.parametrize(
    ("metric", "changes"),
    [
        ("PREEMPTIBLE_NVIDIA_L4_GPUS", {"spot": True}),
        ("NVIDIA_L4_GPUS", {"spot": False}),
        ("CPUS", {"machine": CPU}),
        ("SSD_TOTAL_GB", {}),
        ("IN_USE_ADDRESSES", {}),
    ],
)
def test_a_quota_that_is_used_up_is_named_with_what_is_missing(server, metric, changes):
    quotas(server, {metric: (2, 2)})
    [text] = problems(server, **changes)
    assert f"The quota {metric} in us-central1 is 2, of which 2 are in use" in text
    assert "ask for more at" in text


def test_spot_machines_count_for_the_gpus_of_all_regions_too(server):
    quotas(server, overall={"GPUS_ALL_REGIONS": (1, 1)})
    [text] = problems(server, spot=True)
    assert "GPUS_ALL_REGIONS is 1, of which 1 are in use" in text


def test_the_processors_of_an_a2_machine_have_a_quota_on_demand(server):
    a100 = Machine("a100", "a2-highgpu-1g", "NVIDIA_TESLA_A100", 1)
    quotas(server, {"NVIDIA_A100_GPUS": 1, "A2_CPUS": 11})
    [text] = problems(server, machine=a100, spot=False)
    assert "The quota A2_CPUS in us-central1 is 11" in text
    assert "needs 12" in text


def test_gpus_that_are_counted_by_family_are_left_to_the_service(server):
    """On demand the region's list does not have them; a 0 there says nothing."""
    quotas(server, {"NVIDIA_H100_GPUS": 0})
    h100 = Machine("h100", "a3-highgpu-1g", "NVIDIA_H100_80GB", 1)
    assert problems(server, machine=h100, spot=False) == []
    assert batch.connect(cloud()).allowance(h100, spot=False) is None


@pytest.mark.parametrize(("key", "most"), [("max_hours", 336), ("max_wait_hours", 48)])
def test_what_the_service_ends_before_its_limit_is_a_note(key, most):
    for hours, notes in ((most, 0), (most + 1, 1)):
        found = batch.connect(cloud(bucket=None, **{key: hours}))._check_settings()
        assert [problem.fatal for problem in found] == [False] * notes
        assert all(f"cloud.{key}={hours}" in problem.what for problem in found)


def test_no_gpus_at_all_may_be_a_free_trial(server):
    quotas(server, overall={"GPUS_ALL_REGIONS": 0})
    [text] = problems(server)
    assert re.search(r"free trial gets no GPUs.*console\.cloud\.google\.com/billing.*ask for more", text)


def test_a_project_without_a_quota_for_spot_takes_from_the_usual_one(server):
    quotas(server, {"PREEMPTIBLE_NVIDIA_L4_GPUS": 0})
    assert problems(server, spot=True) == []


def test_quotas_that_may_not_be_read_are_left_to_the_service(server):
    server.refuse("GET", REGION, 403, "no")
    assert problems(server) == []
    assert batch.connect(cloud()).allowance(L4, spot=True) is None


@pytest.mark.parametrize(
    ("machine", "spot", "count"),
    [
        (L4, False, 4),
        (L4, True, 3),
        (Machine("l4x2", "g2-standard-24", "NVIDIA_L4", 2), False, 2),
        (CPU, False, 4),
        (Machine("b200x8", "a4-highgpu-8g", "NVIDIA_B200", 8), True, None),
        (Machine("other", "c4-standard-8"), False, None),
    ],
    ids=["l4", "l4-spot", "l4x2", "cpu", "unknown-gpu", "unknown-cpu"],
)
def test_the_allowance_is_what_the_tightest_quota_leaves(server, machine, spot, count):
    quotas(server, {"PREEMPTIBLE_NVIDIA_L4_GPUS": (4, 1)})
    assert batch.connect(cloud()).allowance(machine, spot) == count


def test_two_jobs_never_share_a_run_folder(server):
    quotas(server)
    server.say("GET", JOBS, {"jobs": [found(state="QUEUED")]})
    [text] = problems(server)
    assert "A job of run run-1 is queued" in text
    assert "uv run runs stop run-1" in text


def test_an_ended_job_of_the_run_is_in_nobodys_way(server):
    quotas(server)
    server.say("GET", JOBS, {"jobs": [found(state="CANCELLED")]})
    assert problems(server) == []


def test_an_api_that_is_off_says_the_command_that_turns_it_on(server):
    quotas(server)
    metadata = {"service": "batch.googleapis.com", "consumer": "projects/12"}
    server.refuse("GET", JOBS, 403, "off", reason="SERVICE_DISABLED", metadata=metadata)
    [text] = problems(server)
    assert "gcloud services enable batch.googleapis.com --project=12" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"zones": ["us-east1-b"]}, "us-east1-b in cloud.zones is not in us-central1"),
        ({"labels": {}}, "Without cloud.labels"),
        ({"max_attempts": 20}, "11 times at most"),
    ],
)
def test_settings_that_the_service_cannot_follow_are_found(server, changes, words):
    quotas(server)
    [text] = problems(server, cloud(bucket=None, **changes))
    assert words in text


def test_without_a_login_that_is_all_that_is_found(server, monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    [problem] = batch.connect(cloud()).check(job())
    assert "gcloud auth application-default login" in problem.remedy
